"""What becomes of a message: one golden Bundle for each kind. To write them anew:

python -m tests.unit.adapters.hl7v2.test_conversion
"""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest

from adapters.hl7v2.conversion import Converted, convert
from adapters.hl7v2.dialect import Dialect
from adapters.hl7v2.identity import Origin, plain_id
from adapters.hl7v2.message import parsed
from adapters.hl7v2.problems import Hl7Problem, Place
from gateway.core.fhir import parse_bundle

GOLDEN = Path(__file__).parents[3] / "golden" / "hl7v2"
MESSAGES = sorted(GOLDEN.glob("*.hl7"))
NOW = datetime(2026, 11, 26, 7, 30, tzinfo=UTC)
MRN = "https://hospital.example/mrn"
DIALECT = Dialect(
    zone=ZoneInfo("Asia/Kolkata"),
    authorities={"HOSP": MRN},
    code_systems={"L": "urn:lab"},
    local_codes={("urn:lab", "CREA"): ("http://loinc.org", "2160-0")},
)
HOSPITAL = Origin(feed="lab/mllp", patient_system=MRN, find_patient=plain_id, has_own_patients=True)
LABORATORY = Origin(feed="lab/mllp", patient_system=MRN, find_patient={"MR-0077": "eve"}.get)


def converted(content: bytes, origin: Origin = HOSPITAL) -> Converted:
    return convert(parsed(content), content, origin, DIALECT, NOW)


def resources(made: Converted) -> list[dict[str, Any]]:
    return [entry["resource"] for entry in orjson.loads(made.bundle)["entry"]]


def golden(made: Converted) -> str:
    """Write a Bundle for people, numbers as they are, without the bytes of the message."""
    bundle = json.loads(made.bundle, parse_float=lambda digits: f"number {digits}")
    for entry in bundle["entry"]:
        if entry["resource"]["resourceType"] == "Binary":
            entry["resource"]["data"] = "the message"
    return json.dumps(bundle, indent=1, ensure_ascii=False) + "\n"


@pytest.mark.parametrize("file", MESSAGES, ids=lambda file: file.stem)
def test_a_message_becomes_its_golden_bundle(file: Path):
    made = converted(file.read_bytes())

    assert golden(made) == file.with_suffix(".json").read_text("utf-8")
    assert [issue for entry in parse_bundle(made.bundle).entries for issue in entry.issues] == []
    assert len(made.places) == len(resources(made))


def test_a_laboratory_speaks_of_the_ehrs_patient_and_is_no_source_for_her():
    found = resources(converted((GOLDEN / "oru-r01.hl7").read_bytes(), LABORATORY))

    assert "Patient" not in {each["resourceType"] for each in found}
    subjects = {each["subject"]["reference"] for each in found if "subject" in each}
    assert subjects == {"Patient/eve"}


def test_a_number_that_nobody_has_is_a_patient_of_its_own():
    content = (GOLDEN / "oru-r01.hl7").read_bytes().replace(b"MR-0077", b"MR-0078")

    made = converted(content, LABORATORY)
    first, again = resources(made), resources(converted(content, LABORATORY))

    assert next((n.code, n.place) for n in made.notes) == (204, Place("PID", 1, 3))
    (subject,) = {each["subject"]["reference"] for each in first if "subject" in each}
    assert subject.startswith("Patient/")
    assert subject not in {"Patient/eve", "Patient/MR-0078"}
    assert first == again


def test_a_correction_has_the_ids_of_what_it_corrects_and_a_version_of_its_own():
    content = (GOLDEN / "oru-r01.hl7").read_bytes()
    correction = content.replace(b"|1.50|", b"|1.10|").replace(b"M-1", b"M-2")

    before, after = (resources(converted(each)) for each in (content, correction))

    ids = [(each["resourceType"], each["id"]) for each in before]
    changing = {"MessageHeader", "Binary", "Provenance"}
    assert [i for i in ids if i[0] not in changing] == [
        (e["resourceType"], e["id"]) for e in after if e["resourceType"] not in changing
    ]
    assert before[1]["meta"]["versionId"] != after[1]["meta"]["versionId"]
    assert before[1]["meta"]["lastUpdated"] == after[1]["meta"]["lastUpdated"]


