"""Networks for tests, built with ONNX's own tools: plain ones, and some that hide things."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.manifest import parse
from tests.packages import files

WIDTH = parse(files()["manifest.toml"].decode()).width


def tensor(name, *shape, dtype=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, dtype, shape)


def weights(name="weights"):
    return numpy_helper.from_array(np.ones((WIDTH, 1), np.float32), name)


def network(*nodes, initializers=(), inputs=None, outputs=None, domains=(), functions=()):
    """Make the bytes of a network that multiplies, with what a test adds to it."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["features", "weights"], ["probability"]), *nodes],
        "toy",
        inputs or [tensor("features", "n", WIDTH)],
        outputs or [tensor("probability", "n", 1)],
        [weights(), *initializers],
    )
    opsets = [helper.make_opsetid(domain, version) for domain, version in (("", 17), *domains)]
    model = helper.make_model(graph, opset_imports=opsets, functions=list(functions))
    return model.SerializeToString()


def outside(name="far"):
    """Give a tensor whose data lies in a file."""
    away = numpy_helper.from_array(np.ones(3, np.float32), name)
    away.ClearField("raw_data")
    away.data_location = TensorProto.EXTERNAL
    away.external_data.add(key="location", value="../../etc/passwd")
    return away


def branch(*nodes, depth=0):
    """Give a graph that an If or a Loop holds; nested in itself as often as told."""
    inner = [helper.make_node("Constant", [], ["inner"], value=weights("inner"))]
    if depth:
        inner = [
            helper.make_node("Constant", [], ["yes"], value=numpy_helper.from_array(np.True_)),
            if_node("yes", "inner", branch(depth=depth - 1)),
        ]
    return helper.make_graph([*inner, *nodes], "branch", [], [tensor("inner", WIDTH, 1)])


def if_node(condition, output, graph):
    return helper.make_node("If", [condition], [output], then_branch=graph, else_branch=graph)


def field(number, content):
    """Write a message into a field, as protocol buffers do."""
    length, size = len(content), bytearray()
    while length > 127:
        size.append(length & 127 | 128)
        length >>= 7
    return bytes([number << 3 | 2, *size, length]) + content


def condition():
    return helper.make_node("Constant", [], ["yes"], value=numpy_helper.from_array(np.True_))


def external_networks():
    constant = helper.make_node("Constant", [], ["far"], value=outside())
    sparse = helper.make_sparse_tensor(
        outside("values"), numpy_helper.from_array(np.arange(3), "indices"), [9]
    )
    away = network()
    model = onnx.load_from_string(away)
    model.graph.sparse_initializer.append(sparse)
    half = numpy_helper.from_array(np.ones(3, np.float32), "half")
    half.external_data.add(key="location", value="weights.bin")
    return {
        "initializer": network(initializers=[outside()]),
        "location without the flag": network(initializers=[half]),
        "attribute": network(constant),
        "branch": network(condition(), if_node("yes", "unused", branch(constant))),
        "sparse initializer": model.SerializeToString(),
        "sparse attribute": network(helper.make_node("Constant", [], ["far"], sparse_value=sparse)),
        "list of tensors": network(helper.make_node("Own", [], ["far"], many=[outside()])),
    }
