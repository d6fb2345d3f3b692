from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.event import (
    VersionMark,
    effective_element,
    encounter_of,
    facts,
    is_older,
    is_unsettled,
    reference_of,
    relative_reference,
)
from gateway.core.result_terms import reference_to
from tests.factories import Json, creatinine, meta, patient

BASE = "http://ehr.test/fhir"
URN = "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0"


def test_facts_say_identity_version_patient_codes_and_time():
    content = creatinine(7, **meta(3, "2026-11-20T08:01:02.5+05:30"))

    read = facts(content)

    assert (read.resource_type, read.resource_id, read.version_id) == ("Observation", "o7", "3")
    assert read.last_updated == datetime(2026, 11, 20, 2, 31, 2, 500_000, UTC)
    assert read.patient == "Patient/p1"
    assert read.codes == ("http://loinc.org|2160-0",)
    assert read.effective == datetime(2026, 11, 20, 2, 30, tzinfo=UTC)


def test_a_resource_that_says_nothing_has_facts_too():
    read = facts({"resourceType": "Basic"})

    assert (read.resource_id, read.version_id, read.last_updated) == (None, None, None)
    assert (read.patient, read.codes, read.effective) == (None, (), None)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (patient(1), "Patient/p1"),
        ({"resourceType": "Patient"}, None),
        ({"resourceType": "Consent", "patient": {"reference": "Patient/2"}}, "Patient/2"),
        ({"resourceType": "Coverage", "beneficiary": {"reference": "Patient/3"}}, "Patient/3"),
        (
            {"resourceType": "ResearchSubject", "individual": {"reference": "Patient/4"}},
            "Patient/4",
        ),
        ({"resourceType": "Binary", "securityContext": {"reference": "Patient/9"}}, "Patient/9"),
        (
            {"resourceType": "Binary", "securityContext": {"reference": "DocumentReference/9"}},
            None,
        ),
        ({"resourceType": "Task", "for": {"reference": "Patient/5"}}, "Patient/5"),
        (creatinine(subject="Patient/6/_history/2"), "Patient/6"),
        (creatinine(subject=f"{BASE}/Patient/7"), "Patient/7"),
        (creatinine(subject=f"{BASE}/Patient/7/_history/1"), "Patient/7"),
        (creatinine(subject="http://other.test/fhir/Patient/7"), None),
        (creatinine(subject="http://ehr.test/fhirside/Patient/7"), None),
        (creatinine(subject="Group/1"), None),
        (creatinine(subject="#contained"), None),
        (creatinine(subject="Patient/"), None),
        (creatinine(subject=URN), "Patient/u1"),
        (creatinine(subject="urn:uuid:unknown"), None),
        ({"resourceType": "Observation", "subject": {"identifier": {"value": "x"}}}, None),
        ({"resourceType": "Account", "subject": [{"reference": "Patient/1"}]}, None),
        (
            {
                "resourceType": "Consent",
                "subject": {"reference": "Group/1"},
                "patient": {"reference": "Patient/8"},
            },
            "Patient/8",
        ),
    ],
)
def test_the_patient_is_one_of_this_ehr_or_unknown(content: Json, expected: str | None):
    read = facts(content, base_url=f"{BASE}/", urns={URN: "Patient/u1"})

    assert read.patient == expected


def test_without_a_base_or_a_bundle_only_relative_references_resolve():
    assert relative_reference(f"{BASE}/Patient/1") is None
    assert relative_reference(URN) is None
    assert relative_reference("Patient/1") == "Patient/1"


def test_codes_of_components_count_and_text_does_not():
    content = {
        "resourceType": "Observation",
        "code": {"text": "blood pressure"},
        "component": [
            {"code": {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]}},
            {"code": {"coding": [{"code": "SYS"}, {"display": "no code"}]}},
            {},
        ],
    }

    assert facts(content).codes == ("http://loinc.org|8480-6", "|SYS")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"effectivePeriod": {"end": "2026-01-02T00:00:00Z"}}, datetime(2026, 1, 2, tzinfo=UTC)),
        ({"onsetDateTime": "2026-01-02T00:00:00Z"}, datetime(2026, 1, 2, tzinfo=UTC)),
        (
            {"authoredOn": "no time", "date": "2026-01-02T00:00:00Z"},
            datetime(2026, 1, 2, tzinfo=UTC),
        ),
        ({"createdDateTime": "2026-01-02T00:00:00Z"}, datetime(2026, 1, 2, tzinfo=UTC)),
        ({"createdPeriod": {"end": "2026-01-02T00:00:00Z"}}, datetime(2026, 1, 2, tzinfo=UTC)),
        ({"started": "2026-01-02T00:00:00Z"}, datetime(2026, 1, 2, tzinfo=UTC)),
        ({"sent": "2026-01-02T00:00:00Z"}, datetime(2026, 1, 2, tzinfo=UTC)),
        ({"effectiveDateTime": "9999-12-31"}, None),
        ({"effectiveDateTime": "2026-01-02T23:59:60Z"}, None),
    ],
)
def test_the_time_is_the_clinical_one(content: Json, expected: datetime | None):
    assert facts({"resourceType": "Observation", **content}).effective == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            {"effectiveInstant": "2026-01-02T00:00:00Z"},
            {"effectiveInstant": "2026-01-02T00:00:00Z"},
        ),
        ({"createdDateTime": "2026-01-02"}, {"effectiveDateTime": "2026-01-02"}),
        ({"started": "2026-01", "date": "2025"}, {"effectiveDateTime": "2026-01"}),
        ({"createdPeriod": {"start": "2026-01-02"}}, {"effectivePeriod": {"start": "2026-01-02"}}),
        ({"date": "soon", "createdPeriod": {"start": "soon"}}, {}),
        ({}, {}),
    ],
)
def test_a_result_takes_over_the_clinical_time_as_it_was_written(content: Json, expected: Json):
    assert effective_element(content) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"encounter": {"reference": "Encounter/1"}}, "Encounter/1"),
        ({"context": {"encounter": [{"reference": "Encounter/2"}, {}]}}, "Encounter/2"),
        ({"encounter": {"reference": "urn:uuid:1"}}, None),
        ({"encounter": {"reference": "#e"}}, None),
        ({"encounter": {"display": "ward 7"}}, None),
        ({"context": [{"encounter": 1}]}, None),
        ({"context": {"encounter": []}}, None),
        ({}, None),
    ],
)
def test_the_encounter_is_found_where_each_type_has_it(content: Json, expected: str | None):
    assert encounter_of(content) == expected


