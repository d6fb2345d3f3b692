"""docs/images-and-texts.md names every reason there is, and no other."""

import re
from pathlib import Path
from typing import get_args

from gateway.core.jobs import BusinessStatus
from models.images import ImageReason
from models.texts import TextReason
from workers.reasons import OUTSIDE_USE, REASONS

DOCS = (Path(__file__).resolve().parents[2] / "docs" / "images-and-texts.md").read_text("utf-8")
OF_DOCUMENTS = re.compile(r"image-|text-|wrong-|attachment-")


def test_every_reason_of_an_image_or_a_text_is_documented() -> None:
    refused = DOCS.partition("## What is refused")[2].partition("##")[0]
    rows = "".join(line.split("|")[1] for line in refused.splitlines() if line.startswith("| `"))

    documented = set(re.findall(r"`([a-z-]+)`", rows))

    assert documented == {reason for reason in REASONS if OF_DOCUMENTS.match(reason)}


def test_every_reason_is_one_that_a_task_can_tell() -> None:
    statuses = {status.value for status in BusinessStatus}

    assert REASONS.keys() <= statuses
    assert {*get_args(ImageReason), *get_args(TextReason)} <= REASONS.keys()
    assert REASONS.keys() >= OUTSIDE_USE
