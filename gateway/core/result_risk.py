"""(5) A result as a RiskAssessment: the probability of an outcome, and what it rests on.

`probabilityDecimal` is a percentage in R4 (ras-2: at most 100), unlike everywhere else in Nadi.
`basis` takes any resource, so all sources are named. A band becomes `qualitativeRisk`, coded where
its word is one of the code system's; `certain` is never said.

Source: FHIR R4 RiskAssessment (http://hl7.org/fhir/R4/riskassessment.html).
"""

from collections.abc import Sequence

from gateway.core.result_frame import Frame, head_of, method_of, notes_of
from gateway.core.result_terms import (
    DECIMALS,
    TERMINOLOGY,
    Json,
    code_of,
    coding_of,
    instant,
    reference_to,
)
from models.manifest import Answer

_PERCENT = 100
_RISKS = {
    "negligible": "Negligible likelihood",
    "low": "Low likelihood",
    "moderate": "Moderate likelihood",
    "high": "High likelihood",
}
#: What an effective[x] is called in a RiskAssessment.
_OCCURRENCE = {
    "effectiveDateTime": "occurrenceDateTime",
    "effectiveInstant": "occurrenceDateTime",
    "effectivePeriod": "occurrencePeriod",
}


def risk_assessment_of(frame: Frame, answers: Sequence[Answer]) -> Json:
    """Write a model's answers as a RiskAssessment.

    Args:
        frame: Whom it is about, and the text.
        answers: Probabilities of outcomes, in the order of the manifest's outputs.
    """
    context, manifest = frame.context, frame.manifest
    made: Json = {
        **head_of(frame, "RiskAssessment"),
        "text": frame.text,
        "method": method_of(manifest),
        "code": code_of(manifest, manifest.outputs[0]),
        "subject": {"reference": context.subject},
        **_occurrence(frame),
        "performer": {"reference": frame.device},
        "prediction": [_prediction(answer, frame.rationale) for answer in answers],
        "note": notes_of(frame),
    }
    if context.encounter:
        made["encounter"] = {"reference": context.encounter}
    if frame.sources:
        made["basis"] = [reference_to(source) for source in frame.sources]
    return made


def _occurrence(frame: Frame) -> Json:
    """Give the clinical time; when it was made, if that is a timing, which has no place here."""
    for name, value in frame.context.effective.items():
        if name in _OCCURRENCE:
            return {_OCCURRENCE[name]: value}
    return {"occurrenceDateTime": instant(frame.context.issued)}


def _prediction(answer: Answer, rationale: str) -> Json:
    # A manifest that asks for a RiskAssessment has bands and an outcome for each output.
    outcome = answer.output.outcome or answer.output.code
    made: Json = {
        "outcome": {"coding": [coding_of(outcome)], "text": outcome.display or outcome.code},
        "probabilityDecimal": round(_PERCENT * float(answer.value), DECIMALS - 2),
        "qualitativeRisk": _qualitative(answer.label),
    }
    if rationale:
        made["rationale"] = rationale
    return made


def _qualitative(label: str) -> Json:
    code = label.lower()
    if code not in _RISKS:
        return {"text": label}
    coding = {"system": f"{TERMINOLOGY}/risk-probability", "code": code, "display": _RISKS[code]}
    return {"coding": [coding], "text": label}
