"""Writes the files of a model's folder: people's words stay, measured parts are replaced.

A manifest is written by people down to a line such as `# Written by train.py`; what follows is the
script's. A model card has its measured part between two comments. Weights and golden cases are the
script's alone.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.manifest import ReferenceWeights, Weights

CARD_MARKS = ("<!-- measured by train.py -->\n", "<!-- end -->\n")


def head_of(manifest: str, mark: str) -> str:
    """Give what people wrote of a manifest.

    Args:
        manifest: The whole text.
        mark: The line below which the script writes, with its line break.
    """
    return manifest.partition(mark)[0]


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
