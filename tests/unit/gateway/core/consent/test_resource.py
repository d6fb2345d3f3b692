"""What a resource tells of itself, and what it leaves open."""

from datetime import UTC, datetime

import pytest

from gateway.core.consent import ResourceFacts, resource_facts
from gateway.core.consent.periods import Period, data_time, position
from tests.pcf import RESOURCES, Json, labels, observation


def test_an_observation_tells_all_it_knows():
    facts = resource_facts(RESOURCES["alcoholUse"])

    assert facts == ResourceFacts(
        type="Observation",
        reference="Observation/ex-alcoholUse",
        profiles=frozenset(),
        codes=frozenset({"http://loinc.org|29463-7"}),
        all_codes=facts.all_codes,
        labels=frozenset(
            {
                "http://terminology.hl7.org/CodeSystem/v3-ActReason|HTEST",
                "http://terminology.hl7.org/CodeSystem/v3-ActCode|ETHUD",
                "http://terminology.hl7.org/CodeSystem/v3-Confidentiality|R",
            }
        ),
        time=data_time("2022-06-13", "2022-06-13"),
        authors=frozenset({"Practitioner/ex-author"}),
        encounters=frozenset({"Encounter/ex-encounter"}),
        related=frozenset(
            {"Practitioner/ex-author", "Encounter/ex-encounter", "Patient/ex-patient"}
        ),
    )
    assert facts.all_codes is not None
    assert "http://loinc.org|29463-7" in facts.all_codes


def test_what_a_resource_leaves_open_is_unknown():
    facts = resource_facts(
        {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}
    )

    assert (facts.reference, facts.codes, facts.time) == (None, None, None)
    assert (facts.authors, facts.encounters) == (None, None)
    assert facts.labels == frozenset()


def test_a_person_has_neither_author_nor_encounter():
    facts = resource_facts({"resourceType": "Patient", "id": "1", "birthDate": "1950"})

    assert facts.authors == facts.encounters == facts.codes == frozenset()


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"performer": [{"reference": "Practitioner/1/_history/2"}]}, {"Practitioner/1"}),
        ({"performer": [{"reference": "http://ehr/fhir/Practitioner/1"}]}, {"Practitioner/1"}),
        ({"performer": [{"reference": "http://x/Practitioner/1"}]}, {"http://x/Practitioner/1"}),
        ({"performer": [{"actor": {"reference": "Practitioner/1"}}]}, {"Practitioner/1"}),
        ({"performer": [{"reference": "Practitioner/1"}, {"display": "Ann"}]}, None),
        ({"performer": [{"reference": "#1"}]}, None),
        ({"performer": None, "author": {"reference": "Device/1"}}, {"Device/1"}),
    ],
)
def test_an_author_that_is_not_named_literally_leaves_the_authors_unknown(
    changed: Json, expected: set[str] | None
):
    content = observation("x", "2020", **changed)

    assert resource_facts(content, base_url="http://ehr/fhir").authors == expected


def test_a_document_belongs_to_the_encounters_of_its_context():
    content = {
        "resourceType": "DocumentReference",
        "type": {"coding": [{"system": "http://loinc.org", "code": "34117-2"}]},
        "context": {"encounter": [{"reference": "Encounter/1"}, {"reference": "EpisodeOfCare/2"}]},
    }

    facts = resource_facts(content)

    assert facts.encounters == {"Encounter/1", "EpisodeOfCare/2"}
    assert facts.codes == {"http://loinc.org|34117-2"}


def test_a_reference_into_a_bundle_leaves_what_is_related_unknown():
    content = observation("x", "2020", basedOn=[{"reference": "urn:uuid:1"}])

    assert resource_facts(content).related is None


@pytest.mark.parametrize(
    ("content", "first", "last"),
    [
        ({"effectiveInstant": "2020-01-01T10:00:00Z"}, (2020, 1, 1, 10), (2020, 1, 1, 10)),
        ({"onsetPeriod": {"start": "2020-02"}}, (2020, 2, 1, 0), (9999, 12, 31, 23)),
        ({"period": {"end": "2020-02"}}, (1, 1, 1, 0), (2020, 2, 29, 23)),
        ({"authoredOn": "9999-12-31T10:00:00Z"}, (9999, 12, 31, 10), (9999, 12, 31, 10)),
    ],
)
def test_the_time_of_data_is_read_from_whatever_element_tells_it(
    content: Json, first: tuple[int, ...], last: tuple[int, ...]
):
    time = resource_facts({"resourceType": "Observation", **content}).time

    assert time is not None
    assert time.local_first.timetuple()[:4] == first
    assert time.local_last.timetuple()[:4] == last


@pytest.mark.parametrize(
    "content",
    [
        {"effectiveDateTime": "2020-13"},
        {"effectivePeriod": {"start": "2020", "end": "soon"}},
        {"effectivePeriod": {}},
        {"effectiveDateTime": None},
    ],
)
def test_a_time_that_cant_be_read_is_unknown(content: Json):
    assert resource_facts({"resourceType": "Observation", **content}).time is None


def test_what_is_labelled_with_anything_else_is_normal_where_the_site_says_so():
    content = observation("x", "2020")
    labelled = observation("x", "2020", "R")

    facts = resource_facts(content, unlabelled_is_normal=True)

    normal = f"{labels('N')[0]['system']}|N"
    assert facts.labels is not None
    assert normal in facts.labels
    assert normal not in (resource_facts(labelled, unlabelled_is_normal=True).labels or ())


def test_a_day_is_a_day_on_the_calendar_of_where_it_was_written():
    day = Period(datetime(2022, 12, 31), datetime(2023, 1, 1))  # noqa: DTZ001 - a calendar day
    late = data_time("2022-12-31T23:50:00-05:00", "2022-12-31T23:50:00-05:00")
    instant = Period(None, datetime(2023, 1, 1, tzinfo=UTC))

    assert late is not None
    assert position(late, day) == "inside"
    assert position(late, instant) == "outside"


@pytest.mark.parametrize("written", [{"code": "R"}, {"system": "urn:x", "display": "secret"}])
def test_what_bears_a_label_that_can_not_be_read_is_not_taken_for_normal(written: Json):
    content = {**RESOURCES["unlabelled"], "meta": {"security": [written]}}

    normal = labels("N")[0]
    found = resource_facts(content, unlabelled_is_normal=True).labels or frozenset()
    assert f"{normal['system']}|N" not in found
