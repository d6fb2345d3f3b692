"""A round of vital signs as an EHR sends it, through FHIR to the score."""

from datetime import UTC, datetime, timedelta

import pytest

from models.registry import REFERENCE_MODELS, load
from models.runtime import Runtime
from models.tensors import stack
from workers.features import Features, Refusal, extract, still_missing

MODEL = load(REFERENCE_MODELS / "news2")
RUNTIME = Runtime(MODEL)
AT = datetime(2026, 11, 20, 6, 30, tzinfo=UTC)
LOINC, SNOMED, UCUM = "http://loinc.org", "http://snomed.info/sct", "http://unitsofmeasure.org"
OURS = "https://nadi.health/fhir/CodeSystem/news2"
PATIENT = {"resourceType": "Patient", "id": "p", "birthDate": "1960-05-01"}


def observed(code, *, system=LOINC, minutes_ago=5.0, **value):
    return {
        "resourceType": "Observation",
        "id": f"o-{code}",
        "status": "final",
        "code": {"coding": [{"system": system, "code": code}]},
        "subject": {"reference": "Patient/p"},
        "effectiveDateTime": (AT - timedelta(minutes=minutes_ago)).isoformat(),
        **value,
    }


def quantity(value, code, unit=None):
    return {"valueQuantity": {"value": value, "unit": unit or code, "system": UCUM, "code": code}}


def answer(code, system=SNOMED):
    return {"valueCodeableConcept": {"coding": [{"system": system, "code": code}]}}


def component(code, value, unit):
    return {"code": {"coding": [{"system": LOINC, "code": code}]}, **quantity(value, unit)}


PRESSURE = observed(
    "85354-9", component=[component("8480-6", 95, "mm[Hg]"), component("8462-4", 60, "mm[Hg]")]
)
ROUND = {
    "respiration": observed("9279-1", **quantity(22, "/min", "breaths/min")),
    "saturation": observed("59408-5", **quantity(93, "%")),
    "oxygen": observed("air-or-oxygen", system=OURS, **answer("air", OURS)),
    "pressure": PRESSURE,
    "pulse": observed("8867-4", valueQuantity={"value": 105, "unit": "bpm"}),
    "consciousness": observed("67775-7", **answer("LA9340-6", LOINC)),
    "temperature": observed("8310-5", **quantity(38.4, "Cel", "C")),
}


def read(patient=PATIENT, **changed):
    resources = [each for each in (ROUND | changed).values() if each is not None]
    return extract(MODEL.manifest, resources, patient=patient, at=AT)


def scores(**changed):
    features = read(**changed)
    assert isinstance(features, Features)
    row = RUNTIME.predict(stack([features.tensors]))[0].tolist()
    return {each.output.name: each for each in MODEL.manifest.read(row)}


def refused(**changed):
    refusal = read(**changed)
    assert isinstance(refusal, Refusal)
    return refusal.reason, refusal.inputs


def test_a_round_of_vital_signs_becomes_a_score_with_its_parts():
    told = scores()

    assert {name: each.value for name, each in told.items()} == {
        "total": 8, "clinical-risk": 3, "red-signs": 0, "scale": 1,
        "respiration-points": 2, "saturation-points": 2, "oxygen-points": 0,
        "systolic-points": 2, "pulse-points": 1, "consciousness-points": 0,
        "temperature-points": 1,
    }  # fmt: skip
    assert (told["total"].label, told["total"].interpretation) == ("high", "AA")


def test_fahrenheit_kilopascal_and_a_pulse_oximeter_with_its_flow_mean_the_same():
    oximeter = observed("59408-5", **quantity(93, "%"), component=[component("3151-8", 0, "L/min")])
    pressure = observed("8480-6", **quantity(12.665, "kPa"))
    warm = observed("8310-5", **quantity(101.1, "[degF]", "°F"))

    told = scores(saturation=oximeter, oxygen=None, pressure=pressure, temperature=warm)

    assert {name: each.value for name, each in told.items()} == {
        name: each.value for name, each in scores().items()
    }


