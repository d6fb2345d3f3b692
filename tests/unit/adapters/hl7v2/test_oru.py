"""A result as ORU^R01: our own listener reads from it what the result says. To write it anew:

python -m tests.unit.adapters.hl7v2.test_oru
"""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.hl7v2.addressed import Addressed
from adapters.hl7v2.conversion import convert
from adapters.hl7v2.dialect import Dialect
from adapters.hl7v2.identity import Origin, plain_id
from adapters.hl7v2.message import parsed
from adapters.hl7v2.oru import NotSendable, result_message, retraction_message
from gateway.core.event import is_made_by_ai
from gateway.core.findings import RESULT_SYSTEM, Report
from tests.result_models import DIGEST, reports
from tests.unit.adapters.hl7v2.test_writing import plain

GOLDEN = Path(__file__).parents[3] / "golden" / "oru" / "probability.hl7"
MRN = "https://hospital.example/mrn"
OURS = "https://nadi.health/fhir/sid/output"
NOW = datetime(2026, 11, 26, 7, 30, tzinfo=UTC)
DIALECT = Dialect(
    zone=ZoneInfo("UTC"), authorities={"HOSP": MRN}, code_systems={"99NADI": OURS, "L": OURS}
)
ORIGIN = Origin(feed="lab/mllp", patient_system=MRN, find_patient=plain_id, has_own_patients=True)
TO = Addressed(
    application="LIS",
    facility="HOSP",
    as_application="NADI",
    as_facility="test",
    processing_id="P",
    charset="UNICODE UTF-8",
    numbers=MRN,
    authority="HOSP",
)
PATIENT = {
    "resourceType": "Patient",
    "id": "p1",
    "identifier": [
        {"system": "urn:other", "value": "9"},
        {"use": "old", "system": MRN, "value": "MR-0001"},
        {"system": MRN, "value": "MR-0077"},
    ],
    "name": [
        {"use": "nickname", "text": "Evi"},
        {"use": "official", "family": "Müller", "given": ["Eva", "Maria"]},
    ],
    "birthDate": "1970-01-01",
    "gender": "female",
}
WORDS = "Entered in error: it was computed from data that was corrected."
COMPARED = ("code", "valueCodeableConcept", "valueQuantity", "interpretation")


def read(content: bytes) -> list[dict[str, Any]]:
    """Read a message as our listener does."""
    made = convert(parsed(content), content, ORIGIN, DIALECT, NOW)
    bundle = json.loads(made.bundle, parse_float=float)
    assert made.notes == ()
    return [entry["resource"] for entry in bundle["entry"]]


def of(content: bytes, resource_type: str) -> list[dict[str, Any]]:
    return [each for each in read(content) if each["resourceType"] == resource_type]


def as_told(answer: dict[str, Any]) -> dict[str, Any]:
    """Give of an answer what a message holds of it, in the order of its elements."""
    kept = {name: answer[name] for name in COMPARED if name in answer}
    told = orjson.loads(orjson.dumps(kept))
    codings = told["code"].get("coding", [])
    for coding in codings[:1]:
        coding["display"] = told["code"]["text"]
    told["code"] = {"coding": codings} if codings else told["code"]
    if "interpretation" in told:
        (concept,) = told["interpretation"]
        told["interpretation"] = [{"coding": [_without(concept["coding"][0], "display")]}]
    return told


def _without(element: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in element.items() if key != name}


@pytest.mark.parametrize("name", list(reports()))
def test_our_own_listener_reads_every_answer_of_a_result(name: str):
    report = reports()[name]
    observation = report.observation

    found = of(result_message(report, PATIENT, TO).content, "Observation")

    is_panel = "component" in observation and not any(k.startswith("value") for k in observation)
    is_panel = is_panel and "dataAbsentReason" not in observation
    expected = [*([] if is_panel else [observation]), *observation.get("component", ())]
    assert [{k: v for k, v in each.items() if k in COMPARED} for each in found] == [
        as_told(each) for each in expected
    ]
    has_value = [any(k.startswith("value") for k in each) for each in expected]
    assert [each["status"] == "preliminary" for each in found] == has_value
    assert {each["subject"]["identifier"]["value"] for each in found} == {"MR-0077"}
    assert all(is_made_by_ai(each) for each in found)
    assert {each["method"]["coding"][0]["code"] for each in found} == {"AIAST"}


def test_the_words_the_limits_and_the_reason_of_a_refusal_are_read_beside_it():
    (risk,) = of(result_message(reports()["probability"], PATIENT, TO).content, "Observation")
    (refusal,) = of(result_message(reports()["refusal"], PATIENT, TO).content, "Observation")

    told = "\n".join(note["text"] for note in risk["note"])
    assert "result of an AI. Model: Kidney risk 1.0.0 (AI). Preliminary: not yet reviewed" in told
    assert "Demonstration only" in told
    assert "Contraindications: Dialysis. Pregnancy." in told
    assert any("the image is blank" in note["text"] for note in refusal["note"])


