"""Whole model folders around any weights: manifest, golden cases and card, for tests."""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.checksums import sha256
from models.registry import InstalledModel, load
from tests.pictures import png

NUMBERS = tuple("abcd")
PROBABILITY = """
[[outputs]]
name = "risk"
column = 0
code = { system = "http://example.org", code = "risk" }
unit = "{probability}"
range = [0, 1]
summary = "{percent} %: {label}."
bands = [
  { at_least = 0, label = "low", advice = "None." },
  { at_least = 0.5, label = "high", advice = "Look." },
]
"""

_COLOUR = """
[[outputs]]
name = "{name}"
column = {column}
kind = "regression"
code = {{ system = "http://example.org", code = "{name}" }}
unit = "1"
range = [0, 1]
summary = "{{value}}"
"""
_PICTURE = """
[image]
label = "Picture"
input_name = "image"
height = {side}
width = {side}
channels = 3
modalities = ["DX"]
"""


def numbers(ids: Sequence[str] = NUMBERS, *, missing: str = "mask") -> str:
    """The `[[inputs]]` of plain numbers, each measured by a code of its own."""
    return "".join(
        f"""
[[inputs]]
id = "{name}"
label = "{name}"
unit = "1"
max_age_h = 24
plausible = [-1000, 1e15]
missing = "{missing}"
codes = [{{ system = "http://example.org", code = "{name}" }}]
"""
        for name in ids
    )


def toy_model(  # noqa: PLR0913 - one argument for each part of a folder
    folder: Path,
    weights: bytes,
    golden: Sequence[Mapping[str, Any]],
    *,
    kind: str = "onnx-fp32",
    tables: str = "",
    outputs: str = PROBABILITY,
    tolerance: float = 0.01,
    feeds: str | None = "features",
    answers: str = "probability",
    files: Mapping[str, bytes] | None = None,
) -> InstalledModel:
    """Write a model and load it.

    Args:
        folder: A new folder.
        weights: The network.
        golden: Cases without id and note.
        kind: The format of the weights.
        tables: Inputs, image, text, limits, gate.
        outputs: What the columns mean.
        tolerance: Of the golden cases.
        feeds: Name of the input of numbers.
        answers: Name of the output.
        files: Further files by name.
    """
    folder.mkdir(parents=True)
    file = "model.tflite" if kind.startswith("tflite") else "model.onnx"
    fed = f'input_name = "{feeds}"' if feeds else ""
    manifest = f"""
manifest_version = 1
name = "toy"
version = "1.0.0"
title = "Toy"
intended_use = "Tests."
not_for = "Patients."
demonstration_only = true
manufacturer = "Nobody"
licence = "Apache-2.0"
card = "card.md"
golden = "golden.json"

[weights]
file = "{file}"
sha256 = "{sha256(weights)}"
format = "{kind}"
tolerance = {tolerance}
output_name = "{answers}"
{fed}
{{twin}}
{outputs}
{tables}
"""
    twin = (files or {}).get("fp32.onnx")
    named = f'reference = {{ file = "fp32.onnx", sha256 = "{sha256(twin)}" }}' if twin else ""
    cases = [{"id": str(at), "note": "A case.", **case} for at, case in enumerate(golden)]
    content = {
        "manifest.toml": manifest.replace("{twin}", named).encode(),
        file: weights,
        "golden.json": json.dumps({"cases": cases}).encode(),
        "card.md": b"A toy.\n",
        **(files or {}),
    }
    for name, each in content.items():
        (folder / name).write_bytes(each)
    return load(folder)


def picture_model(
    folder: Path, weights: bytes, *, side: int = 8, tables: str = ""
) -> InstalledModel:
    """A TFLite model of the brightness of a picture's three colours, see `image_model`."""
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 255
    outputs = "".join(
        _COLOUR.format(name=name, column=column)
        for column, name in enumerate(("red", "green", "blue"))
    )
    return toy_model(
        folder,
        weights,
        [picture_case(png(red), [1, 0, 0])],
        kind="tflite-fp32",
        tables=_PICTURE.format(side=side) + tables,
        outputs=outputs,
        feeds=None,
        answers="brightness",
    )


def case_of(values: Sequence[float | None], answer: float) -> dict[str, Any]:
    """A golden case of numbers."""
    return {"inputs": dict(zip(NUMBERS, values, strict=False)), "expected": [answer]}


def picture_case(png: bytes, answers: Sequence[float]) -> dict[str, Any]:
    """A golden case of an image."""
    return {"image": base64.b64encode(png).decode(), "expected": list(answers)}
