from copy import deepcopy
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.jobs import BusinessStatus
from models.manifest import parse
from workers.features import Features, Refusal, extract, still_missing
from workers.reasons import REASONS

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
LOINC, UCUM = "http://loinc.org", "http://unitsofmeasure.org"
PATIENT = {"resourceType": "Patient", "id": "p", "birthDate": "1976-03-01", "gender": "female"}
MANIFEST = parse("""
manifest_version = 1
name = "toy"
version = "1.0.0"
title = "Toy"
intended_use = "Tests"
not_for = "Patients"
demonstration_only = true
manufacturer = "Tests"
licence = "Apache-2.0"
card = "card.md"
golden = "golden.json"
min_present = 2
any_of = [["creatinine", "protein"]]

[weights]
file = "model.onnx"
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
format = "onnx-fp32"
tolerance = 0.01
input_name = "x"
output_name = "y"

[[inputs]]
id = "age"
label = "Age"
source = "patient-age"
unit = "a"
plausible = [0, 120]
intended = [18, 120]
missing = "refuse"

[[inputs]]
id = "sex"
label = "Sex"
source = "patient-sex"
unit = "1"
plausible = [0, 1]
missing = "impute"
impute_value = 0.5
impute_reason = "between the two"
categories = [
  { system = "http://hl7.org/fhir/administrative-gender", code = "male", value = 0 },
  { system = "http://hl7.org/fhir/administrative-gender", code = "female", value = 1 },
]

[[inputs]]
id = "sodium"
label = "Sodium"
codes = [{ system = "http://loinc.org", code = "2951-2" }]
unit = "mmol/L"
valence = 1
max_age_h = 48
plausible = [90, 190]
missing = "refuse"

[[inputs]]
id = "creatinine"
label = "Creatinine"
codes = [{ system = "http://loinc.org", code = "2160-0" }]
unit = "mg/dL"
molar_mass_g_per_mol = 113.12
max_age_h = 48
plausible = [0.1, 40]
missing = "mask"

[[inputs]]
id = "pressure"
label = "Diastolic pressure"
codes = [{ system = "http://loinc.org", code = "8462-4" }]
panels = [{ system = "http://loinc.org", code = "85354-9" }]
unit = "mm[Hg]"
max_age_h = 24
aggregation = "mean"
look_back_h = 72
plausible = [20, 200]
missing = "impute"
impute_value = 75
impute_reason = "the median of the healthy"

[[inputs]]
id = "protein"
label = "Urine protein"
codes = [{ system = "http://loinc.org", code = "20454-5" }]
unit = "1"
max_age_h = 48
plausible = [0, 4]
missing = "mask"
categories = [
  { system = "http://example.org/strip", code = "neg", value = 0 },
  { system = "http://example.org/strip", code = "plus", value = 1 },
  { system = "http://example.org/strip", code = "plus-plus", value = 2 },
]

[[outputs]]
name = "probability"
column = 0
code = { system = "http://example.org", code = "toy" }
unit = "1"
range = [0, 1]
bands = [{ at_least = 0, interpretation = "N", label = "low", advice = "None." }]
summary = "{label}"
""")


def observed(code, value=None, unit="mmol/L", /, *, hours_ago=1.0, **more):
    resource = {
        "resourceType": "Observation",
        "id": f"{code}-{hours_ago}",
        "status": "final",
        "code": {"coding": [{"system": LOINC, "code": code}]},
        "subject": {"reference": "Patient/p"},
        "effectiveDateTime": (AT - timedelta(hours=hours_ago)).isoformat(),
    }
    if value is not None:
        resource["valueQuantity"] = {"value": value, "system": UCUM, "code": unit}
    return {name: each for name, each in (resource | more).items() if each is not None}


def sodium(value=140, unit="mmol/L", **more):
    return observed("2951-2", value, unit, **more)


def creatinine(value=1.1, unit="mg/dL", **more):
    return observed("2160-0", value, unit, **more)


def protein(**more):
    return observed("20454-5", **more)


def pressure(value, **more):
    quantity = {"value": value, "system": UCUM, "code": "mm[Hg]"}
    part = {"code": {"coding": [{"system": LOINC, "code": "8462-4"}]}, "valueQuantity": quantity}
    return observed("85354-9", component=[part], **more)


BASE = (sodium(), creatinine())


def features(*resources, patient=PATIENT, **more):
    outcome = extract(MANIFEST, resources, patient=patient, at=AT, **more)
    assert isinstance(outcome, Features), outcome
    return outcome


def value_of(outcome, name):
    return next(each for each in outcome.inputs if each.id == name)


def reason(*resources, patient=PATIENT):
    outcome = extract(MANIFEST, resources, patient=patient, at=AT)
    assert isinstance(outcome, Refusal)
    return outcome.reason


