"""Nodes that stay in fp32 get their inputs as they were, not rounded to 8 bits and back.

The quantizer of ONNX Runtime leaves a node's arithmetic alone, but rounds what flows into it where
the node before is quantized. A node that suffers from the rounding of its input would not be mended
by leaving it alone; one has to take the pair of QuantizeLinear and DequantizeLinear away too.
"""

from collections.abc import Collection

import onnx
from onnxruntime.quantization.onnx_model import ONNXModel

_PAIR = {"QuantizeLinear", "DequantizeLinear"}


def unround_inputs(
    quantized: onnx.ModelProto, fp32: onnx.ModelProto, names: Collection[str]
) -> None:
    """Feed some nodes of a quantized network with the tensors of the original.

    An activation that the quantizer took out, since the levels that follow it cut off as it does,
    is put back. Pairs that nothing needs any more are taken away.

    Args:
        quantized: With QuantizeLinear/DequantizeLinear pairs; it is changed.
        fp32: The original.
        names: Nodes that were left alone.
    """
    network, originals = ONNXModel(quantized), {node.name: node for node in fp32.graph.node}
    makers = {output: node for node in fp32.graph.node for output in node.output}
    flowing = set(makers) | {each.name for each in fp32.graph.input}
    for node in network.nodes():
        if node.name in names:
            for place, tensor in enumerate(originals[node.name].input):
                if tensor in flowing:
                    node.input[place] = tensor
                    _put_activation_back(network, makers, tensor)
    _drop_unused_pairs(network)
    network.clean_initializers()
    network.topological_sort()


def _put_activation_back(
    network: ONNXModel, makers: dict[str, onnx.NodeProto], tensor: str
) -> None:
    """The quantizer lets the node before an activation make the activation's output itself."""
    activation = makers.get(tensor)
    if activation is None or any(node.name == activation.name for node in network.nodes()):
        return
    before = network.output_name_to_node()[tensor]
    ONNXModel.replace_node_output(before, tensor, activation.input[0])
    network.add_node(activation)
    _put_activation_back(network, makers, activation.input[0])


def _drop_unused_pairs(network: ONNXModel) -> None:
    outputs = {each.name for each in network.graph().output}
    while True:
        needed = outputs | {name for node in network.nodes() for name in node.input}
        unused = [
            node
            for node in network.nodes()
            if node.op_type in _PAIR and needed.isdisjoint(node.output)
        ]
        if not unused:
            return
        network.remove_nodes(unused)
