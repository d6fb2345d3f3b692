"""From a message to a FHIR R4 message Bundle.

(1) the header says what it is: a MessageHeader;
(2) segment by segment a resource is begun or goes on, `segments.csv` says with what;
(3) at the end each gets what FHIR insists on, and its id and version (`identity`);
(4) the message itself is kept as a Binary, and a Provenance says that all came from it.

What refers to people, places and organizations names them; no resource is made of them.

Source: HL7 v2-to-FHIR, message and segment maps.
"""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import orjson

from adapters.hl7v2 import times
from adapters.hl7v2.datatypes import Json, Reading
from adapters.hl7v2.dialect import Dialect, Note, Notes
from adapters.hl7v2.finishing import finished
from adapters.hl7v2.identity import (
    Origin,
    patient_id,
    patient_number,
    resource_id,
    version_of,
)
from adapters.hl7v2.mapping import fill
from adapters.hl7v2.message import Message, Segment
from adapters.hl7v2.problems import Code, Hl7Problem, Place
from adapters.hl7v2.tables import code_map, message_codes
from adapters.hl7v2.values import attachments, put_range, put_value

_EVENTS = "http://terminology.hl7.org/CodeSystem/v2-0003"
_RESULTS = frozenset({"ORU", "OUL"})
_RAW = "x-application/hl7-v2+er7"


@dataclass(frozen=True)
class Converted:
    """What became of a message.

    Attributes:
        bundle: The message Bundle, JSON.
        notes: What was left out.
        places: Where in the message each entry comes from.
    """

    bundle: bytes
    notes: tuple[Note, ...]
    places: tuple[Place, ...]


def convert(
    message: Message, content: bytes, origin: Origin, dialect: Dialect, now: datetime
) -> Converted:
    """Convert a message.

    Args:
        message: The message.
        content: Its bytes as they came.
        origin: Where it comes from.
        dialect: How that feed writes.
        now: The present: when it says no time itself.

    Raises:
        Hl7Problem: It is of a kind that is not taken, or its header lacks what everything needs.
    """
    notes = Notes()
    event = insist_on_kind(message)
    work = _Work(message, content, origin, dialect, notes, event, _sent(message, dialect, now))
    for segment in message.segments[1:]:
        begin = _BEGIN.get(segment.name)
        if begin is not None:
            begin(work, segment)
    return _bundle(work)


def insist_on_kind(message: Message) -> str:
    """Insist that a message is of a kind that is taken; give its event.

    Raises:
        Hl7Problem: It is not.
    """
    at = message.header.at(9)
    if not message.kind:
        raise Hl7Problem(Code.REQUIRED_MISSING, at, "MSH-9 does not say what the message is.")
    if message.kind not in message_codes():
        known = ", ".join(sorted(message_codes()))
        raise Hl7Problem(
            Code.UNSUPPORTED_MESSAGE, at, f"This kind of message is not taken; known: {known}."
        )
    event = message.event or message.header.text(9, 3).partition("_")[2]
    if not event:
        raise Hl7Problem(Code.UNSUPPORTED_EVENT, at, "MSH-9 names no trigger event.")
    return event


def _sent(message: Message, dialect: Dialect, now: datetime) -> str:
    try:
        return times.instant(message.header.text(7), dialect.zone)
    except times.NoTime:
        return now.isoformat(timespec="milliseconds")


@dataclass
class _Made:
    """A resource under construction and the segment that began it."""

    content: Json
    place: Place

    @property
    def reference(self) -> Json:
        return {"reference": f"{self.content['resourceType']}/{self.content['id']}"}