def test_results_of_one_code_are_told_apart():
    content = (
        b"MSH|^~\\&|a|b|||2026||ORU^R01|1|P|2.5\rPID|1||7\rOBR|1||F-1|X\r"
        b"OBX|1|NM|1^c^L||1||||||F\rOBX|2|NM|1^c^L||2||||||F\rOBX|3|NM|1^c^L|s|3||||||F\r"
    )

    found = [e for e in resources(converted(content)) if e["resourceType"] == "Observation"]

    assert len({each["id"] for each in found}) == 3


TWO_PATIENTS = (
    b"MSH|^~\\&|a|b|||2026||ORU^R01|1|P|2.5\r"
    b"PID|1||7\rOBR|1||F-1|X|||20261126\rOBX|1|NM|1^c^L||1||||||F\r"
    b"PID|2||8\rOBX|1|NM|1^c^L||2||||||F|||20261125\r"
    b"OBR|1||F-1|X|||20261124\rOBX|1|NM|1^c^L||3||||||F\r"
)


def test_results_of_two_patients_in_one_message_are_never_each_others():
    made = resources(converted(TWO_PATIENTS))

    reports = [each for each in made if each["resourceType"] == "DiagnosticReport"]
    results = [each for each in made if each["resourceType"] == "Observation"]
    whose = [each["subject"]["reference"] for each in results]
    assert whose == ["Patient/7", "Patient/8", "Patient/8"]
    # The same order number, of two patients, is two orders.
    assert len({each["id"] for each in results}) == 3
    assert [each["subject"]["reference"] for each in reports] == ["Patient/7", "Patient/8"]
    assert [len(each["result"]) for each in reports] == [1, 1]
    assert [each["effectiveDateTime"] for each in results] == [
        "2026-11-26",
        "2026-11-25",
        "2026-11-24",
    ]


def test_an_order_number_that_comes_again_with_another_patient_is_another_order():
    content = (GOLDEN / "oru-r01.hl7").read_bytes()

    first, second = (
        {(e["resourceType"], e["id"]) for e in resources(converted(each))}
        for each in (content, content.replace(b"MR-0077", b"MR-0078"))
    )

    assert not first & second


def test_without_an_order_number_a_result_is_known_by_patient_code_and_time():
    content = (
        b"MSH|^~\\&|a|b|||2026||ORU^R01|1|P|2.5\rPID|1||7\r"
        b"OBX|1|NM|1^c^L||1||||||F|||20261126090000\r"
    )
    correction = content.replace(b"||1||||||F", b"||2||||||C").replace(b"|1|P|", b"|2|P|")

    (first,), (second,) = (
        [e for e in resources(converted(each)) if e["resourceType"] == "Observation"]
        for each in (content, correction)
    )

    assert first["id"] == second["id"]
    assert (first["status"], second["status"]) == ("final", "corrected")


def test_what_stands_before_its_patient_is_left_out_and_told():
    content = b"MSH|^~\\&|a|b|||20261126||ADT^A01|1|P|2.5\rAL1|1|DA|PEN\rPID|1||7\r"

    made = converted(content)

    assert [each.says for each in made.notes] == ["It stands before any PID and was left out."]
    assert "AllergyIntolerance" not in {each["resourceType"] for each in resources(made)}


def test_a_message_that_does_not_say_when_is_the_same_version_whenever_it_comes():
    content = b"MSH|^~\\&|a|b|||||ADT^A01|1|P|2.5\rPID|1||7\r"

    now, later = (
        resources(convert(parsed(content), content, HOSPITAL, DIALECT, NOW + timedelta(hours=each)))
        for each in (0, 1)
    )

    assert [each["meta"] for each in now] == [each["meta"] for each in later]
    assert "lastUpdated" not in now[0]["meta"]