@pytest.mark.parametrize(
    ("kind", "settled", "unsettled"),
    [
        ("Observation", "final amended corrected", "registered preliminary cancelled unknown"),
        ("DiagnosticReport", "final amended corrected appended", "registered partial preliminary"),
        ("DocumentReference", "current", "superseded entered-in-error"),
        ("Composition", "final amended", "preliminary entered-in-error"),
        ("Communication", "completed", "preparation in-progress on-hold stopped unknown"),
        ("Media", "completed", "preparation in-progress not-done"),
        ("ImagingStudy", "available", "registered cancelled unknown"),
        ("Encounter", "planned finished", "entered-in-error"),
    ],
)
def test_only_what_its_author_means_to_say_is_settled(kind: str, settled: str, unsettled: str):
    found = {
        status: is_unsettled({"resourceType": kind, "status": status})
        for status in (*settled.split(), *unsettled.split())
    }

    assert [status for status, is_so in found.items() if not is_so] == settled.split()


def test_a_preliminary_document_is_unsettled_though_its_reference_is_current():
    content = {"resourceType": "DocumentReference", "status": "current"}

    assert is_unsettled({**content, "docStatus": "preliminary"})
    assert not is_unsettled({**content, "docStatus": "final"})
    assert not is_unsettled({"resourceType": "Binary"})


def test_a_reference_names_the_version_where_there_is_one():
    assert reference_of(patient(1)) == "Patient/p1"
    assert reference_of(patient(1, **meta(3))) == "Patient/p1/_history/3"
    assert reference_of({"resourceType": "Patient"}) == ""


@pytest.mark.parametrize(
    ("candidate", "known", "expected"),
    [
        (VersionMark("1", 100), VersionMark("2", 200), True),
        (VersionMark("9", 100), VersionMark("2", 200), True),
        (VersionMark("1", 200), VersionMark("2", 100), False),
        (VersionMark("1", 100), VersionMark("2", 100), True),
        (VersionMark("2", 100), VersionMark("1", 100), False),
        (VersionMark("2", None), VersionMark("10", 100), True),
        (VersionMark("10", None), VersionMark("2", None), False),
        (VersionMark("a", None), VersionMark("b", None), False),
        (VersionMark("b", None), VersionMark("a", None), False),
        (VersionMark(None, None), VersionMark("5", 100), False),
        (VersionMark("1", None), VersionMark("1", None), False),
        (VersionMark("²", None), VersionMark("3", None), False),
    ],
)
def test_last_updated_decides_then_a_numeric_version(
    candidate: VersionMark, known: VersionMark, expected: bool
):
    assert is_older(candidate, known) == expected


marks = st.builds(
    VersionMark,
    st.none() | st.integers(0, 5).map(str) | st.sampled_from(["a", "b"]),
    st.none() | st.integers(0, 3),
)


@given(marks, marks)
def test_two_versions_are_never_each_older_than_the_other(one: VersionMark, other: VersionMark):
    assert not (is_older(one, other) and is_older(other, one))


def test_what_a_listener_made_is_named_with_its_feed_and_referred_to_by_identifier():
    feed = "https://nadi.health/fhir/feed/lab/mllp"
    made = {**creatinine(7), "meta": {"versionId": "a1", "source": feed}}

    reference = reference_of(made)

    assert reference == f"{feed}/Observation/o7/_history/a1"
    assert reference_to(reference) == {
        "type": "Observation",
        "identifier": {"system": feed, "value": "o7"},
    }
    assert reference_to(reference_of(creatinine(7))) == {"reference": "Observation/o7"}