@settings(max_examples=60)
@given(st.text(), st.text(), st.text(min_size=1), st.text())
def test_any_text_is_read_again(called: str, words: str, family: str, given_name: str):
    report = reports()["probability"]
    result = {
        **report.result,
        "code": {"coding": report.result["code"]["coding"], "text": f"AI {called}"},
        "note": [{"text": words}],
        "valueString": words or "-",
    }
    del result["valueQuantity"], result["text"]
    patient = {**PATIENT, "name": [{"family": f"x{family}", "given": [f"y{given_name}"]}]}

    content = result_message(replace(report, result=result), patient, TO).content

    obx, pid = parsed(content).first("OBX"), parsed(content).first("PID")
    assert obx.text(3, 2) == plain(f"AI {called}")
    assert obx.text(5) == plain(words or "-")
    assert (pid.text(5), pid.text(5, 2)) == (plain(f"x{family}"), plain(f"y{given_name}"))
    notes = [each.text(3) for each in parsed(content).of("NTE")]
    said = plain(words)
    assert not said or said in notes


def test_the_same_result_is_the_same_message_and_another_one_is_not():
    first, second = reports()["probability"], reports()["mapped"]
    one, again = (result_message(first, PATIENT, TO) for _ in range(2))
    other = result_message(second, PATIENT, TO)

    assert one == again
    assert one.control_id != other.control_id
    assert len(one.control_id) == 20
    assert parsed(one.content).control_id == one.control_id


def test_it_says_who_sends_it_to_whom_by_which_model_and_under_which_number():
    report = reports()["probability"]
    message = parsed(result_message(report, PATIENT, TO).content)
    header, obr, obx = message.header, message.first("OBR"), message.first("OBX")

    assert [header.text(at) for at in (3, 4, 5, 6)] == ["NADI", "test", "LIS", "HOSP"]
    assert (message.kind, message.event, header.text(9, 3)) == ("ORU", "R01", "ORU_R01")
    assert [header.text(at) for at in (11, 12, 18)] == ["P", "2.5.1", "UNICODE UTF-8"]
    assert (obr.text(3), obr.text(3, 3)) == (report.identifier, RESULT_SYSTEM)
    assert (obx.text(17), obx.text(18)) == ("AIAST", DIGEST)
    assert (obr.text(25), obx.text(11)) == ("P", "P")
    pid = message.first("PID")
    assert (pid.text(3), pid.text(3, 4), pid.text(3, 5)) == ("MR-0077", "HOSP", "MR")
    assert (pid.text(5), pid.text(5, 3), pid.text(7), pid.text(8)) == (
        "Müller",
        "Maria",
        "19700101",
        "F",
    )


def test_what_is_taken_back_is_the_same_result_marked_as_wrong_and_without_its_value():
    report = reports()["class"]
    sent = of(result_message(report, PATIENT, TO).content, "Observation")

    back = retraction_message(report, PATIENT, TO, at=NOW, words=WORDS)
    found = of(back.content, "Observation")

    assert [each["id"] for each in found] == [each["id"] for each in sent]
    assert {each["status"] for each in found} == {"entered-in-error"}
    assert not any(name.startswith("value") for each in found for name in each)
    assert b"Entered in error" in back.content
    assert b"0.83" not in back.content
    assert back.control_id != result_message(report, PATIENT, TO).control_id


@pytest.mark.parametrize(
    "patient",
    [{}, {"identifier": [{"system": "urn:other", "value": "9"}]}, {"identifier": [{"value": "9"}]}],
    ids=["none", "another", "of nobody"],
)
def test_a_patient_without_the_number_that_the_receiver_knows_is_not_sent(patient: dict[str, Any]):
    with pytest.raises(NotSendable, match=r"no identifier of https://hospital\.example/mrn"):
        result_message(reports()["score"], patient, TO)


def test_a_text_that_the_character_set_lacks_is_not_sent_in_another_one():
    poor = replace(TO, charset="ASCII")

    with pytest.raises(NotSendable, match="characters that ASCII lacks"):
        result_message(reports()["regression"], PATIENT, poor)


def test_a_number_is_assigned_by_a_uri_where_the_receiver_calls_it_nothing():
    by_oid = replace(TO, authority="", numbers="urn:oid:1.2.3")
    patient = {"identifier": [{"system": "urn:oid:1.2.3", "value": "7"}]}

    pid = parsed(result_message(reports()["score"], patient, by_oid).content).first("PID")

    assert (pid.text(3), pid.text(3, 4, 2), pid.text(3, 4, 3)) == ("7", "1.2.3", "ISO")
    assert pid.text(5, 7) == "U"


def golden() -> bytes:
    report: Report = reports()["probability"]
    return result_message(report, PATIENT, TO).content


def test_a_message_is_its_golden_file():
    assert golden().replace(b"\r", b"\n") == GOLDEN.read_bytes()


if __name__ == "__main__":
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_bytes(golden().replace(b"\r", b"\n"))
