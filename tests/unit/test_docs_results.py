"""The examples of docs/results.md are what Nadi writes."""

import re
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.result_models import golden

PAGE = Path(__file__).resolve().parents[2] / "docs" / "results.md"
EXAMPLES = re.findall(r"```json ([a-z-]+)\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)


@pytest.mark.parametrize(("name", "example"), EXAMPLES, ids=[name for name, _ in EXAMPLES])
def test_an_example_is_part_of_its_golden_file(name: str, example: str) -> None:
    shown: dict[str, Any] = orjson.loads(example)

    whole = golden(name)

    assert shown == {key: whole.get(key) for key in shown}


def test_every_kind_of_answer_has_an_example() -> None:
    named = {name for name, _ in EXAMPLES}

    assert named >= {"probability", "score", "regression", "class", "uncertain", "labels"}