@dataclass
class _Work:
    """A message under conversion: what was made of it so far, and what the next segment joins."""

    message: Message
    raw: bytes
    origin: Origin
    dialect: Dialect
    notes: Notes
    event: str
    sent: str
    made: list[_Made] = field(default_factory=list)
    seen: dict[tuple[str, ...], int] = field(default_factory=dict)
    subject: Json | None = None
    patient: _Made | None = None
    visit: Json | None = None
    order: _Made | None = None
    order_segment: Segment | None = None
    report: _Made | None = None
    specimen: _Made | None = None
    observation: _Made | None = None
    appointment: _Made | None = None
    immunization: _Made | None = None
    document: _Made | None = None
    observation_time: Json = field(default_factory=dict)

    def begin(self, kind: str, segment: Segment, *key: str) -> _Made:
        """Begin a resource; one that is begun again under the same key goes on."""
        identity = (kind, *key)
        name = resource_id(self.origin, kind, *(key or (version_of(self.raw), *self._nth(kind))))
        known = next((each for each in self.made if key and each.content["id"] == name), None)
        made = known or _Made({"resourceType": kind, "id": name}, segment.place)
        if known is None:
            self.made.append(made)
            self.seen[identity] = self.seen.get(identity, 0) + 1
        self.fill(made, segment)
        return made

    def fill(self, made: _Made, segment: Segment) -> None:
        fill(made.content, made.content["resourceType"], segment, self.dialect, self.notes)

    def about(self, made: _Made, element: str = "subject") -> _Made:
        """Say whom it is about, and during which stay."""
        if self.subject:
            made.content.setdefault(element, self.subject)
        return made

    def reading(self, place: Place) -> Reading:
        return Reading(self.dialect, self.notes, place)

    def _nth(self, kind: str) -> tuple[str, ...]:
        return (str(sum(each.content["resourceType"] == kind for each in self.made)),)

    def occurrence(self, *key: str) -> str:
        """Tell apart what has the same key within one message: empty for the first."""
        count = self.seen.get(key, 0)
        self.seen[key] = count + 1
        return str(count) if count else ""


# -- who, and during which stay ----------------------------------------------------------------


def _pid(work: _Work, segment: Segment) -> None:
    number = patient_number(segment, work.origin, work.reading(segment.at(3)))
    name = (
        patient_id(number, work.origin)
        if number
        else resource_id(work.origin, "Patient", version_of(work.raw), str(segment.place.sequence))
    )
    work.subject = {"reference": f"Patient/{name}"}
    work.visit = None
    known = _patient_made(work, name)
    made = known or _Made({"resourceType": "Patient", "id": name}, segment.place)
    work.fill(made, segment)
    work.patient = made
    if number:
        work.subject["identifier"] = {"system": work.origin.patient_system, "value": number}
        _know_by_number(made.content, number, work.origin)
    if work.origin.has_own_patients and known is None:
        work.made.append(made)


def _patient_made(work: _Work, name: str) -> _Made | None:
    patients = (each for each in work.made if each.content["resourceType"] == "Patient")
    return next((each for each in patients if each.content["id"] == name), None)


def _know_by_number(patient: Json, number: str, origin: Origin) -> None:
    """Give the identifier by which the patient is found the system that the site names."""
    for each in patient.get("identifier", ()):
        if each.get("value") == number:
            each["system"] = origin.patient_system


def _pd1(work: _Work, segment: Segment) -> None:
    if work.patient is not None:
        work.fill(work.patient, segment)


def _nk1(work: _Work, segment: Segment) -> None:
    contact: Json = {}
    fill(contact, "Patient.contact", segment, work.dialect, work.notes)
    if contact and work.patient is not None:
        work.patient.content.setdefault("contact", []).append(contact)


def _mrg(work: _Work, segment: Segment) -> None:
    """Mark the record that was merged into the patient of the PID before."""
    old = segment.text(1)
    if not old or work.subject is None or not work.origin.has_own_patients:
        return
    link = {"other": {"reference": work.subject["reference"]}, "type": "replaced-by"}
    name = patient_id(old, work.origin)
    if _patient_made(work, name) is not None:
        return
    identifier = {"system": work.origin.patient_system, "value": old}
    content = {"resourceType": "Patient", "id": name, "identifier": [identifier]}
    work.made.append(_Made({**content, "active": False, "link": [link]}, segment.place))


def _pv1(work: _Work, segment: Segment) -> None:
    number = segment.text(19) or segment.text(50)
    if number:
        work.visit = {"type": "Encounter", "identifier": {"value": number}}
    if work.message.kind != "ADT":
        return
    key = (number,) if number else (_subject(work), segment.text(44)) if segment.text(44) else ()
    made = work.about(work.begin("Encounter", segment, *key))
    made.content["status"] = code_map("encounter-status").get(work.event, "unknown")