def test_a_vector_has_the_manifests_order_and_says_where_each_value_came_from():
    outcome = features(*BASE, pressure(80), protein(valueInteger=2))

    np.testing.assert_allclose(outcome.vector, [50, 1, 140, 1.1, 80, 2], rtol=1e-6)
    assert outcome.vector.dtype == np.float32
    assert outcome.present == 6
    assert outcome.sources == (
        "Patient/p", "Observation/2951-2-1.0", "Observation/2160-0-1.0",
        "Observation/85354-9-1.0", "Observation/20454-5-1.0",
    )  # fmt: skip


def test_what_is_missing_is_masked_or_imputed_and_said():
    outcome = features(*BASE, patient=PATIENT | {"gender": "unknown"})

    assert np.isnan(outcome.vector[5])
    assert outcome.vector[1] == 0.5
    assert outcome.vector[4] == 75
    assert [each.status for each in outcome.inputs] == [
        "present", "imputed", "present", "present", "imputed", "missing",
    ]  # fmt: skip


def test_a_reference_carries_the_version_that_was_read():
    versioned = creatinine(meta={"versionId": "7"})

    assert value_of(features(sodium(), versioned), "creatinine").sources == (
        "Observation/2160-0-1.0/_history/7",
    )


def test_a_resource_without_an_id_is_read_though_it_can_not_be_referred_to():
    outcome = features(sodium(), creatinine(id=None))

    assert value_of(outcome, "creatinine").value == 1.1
    assert value_of(outcome, "creatinine").sources == ()


@given(st.permutations([creatinine(1.0, hours_ago=9), creatinine(2.0, hours_ago=3), *BASE]))
def test_the_newest_value_wins_in_any_order(resources):
    assert value_of(features(*resources), "creatinine").value == pytest.approx(1.1)


def test_of_two_values_at_one_time_the_one_published_last_wins():
    first = creatinine(1.0, id="a", issued="2026-03-01T11:30:00Z")
    second = creatinine(2.0, id="b", issued="2026-03-01T11:20:00Z")

    assert value_of(features(sodium(), second, first), "creatinine").value == 1.0


@pytest.mark.parametrize("trigger_id", ["a", "z"])
@given(data=st.data())
def test_of_two_values_at_one_time_the_trigger_wins_in_any_order_though_published_first(
    trigger_id, data
):
    trigger = creatinine(1.0, id=trigger_id, issued="2026-03-01T11:10:00Z")
    other = creatinine(2.0, id="m", issued="2026-03-01T11:50:00Z")
    resources = data.draw(st.permutations([sodium(), trigger, other]))

    of_one, of_other = features(*resources, trigger=trigger), features(*resources, trigger=other)

    assert value_of(of_one, "creatinine").value == 1.0
    assert value_of(of_one, "creatinine").sources == (f"Observation/{trigger_id}",)
    assert value_of(of_other, "creatinine").value == 2.0
    assert value_of(features(*resources), "creatinine").value == 2.0


def test_the_same_instant_written_in_another_time_zone_is_a_tie_too():
    trigger = creatinine(1.0, id="a", effectiveDateTime="2026-03-01T16:30:00+05:30")
    other = creatinine(2.0, id="b", effectiveDateTime="2026-03-01T11:00:00Z")

    assert value_of(features(sodium(), trigger, other, trigger=trigger), "creatinine").value == 1.0


def test_a_trigger_without_an_id_wins_too():
    trigger, other = creatinine(1.0, id=None), creatinine(2.0, id=None)

    for resources in ([trigger, other], [other, trigger]):
        outcome = features(sodium(), *resources, trigger=trigger)
        assert value_of(outcome, "creatinine").value == 1.0


def test_every_part_of_a_trigger_wins():
    trigger, other = pressure(80, id="a"), pressure(90, id="b")
    other["issued"] = "2026-03-01T11:50:00Z"

    outcome = features(*BASE, trigger, other, trigger=trigger)

    # Of an input that is averaged both count; what it is named after is the trigger.
    assert value_of(outcome, "pressure").value == 85
    assert value_of(outcome, "pressure").sources[0] == "Observation/a"


def test_only_an_observation_is_itself_a_reading_and_wins():
    report = {"resourceType": "DiagnosticReport", "id": "a"}
    named_alike = creatinine(1.0, id="a", issued="2026-03-01T11:10:00Z")
    later = creatinine(2.0, id="b", issued="2026-03-01T11:50:00Z")

    assert value_of(features(sodium(), named_alike, later, trigger=report), "creatinine").value == 2


