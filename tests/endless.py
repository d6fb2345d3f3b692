"""A network that may take as long as it is asked to, for tests of time limits."""

import numpy as np
import onnx
from onnx import helper, numpy_helper


def loop_model(*, batch: int | str = "n") -> bytes:
    """features (n, 1) → probability (n, 1), 0.5: it counts to the largest of its inputs before."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["on"]),
            helper.make_node("Sigmoid", ["kept"], ["squeezed"]),
            helper.make_node("Identity", ["squeezed"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("round", onnx.TensorProto.INT64, []),
            helper.make_tensor_value_info("go", onnx.TensorProto.BOOL, []),
            helper.make_tensor_value_info("kept", onnx.TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on", onnx.TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", onnx.TensorProto.FLOAT, None),
        ],
    )
    nodes = [
        helper.make_node("ReduceMax", ["features"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["rounds"], to=onnx.TensorProto.INT64),
        helper.make_node("Loop", ["rounds", "yes", "features"], ["counted"], body=body),
        helper.make_node("Mul", ["counted", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "half"], ["probability"]),
    ]
    known = {"yes": np.array(1, dtype=bool), "zero": np.float32(0), "half": np.float32(0.5)}
    float32 = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "endless",
        [helper.make_tensor_value_info("features", float32, [batch, 1])],
        [helper.make_tensor_value_info("probability", float32, [batch, 1])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in known.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 10
    return model.SerializeToString()
