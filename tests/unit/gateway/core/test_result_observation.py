"""Every kind of answer as an Observation: valid R4, and what stands where."""

from collections.abc import Mapping

import orjson
import pytest
from fhir.resources.R4B import get_fhir_model_class
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.fhir import parse_resource
from gateway.core.result_terms import AI_CONFIDENCE
from models.manifest import Manifest
from tests.result_models import (
    BESIDE,
    CLASSES,
    GOLDEN,
    IMAGE,
    LABELS,
    NOTE,
    REGRESSION,
    RISK,
    RISK_ASSESSMENT,
    SCORE,
    golden,
    made,
    resources,
)

NAMES = sorted(resources())


def written(resource: Mapping[str, object]) -> dict[str, object]:
    """A resource as an EHR reads it."""
    found: dict[str, object] = orjson.loads(orjson.dumps(resource))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_is_what_its_golden_file_says(name: str) -> None:
    assert written(resources()[name]) == golden(name)


def test_no_golden_file_is_left_over() -> None:
    assert sorted(path.stem for path in GOLDEN.glob("*.json")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_is_valid_r4_for_our_validator_and_for_another(name: str) -> None:
    resource = resources()[name]

    parse_resource(orjson.dumps(resource))
    get_fhir_model_class(resource["resourceType"]).model_validate(resource)


def test_a_score_is_a_whole_number_with_its_usual_range_and_interpretation() -> None:
    result = made(SCORE, 7.0004).result

    assert orjson.dumps(result["valueQuantity"]["value"]) == b"7"
    assert result["valueQuantity"]["code"] == "{score}"
    (usual,) = result["referenceRange"]
    assert (usual["low"]["value"], usual["high"]["value"]) == (0, 4)
    assert result["interpretation"][0]["coding"][0]["code"] == "HH"


def test_a_measured_quantity_has_its_unit_and_no_interpretation_that_nobody_declared() -> None:
    result = made(REGRESSION, 48.25).result

    assert result["valueQuantity"]["value"] == 48.25
    assert result["valueQuantity"]["unit"] == "mL/min/1.73 m²"
    assert result["referenceRange"][0]["high"]["code"] == "mL/min/{1.73_m2}"
    assert "interpretation" not in result


def test_a_class_is_named_with_its_confidence_and_every_class_has_its_probability() -> None:
    result = made(CLASSES, 0.83, 0.1, 0.07, inputs=NOTE).result

    assert result["valueCodeableConcept"]["coding"][0]["code"] == "394579002"
    assert result["extension"] == [{"url": AI_CONFIDENCE, "valueDecimal": 0.83}]
    shares = [each["valueQuantity"]["value"] for each in result["component"]]
    assert shares == [0.83, 0.1, 0.07]
    assert "interpretation" not in result


def test_a_class_that_is_not_likely_enough_is_uncertain_and_no_value() -> None:
    result = made(CLASSES, 0.4, 0.35, 0.25, inputs=NOTE).result

    assert not [name for name in result if name.startswith("value")]
    assert result["dataAbsentReason"]["coding"][0]["code"] == "unknown"
    assert result["interpretation"][0]["coding"][0]["code"] == "IND"
    assert "extension" not in result
    assert len(result["component"]) == 3
    assert "uncertain (40 %)" in result["text"]["div"]


def test_a_class_under_the_code_of_the_result_itself_is_written_in_words_only() -> None:
    told = orjson.loads(CLASSES.model_dump_json())
    first = told["outputs"][0]["classes"][0]
    told["outputs"][0]["code"] = {name: first[name] for name in ("system", "code", "display")}

    result = made(Manifest.model_validate(told), 0.83, 0.1, 0.07, inputs=NOTE).result

    assert result["component"][0]["code"] == {"text": "Cardiology: probability (AI)"}
    assert "coding" in result["component"][1]["code"]
    parse_resource(orjson.dumps(result))


def test_several_labels_stand_under_their_panel_each_with_its_interpretation() -> None:
    result = made(LABELS, 0.81, 0.12, inputs=IMAGE).result

    assert not [name for name in result if name.startswith("value")]
    assert result["code"]["coding"][0]["code"] == "18782-3"
    assert result["category"][0]["coding"][0]["code"] == "imaging"
    words = [each["interpretation"][0]["text"] for each in result["component"]]
    assert words == ["seen", "not seen"]
    assert "Effusion: seen (81 %). Cardiomegaly: not seen (12 %)." in result["text"]["div"]


def test_what_a_model_says_beside_its_chief_answer_is_a_component() -> None:
    result = made(BESIDE, 0.73, 48.25).result

    assert result["valueQuantity"]["value"] == 0.73
    (component,) = result["component"]
    assert component["valueQuantity"]["value"] == 48.25
    assert component["referenceRange"][0]["low"]["value"] == 60


def test_an_image_and_a_text_are_named_by_what_clinicians_call_them() -> None:
    picture = made(LABELS, 0.81, 0.12, inputs=IMAGE).result["text"]["div"]
    note = made(CLASSES, 0.83, 0.1, 0.07, inputs=NOTE).result["text"]["div"]

    assert "Based on: Chest X-ray (2026-11-25)." in picture
    assert "Based on: Referral note (2026-11-25)." in note


def test_a_source_that_is_no_observation_of_r4_is_not_named_as_such() -> None:
    result = made(RISK, 0.73).result

    assert result["derivedFrom"] == [{"reference": "Observation/o1/_history/3"}]


def test_a_risk_is_kept_as_an_observation_too() -> None:
    report = made(RISK_ASSESSMENT, 0.73)

    assert report.result["resourceType"] == "RiskAssessment"
    parse_resource(orjson.dumps(report.observation))
    assert written(made(RISK, 0.73).result) == written(report.observation)


@given(st.lists(st.floats(0.0, 1.0), min_size=3, max_size=3))
def test_whatever_a_model_of_classes_answers_is_valid_or_no_answer(shares: list[float]) -> None:
    total = sum(shares)
    row = [share / total for share in shares] if total > 1e-3 else shares
    try:
        result = made(CLASSES, *row, inputs=NOTE).result
    except ValueError:
        assert abs(sum(row) - 1) > 0.02 or max(row) > 1
        return

    parse_resource(orjson.dumps(result))
    assert ("valueCodeableConcept" in result) != ("dataAbsentReason" in result)
