"""Writes the files of a model's folder: people's words stay, measured parts are replaced.

A manifest is written by people down to a line such as `# Written by train.py`; what follows is the
script's. A model card has its measured part between two comments. Weights and golden cases are the
script's alone.
"""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.manifest import MANIFEST_FILE, Gate, Input, Output, ReferenceWeights, Weights

CARD_MARKS = ("<!-- measured by train.py -->\n", "<!-- end -->\n")


@dataclass(frozen=True)
class Head:
    """What people wrote of a manifest, as far as a script needs it.

    Attributes:
        text: All of it, with the line below which the script writes.
        version: Version of the model.
        inputs: What it needs.
        outputs: What it gives.
        gate: When its quantized form is accepted; None where nothing is quantized.
        licence_file: File name of its licence's text; None where it names none.
    """

    text: str
    version: str
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    gate: Gate | None
    licence_file: str | None


def read_head(folder: Path, mark: str) -> Head:
    """Read what people wrote of the manifest in a folder.

    Args:
        folder: Of the model.
        mark: The line below which the script writes, with its line break.

    Raises:
        ValidationError: An input, an output or the gate is wrong.
        OSError: There is no manifest.
    """
    text = (folder / MANIFEST_FILE).read_text(encoding="utf-8").partition(mark)[0]
    told = tomllib.loads(text)
    return Head(
        text + mark,
        told["version"],
        tuple(Input.model_validate(each) for each in told.get("inputs", ())),
        tuple(Output.model_validate(each) for each in told["outputs"]),
        Gate.model_validate(told["gate"]) if "gate" in told else None,
        told.get("licence_file"),
    )


def licence_text(folder: Path, head: Head) -> dict[str, bytes]:
    """Give the licence's text by its file name, for a copy of the folder; nothing without one.

    Raises:
        OSError: It is not there.
    """
    name = head.licence_file
    return {} if name is None else {name: (folder / name).read_bytes()}


def weights_table(weights: Weights) -> str:
    """Give the `[weights]` table of a manifest as TOML."""
    named = {
        "file": weights.file,
        "sha256": weights.sha256,
        "format": weights.format,
        "tolerance": weights.tolerance,
        "input_name": weights.input_name,
        "output_name": weights.output_name,
    }
    lines = [f"{key} = {json.dumps(value)}\n" for key, value in named.items() if value is not None]
    if weights.reference is not None:
        lines.append(f"reference = {_inline(weights.reference)}\n")
    return "\n[weights]\n" + "".join(lines)


def with_measured(card: str, measured: str) -> str:
    """Give a model card with its measured part replaced."""
    before, _, rest = card.partition(CARD_MARKS[0])
    after = rest.partition(CARD_MARKS[1])[2]
    return before + CARD_MARKS[0] + measured + CARD_MARKS[1] + after


def golden_json(cases: Sequence[Mapping[str, Any]]) -> bytes:
    """Give golden cases as JSON, one a line so that a difference is readable."""
    lines = ",\n".join(json.dumps(case) for case in cases)
    return f'{{"cases": [\n{lines}\n]}}\n'.encode()


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files by their names, once everything about them is known to hold.

    Raises:
        OSError: The folder can't be written.
    """
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _inline(twin: ReferenceWeights) -> str:
    return f'{{ file = "{twin.file}", sha256 = "{twin.sha256}" }}'