def test_a_correction_of_the_trigger_that_the_ehr_has_already_counts_in_its_place():
    trigger = creatinine(1.0, id="a", meta={"versionId": "1"})
    corrected = creatinine(1.5, id="a", status="corrected", meta={"versionId": "2"})
    other = creatinine(2.0, id="b", issued="2026-03-01T11:50:00Z")

    outcome = features(sodium(), trigger, other, corrected, trigger=trigger)

    assert value_of(outcome, "creatinine").sources == ("Observation/a/_history/2",)
    withdrawn = corrected | {"status": "entered-in-error"}
    outcome = features(sodium(), trigger, other, withdrawn, trigger=trigger)
    assert value_of(outcome, "creatinine").sources == ("Observation/b",)
    moved = corrected | {"effectiveDateTime": (AT - timedelta(hours=5)).isoformat()}
    outcome = features(sodium(), trigger, other, moved, trigger=trigger)
    assert value_of(outcome, "creatinine").sources == ("Observation/b",)


def test_a_newer_value_counts_whatever_set_the_model_going():
    trigger = creatinine(1.0, hours_ago=3)

    assert value_of(features(*BASE, trigger, trigger=trigger), "creatinine").value == 1.1


def test_a_value_after_the_event_is_not_used():
    later = creatinine(9.0, hours_ago=-2)

    assert value_of(features(*BASE, later), "creatinine").value == 1.1


def test_an_older_version_does_not_come_back_when_the_newest_is_withdrawn():
    good = creatinine(meta={"versionId": "1", "lastUpdated": "2026-03-01T11:00:00Z"})
    withdrawn = good | {
        "status": "entered-in-error",
        "meta": {"versionId": "2", "lastUpdated": "2026-03-01T11:30:00Z"},
    }

    assert reason(sodium(), withdrawn, good) == "input-missing"


@pytest.mark.parametrize(
    "status", ["preliminary", "registered", "unknown", "cancelled", "entered-in-error"]
)
def test_what_is_not_a_result_is_not_read(status):
    assert reason(*BASE[1:], sodium(status=status)) == "input-missing"


@pytest.mark.parametrize("place", ["security", "tag"])
def test_what_an_ai_wrote_never_feeds_an_ai(place):
    label = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "AIAST"}

    assert reason(*BASE[1:], sodium(meta={place: [label]})) == "input-missing"


@pytest.mark.parametrize(
    ("subject", "is_read"),
    [
        ("Patient/other", False),
        ("https://ehr.example/fhir/Patient/other/_history/2", False),
        ("https://ehr.example/fhir/Patient/p", True),
        ("urn:uuid:9d2f0a5e-0000-4000-8000-000000000000", True),
    ],
)
def test_another_patients_result_is_not_read(subject, is_read):
    resources = (creatinine(), sodium(subject={"reference": subject}))

    outcome = extract(MANIFEST, resources, patient=PATIENT, at=AT)

    assert isinstance(outcome, Features) is is_read


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (creatinine(unit="bags"), "unit-unknown"),
        (creatinine(valueQuantity={"value": 1.0}), "unit-unknown"),
        (creatinine(unit="meq/L"), "unit-not-convertible"),
        (creatinine(valueString="1.1 mg/dL", valueQuantity=None), "input-unreadable"),
        (creatinine(valueQuantity={"unit": "mg/dL"}), "input-unreadable"),
        (creatinine(value=float("inf")), "input-unreadable"),
        (protein(valueInteger=1, code={"coding": [
            {"system": LOINC, "code": "20454-5"}, {"system": LOINC, "code": "2160-0"},
        ]}), "input-unreadable"),
        (protein(valueCodeableConcept={"coding": [
            {"system": "http://example.org/strip", "code": "neg"},
            {"system": "http://example.org/strip", "code": "plus"},
        ]}), "input-unreadable"),
        (protein(valueCodeableConcept={"text": "plus"}), "input-unreadable"),
        (protein(valueInteger=3), "input-unreadable"),
        (observed("20454-5", 1.5, "1"), "input-unreadable"),
        (creatinine(valueQuantity={
            "value": 0.2, "comparator": "<", "system": UCUM, "code": "mg/dL",
        }), "input-censored"),
        (creatinine(97.0), "input-implausible"),
        (creatinine(97.0, unit="umol/L", valueQuantity={
            "value": 97.0, "system": UCUM, "code": "mg/dL", "unit": "µmol/L",
        }), "unit-unknown"),
    ],
)  # fmt: skip
def test_a_wrong_newest_value_is_refused_and_never_hidden_by_a_mask_or_an_older_one(
    wrong, expected
):
    newest = deepcopy(wrong) | {"id": "newest", "effectiveDateTime": "2026-03-01T11:59:00Z"}

    outcome = extract(MANIFEST, [*BASE, protein(valueInteger=1), newest], patient=PATIENT, at=AT)

    assert isinstance(outcome, Refusal)
    assert outcome.reason == expected
    assert "Observation/newest" in outcome.sources


