"""Quantization-aware training: a PyTorch network learns with the rounding errors of int8.

    quantized = prepare(network, batches)   # fold BatchNorm, insert quantizers, see the ranges
    ...                                      # a few epochs of fine-tuning, as with any module
    freeze(quantized)                        # constant scales; nothing is observed any more
    weights = export(quantized, example)     # ONNX with QuantizeLinear/DequantizeLinear, proven

The rules:

* weights are symmetric, per output channel, 7 bits (`reduce_range`): two products of an unsigned
  8-bit activation and a 7-bit weight fit into the 16-bit sums of machines without VNNI;
* activations are unsigned 8 bits, per tensor, asymmetric; 0 is always exact, as padding needs it;
* a quantizer stands before every convolution and linear layer, after it (after its ReLU, if it
  has one) and after a sum of two such results, since ONNX Runtime fuses nothing else to int8;
* layers named in `keep_fp32` are left alone: the last one should be.

The only module here that needs PyTorch (extra `train`). Why this route: decision 0014. Source:
Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference (CVPR 2018); the straight-through gradient is PyTorch's own.
"""

import copy
import io
import operator
import warnings
from collections.abc import Collection, Iterable

import numpy as np
import onnxruntime as ort
import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from models import qdq
from models.tensors import FloatArray

_OPSET = 17
_LARGEST_WEIGHT = 63  # 7 bits, symmetric
_LEVELS = 255
_SMALLEST_SCALE = 1e-8
_LARGEST_BIAS = 2**30  # leaves the other half of 32 bits to the sum of products
_MOMENTUM = 0.02
_ADDITIONS = {operator.add, operator.iadd, torch.add}
_RELUS = {torch.relu, nn.functional.relu, nn.functional.relu6}


class ExportDiffers(ValueError):
    """The ONNX file does not answer as the trained module does; don't ship it."""


class NotTraceable(ValueError):
    """`torch.fx` can't follow the module's `forward`; avoid branches that depend on values."""