@pytest.mark.parametrize(
    ("oxygen", "points"),
    [
        (observed("371825009", system=SNOMED, **answer("373066001")), 2),
        (observed("371825009", system=SNOMED, **answer("373067005")), 0),
        (observed("air-or-oxygen", system=OURS, **answer("722742002")), 0),
        (observed("3151-8", **quantity(4, "L/min", "l/min")), 2),
        (observed("3150-0", **quantity(0.28, "1")), 2),
        (observed("3150-0", **quantity(21, "%")), 0),
    ],
)
def test_oxygen_is_told_in_any_of_three_ways(oxygen, points):
    assert scores(oxygen=oxygen)["oxygen-points"].value == points


def test_an_ehr_that_does_not_tell_of_oxygen_gets_no_score():
    reason, inputs = refused(oxygen=None)

    assert reason == "input-missing"
    assert inputs == ("air-or-oxygen", "oxygen-flow", "oxygen-concentration")


def test_what_was_said_of_oxygen_two_hours_ago_says_nothing_now():
    earlier = observed("3151-8", minutes_ago=120, **quantity(2, "L/min"))

    assert refused(oxygen=earlier)[0] == "input-missing"


@pytest.mark.parametrize("name", [name for name in ROUND if name != "oxygen"])
def test_a_sign_that_was_not_taken_gives_no_score(name):
    assert refused(**{name: None})[0] == "input-missing"


@pytest.mark.parametrize("name", [name for name in ROUND if name != "oxygen"])
def test_a_sign_of_an_earlier_round_gives_no_score(name):
    earlier = ROUND[name] | {"effectiveDateTime": (AT - timedelta(minutes=61)).isoformat()}

    assert refused(**{name: earlier})[0] == "input-stale"


@pytest.mark.parametrize(
    ("concept", "points"),
    [
        (answer("248234008"), 0), (answer("130987000"), 3), (answer("300202002"), 3),
        (answer("450847001"), 3), (answer("422768004"), 3), (answer("LA6560-2", LOINC), 3),
        (answer("LA17108-4", LOINC), 3), (answer("new-confusion", OURS), 3),
        ({"valueInteger": 3}, 3), ({"valueInteger": 0}, 0),
    ],
)  # fmt: skip
def test_consciousness_is_read_in_the_codes_hospitals_use(concept, points):
    told = scores(consciousness=observed("67775-7", **concept))

    assert told["consciousness-points"].value == points


@pytest.mark.parametrize(
    "value", [{"valueInteger": 1}, {"valueString": "alert"}, answer("271591004"), quantity(2, "1")]
)
def test_consciousness_in_other_words_gives_no_score(value):
    reason, inputs = refused(consciousness=observed("67775-7", **value))

    assert (reason, inputs) == ("input-unreadable", ("consciousness",))


def test_scale_2_is_used_only_when_a_clinician_decided_so():
    high = observed("59408-5", **quantity(97, "%"))
    oxygen = observed("3151-8", **quantity(2, "L/min"))
    days = 30 * 24 * 60
    decision = observed("spo2-scale", system=OURS, minutes_ago=days, **answer("scale-2", OURS))

    plain = scores(saturation=high, oxygen=oxygen)
    decided = scores(saturation=high, oxygen=oxygen, decision=decision)

    assert (plain["scale"].label, plain["saturation-points"].value) == ("scale 1", 0)
    assert (decided["scale"].label, decided["saturation-points"].value) == ("scale 2", 3)


def test_the_latest_decision_about_the_scale_counts():
    decisions = {
        f"decision-{hours}": observed(
            "spo2-scale", system=OURS, minutes_ago=60 * hours, id=f"d{hours}", **answer(code, OURS)
        )
        for hours, code in ((48, "scale-2"), (2, "scale-1"))
    }

    assert scores(**decisions)["scale"].value == 1


def test_children_are_refused():
    child = PATIENT | {"birthDate": "2010-11-21"}

    assert refused(patient=child) == ("outside-intended-use", ("age",))
    assert isinstance(read(patient=PATIENT | {"birthDate": "2010-11-20"}), Features)


def test_an_impossible_saturation_gives_no_score():
    assert refused(saturation=observed("59408-5", **quantity(105, "%")))[0] == "input-implausible"


def test_a_chart_is_asked_for_every_way_to_tell_what_is_missing():
    asked = still_missing(MODEL.manifest, [ROUND["pulse"]], patient=PATIENT, at=AT)

    codes = {each.code for each in asked}
    assert {"9279-1", "59408-5", "85354-9", "3151-8", "371825009", "spo2-scale"} <= codes
    assert "8867-4" not in codes
