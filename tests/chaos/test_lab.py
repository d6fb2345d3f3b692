"""The laboratory's messages are right, and the events that they became are found, or missed."""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import pytest

from adapters.hl7v2.message import parsed
from adapters.site import load_site
from tests.chaos.arena import SANDBOX_SITE
from tests.chaos.checker import check
from tests.chaos.ehr import site_for
from tests.chaos.evidence import Evidence
from tests.chaos.expected import Acknowledged, Expected
from tests.chaos.lab import Located, Message, Sent, add_lab, locate
from tests.chaos.stories import KINDS, Teller
from tests.simulators import SIMULATORS

AT = "2026-11-26T12:00:01+00:00"
AT_MS = int(datetime(2026, 11, 26, 12, 0, 1, tzinfo=UTC).timestamp() * 1000)
MESSAGE = Message("M00001-1", "eve", AT, b"MSH|")
SENT = Sent(MESSAGE, Expected.ONE, is_acknowledged=True)
#: A Patient of hers was pushed by the EHR.
PUSHED = [Acknowledged("event-patient", "eve", Expected.NO_JOB)]


def event(name: str, *, kind: str = "Observation", at_ms: int = AT_MS) -> dict[str, Any]:
    """Give a row of the events."""
    told = {"id": f"event-{name}", "resource_type": kind, "patient_key": "key-eve"}
    return {**told, "effective_ms": at_ms}


PATIENT = event("patient", kind="Patient")


def test_the_event_of_a_message_is_found_by_whom_it_is_about_and_when() -> None:
    others = [event("order", kind="ServiceRequest"), event("later", at_ms=AT_MS + 1000)]

    found = locate([SENT], [PATIENT, *others, event("result")], PUSHED)

    due = Acknowledged("event-result", "eve", Expected.ONE, AT)
    assert found == Located([due], {"message/M00001-1": {"event-result"}})


def test_a_message_that_was_not_acknowledged_counts_where_it_is_there() -> None:
    given_up = replace(SENT, is_acknowledged=False)

    assert locate([given_up], [PATIENT], PUSHED) == Located([], {})
    assert len(locate([given_up], [PATIENT, event("result")], PUSHED).acknowledged) == 1


@pytest.mark.parametrize("rows", [[], [event("one"), event("two")]], ids=["lost", "twice"])
def test_a_message_that_was_acknowledged_and_is_not_there_once_is_a_breach(
    rows: list[dict[str, Any]],
) -> None:
    found = locate([SENT], [PATIENT, *rows], PUSHED)

    evidence = Evidence(
        acknowledged=[*PUSHED, *found.acknowledged],
        answers=found.answers,
        tables={"events": [PATIENT, *rows]},
    )
    assert "acknowledged events are kept once" in {each.invariant for each in check(evidence)}


def test_stories_of_many_kinds_come_from_the_laboratory_each_result_at_its_own_time() -> None:
    teller = Teller(3)
    told = list(islice(teller.stories(), 400))

    by_lab = [story for story in told if any(push.message for push in story.then)]
    messages = [push.message for story in told for push in story.then if push.message]
    assert {story.kind for story in by_lab} == KINDS.keys() - {
        "other-code",
        "corrected",
        "late-version",
    }
    assert 0.2 < len(by_lab) / len(told) < 0.5
    assert len({each.control_id for each in messages}) == len(messages)
    assert len({(each.patient_id, each.at) for each in messages}) == len(messages)
    for each in messages:
        read = parsed(each.content, charset="UNICODE UTF-8")
        (result,) = read.of("OBX")
        assert read.control_id == each.control_id
        assert teller.token not in each.control_id
        assert result.text(5).endswith(teller.tail)


@pytest.mark.parametrize("name", ["sandbox", *SIMULATORS])
def test_every_site_has_a_laboratory_that_speaks_of_the_ehr_s_patients(name: str) -> None:
    simulator = SIMULATORS.get(name)
    base_url = "http://127.0.0.1:8090/fhir"
    text = site_for(simulator, base_url) if simulator else SANDBOX_SITE.read_text("utf-8")

    site = load_site(add_lab(text, 2575))

    assert site.feeds["lab/mllp"].speaks_for == "ehr"
    assert site.system("ehr") is not None