class ActivationQuantizer(nn.Module):  # type: ignore[misc]  # untyped where PyTorch is absent
    """Rounds a tensor to 256 levels of a range that it observes while training.

    Attributes:
        low: Lower end of the range, at most 0.
        high: Upper end, at least 0.
        scale: Width of a level, once frozen.
        zero_point: The level that stands for 0, once frozen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("low", torch.tensor(0.0))
        self.register_buffer("high", torch.tensor(0.0))
        self.scale: float | None = None
        self.zero_point = 0

    def forward(self, values: Tensor) -> Tensor:
        """The values rounded; any shape, float32."""
        if self.scale is None and self.training:
            self._observe(values.detach())
        scale, zero_point = self._levels() if self.scale is None else (self.scale, self.zero_point)
        return torch.fake_quantize_per_tensor_affine(values, scale, zero_point, 0, _LEVELS)

    def widen(self, values: Tensor) -> None:
        """Take values into the range."""
        self.low.copy_(torch.minimum(self.low, values.min()))
        self.high.copy_(torch.maximum(self.high, values.max()))

    def freeze(self) -> None:
        """Make the present range the last one."""
        self.scale, self.zero_point = self._levels()

    def _observe(self, values: Tensor) -> None:
        """Follow the data slowly: one odd batch must not set the range."""
        self.low.lerp_(values.min().clamp(max=0), _MOMENTUM)
        self.high.lerp_(values.max().clamp(min=0), _MOMENTUM)

    def _levels(self) -> tuple[float, int]:
        low, high = float(self.low), float(self.high)
        # As a float32, because that is what the file will hold.
        scale = float(np.float32(max((high - low) / _LEVELS, _SMALLEST_SCALE)))
        return scale, round(-low / scale)


class QuantizedLayer(nn.Module):  # type: ignore[misc]
    """A convolution or linear layer whose weights are rounded, channel by channel, as it is used.

    Attributes:
        layer: The layer, with its weights in full precision: those are what training moves.
        scale: Width of a level per output channel, once frozen.
    """

    scale: Tensor | None

    def __init__(self, layer: nn.Conv2d | nn.Linear) -> None:
        super().__init__()
        self.layer = layer
        self.register_buffer("scale", None)
        self.register_buffer("zero_point", torch.zeros(len(layer.weight), dtype=torch.int32))

    def forward(self, values: Tensor) -> Tensor:
        """What the layer answers with rounded weights."""
        weight = self.layer.weight
        scale = self._levels() if self.scale is None else self.scale
        rounded = torch.fake_quantize_per_channel_affine(
            weight, scale, self.zero_point, 0, -128, 127
        )
        if isinstance(self.layer, nn.Linear):
            return nn.functional.linear(values, rounded, self.layer.bias)
        return self.layer._conv_forward(values, rounded, self.layer.bias)  # noqa: SLF001

    def freeze(self) -> None:
        """Make the present scales the last ones."""
        self.scale = self._levels()

    def _levels(self) -> Tensor:
        largest = self.layer.weight.detach().flatten(1).abs().amax(1)
        return (largest / _LARGEST_WEIGHT).clamp(min=_SMALLEST_SCALE)


def prepare(
    module: nn.Module, batches: Iterable[Tensor], *, keep_fp32: Collection[str] = ()
) -> fx.GraphModule:
    """A copy of a trained network that rounds as int8 will.

    BatchNorm after a convolution is folded into it, with the statistics it has now. The copy's
    parameters are free to be fine-tuned; its answers before that are those of post-training
    quantization.

    Args:
        module: The trained fp32 network, one tensor in, one out.
        batches: Inputs as they occur in practice; they set the first ranges of the activations.
        keep_fp32: Names of layers to leave alone, as in `module.named_modules()`.

    Returns:
        The network, in evaluation mode.

    Raises:
        NotTraceable: `torch.fx` can't follow its `forward`.
        KeyError: A name in `keep_fp32` is no layer of it.
    """
    unknown = set(keep_fp32) - {name for name, _ in module.named_modules()}
    if unknown:
        raise KeyError(f"keep_fp32: no layer is called {', '.join(sorted(unknown))}")
    graph = _traced(module)
    _drop_identities(graph)
    _fold_batch_norm(graph)
    chosen = [each for each in graph.graph.nodes if _is_layer(graph, each, keep_fp32)]
    points = _points(graph, chosen)
    for number, node in enumerate(points):
        _insert_quantizer(graph, node, f"quantizer_{number}")
    for node in chosen:
        _replace(graph, str(node.target), QuantizedLayer(graph.get_submodule(node.target)))
    graph.recompile()
    graph.eval()
    _observe(graph, batches)
    return graph


def freeze(module: nn.Module) -> None:
    """End the training: scales become constant, and biases whole multiples of them.

    Args:
        module: From `prepare`, or a module that holds several such.
    """
    for each in module.modules():
        if isinstance(each, ActivationQuantizer | QuantizedLayer):
            each.freeze()
    for each in module.modules():
        if isinstance(each, fx.GraphModule):
            _round_biases(each)


def export(
    module: nn.Module,
    example: Tensor,
    *,
    input_name: str = "input",
    output_name: str = "output",
    tolerance: float = 1e-4,
) -> bytes:
    """The frozen network as an int8 ONNX model.

    Two things are proven before it is returned: the file answers as the module does (with the
    runtime's own rewriting off, so that both round at the same places), and the runtime turns
    every quantized layer into an integer one.

    Args:
        module: From `prepare`, frozen.
        example: A batch to export and compare with, n first; n is free in the file.
        input_name: Name of the graph's input.
        output_name: Name of its output.
        tolerance: Largest accepted difference between file and module. A value at the edge of two
            levels may fall to either side, and many layers make more of it: a deep network needs
            more than a shallow one.

    Returns:
        The ONNX model, opset 17; weights are stored as int8, biases as int32.

    Raises:
        ValueError: The module isn't frozen.
        ExportDiffers: The file answers otherwise, or the runtime leaves a layer in fp32.
    """
    layers = [each for each in module.modules() if isinstance(each, QuantizedLayer)]
    if not layers or any(each.scale is None for each in layers):
        raise ValueError("call freeze(module) on what prepare() gave before export()")
    raw = _to_onnx(module.eval(), example, (input_name, output_name))
    weights = qdq.pack(raw)
    batch = example.detach().numpy()
    with torch.no_grad():
        expected = module(example).numpy()
    gap = float(np.abs(answer_as_written(weights, batch) - expected).max())
    if not gap <= tolerance:
        raise ExportDiffers(f"file and module differ by {gap:.2g}, more than {tolerance:.2g}")
    found = qdq.integer_layers(weights)
    if found < len(layers):
        raise ExportDiffers(f"the runtime runs {found} of {len(layers)} layers in integers")
    return weights


def _traced(module: nn.Module) -> fx.GraphModule:
    try:
        return fx.symbolic_trace(copy.deepcopy(module).eval())
    except (fx.proxy.TraceError, TypeError) as error:
        raise NotTraceable(f"torch.fx can't follow forward(): {error}") from error


def _drop_identities(graph: fx.GraphModule) -> None:
    """Without them the two terms of a shortcut's sum are seen for what they are."""
    for node in list(graph.graph.nodes):
        is_module = node.op == "call_module"
        if is_module and isinstance(graph.get_submodule(str(node.target)), nn.Identity):
            node.replace_all_uses_with(node.args[0])
            graph.graph.erase_node(node)


def _fold_batch_norm(graph: fx.GraphModule) -> None:
    layers = dict(graph.named_modules())
    for node in list(graph.graph.nodes):
        before = node.args[0] if node.op == "call_module" else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
            continue
        layer, norm = layers[before.target], layers[node.target]
        if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            _replace(graph, str(before.target), fuse_conv_bn_eval(layer, norm))
            node.replace_all_uses_with(before)
            graph.graph.erase_node(node)
    graph.delete_all_unused_submodules()
    graph.recompile()


def _is_layer(graph: fx.GraphModule, node: fx.Node, keep_fp32: Collection[str]) -> bool:
    return (
        node.op == "call_module"
        and node.target not in keep_fp32
        and isinstance(graph.get_submodule(str(node.target)), nn.Conv2d | nn.Linear)
    )


def _points(graph: fx.GraphModule, layers: Iterable[fx.Node]) -> list[fx.Node]:
    """The nodes whose results have to be rounded, in the order of the graph."""
    found: set[fx.Node] = set()
    for layer in layers:
        found |= {layer.args[0], _after_relu(graph, layer)}
    for node in graph.graph.nodes:
        is_sum = node.op == "call_function" and node.target in _ADDITIONS
        if is_sum and all(each in found for each in node.args[:2]):
            found.add(_after_relu(graph, node))
    return [node for node in graph.graph.nodes if node in found]


def _after_relu(graph: fx.GraphModule, node: fx.Node) -> fx.Node:
    """The ReLU that alone uses a node, else the node itself."""
    user = next(iter(node.users)) if len(node.users) == 1 else None
    if user is None:
        return node
    is_function = user.op == "call_function" and user.target in _RELUS
    is_module = user.op == "call_module" and isinstance(
        graph.get_submodule(str(user.target)), nn.ReLU | nn.ReLU6
    )
    return user if is_function or is_module else node


def _insert_quantizer(graph: fx.GraphModule, node: fx.Node, name: str) -> None:
    graph.add_submodule(name, ActivationQuantizer())
    users = list(node.users)
    with graph.graph.inserting_after(node):
        quantizer = graph.graph.call_module(name, (node,))
    for user in users:
        user.replace_input_with(node, quantizer)


def _replace(graph: fx.GraphModule, target: str, module: nn.Module) -> None:
    parent, _, name = target.rpartition(".")
    setattr(graph.get_submodule(parent), name, module)


def _observe(graph: fx.GraphModule, batches: Iterable[Tensor]) -> None:
    """Set the first ranges: the extremes that the network has without any rounding."""
    quantizers = [each for each in graph.modules() if isinstance(each, ActivationQuantizer)]
    hooks = [each.register_forward_hook(_pass_through) for each in quantizers]
    with torch.no_grad():
        for batch in batches:
            graph(batch)
    for hook in hooks:
        hook.remove()


def _pass_through(quantizer: ActivationQuantizer, given: tuple[Tensor], _rounded: Tensor) -> Tensor:
    quantizer.widen(given[0])
    return given[0]


def _round_biases(graph: fx.GraphModule) -> None:
    """Integer kernels add a bias at the product of the scales of input and weights.

    A channel that has died, all weights next to 0, has a scale so fine that its bias would not fit
    into 32 bits; it gets a coarser one.
    """
    modules = dict(graph.named_modules())
    for node in graph.graph.nodes:
        layer = modules.get(node.target) if node.op == "call_module" else None
        if isinstance(layer, QuantizedLayer) and layer.layer.bias is not None:
            bias, step = layer.layer.bias, modules[node.args[0].target].scale
            with torch.no_grad():
                layer.scale = torch.maximum(layer.scale, bias.abs() / (step * _LARGEST_BIAS))
                scale = layer.scale * step
                bias.copy_((bias / scale).round() * scale)


def _to_onnx(module: nn.Module, example: Tensor, names: tuple[str, str]) -> bytes:
    target = io.BytesIO()
    with warnings.catch_warnings():
        # The exporter that PyTorch prefers takes QuantizeLinear apart: decision 0014.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            module,
            (example,),
            target,
            dynamo=False,
            opset_version=_OPSET,
            input_names=[names[0]],
            output_names=[names[1]],
            dynamic_axes={name: {0: "n"} for name in names},
        )
    return target.getvalue()


def answer_as_written(weights: bytes, batch: FloatArray) -> FloatArray:
    """What a file answers when the runtime rewrites nothing in it, so that all rounding stands."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {session.get_inputs()[0].name: batch})
    return np.asarray(answer, dtype=np.float32)
