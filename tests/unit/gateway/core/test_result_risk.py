"""A risk as a RiskAssessment: percentages, outcome, basis, and the words of the risk."""

from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.event import is_made_by_ai, is_unsettled
from gateway.core.fhir import parse_resource
from gateway.core.findings import RESULT_SYSTEM, report
from models.manifest import Manifest
from tests.result_models import CONTEXT, NUMBERS, RISK_ASSESSMENT, RUNTIME, made


def test_a_risk_assessment_says_the_probability_as_a_percentage() -> None:
    (prediction,) = made(RISK_ASSESSMENT, 0.73).result["prediction"]

    assert prediction["probabilityDecimal"] == 73.0
    assert prediction["outcome"]["coding"][0]["code"] == "14669001"
    assert prediction["qualitativeRisk"]["coding"][0]["code"] == "high"
    assert prediction["rationale"].startswith("Based on: Creatinine in blood 1.8 mg/dL")


@given(st.floats(0, 1, width=32))
def test_every_probability_is_a_valid_percentage(probability: float) -> None:
    result = made(RISK_ASSESSMENT, probability).result

    parse_resource(orjson.dumps(result))
    assert result["prediction"][0]["probabilityDecimal"] == pytest.approx(
        100 * probability, abs=1e-5
    )


def test_a_risk_assessment_is_preliminary_labelled_and_names_what_it_rests_on() -> None:
    result = made(RISK_ASSESSMENT, 0.73).result

    assert result["status"] == "preliminary"
    assert result["meta"]["security"][0]["code"] == "AIAST"
    assert result["identifier"] == [{"system": RESULT_SYSTEM, "value": CONTEXT.identifier}]
    assert result["performer"]["reference"].startswith("urn:uuid:")
    sources = [each["reference"] for each in result["basis"]]
    assert sources == ["Observation/o1/_history/3", "Patient/p1/_history/1"]
    assert result["encounter"] == {"reference": "Encounter/e1"}


def test_a_word_that_is_no_code_of_a_risk_stays_a_word() -> None:
    told = orjson.loads(RISK_ASSESSMENT.model_dump_json())
    told["outputs"][0]["bands"][1]["label"] = "very high"

    (prediction,) = made(Manifest.model_validate(told), 0.9).result["prediction"]

    assert prediction["qualitativeRisk"] == {"text": "very high"}


@pytest.mark.parametrize(
    ("effective", "expected"),
    [
        ({"effectiveDateTime": "2026-11-20"}, {"occurrenceDateTime": "2026-11-20"}),
        (
            {"effectiveInstant": "2026-11-20T08:00:00Z"},
            {"occurrenceDateTime": "2026-11-20T08:00:00Z"},
        ),
        (
            {"effectivePeriod": {"start": "2026-11-20"}},
            {"occurrencePeriod": {"start": "2026-11-20"}},
        ),
        (
            {"effectiveTiming": {"event": ["2026-11-20"]}},
            {"occurrenceDateTime": "2026-11-25T06:30:00.000+00:00"},
        ),
    ],
    ids=["dateTime", "instant", "period", "timing"],
)
def test_the_clinical_time_is_written_as_r4_allows_it_there(
    effective: dict[str, object], expected: dict[str, object]
) -> None:
    context = replace(CONTEXT, effective=effective, encounter=None, trigger=None)

    result = report(RISK_ASSESSMENT, (0.1,), inputs=(), context=context, runtime=RUNTIME).result

    parse_resource(orjson.dumps(result))
    assert {name: result[name] for name in result if name.startswith("occurrence")} == expected
    assert "basis" not in result
    assert "rationale" not in result["prediction"][0]


@pytest.mark.parametrize("lost", ["meta", "identifier"])
def test_a_risk_assessment_that_comes_back_is_known_for_an_ai_s(lost: str) -> None:
    result = made(RISK_ASSESSMENT, 0.73, inputs=NUMBERS).result

    assert is_made_by_ai({name: value for name, value in result.items() if name != lost})


def test_a_preliminary_risk_assessment_can_t_be_relied_on() -> None:
    assert is_unsettled({"resourceType": "RiskAssessment", "status": "preliminary"})
    assert not is_unsettled({"resourceType": "RiskAssessment", "status": "final"})
