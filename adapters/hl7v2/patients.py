"""Segments that say whom a message is about and what is known of them: PID, PV1, DG1, AL1."""

from collections.abc import Callable

from adapters.hl7v2.datatypes import Json
from adapters.hl7v2.identity import (
    Origin,
    own_patient_id,
    patient_number,
    resource_id,
    version_of,
)
from adapters.hl7v2.mapping import fill, put
from adapters.hl7v2.message import Segment
from adapters.hl7v2.problems import Code
from adapters.hl7v2.tables import code_map
from adapters.hl7v2.work import Made, Work

_NUMBERLESS = (
    "It holds no patient number, so what is said of the patient is kept as nobody's that is known: "
    "no consent is found, and no model runs."
)


def _pid(work: Work, segment: Segment) -> None:
    number = patient_number(segment, work.origin, work.reading(segment.at(3)))
    name = (
        _known_as(work, number, segment)
        if number
        else resource_id(work.origin, "Patient", version_of(work.raw), str(segment.place.sequence))
    )
    if not number:
        work.notes.add(Code.REQUIRED_MISSING, segment.at(3), _NUMBERLESS)
    subject: Json = {"reference": f"Patient/{name}"}
    work.turn_to(subject)
    known = _patient_made(work, name)
    made = known or Made({"resourceType": "Patient", "id": name}, segment.place)
    work.fill(made, segment)
    work.patient = made
    if number:
        subject["identifier"] = {"system": work.origin.patient_system, "value": number}
        _know_by_number(made.content, number, work.origin)
    if work.origin.has_own_patients and known is None:
        work.made.append(made)
    if work.appointment is not None:
        put(work.appointment.content, "participant[].actor", subject)


def _known_as(work: Work, number: str, segment: Segment) -> str:
    """Give the id of the patient with a number; of one that nobody has, the sender is told."""
    found = work.origin.find_patient(number)
    if found is None and not work.origin.has_own_patients:
        says = "No patient, or more than one, is known by this number."
        work.notes.add(Code.UNKNOWN_KEY, segment.at(3), says)
    return found or own_patient_id(number, work.origin)


def _patient_made(work: Work, name: str) -> Made | None:
    patients = (each for each in work.made if each.content["resourceType"] == "Patient")
    return next((each for each in patients if each.content["id"] == name), None)


def _know_by_number(patient: Json, number: str, origin: Origin) -> None:
    """Give the identifier by which the patient is found the system that the site names."""
    for each in patient.get("identifier", ()):
        if each.get("value") == number:
            each["system"] = origin.patient_system


def _pd1(work: Work, segment: Segment) -> None:
    if work.patient is not None:
        work.fill(work.patient, segment)


def _nk1(work: Work, segment: Segment) -> None:
    contact: Json = {}
    fill(contact, "Patient.contact", segment, work.dialect, work.notes)
    # Who is neither named nor to be reached is no contact (pat-1).
    if set(contact) & {"name", "telecom", "address"} and work.patient is not None:
        work.patient.content.setdefault("contact", []).append(contact)


def _mrg(work: Work, segment: Segment) -> None:
    """Mark the record that was merged into the patient of the PID before."""
    old = segment.text(1)
    if not old or work.subject is None or not work.origin.has_own_patients:
        return
    link = {"other": {"reference": work.subject["reference"]}, "type": "replaced-by"}
    name = work.origin.find_patient(old) or own_patient_id(old, work.origin)
    if _patient_made(work, name) is not None:
        return
    identifier = {"system": work.origin.patient_system, "value": old}
    content = {"resourceType": "Patient", "id": name, "identifier": [identifier]}
    work.made.append(Made({**content, "active": False, "link": [link]}, segment.place))


def _pv1(work: Work, segment: Segment) -> None:
    number = segment.text(19) or segment.text(50)
    if number:
        work.visit = {"type": "Encounter", "identifier": {"value": number}}
    if work.message.kind != "ADT":
        return
    made = work.about(work.begin("Encounter", segment, *_stay(segment, number)))
    made.content["status"] = code_map("encounter-status").get(work.event, "unknown")


def _stay(segment: Segment, number: str) -> tuple[str, ...]:
    """Name a stay by its number, else by its beginning, else by nothing."""
    began = segment.text(44)
    return (number,) if number else ("from", began) if began else ()


def _pv2(work: Work, segment: Segment) -> None:
    stay = next((each for each in work.made if each.content["resourceType"] == "Encounter"), None)
    if stay is not None:
        work.fill(stay, segment)


def _of_patient(kind: str, element: str, key_field: int) -> "Callable[[Work, Segment], None]":
    """Make what begins a resource that FHIR lets nobody have without a patient."""

    def begin(work: Work, segment: Segment) -> None:
        if work.subject is None:
            says = "It stands before any PID and was left out."
            work.notes.add(Code.SEGMENT_SEQUENCE, segment.place, says)
            return
        named = segment.text(key_field) or segment.text(key_field, 2)
        made = work.begin(kind, segment, *work.visit_key, named)
        work.about(made, element)
        if element == "subject" and work.visit:
            made.content["encounter"] = work.visit

    return begin


READERS: dict[str, Callable[[Work, Segment], None]] = {
    "PID": _pid,
    "PD1": _pd1,
    "NK1": _nk1,
    "MRG": _mrg,
    "PV1": _pv1,
    "PV2": _pv2,
    "DG1": _of_patient("Condition", "subject", 3),
    "AL1": _of_patient("AllergyIntolerance", "patient", 3),
    "IAM": _of_patient("AllergyIntolerance", "patient", 3),
    "PR1": _of_patient("Procedure", "subject", 3),
}
