"""What the doctor says of feeds without asking an EHR."""

from typing import Any

import pytest

from adapters.site import load_site
from gateway.cli.doctor_feeds import deletions_of
from gateway.core.clock import to_ms, utc_now
from gateway.store.unit_of_work import Store
from tests.factories import SITE

ASKING = "by asking for what is held"
LATE = "a Consent that was deleted since still permits: does its listener run, and what says it?"
POLLED = SITE.replace("[push]", "[push, {poll: {types: [Consent]}}]")


def kept(store: Store, **ages_s: dict[str, float]) -> None:
    now_ms = to_ms(utc_now())
    values = {
        f"deletions/{kind}": {name: now_ms - int(age_s * 1000) for name, age_s in looks.items()}
        for kind, looks in ages_s.items()
    }
    with store.write() as uow:
        uow.listener_state.put("ehr/poll", values)


@pytest.mark.parametrize(
    ("looks", "says", "is_fault"),
    [
        ({}, "not looked for yet: does its listener run?", None),
        (
            {"Consent": {"asked_ms": 40, "swept_ms": 9999}, "Patient": {"swept_ms": 7300}},
            f"looked for: Consent by the EHR's history just now; Patient {ASKING} 2 h ago",
            False,
        ),
        (
            {"Consent": {"asked_ms": 90_000, "swept_ms": 7300}},
            f"looked for: Consent {ASKING} 2 h ago; {LATE}",
            True,
        ),
    ],
    ids=["never", "in-time", "late"],
)
def test_how_deletions_are_found_is_said_and_a_late_look_is_a_fault(
    store: Store, looks: dict[str, Any], says: str, is_fault: bool | None
):
    kept(store, **looks)

    found = deletions_of(load_site(POLLED).feeds["ehr/poll"], store)

    assert (found.check, found.says, found.is_fault) == ("deletions ehr/poll", says, is_fault)