def _pv2(work: _Work, segment: Segment) -> None:
    stay = next((each for each in work.made if each.content["resourceType"] == "Encounter"), None)
    if stay is not None:
        work.fill(stay, segment)


def _of_patient(kind: str, element: str, key_field: int) -> "Callable[[_Work, Segment], None]":
    """Make what begins a resource that FHIR lets nobody have without a patient."""

    def begin(work: _Work, segment: Segment) -> None:
        if work.subject is None:
            says = "It stands before any PID and was left out."
            work.notes.add(Code.SEGMENT_SEQUENCE, segment.place, says)
            return
        named = segment.text(key_field) or segment.text(key_field, 2)
        made = work.begin(kind, segment, _subject(work), *_visit(work), named)
        work.about(made, element)
        if element == "subject" and work.visit:
            made.content["encounter"] = work.visit

    return begin


def _subject(work: _Work) -> str:
    return str((work.subject or {}).get("reference", ""))


def _visit(work: _Work) -> tuple[str, ...]:
    return (str((work.visit or {}).get("identifier", {}).get("value", "")),)


# -- orders and results ------------------------------------------------------------------------


def _orc(work: _Work, segment: Segment) -> None:
    work.order_segment, work.order, work.report, work.observation = segment, None, None, None


def _obr(work: _Work, segment: Segment) -> None:
    number = _order_number(work, segment)
    code = segment.text(4) or segment.text(4, 4) or segment.text(4, 2)
    # Without a number nothing but this message names it; one that stands there twice is two.
    key = (number, code) if number else ()
    nth = work.occurrence("order", *key) if key else ""
    key = (*key, nth) if nth else key
    work.order = _order(work, segment, key)
    work.observation, work.report = None, None
    if work.message.kind in _RESULTS:
        report = work.about(work.begin("DiagnosticReport", segment, *key))
        report.content["basedOn"] = [work.order.reference]
        if work.visit:
            report.content["encounter"] = work.visit
        work.report = report
        if work.message.kind == "OUL" and work.specimen is not None:
            _join_specimen(work, work.specimen)
    work.observation_time = _order_time(work, segment)


def _order_number(work: _Work, segment: Segment) -> str:
    orc = work.order_segment
    for at in (3, 2):
        number = segment.text(at) or (orc.text(at) if orc is not None else "")
        if number:
            return number
    return ""


def _order(work: _Work, segment: Segment, key: tuple[str, ...]) -> _Made:
    made = work.about(work.begin("ServiceRequest", segment, *key))
    orc = work.order_segment
    if orc is not None:
        work.fill(made, orc)
        by_state = code_map("order-status").get(orc.text(5))
        made.content["status"] = by_state or code_map("order-control").get(orc.text(1), "unknown")
    if work.visit:
        made.content["encounter"] = work.visit
    return made


def _order_time(work: _Work, segment: Segment) -> Json:
    scratch: Json = {"resourceType": "DiagnosticReport"}
    fill(scratch, "DiagnosticReport", segment, work.dialect, Notes())
    moment = scratch.get("effectiveDateTime")
    return {"effectiveDateTime": moment} if moment else {}


def _tq1(work: _Work, segment: Segment) -> None:
    if work.order is not None:
        work.fill(work.order, segment)


def _obx(work: _Work, segment: Segment) -> None:
    reading = work.reading(segment.at(5))
    if work.document is not None:
        _of_document(work.document, segment, reading)
        return
    made = work.about(work.begin("Observation", segment, *_observation_key(work, segment)))
    content = made.content
    put_value(content, segment, reading)
    put_range(content, segment)
    for name, value in work.observation_time.items():
        content.setdefault(name, value)
    if work.visit:
        content["encounter"] = work.visit
    if segment.text(11) == "N":
        content["dataAbsentReason"] = _NOT_ASKED
    work.observation = made
    _join(work, made, attachments(segment, reading))


