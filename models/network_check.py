"""What a network may be made of, looked at before any runtime sees it.

* An ONNX file holds everything in itself: a tensor that points to another file is refused, in
  graphs, branches, loops and attributes alike.
* Its operators are those that the runtime brings; others need the manifest's word and the site's.
* It has no functions of its own and no training part; branches and loops nest a few deep.
* It passes ONNX's own checker, and its inputs and outputs are those of the manifest.
* A network that is declared float32, and any fp32 twin, has no quantized part: a model would get
  past the gate by one word of its manifest, or be compared with itself.
* A TFLite file begins as one; where LiteRT is installed it opens it, and the same holds for its
  inputs and outputs.

Source: ONNX IR specification (https://onnx.ai/onnx/repo-docs/IR.html); TFLite file identifier
`TFL3` (tensorflow/compiler/mlir/lite/schema/schema.fbs).
"""

import importlib.util
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto

from models.engines import TensorSpec
from models.manifest import Manifest
from models.precision import narrow_parts
from models.refusals import (
    ExternalData,
    FormatNotAsDeclared,
    NestedTooDeep,
    NetworkNotAsDeclared,
    NetworkUnreadable,
    OperatorNotAllowed,
)
from models.registry import ModelUnusable

RUNTIME_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
"""Domains of the operators that ONNX Runtime brings."""

_MOST_NESTING = 4
_MOST_NODES = 200_000
_TFLITE_MAGIC = slice(4, 8), b"TFL3"
_FLOAT, _INTEGER = "float32", "int64"
_TYPES: dict[int, str] = {TensorProto.FLOAT: _FLOAT, TensorProto.INT64: _INTEGER}

Shape = tuple[int | None, ...]
"""Sizes of the axes; None where any will do."""


@dataclass(frozen=True)
class Tensor:
    """What a graph takes or gives."""

    dtype: str
    shape: Shape

    def __str__(self) -> str:
        sizes = ", ".join("n" if size is None else str(size) for size in self.shape)
        return f"{self.dtype} ({sizes})"

    def fits(self, declared: "Tensor") -> bool:
        """Whether every fixed axis but the first, which counts cases, has the declared size."""
        pairs = zip(self.shape[1:], declared.shape[1:], strict=False)
        return (
            self.dtype == declared.dtype
            and len(self.shape) == len(declared.shape)
            and all(has is None or has == wanted for has, wanted in pairs)
        )


def check_onnx(content: bytes, file: str, manifest: Manifest, allowed: Iterable[str]) -> None:
    """Insist that an ONNX file is what a gateway may run.

    Args:
        content: The file.
        file: Its name, for messages.
        manifest: What its inputs and outputs have to be.
        allowed: Operator domains that the site allows beyond the runtime's own.

    Raises:
        PackageRefused: It is not; the class says why.
    """
    model = _read(content, file)
    _insist_on_one_graph(model, file)
    domains = {node.domain for block in _blocks(model.graph, file) for node in block.node}
    # Tools import more domains than they use, so what counts is which are called.
    _insist_on_domains(domains, manifest, allowed)
    _insist_on_onnx(model, file)
    insist_on_format(manifest, file, narrow_parts(model))
    constants = {each.name for each in model.graph.initializer}
    given = {each.name: _tensor(each) for each in model.graph.input if each.name not in constants}
    answers = {each.name: _tensor(each) for each in model.graph.output}
    _insist_on_signature(given, answers, file, manifest)


def check_tflite(content: bytes, file: str, manifest: Manifest) -> bool:
    """Insist that a TFLite file is one and, where LiteRT is installed, what the manifest says.

    Returns:
        Whether LiteRT is installed, so that it was opened.

    Raises:
        NetworkUnreadable: It is none, or can't be opened.
        NetworkNotAsDeclared: Its inputs or outputs are not those of the manifest.
        FormatNotAsDeclared: It is quantized, and declared as float32.
    """
    place, magic = _TFLITE_MAGIC
    if content[place] != magic:
        raise NetworkUnreadable(f"{file} does not begin as a TFLite file does")
    if importlib.util.find_spec("ai_edge_litert") is None:
        return False
    # Imported where it is used: LiteRT is an extra, and takes 20 MB.
    from models.tflite import LiteRtEngine  # noqa: PLC0415

    image = manifest.image.input_name if manifest.image else None
    with TemporaryDirectory() as folder:
        path = Path(folder, "model.tflite")
        path.write_bytes(content)
        try:
            engine = LiteRtEngine(path, manifest.weights.output_name, image)
        except ModelUnusable as error:
            raise NetworkUnreadable(f"{file}: {error}") from error
        given = {spec.name: _specified(spec) for spec in engine.inputs}
        width = engine.output.shape[-1]
        answers = {engine.output_name: Tensor(_FLOAT, (None, None if width < 0 else width))}
    insist_on_format(manifest, file, engine.narrow_parts)
    _insist_on_signature(given, answers, file, manifest)
    return True


def insist_on_format(manifest: Manifest, file: str, narrow: Sequence[str]) -> None:
    """Insist that what is declared float32 is.

    Args:
        manifest: What its weights and their twin are said to be.
        file: Name of one of the two.
        narrow: What was found in it that is narrower.

    Raises:
        FormatNotAsDeclared: It is quantized.
    """
    weights = manifest.weights
    is_twin = weights.reference is not None and file == weights.reference.file
    if not narrow or (weights.is_quantized and not is_twin):
        return
    if is_twin:
        mend = "weights.reference has to name the float32 network that was quantized"
    else:
        mend = (
            "name the format that it has in weights.format, give the manifest a [gate], "
            "and evaluate the model with `nadi models evaluate`"
        )
    said = "the fp32 twin" if is_twin else weights.format
    raise FormatNotAsDeclared(
        f"{file} is declared as {said}, but it is quantized: {', '.join(narrow)}; {mend}"
    )


