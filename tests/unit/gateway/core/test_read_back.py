"""What an EHR kept is compared with what was sent, and never believed to be more."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.read_back import (
    Label,
    is_same_result,
    kept_at_most,
    label_of,
    likeness,
    lost_of,
)
from gateway.core.result_carriers import in_words
from gateway.core.write_back import with_device
from tests.result_models import CONTEXT, RISK, made

SENT = with_device(made(RISK, 0.7), "Device/d1").result
NAME = CONTEXT.identifier
#: What OpenMRS keeps.
BARE = {
    "resourceType": "Observation",
    "id": "1",
    "status": "preliminary",
    "code": {"coding": [{"code": SENT["code"]["coding"][0]["code"]}], "text": "CKD risk"},
    "subject": {"reference": "http://ehr.test/fhir/Patient/p1", "display": "somebody"},
    "effectiveDateTime": "2026-11-20T02:30:00Z",
    "valueQuantity": {"value": 0.7},
}


def without(*names: str) -> dict:
    return {name: value for name, value in SENT.items() if name not in names}


def test_nothing_is_lost_of_what_was_kept_whole() -> None:
    assert lost_of(SENT, {**SENT, "id": "1"}) == ()
    assert label_of(SENT) is Label.CODED


@pytest.mark.parametrize("name", ["identifier", "device", "note", "method", "interpretation"])
def test_an_element_that_was_dropped_is_named(name: str) -> None:
    assert lost_of(SENT, without(name)) == (name,)


def test_what_an_ehr_is_known_to_drop_is_foreseen() -> None:
    drops = ["meta.security", "note", "device", "code.text", "device.display", "absent.too"]

    kept = kept_at_most(SENT, drops)

    assert lost_of(SENT, kept) == ("meta.security", "device", "note")
    assert kept["code"] == {"coding": SENT["code"]["coding"]}
    assert kept_at_most(SENT, []) == SENT


def test_all_that_openmrs_drops_is_named() -> None:
    lost = lost_of(SENT, BARE)

    assert {"meta.security", "identifier", "device", "note", "interpretation"} <= set(lost)
    assert "value" not in lost
    assert "status" not in lost


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ({"unit": "%"}, ("unit",)),
        ({"unit": "mg/dL", "code": "mg/dL"}, ("unit",)),
        ({}, ()),
        ({"unit": ""}, ()),
        ({"unit": "probability"}, ()),
        ({"unit": "as shown", "code": "{other}"}, ()),
        ({"code": "1"}, ()),
    ],
)
def test_a_number_that_stands_in_another_unit_is_named(
    unit: dict[str, str], expected: tuple[str, ...]
) -> None:
    assert lost_of(SENT, {**SENT, "valueQuantity": {"value": 0.7, **unit}}) == expected


def test_a_status_or_value_that_changed_is_named() -> None:
    assert lost_of(SENT, {**SENT, "status": "final"}) == ("status",)
    assert lost_of(SENT, {**SENT, "valueQuantity": {"value": 7}}) == ("value",)


def test_the_label_counts_in_words_where_a_person_sees_them_and_else_as_lost() -> None:
    assert label_of(without("meta")) is Label.WORDS
    assert label_of(BARE) is Label.LOST
    assert label_of({**BARE, "valueString": in_words(SENT)["valueString"]}) is Label.WORDS
    shown = {"coding": [{"code": "1", "display": "AI: CKD risk"}]}
    assert label_of({**BARE, "code": shown}) is Label.WORDS
    # The letters alone are no words, and a code system's address is not shown to anybody.
    assert label_of({**BARE, "code": {"coding": [{"system": "urn:AI", "code": "PAIN"}]}}) is (
        Label.LOST
    )


def test_a_result_without_identifier_is_told_by_patient_code_time_and_value() -> None:
    assert is_same_result(SENT, BARE, NAME)


@pytest.mark.parametrize(
    "change",
    [
        {"subject": {"reference": "Patient/p2"}},
        {"effectiveDateTime": "2026-11-20T02:30:01Z"},
        {"effectiveDateTime": "no time"},
        {"code": {"coding": [{"code": "other"}]}},
        {"valueQuantity": {"value": 0.71}},
        {"valueQuantity": None},
        {"status": "entered-in-error"},
        {"resourceType": "RiskAssessment"},
        {"identifier": [{"system": SENT["identifier"][0]["system"], "value": "another"}]},
    ],
)
def test_anything_that_differs_makes_it_another_result(change: dict) -> None:
    assert not is_same_result(SENT, {**BARE, **change}, NAME)


def test_an_identifier_that_was_kept_decides_alone() -> None:
    own = {"identifier": SENT["identifier"], "valueQuantity": {"value": 9}}

    assert is_same_result(SENT, {**BARE, **own}, NAME)


def test_of_two_that_may_be_the_same_the_likest_was_made_then_and_from_the_same() -> None:
    source = {"derivedFrom": [{"reference": "http://ehr.test/fhir/Observation/c1/_history/2"}]}
    sent = {**SENT, "derivedFrom": [{"reference": "Observation/c1/_history/1"}]}
    issued = {"issued": SENT["issued"]}

    same = likeness(sent, {**BARE, **source, **issued})

    assert same == likeness(sent, {**BARE, **issued}) + 1
    assert same == likeness(sent, {**BARE, **source}) + 1
    assert likeness(sent, {**BARE, **source, "issued": "no time"}) == same - 1


@settings(max_examples=60)
@given(
    kept=st.dictionaries(
        st.sampled_from(["status", "code", "meta", "note", "subject", "identifier"]),
        st.none() | st.text(max_size=5) | st.lists(st.none() | st.integers(), max_size=2),
    )
)
def test_whatever_an_ehr_answers_is_compared_and_breaks_nothing(kept: dict) -> None:
    lost_of(SENT, kept)
    label_of(kept)
    likeness(SENT, kept)
    is_same_result(SENT, kept, NAME)