_NOT_ASKED = {
    "coding": [
        {
            "system": "http://terminology.hl7.org/CodeSystem/data-absent-reason",
            "code": "not-asked",
        }
    ]
}


def _observation_key(work: _Work, segment: Segment) -> tuple[str, ...]:
    """Name a result by its report, else by its patient and time; by nothing but this message else.

    Several of one code in one report are told apart by their sub-id (OBX-4), else by their order.
    """
    code = segment.text(3) or segment.text(3, 4) or segment.text(3, 2)
    owner = work.report or work.order or work.immunization
    if owner is not None:
        whose = owner.content["id"]
    elif work.subject and segment.text(14):
        whose = f"{_subject(work)} {segment.text(14)}"
    else:
        return ()
    key = ("Observation", whose, code, segment.text(4))
    nth = work.occurrence("nth", *key)
    return (*key[1:], nth) if nth else key[1:]


def _join(work: _Work, made: _Made, files: list[Json]) -> None:
    """Let the report, the order or the immunization know of its observation."""
    if work.report is not None:
        content = work.report.content
        content.setdefault("result", []).append(made.reference)
        if files:
            content.setdefault("presentedForm", []).extend(files)
        if "status" not in made.content and "status" in content:
            made.content["status"] = _STATUS_BY_REPORT.get(content["status"], "unknown")
    elif work.order is not None:
        work.order.content.setdefault("supportingInfo", []).append(made.reference)
    elif work.immunization is not None:
        made.content["partOf"] = [work.immunization.reference]


#: Where OBX-11 is empty, what the whole report says (OBR-25) holds for its parts.
_STATUS_BY_REPORT = {
    "final": "final",
    "corrected": "corrected",
    "preliminary": "preliminary",
    "partial": "preliminary",
    "registered": "registered",
    "cancelled": "cancelled",
}


def _spm(work: _Work, segment: Segment) -> None:
    number = segment.text(2, 2) or segment.text(2)
    owner = work.order.content["id"] if work.order is not None else ""
    key = (number or owner, segment.text(1)) if number or owner else ()
    work.specimen = work.about(work.begin("Specimen", segment, *key))
    if work.message.kind != "OUL":
        _join_specimen(work, work.specimen)


def _join_specimen(work: _Work, specimen: _Made) -> None:
    for owner in (work.report, work.order):
        if owner is not None:
            listed = owner.content.setdefault("specimen", [])
            if specimen.reference not in listed:
                listed.append(specimen.reference)


def _nte(work: _Work, segment: Segment) -> None:
    owner = work.observation or work.order
    text = "\n".join(value.text() for value in segment.values(3) if value.text())
    if owner is not None and text:
        owner.content.setdefault("note", []).append({"text": text})


# -- documents, appointments, immunizations ----------------------------------------------------


def _txa(work: _Work, segment: Segment) -> None:
    number = segment.text(12)
    work.document = work.about(work.begin("DocumentReference", segment, *filter(None, [number])))
    if work.event == "T11":
        work.document.content["status"] = "entered-in-error"
    parent = segment.text(13)
    if parent:
        target = resource_id(work.origin, "DocumentReference", parent)
        relation = {"code": "appends" if work.event in {"T05", "T06"} else "replaces"}
        relation["target"] = {"reference": f"DocumentReference/{target}"}  # type: ignore[assignment]
        work.document.content["relatesTo"] = [relation]


def _of_document(document: _Made, segment: Segment, reading: Reading) -> None:
    contents = document.content.setdefault("content", [])
    files = attachments(segment, reading)
    contents += [{"attachment": each} for each in files]
    text = "\n".join(value.text() for value in segment.values(5) if value.text())
    if text and not files and segment.text(2) not in {"ED", "RP"}:
        document.content.setdefault("_text", []).append(text)


def _sch(work: _Work, segment: Segment) -> None:
    number = segment.text(2) or segment.text(1)
    made = work.begin("Appointment", segment, *filter(None, [number]))
    made.content["status"] = code_map("appointment-status").get(work.event, "proposed")
    work.appointment = made