def dated(moment: str) -> Converted:
    return converted(f"MSH|^~\\&|a|b|||{moment}||ADT^A01|1|P|2.5\rPID|1||7\r".encode())


@pytest.mark.parametrize(
    ("moment", "by"),
    [
        ("20261126131100", "11 minutes"),
        ("20261126160001", "3 hours"),
        ("20301126130000", "1461 days"),
        ("99991231", "2912"),
    ],
)
def test_a_sender_whose_clock_is_ahead_is_told_by_how_much_and_its_message_is_as_old_as_its_coming(
    moment: str, by: str
):
    made = dated(moment)

    (note,) = made.notes
    assert (note.place, int(note.code)) == (Place("MSH", 1, 7), 102)
    assert note.says.startswith(f"The clock of the sender is ahead of the clock here by {by}")
    assert made.is_ahead
    assert {each["meta"]["lastUpdated"] for each in resources(made)} == {
        "2026-11-26T07:30:00.000+00:00"
    }


def test_clocks_may_differ_by_ten_minutes():
    made = dated("20261126131000")

    assert (made.notes, made.is_ahead) == ((), False)
    assert resources(made)[0]["meta"]["lastUpdated"] == "2026-11-26T13:10:00+05:30"


def test_a_moment_after_the_end_of_time_is_none():
    made = dated("99991231235959-1200")

    assert [each.says[:19] for each in made.notes] == ["It names no moment,"]
    assert "lastUpdated" not in resources(made)[0]["meta"]


OBR, OBX = "OBR|1|P|F|GLU^Glucose^L|||20261126", "OBX|1|NM|GLU^Glucose^L||5||||||F"
PID = "PID|1||7^^^HOSP^MR"


def told(kind: str, *segments: str) -> list[tuple[int, Place, str]]:
    """Convert a message; give what its sender is told, and insist that the gateway takes it."""
    head = f"MSH|^~\\&|a|b|||20261126123000||{kind}|1|P|2.5"
    made = converted(("\r".join([head, *segments]) + "\r").encode())
    assert [issue for each in parse_bundle(made.bundle).entries for issue in each.issues] == []
    return [(int(each.code), each.place, each.says) for each in made.notes]


@pytest.mark.parametrize(
    ("kind", "segments", "first"),
    [
        ("ORU^R01", (OBR, OBX), "OBR"),
        ("OUL^R22", ("SPM|1", OBR, OBX), "SPM"),
        ("ORM^O01", ("ORC|NW|1", OBR), "ORC"),
        ("MDM^T02", ("EVN||20261126", "TXA|1|CN|TX"), "TXA"),
        ("VXU^V04", ("RXA|0|1|20261126||08^HepB^CVX|1",), "RXA"),
    ],
)
def test_what_is_nobodys_is_told_by_the_segment_that_is_missing(
    kind: str, segments: tuple[str, ...], first: str
):
    (code, place, says), *_ = told(kind, *segments)

    assert (code, place) == (100, Place("PID"))
    assert says == (
        f"There is no PID, so {first} is kept as nobody's, and no model runs. Send a PID before "
        "it, with the patient's number in PID-3."
    )


def test_a_patient_who_is_named_after_her_results_is_refused():
    with pytest.raises(Hl7Problem, match="OBR stands before PID") as found:
        told("ORU^R01", OBR, OBX, PID)

    assert (found.value.place, found.value.is_rejected) == (Place("PID"), False)


def test_a_patient_without_a_number_is_told_to_the_sender():
    ((code, place, says),) = told("ORU^R01", "PID|1", OBR, OBX)

    assert (code, place) == (101, Place("PID", 1, 3))
    assert says.startswith("It holds no patient number")