def _read(content: bytes, file: str) -> onnx.ModelProto:
    try:
        model: onnx.ModelProto = onnx.ModelProto.FromString(content)
    except (DecodeError, RecursionError) as error:
        raise NetworkUnreadable(f"{file} can't be read as ONNX") from error
    return model


def _insist_on_one_graph(model: onnx.ModelProto, file: str) -> None:
    if model.training_info:
        raise NetworkUnreadable(f"{file} has a part for training; export it for inference only")
    if model.functions:
        raise OperatorNotAllowed(
            f"{file} defines functions of its own; inline them with `onnx.inliner`"
        )


def _blocks(graph: onnx.GraphProto, file: str) -> Iterator[onnx.GraphProto]:
    """Every graph of a network, its tensors in order; the deepest and the largest are refused."""
    waiting, nodes = [(graph, 0)], 0
    while waiting:
        block, depth = waiting.pop()
        nodes += len(block.node)
        if depth > _MOST_NESTING or nodes > _MOST_NODES:
            raise NestedTooDeep(
                f"{file} nests branches and loops more than {_MOST_NESTING} deep, "
                f"or has more than {_MOST_NODES:,} nodes"
            )
        _insist_on_own_data(_tensors(block), file)
        waiting += [(inner, depth + 1) for inner in _inner(block)]
        yield block


def _inner(block: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    for attribute in _attributes(block):
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _tensors(block: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from block.initializer
    sparse = list(block.sparse_initializer)
    for attribute in _attributes(block):
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        sparse += [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
        sparse += attribute.sparse_tensors
    for each in sparse:
        yield from (each.values, each.indices)


def _attributes(block: onnx.GraphProto) -> Iterator[onnx.AttributeProto]:
    return (attribute for node in block.node for attribute in node.attribute)


def _insist_on_own_data(tensors: Iterable[onnx.TensorProto], file: str) -> None:
    for each in tensors:
        if each.data_location == TensorProto.EXTERNAL or each.external_data:
            raise ExternalData(
                f"{file}: tensor {each.name!a} lies in another file; save the model "
                "with all data inside (`save_as_external_data=False`)"
            )


def _insist_on_domains(found: set[str], manifest: Manifest, allowed: Iterable[str]) -> None:
    foreign = sorted(found - RUNTIME_DOMAINS)
    undeclared = [each for each in foreign if each not in manifest.weights.operator_domains]
    if undeclared:
        raise OperatorNotAllowed(
            f"operators of {', '.join(map(ascii, undeclared))} are used; "
            "`weights.operator_domains` of the manifest has to name their domain"
        )
    forbidden = [each for each in foreign if each not in set(allowed)]
    if forbidden:
        raise OperatorNotAllowed(
            f"operators of {', '.join(map(ascii, forbidden))} are used, which "
            "`models.allow_operator_domains` of the site file does not allow"
        )


def _insist_on_onnx(model: onnx.ModelProto, file: str) -> None:
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as error:
        first = str(error).strip().partition("\n")[0]
        raise NetworkUnreadable(f"{file} does not pass the ONNX checker: {first}") from error


def _insist_on_signature(
    given: Mapping[str, Tensor], answers: Mapping[str, Tensor], file: str, manifest: Manifest
) -> None:
    wanted = declared_inputs(manifest)
    if given.keys() != wanted.keys():
        raise NetworkNotAsDeclared(
            f"{file} takes {_listed(given)}, the manifest feeds {_listed(wanted)}"
        )
    for name, declared in wanted.items():
        _insist_on_fit(f"input {name!a} of {file}", given[name], declared)
    name = manifest.weights.output_name
    if name not in answers:
        raise NetworkNotAsDeclared(f"{file} gives {_listed(answers)}, the manifest reads {name}")
    declared = Tensor(_FLOAT, (None, manifest.output_width))
    _insist_on_fit(f"output {name!a} of {file}", answers[name], declared)


def declared_inputs(manifest: Manifest) -> dict[str, Tensor]:
    """The tensors that a gateway will feed a network, by the names of the graph's inputs."""
    wanted: dict[str, Tensor] = {}
    if manifest.weights.input_name:
        wanted[manifest.weights.input_name] = Tensor(_FLOAT, (None, manifest.width))
    if image := manifest.image:
        shape = (None, image.channels, image.height, image.width)
        wanted[image.input_name] = Tensor(_FLOAT, shape)
    if text := manifest.text:
        tokens = Tensor(_INTEGER, (None, None))
        wanted |= {text.ids_name: tokens, text.mask_name: tokens}
    return wanted


def _insist_on_fit(what: str, has: Tensor, declared: Tensor) -> None:
    if not has.fits(declared):
        raise NetworkNotAsDeclared(f"{what} is {has}, the manifest says {declared}")


def _tensor(value: onnx.ValueInfoProto) -> Tensor:
    kind = value.type.tensor_type
    dtype = _TYPES.get(kind.elem_type, f"type {kind.elem_type}")
    return Tensor(dtype, tuple(_size(axis) for axis in kind.shape.dim))


def _specified(spec: TensorSpec) -> Tensor:
    return Tensor(spec.dtype.name, spec.shape)


def _size(axis: Any) -> int | None:  # noqa: ANN401 - a message without a public name
    return axis.dim_value if axis.HasField("dim_value") else None


def _listed(names: Iterable[str]) -> str:
    found: Sequence[str] = [ascii(name) for name in names]
    return ", ".join(found) or "nothing"
