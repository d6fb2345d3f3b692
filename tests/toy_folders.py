"""Installed models of images and of texts, small enough to be written by a test.

They answer exactly what `tests.toy_documents` says of its toys, but as ONNX graphs in folders with
manifest, golden cases and card, for tests that need the real runtime or all of Nadi.
"""

import base64
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from models.registry import REFERENCE_MODELS
from tests.notes import NOTE
from tests.pictures import gradient, png
from tests.toy_documents import PAIN, TOKENIZER, image_manifest, text_manifest

_GOLDEN = np.rint(gradient(28, 28)).astype(np.uint8)


def write_models(folder: Path, *, with_reference: Sequence[str] = ()) -> Path:
    """Write both toys into folders of their own, beside copies of some reference models."""
    picture, note = folder / "toy-picture", folder / "toy-note"
    _write(picture, _picture_graph(), image_manifest, {"image": _text(png(_GOLDEN))}, _mean())
    _write(note, _note_graph(), text_manifest, {"text": NOTE}, 1 / 19)
    (note / "tokenizer.json").write_bytes(TOKENIZER)
    for name in with_reference:
        shutil.copytree(REFERENCE_MODELS / name, folder / name)
    return folder


def _write(
    folder: Path, graph: bytes, manifest: Any, case: Mapping[str, object], expected: float
) -> None:
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(graph)
    text = manifest(weights=hashlib.sha256(graph).hexdigest())
    (folder / "manifest.toml").write_text(text, encoding="utf-8")
    (folder / "card.md").write_text("# A toy for tests\n", encoding="utf-8")
    golden = {"cases": [{"id": "one", "note": "by hand", **case, "expected": [expected]}]}
    (folder / "golden.json").write_text(json.dumps(golden), encoding="utf-8")


def _mean() -> float:
    return float(_GOLDEN.mean() / 255)


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _picture_graph() -> bytes:
    """The mean over channels, rows and columns."""
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3])
    nodes = [
        helper.make_node("ReduceMean", ["image", "axes"], ["mean"], keepdims=1),
        helper.make_node("Flatten", ["mean"], ["y"], axis=1),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, 28, 28])
    return _model(nodes, [image], [axes])


def _note_graph() -> bytes:
    """The share of the unpadded tokens that are "pain"."""
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    pain = helper.make_tensor("pain", TensorProto.INT64, [1], [PAIN])
    nodes = [
        helper.make_node("Equal", ["ids", "pain"], ["hit"]),
        helper.make_node("Cast", ["hit"], ["counted"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["mask"], ["weight"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["counted", "weight"], ["hits"]),
        helper.make_node("ReduceSum", ["hits", "axes"], ["found"], keepdims=1),
        helper.make_node("ReduceSum", ["weight", "axes"], ["length"], keepdims=1),
        helper.make_node("Div", ["found", "length"], ["y"]),
    ]
    given = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "length"])
        for name in ("ids", "mask")
    ]
    return _model(nodes, given, [axes, pain])


def _model(nodes: Any, inputs: Any, constants: Any) -> bytes:
    answer = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])
    graph = helper.make_graph(nodes, "toy", inputs, [answer], constants)
    opset = [helper.make_opsetid("", 18)]
    written: bytes = helper.make_model(
        graph, opset_imports=opset, ir_version=10
    ).SerializeToString()
    return written