@pytest.mark.parametrize("kind", ["ADT^A20", "SIU^S12"])
def test_what_needs_no_patient_is_taken_without_one(kind: str):
    assert told(kind, "EVN||20261126", "SCH|A-1") == []


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("NM|GLU^Glucose^L||5", "DR|GLU^Glucose^L||20261126^20251126", "It ends before it begins"),
        ("NM|GLU^Glucose^L||5", "RP|GLU^Glucose^L||http://a b/c", "It is no address that begins"),
        ("||||||F", "||||||F||||||||00010101", "It is no date or time"),
    ],
    ids=["period", "address", "instant"],
)
def test_what_fhir_could_not_hold_is_left_out_and_told_in_words_of_hl7(
    old: str, new: str, says: str
):
    assert old in OBX

    ((code, place, said),) = told("ORU^R01", PID, OBR, OBX.replace(old, new))

    assert (code, place.segment, said[: len(says)]) == (102, "OBX", says)


def test_a_coding_system_with_blanks_is_none():
    assert told("ORU^R01", PID, OBR, OBX.replace("^L|", "^urn:a b|")) == []


@pytest.mark.parametrize("kind", ["", "RDE^O11", "ORU"])
def test_a_kind_that_is_not_taken_is_refused(kind: str):
    with pytest.raises(Hl7Problem) as found:
        converted(f"MSH|^~\\&|a|b|||||{kind}|1|P|2.5".encode())

    assert found.value.location == "MSH[1]-9"


ORDER = (
    b"MSH|^~\\&|LIS|LAB|||20250126093000||ORU^R01|1|P|2.3\rPID|1||MR-0077^^^HOSP^MR\r"
    b"OBR|1|P1|F1|c^C^L|||20250126080000||||||||SOURCE\r"
)


def specimens(source: bytes, more: bytes = b"") -> list[dict[str, Any]]:
    found = resources(converted(ORDER.replace(b"||SOURCE", source) + more))
    return [each for each in found if each["resourceType"] == "Specimen"]


def test_an_order_of_an_old_version_says_what_specimen_there_is():
    (made,) = specimens(b"|20250126083000|BLDV&Venous blood^^^LA&Left arm")

    assert made["receivedTime"] == "2025-01-26T08:30:00+05:30"
    (coding,) = made["type"]["coding"]
    assert coding["system"] == "http://terminology.hl7.org/CodeSystem/v2-0070"
    assert (coding["code"], coding["display"]) == ("BLDV", "Venous blood")
    assert made["collection"]["bodySite"]["coding"][0]["code"] == "LA"
    assert made["collection"]["collectedDateTime"] == "2025-01-26T08:00:00+05:30"
    report = next(
        each
        for each in resources(converted(ORDER.replace(b"||SOURCE", b"|2025")))
        if each["resourceType"] == "DiagnosticReport"
    )
    assert len(report["specimen"]) == 1


def test_an_order_that_says_nothing_of_a_specimen_or_has_one_beside_it_makes_none():
    spm = b"SPM|1|^77&LIS|^76&LIS|119297000^Blood^SCT\r"

    assert specimens(b"||") == []
    (made,) = specimens(b"|20250126083000|BLD", spm)
    assert made["type"]["coding"][0]["code"] == "119297000"
    assert made["parent"][0]["identifier"]["value"] == "76"


@pytest.mark.parametrize(
    ("header", "rest", "told"),
    [
        ("notatime||ADT^A01", "", [(Place("MSH", 1, 7), 102)]),
        ("||ADT^A01", "", []),
        ("20261126123000||ORU^R01", "", [(Place("OBR"), 100)]),
        ("20261126123000||ORU^R01", "OBR|1|P|F|GLU^Glucose^L|||20261126||||||||||||||||||F\r", []),
    ],
)
def test_what_a_message_lacks_for_its_order_or_its_results_is_told(
    header: str, rest: str, told: list[tuple[Place, int]]
):
    content = f"MSH|^~\\&|a|b|||{header}|1|P|2.5\rPID|1||7^^^HOSP^MR\r{rest}".encode()

    notes = converted(content).notes

    assert [(each.place, int(each.code)) for each in notes] == told


if __name__ == "__main__":
    for each in MESSAGES:
        each.with_suffix(".json").write_text(golden(converted(each.read_bytes())), "utf-8")
