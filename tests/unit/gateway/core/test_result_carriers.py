"""A result in the forms that an EHR without Observations can keep: valid, and it says the same."""

from base64 import b64decode

import orjson
import pytest

from gateway.core.event import is_made_by_ai
from gateway.core.fhir import parse_resource
from gateway.core.ladder import Rung
from gateway.core.result_carriers import (
    at_one_time,
    carried,
    coded_as,
    in_words,
    with_ai_note,
    words_of,
)
from gateway.core.write_back import StoredReport, with_device
from models.manifest import Manifest
from tests.result_models import LABELS, RISK, RISK_ASSESSMENT, SCORE, made

CARRIERS = [Rung.DIAGNOSTIC_REPORT, Rung.DOCUMENT_REFERENCE, Rung.COMMUNICATION, Rung.TASK]
OBSERVATION = with_device(made(RISK, 0.7), "Device/d1").result


@pytest.mark.parametrize("rung", CARRIERS)
@pytest.mark.parametrize(
    ("manifest", "answer"),
    [(RISK, 0.7), (RISK_ASSESSMENT, 0.7), (SCORE, 7.0)],
    ids=["risk", "ra", "score"],
)
def test_each_carrier_is_valid_and_says_the_words_of_the_result(
    rung: Rung, manifest: Manifest, answer: float
) -> None:
    observation = with_device(made(manifest, answer), "Device/d1").observation

    found = carried(observation, rung)

    parse_resource(orjson.dumps(found))
    first = words_of(observation).partition("\n")[0]
    told = orjson.dumps(found).decode()
    forms = [*found.get("presentedForm", ()), *(c["attachment"] for c in found.get("content", ()))]
    text = "".join(b64decode(each["data"]).decode() for each in forms)
    assert first in told or first in text
    assert found["identifier"] == observation["identifier"]
    assert found["meta"] == observation["meta"]
    assert "AI" in told


def test_words_are_those_of_the_narrative_without_its_markup() -> None:
    lines = words_of(OBSERVATION).split("\n")

    assert len(lines) >= 3
    assert not any("<" in line or "&" in line for line in lines)
    assert any("Made by AI" in line for line in lines)


def test_a_value_in_words_has_no_number_any_more_and_says_that_an_ai_made_it() -> None:
    found = in_words(OBSERVATION)

    parse_resource(orjson.dumps(found))
    assert "valueQuantity" not in found
    assert found["valueString"].startswith("AI, preliminary: ")


def test_words_and_note_end_with_title_and_version_of_the_model_where_those_are_known() -> None:
    model = OBSERVATION["method"]["text"]
    nameless = {name: value for name, value in OBSERVATION.items() if name != "method"}

    assert in_words(OBSERVATION)["valueString"].endswith(f" Model: {model}.")
    assert f" Model: {model}. " in with_ai_note(OBSERVATION)["note"][0]["text"]
    assert "Model:" not in in_words(nameless)["valueString"]


def test_what_comes_back_without_its_labels_is_known_by_its_words() -> None:
    names = ("resourceType", "status", "code", "subject", "valueString", "note")
    worded = {name: value for name, value in in_words(OBSERVATION).items() if name in names[:5]}
    noted = {name: value for name, value in with_ai_note(OBSERVATION).items() if name in names}

    assert is_made_by_ai(worded)
    assert is_made_by_ai(noted)
    assert not is_made_by_ai({**worded, "valueString": "18 %", "note": ["odd"]})
    parse_resource(orjson.dumps(with_ai_note(OBSERVATION)))


def test_a_panel_in_words_needs_no_components() -> None:
    found = in_words(with_device(made(LABELS, 0.7, 0.2), "Device/d1").observation)

    assert "component" not in found
    assert "dataAbsentReason" not in found


def test_the_code_becomes_the_ehr_s_own_where_it_has_one() -> None:
    (coding,) = OBSERVATION["code"]["coding"]
    known = {(coding["system"], coding["code"]): ("", "uuid-1", "AI: risk")}

    found = coded_as(OBSERVATION, known)

    assert found["code"]["coding"] == [{"code": "uuid-1", "display": "AI: risk"}]
    assert found["code"]["text"] == OBSERVATION["code"]["text"]
    assert coded_as(OBSERVATION, {}) is OBSERVATION


def test_a_period_becomes_its_end() -> None:
    rest = {k: v for k, v in OBSERVATION.items() if not k.startswith("effective")}
    period = {**rest, "effectivePeriod": {"start": "2026-11-01", "end": "2026-11-02"}}

    assert at_one_time(period)["effectiveDateTime"] == "2026-11-02"
    assert "effectivePeriod" not in at_one_time(period)
    assert at_one_time(OBSERVATION) is OBSERVATION


def test_a_stored_report_is_carried_with_its_bytes() -> None:
    stored = StoredReport.read(made(RISK_ASSESSMENT, 0.7).to_json())

    found = stored.carried_as(Rung.TASK)

    assert (found.resource_type, found.changed) == ("Task", ("as Task",))
    assert found.types == ("Task",)
    assert found.opened().result["resourceType"] == "Task"
