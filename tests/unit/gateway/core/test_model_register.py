from dataclasses import fields, replace
from datetime import date

import pytest

from gateway.core.model_register import (
    BUILT_IN,
    Card,
    ModelState,
    RegisteredModel,
    Standing,
    card_of,
    standing,
)
from models.manifest import parse
from tests.packages import files

TEXT = files()["manifest.toml"].decode()
DIGEST = "d" * 64
FIRST, LAST = date(2026, 11, 1), date(2026, 11, 30)


def card(text: str = TEXT) -> Card:
    return card_of(parse(text), DIGEST, signer=BUILT_IN, signer_key="")


@pytest.mark.parametrize(
    ("state", "day", "expected"),
    [
        ("active", FIRST, Standing.ACTIVE),
        ("active", LAST, Standing.ACTIVE),
        ("active", date(2026, 10, 31), Standing.NOT_YET),
        ("active", date(2026, 12, 1), Standing.EXPIRED),
        ("retired", FIRST, Standing.RETIRED),
        ("retired", date(2026, 12, 1), Standing.RETIRED),
    ],
)
def test_a_model_may_run_from_the_first_to_the_last_day_unless_it_was_retired(
    state: str, day: date, expected: Standing
) -> None:
    assert standing(state, FIRST, LAST, day) is expected


def test_a_model_without_days_may_always_run() -> None:
    line = RegisteredModel(
        card=card(), state=ModelState.ACTIVE, registered_ms=1, registered_by="tester"
    )

    assert line.standing(date(1970, 1, 1)) is line.standing(date(2999, 1, 1)) is Standing.ACTIVE


def test_the_register_keeps_what_the_manifest_says() -> None:
    declared = 'device_class = "none"\n'
    regulatory = (
        'device_class = "B"\nlicence_number = "MFG/1"\nchange_protocol = "ACP-7"\n\n'
        "[validity]\nnot_after = 2027-01-01\n"
    )
    assert declared in TEXT

    kept = card(TEXT.replace(declared, regulatory, 1))

    assert (kept.reference, kept.signer) == ("ckd-risk@1.0.0", "built-in")
    assert (kept.jurisdiction, kept.device_class) == ("IN", "B")
    assert (kept.licence_number, kept.change_protocol) == ("MFG/1", "ACP-7")
    assert (kept.not_before, kept.not_after) == (None, date(2027, 1, 1))
    assert kept.demonstration_only
    assert kept.intended_use == parse(TEXT).intended_use


@pytest.mark.parametrize("name", [field.name for field in fields(Card)])
def test_the_fingerprint_changes_with_every_field(name: str) -> None:
    before = card()
    value = getattr(before, name)
    other = not value if isinstance(value, bool) else ("changed",) if value == () else "changed"

    assert replace(before, **{name: other}).fingerprint != before.fingerprint
    assert replace(before).fingerprint == before.fingerprint