def _resource_of_appointment(work: _Work, segment: Segment) -> None:
    if work.appointment is not None:
        work.fill(work.appointment, segment)


def _rxa(work: _Work, segment: Segment) -> None:
    work.observation = work.order = None
    work.immunization = None
    if not segment.text(5) or work.subject is None:
        says = "An RXA without a vaccine (RXA-5) or a patient was left out."
        work.notes.add(Code.REQUIRED_MISSING, segment.at(5), says)
        return
    key = (_subject(work), segment.text(5), segment.text(3))
    work.immunization = work.about(work.begin("Immunization", segment, *key), "patient")
    if segment.text(21) == "D":
        work.immunization.content["status"] = "entered-in-error"


def _rxr(work: _Work, segment: Segment) -> None:
    if work.immunization is not None:
        work.fill(work.immunization, segment)


_BEGIN: Mapping[str, Callable[[_Work, Segment], None]] = {
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
    "ORC": _orc,
    "OBR": _obr,
    "TQ1": _tq1,
    "OBX": _obx,
    "SPM": _spm,
    "NTE": _nte,
    "TXA": _txa,
    "SCH": _sch,
    "AIS": _resource_of_appointment,
    "AIP": _resource_of_appointment,
    "AIL": _resource_of_appointment,
    "AIG": _resource_of_appointment,
    "RXA": _rxa,
    "RXR": _rxr,
}


# -- the whole ---------------------------------------------------------------------------------


def _bundle(work: _Work) -> Converted:
    kept: list[tuple[Json, Place]] = []
    for made in work.made:
        content = finished(made.content, work.sent, work.subject)
        if content is None:
            says = "What FHIR insists on is missing; the segment was left out."
            work.notes.add(Code.REQUIRED_MISSING, made.place, says)
        else:
            kept.append((content, made.place))
    header = (_header(work), Place("MSH"))
    evidence = [(each, Place("MSH")) for each in _evidence(work, [each for each, _ in kept])]
    listed = [header, *kept, *evidence]
    version = {"lastUpdated": work.sent, "versionId": version_of(work.raw)}
    meta = {**version, "source": work.origin.address}
    entries = [
        {
            "fullUrl": f"{work.origin.address}/{content['resourceType']}/{content['id']}",
            "resource": {**content, "meta": meta},
        }
        for content, _ in listed
    ]
    bundle = {"resourceType": "Bundle", "type": "message", "timestamp": work.sent}
    raw = orjson.dumps({**bundle, "entry": entries})
    return Converted(raw, tuple(work.notes.found), tuple(place for _, place in listed))


def _header(work: _Work) -> Json:
    header = work.message.header
    name, sender = header.text(3), header.text(4)
    source = {"endpoint": work.origin.address, **({"name": name} if name else {})}
    return {
        "resourceType": "MessageHeader",
        "id": resource_id(work.origin, "MessageHeader", version_of(work.raw)),
        "eventCoding": {"system": _EVENTS, "code": work.event},
        "source": source,
        **({"sender": {"type": "Organization", "display": sender}} if sender else {}),
    }


def _evidence(work: _Work, contents: list[Json]) -> list[Json]:
    """Give the message as it came, sealed like everything of its patient, and where it led to."""
    name = resource_id(work.origin, "Binary", version_of(work.raw))
    binary = {
        "resourceType": "Binary",
        "id": name,
        "contentType": _RAW,
        **({"securityContext": work.subject} if work.subject else {}),
        "data": base64.b64encode(work.raw).decode(),
    }
    if not contents:
        return [binary]
    sender = " ".join(filter(None, (work.message.header.text(3), work.message.header.text(4))))
    provenance = {
        "resourceType": "Provenance",
        "id": resource_id(work.origin, "Provenance", version_of(work.raw)),
        "target": [{"reference": f"{each['resourceType']}/{each['id']}"} for each in contents],
        "recorded": work.sent,
        "agent": [{"who": {"type": "Device", "display": sender or work.origin.feed}}],
        "entity": [{"role": "source", "what": {"reference": f"Binary/{name}"}}],
    }
    return [binary, provenance]
