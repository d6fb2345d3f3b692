"""What FHIR insists on in a resource and no field of a message says; None where it can't be had.

Source: FHIR R4, cardinalities and invariants of each resource type.
"""

import base64
from collections.abc import Callable, Mapping

from adapters.hl7v2.datatypes import Json
from adapters.hl7v2.times import in_order

_NULL_FLAVOR = "http://terminology.hl7.org/CodeSystem/v3-NullFlavor"
_CLINICAL = "http://terminology.hl7.org/CodeSystem/condition-clinical"
_ALLERGY = "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical"
_UNKNOWN = {"text": "not named"}


def finished(content: Json, sent: str, subject: Json | None) -> Json | None:
    """Complete a resource.

    Args:
        content: What the segments said.
        sent: When the message was sent, a FHIR instant.
        subject: Reference of the patient.

    Returns:
        The resource; None where it would be none without what the message does not say.
    """
    complete = _COMPLETE.get(content["resourceType"])
    return complete(content, sent, subject) if complete else content


def _patient(content: Json, _sent: str, _subject: Json | None) -> Json:
    # Each of these may stand there once, in one of two types.
    for exact, plain in (
        ("deceasedDateTime", "deceasedBoolean"),
        ("multipleBirthInteger", "multipleBirthBoolean"),
    ):
        if exact in content:
            content.pop(plain, None)
    return content


def _observation(content: Json, _sent: str, _subject: Json | None) -> Json:
    content.setdefault("code", _UNKNOWN)
    content.setdefault("status", "unknown")
    if any(name.startswith("value") for name in content):
        content.pop("dataAbsentReason", None)
    return content


def _report(content: Json, _sent: str, _subject: Json | None) -> Json:
    content.setdefault("code", _UNKNOWN)
    content.setdefault("status", "unknown")
    return content


def _order(content: Json, _sent: str, _subject: Json | None) -> Json | None:
    if "subject" not in content:
        return None
    content.setdefault("status", "unknown")
    content["intent"] = "order"
    return content


def _encounter(content: Json, _sent: str, _subject: Json | None) -> Json:
    content.setdefault("class", {"system": _NULL_FLAVOR, "code": "UNK"})
    content["period"] = in_order(content.get("period", {}))
    return {name: value for name, value in content.items() if value != {}}


def _condition(content: Json, _sent: str, _subject: Json | None) -> Json:
    content["clinicalStatus"] = {"coding": [{"system": _CLINICAL, "code": "active"}]}
    return content


def _allergy(content: Json, _sent: str, _subject: Json | None) -> Json:
    content["clinicalStatus"] = {"coding": [{"system": _ALLERGY, "code": "active"}]}
    return content


def _procedure(content: Json, _sent: str, _subject: Json | None) -> Json:
    content["status"] = "completed"
    return content


def _document(content: Json, sent: str, _subject: Json | None) -> Json:
    content.setdefault("status", "current")
    content.setdefault("date", sent)
    written = content.pop("_text", [])
    if written:
        data = base64.b64encode("\n".join(written).encode()).decode()
        attachment = {"contentType": "text/plain; charset=utf-8", "data": data}
        content.setdefault("content", []).append({"attachment": attachment})
    # A document may be announced before there is anything to read.
    content.setdefault("content", [])
    if not content["content"]:
        title = content.get("description") or "announced, without content"
        content["content"] = [{"attachment": {"title": title}}]
    return content


def _appointment(content: Json, _sent: str, _subject: Json | None) -> Json:
    people = content.get("participant", [])
    content["participant"] = [{**each, "status": "accepted"} for each in people] or [
        {"type": [_UNKNOWN], "status": "needs-action"}
    ]
    if not {"start", "end"} <= set(content):
        # Without both of them FHIR takes an appointment only as proposed or cancelled.
        content.pop("start", None)
        content.pop("end", None)
        if content["status"] != "cancelled":
            content["status"] = "proposed"
    return content


def _immunization(content: Json, sent: str, _subject: Json | None) -> Json:
    content.setdefault("status", "completed")
    content.setdefault("occurrenceDateTime", sent)
    return content


def _specimen(content: Json, _sent: str, _subject: Json | None) -> Json:
    collection = content.get("collection", {})
    taken = in_order(collection.pop("collectedPeriod", {}))
    if set(taken) == {"start"}:
        collection["collectedDateTime"] = taken["start"]
    elif taken:
        collection["collectedPeriod"] = taken
    return {name: value for name, value in content.items() if value != {}}


_COMPLETE: Mapping[str, Callable[[Json, str, Json | None], Json | None]] = {
    "Patient": _patient,
    "Observation": _observation,
    "DiagnosticReport": _report,
    "ServiceRequest": _order,
    "Encounter": _encounter,
    "Condition": _condition,
    "AllergyIntolerance": _allergy,
    "Procedure": _procedure,
    "DocumentReference": _document,
    "Appointment": _appointment,
    "Immunization": _immunization,
    "Specimen": _specimen,
}
