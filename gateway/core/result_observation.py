"""(5) A result as an Observation: one value, one class, or several labels under a panel.

* probability, score and regression: `valueQuantity` in the manifest's unit, a score as a whole
  number, with the reference range and the interpretation that the manifest has;
* class: `valueCodeableConcept`, the probability of each class as a component, and the chosen
  one's as AIconfidence. If none is likely enough, no value: `dataAbsentReason` `unknown`, IND;
* several labels (`panel`): no value of its own, each label a component;
* further outputs beside a chief one: components.

A component's code is never the Observation's own while that has a value (obs-7), and there is a
value or a `dataAbsentReason`, never both (obs-6). `derivedFrom` names the sources of the types that
R4 allows there; the Provenance names all.

Source: FHIR R4 Observation; HL7 AI Transparency on FHIR (STU1 ballot), AIconfidence.
"""

from collections.abc import Sequence

from gateway.core.remembered import once_per_object
from gateway.core.result_frame import Frame, head_of, method_of, notes_of
from gateway.core.result_terms import (
    AI_CONFIDENCE,
    DECIMALS,
    TERMINOLOGY,
    UCUM,
    Json,
    code_of,
    coding_of,
    instant,
    interpretation_of,
    named_code,
    reference_to,
    type_of,
)
from models.manifest import Answer, ClassLabel, Manifest, Output

_DERIVED_FROM = frozenset(
    {
        "DocumentReference",
        "ImagingStudy",
        "Media",
        "MolecularSequence",
        "Observation",
        "QuestionnaireResponse",
    }
)
_PROBABILITY = {"unit": "probability", "system": UCUM, "code": "{probability}"}


def observation_of(frame: Frame, answers: Sequence[Answer]) -> Json:
    """Write a model's answers as an Observation.

    Args:
        frame: Whom it is about, and the text.
        answers: Of the manifest's outputs, in their order.
    """
    if frame.manifest.panel:
        code = named_code(frame.manifest, frame.manifest.panel.code, frame.manifest.panel.label)
        found: Json = {"code": code}
        components = [_finding(frame.manifest, answer) for answer in answers]
    else:
        first, *others = answers
        found = _finding(frame.manifest, first)
        components = _shares(first) + [_finding(frame.manifest, other) for other in others]
    made = {**_body(frame), **found, "text": frame.text}
    if components:
        made["component"] = components
    return made


def absent_observation(frame: Frame, reason: str, *, is_outside_use: bool) -> Json:
    """Write that there is no answer, and why.

    Args:
        frame: Whom it is about, and the text.
        reason: One sentence for people, without any value.
        is_outside_use: The model was not made for such a patient.
    """
    manifest = frame.manifest
    code = (
        named_code(manifest, manifest.panel.code, manifest.panel.label)
        if manifest.panel
        else code_of(manifest, manifest.outputs[0])
    )
    why = "not-applicable" if is_outside_use else "not-performed"
    absent = {**_absent(why), "text": reason}
    return {**_body(frame), "code": code, "dataAbsentReason": absent, "text": frame.text}


def _body(frame: Frame) -> Json:
    """Give what a result and a refusal have in common."""
    context = frame.context
    made: Json = {
        **head_of(frame, "Observation"),
        "category": [_category(frame.manifest)],
        "subject": {"reference": context.subject},
        **context.effective,
        "issued": instant(context.issued),
        "method": method_of(frame.manifest),
        "device": {"reference": frame.device},
        "note": notes_of(frame),
    }
    if context.encounter:
        made["encounter"] = {"reference": context.encounter}
    derived = [source for source in frame.sources if type_of(source) in _DERIVED_FROM]
    if derived:
        made["derivedFrom"] = [reference_to(source) for source in derived]
    return made


@once_per_object
def _category(manifest: Manifest) -> Json:
    result = manifest.result
    # R4 has no category for a computed risk; `survey` is the one of assessment scores (as Apgar).
    coding = {"system": f"{TERMINOLOGY}/observation-category", "code": result.category}
    return {"coding": [coding], "text": result.category_text}


def _finding(manifest: Manifest, answer: Answer) -> Json:
    """Write one answer; the same elements stand in an Observation and in a component."""
    found: Json = {"code": code_of(manifest, answer.output), **_value(answer)}
    if answer.interpretation or answer.band:
        found["interpretation"] = [interpretation_of(answer)]
    if answer.output.reference_range:
        found["referenceRange"] = [_reference_range(answer.output)]
    return found


def _value(answer: Answer) -> Json:
    if answer.output.kind != "class":
        return {"valueQuantity": _quantity(answer.output, answer.value)}
    if answer.chosen is None:
        return {"dataAbsentReason": {**_absent("unknown"), "text": _uncertain(answer)}}
    chosen = {"coding": [coding_of(answer.chosen)], "text": answer.chosen.words}
    confidence = {"url": AI_CONFIDENCE, "valueDecimal": _rounded(answer.value)}
    return {"extension": [confidence], "valueCodeableConcept": chosen}


def _quantity(output: Output, value: float) -> Json:
    return {
        # A score of 7 is 7 and not 7.0: FHIR keeps the precision that a decimal is written in.
        "value": round(value) if output.kind == "score" else _rounded(value),
        "unit": output.unit_text or output.unit,
        "system": UCUM,
        "code": output.unit,
    }


def _reference_range(output: Output) -> Json:
    low, high = output.reference_range or (0.0, 0.0)
    return {"low": _quantity(output, low), "high": _quantity(output, high)}


def _shares(answer: Answer) -> list[Json]:
    """Write the probability of each class as a component."""
    return [
        {
            "code": _class_code(answer.output, label),
            "valueQuantity": {"value": _rounded(share), **_PROBABILITY},
        }
        for label, share in zip(answer.output.classes, answer.shares, strict=True)
        if answer.shares
    ]


def _class_code(output: Output, label: ClassLabel) -> Json:
    words = {"text": f"{label.words}: probability (AI)"}
    # Under the output's own code it would say the value a second time, in other words (obs-7).
    return words if label.key == output.code.key else {"coding": [coding_of(label)], **words}


def _uncertain(answer: Answer) -> str:
    least = 100 * (answer.output.min_confidence or 0)
    return f"Uncertain: no class has a probability of at least {least:.0f} %."


def _absent(code: str) -> Json:
    return {"coding": [{"system": f"{TERMINOLOGY}/data-absent-reason", "code": code}]}


def _rounded(value: float) -> float:
    return round(float(value), DECIMALS)