def test_molar_units_are_converted():
    outcome = features(sodium(139, unit="meq/L"), creatinine(88.4, unit="umol/L"))

    assert value_of(outcome, "creatinine").value == pytest.approx(1.0, rel=1e-4)
    assert value_of(outcome, "sodium").value == 139


@pytest.mark.parametrize(
    ("stale", "expected"),
    [({"hours_ago": 49}, "input-stale"), ({"effectiveDateTime": None}, "input-stale")],
)
def test_a_needed_value_that_is_old_or_undated_is_refused(stale, expected):
    assert reason(creatinine(), sodium(**stale)) == expected


def test_a_stale_value_that_may_be_missing_is_masked_and_called_stale():
    outcome = features(*BASE, protein(valueInteger=1, hours_ago=50))

    assert value_of(outcome, "protein").status == "stale"
    assert value_of(outcome, "protein").value is None


def test_a_coded_answer_becomes_its_number():
    concept = {"coding": [{"system": "http://example.org/strip", "code": "plus"}]}

    assert value_of(features(*BASE, protein(valueCodeableConcept=concept)), "protein").value == 1


def test_an_observation_that_says_why_it_has_no_value_has_none():
    assert value_of(features(*BASE, protein(dataAbsentReason={})), "protein").status == "missing"


def test_a_mean_is_taken_over_its_window_and_names_every_source():
    outcome = features(
        *BASE, pressure(70, hours_ago=2), pressure(80, hours_ago=70), pressure(150, hours_ago=80)
    )

    found = value_of(outcome, "pressure")
    assert found.value == 75
    assert found.sources == ("Observation/85354-9-2", "Observation/85354-9-70")
    assert found.effective == AT - timedelta(hours=2)


def test_a_local_code_means_what_the_hospital_says_it_means():
    local = creatinine(code={"coding": [{"system": "urn:lab", "code": "CREA"}]})
    codes = {("urn:lab", "CREA"): (LOINC, "2160-0")}

    assert value_of(features(sodium(), local, local_codes=codes), "creatinine").value == 1.1
    assert reason(sodium(), local) == "input-missing"


@pytest.mark.parametrize(
    ("patient", "expected"),
    [
        (None, "patient-unknown"),
        ({"resourceType": "Patient", "id": "p"}, "patient-unknown"),
        (PATIENT | {"birthDate": "2026-04-01"}, "input-implausible"),
        (PATIENT | {"birthDate": "2010-03-01"}, "outside-intended-use"),
    ],
)
def test_a_patient_the_model_was_not_made_for_is_refused(patient, expected):
    assert reason(*BASE, patient=patient) == expected


def test_too_few_results_are_refused():
    text = {**PATIENT}

    outcome = extract(MANIFEST, [sodium(), protein(valueInteger=0)], patient=text, at=AT)
    assert isinstance(outcome, Features)

    demanding = MANIFEST.model_copy(update={"min_present": 3})
    refusal = extract(demanding, [sodium(), protein(valueInteger=0)], patient=text, at=AT)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "too-few-inputs"
    assert refusal.inputs == ("creatinine", "pressure")


def test_of_several_reasons_the_weightiest_is_given_and_all_are_told_without_values():
    refusal = extract(MANIFEST, [sodium(777), creatinine(unit="bags")], patient=None, at=AT)

    assert isinstance(refusal, Refusal)
    assert refusal.reason == "patient-unknown"
    assert refusal.inputs == ("age",)
    assert all(label in refusal.text for label in ("Age", "Sodium", "Creatinine"))
    assert REASONS["input-implausible"] in refusal.text
    assert "777" not in refusal.text


def test_what_is_still_missing_is_asked_for_by_every_code_the_hospital_may_use():
    wanted = still_missing(
        MANIFEST,
        [sodium(), creatinine(hours_ago=49)],
        patient=PATIENT,
        at=AT,
        local_codes={("urn:lab", "CREA"): (LOINC, "2160-0"), ("urn:lab", "NA"): (LOINC, "2951-2")},
    )

    assert [code.code for code in wanted] == ["2160-0", "8462-4", "85354-9", "20454-5", "CREA"]


def test_other_resources_are_ignored():
    condition = {"resourceType": "Condition", "id": "x", "code": BASE[1]["code"]}

    assert features(*BASE, condition).present == 4


def test_every_reason_of_a_refusal_is_a_business_status_of_the_job():
    assert all(BusinessStatus(reason) for reason in REASONS)
