"""A result that must not be used any more, as it stands in the chart from then on.

Nothing is taken out of it: FHIR keeps what was entered in error, so that who acted on it can be
understood. But its status says so, and its text says nothing else.

Source: FHIR R4 ObservationStatus `entered-in-error`; Provenance; v3-DataOperation NULLIFY;
v3-ActReason PATRQT (patient requested).
"""

from datetime import datetime

from gateway.core.result_terms import RESULT_SYSTEM, TERMINOLOGY, Json, instant

ENTERED_IN_ERROR = "entered-in-error"
_XHTML = "http://www.w3.org/1999/xhtml"
#: How the reason of a result begins that was computed from data which was wrong.
CORRECTED = "It was computed from data that was corrected."
_WITHDRAWN = "the patient withdrew the consent to this use of her data"
_WRONG = "it was computed from data that was corrected"
#: Types whose `note` takes an Annotation in R4.
_NOTED = frozenset({"Observation", "RiskAssessment", "Media"})


def is_retracted(resource: Json) -> bool:
    """Say whether a resource is marked already."""
    return resource.get("status") == ENTERED_IN_ERROR


def said(reason: str) -> str:
    """Say in the chart why a result must not be used: consent was withdrawn, or data was wrong."""
    why = _WRONG if reason.startswith(CORRECTED) else _WITHDRAWN
    return f"Entered in error: {why}. This assertion of an AI must not be used."


def retracted(resource: Json, at: datetime, reason: str) -> Json:
    """Give a result, or an attachment of one, marked as entered in error.

    Args:
        resource: As it stands in the chart.
        at: When it is marked.
        reason: Why, as it was ordered.
    """
    words = said(reason)
    text = {"status": "generated", "div": f'<div xmlns="{_XHTML}"><p>{words}</p></div>'}
    marked = {**resource, "status": ENTERED_IN_ERROR, "text": text}
    if resource.get("resourceType") in _NOTED:
        note = {"time": instant(at), "text": words}
        marked["note"] = [*resource.get("note", ()), note]
    return marked


def unlabelled(resource: Json, at: datetime) -> Json:
    """Give a result marked as entered in error because the EHR dropped its AI label.

    Args:
        resource: As it stands in the chart.
        at: When it is marked.
    """
    words = "Entered in error: the label that an AI made it was not kept here."
    marked = {**resource, "status": ENTERED_IN_ERROR}
    if resource.get("resourceType") in _NOTED:
        marked["note"] = [*resource.get("note", ()), {"time": instant(at), "text": words}]
    return marked


def retraction_tag(identifier: str) -> str:
    """Give the tag by which the Provenance of a retraction is recognised.

    Args:
        identifier: Of the result.
    """
    return f"{identifier}-withdrawn"


def retraction_provenance(
    identifier: str, places: list[str], *, reason: str, at: datetime, who: str
) -> Json:
    """Write who marked a result, when and why.

    Args:
        identifier: Of the result.
        places: The result in the EHR and its attachments: `Observation/<id>`.
        reason: Why, as the consent decision words it, or who had the data corrected.
        at: When.
        who: Name of the site.
    """
    # What was wrong was nobody's wish: PATRQT is for what a patient asked for.
    asked = {"coding": [{"system": f"{TERMINOLOGY}/v3-ActReason", "code": "PATRQT"}]}
    author = {"system": f"{TERMINOLOGY}/provenance-participant-type", "code": "author"}
    return {
        "resourceType": "Provenance",
        "meta": {"tag": [{"system": RESULT_SYSTEM, "code": retraction_tag(identifier)}]},
        "target": [{"reference": place} for place in places],
        "occurredDateTime": instant(at),
        "recorded": instant(at),
        "reason": [{**({} if reason.startswith(CORRECTED) else asked), "text": reason}],
        "activity": {
            "coding": [{"system": f"{TERMINOLOGY}/v3-DataOperation", "code": "NULLIFY"}],
            "text": "Marked as entered in error",
        },
        "agent": [{"type": {"coding": [author]}, "who": {"display": f"Nadi at {who}"}}],
    }
