"""From a message to a FHIR R4 message Bundle.

(1) the header says what it is: a MessageHeader;
(2) segment by segment a resource is begun or goes on, `segments.csv` says with what;
(3) at the end each gets what FHIR insists on, and its id and version (`identity`);
(4) the message itself is kept as a Binary, and a Provenance says that all came from it.

What refers to people, places and organizations names them; no resource is made of them.

Source: HL7 v2-to-FHIR, message and segment maps.
"""

import base64
from dataclasses import dataclass
from datetime import datetime

import orjson

from adapters.hl7v2 import events, patients, results
from adapters.hl7v2.datatypes import Json
from adapters.hl7v2.dialect import Dialect, Note, Notes
from adapters.hl7v2.finishing import finished
from adapters.hl7v2.identity import (
    Origin,
    resource_id,
    version_of,
)
from adapters.hl7v2.message import Message
from adapters.hl7v2.problems import Code, Hl7Problem, Place
from adapters.hl7v2.sent import sent_at
from adapters.hl7v2.tables import message_codes
from adapters.hl7v2.work import Work

_EVENTS = "http://terminology.hl7.org/CodeSystem/v2-0003"
_READERS = {**patients.READERS, **results.READERS, **events.READERS}
_WITHOUT_RESULT = "It holds no OBR, so no result was read: was it cut short?"
_RESULTS = frozenset({"ORU", "OUL"})
_OF_PATIENTS = _RESULTS | {"ORM", "OMG", "OML", "MDM", "VXU"}
_PATIENT_OR_HERS = frozenset({"PID", "ORC", "OBR", "OBX", "SPM", "TXA", "RXA"})
_SWITCHES = "It switches to a character set that can't be read; the text was kept as it stands."
_RAW = "x-application/hl7-v2+er7"


@dataclass(frozen=True)
class Converted:
    """What became of a message.

    Attributes:
        bundle: The message Bundle, JSON.
        notes: What was left out.
        places: Where in the message each entry comes from.
        is_ahead: Whether its versions go by its reception, as its sender's clock is ahead.
    """

    bundle: bytes
    notes: tuple[Note, ...]
    places: tuple[Place, ...]
    is_ahead: bool = False


def convert(
    message: Message, content: bytes, origin: Origin, dialect: Dialect, received: datetime
) -> Converted:
    """Convert a message.

    Args:
        message: The message.
        content: Its bytes as they came.
        origin: Where it comes from.
        dialect: How that feed writes.
        received: When it came first; the same message has to be the same versions then.

    Raises:
        Hl7Problem: It is of a kind that is not taken, or its header lacks what everything needs.
    """
    notes = Notes()
    event = insist_on_kind(message)
    _insist_on_patient(message, notes)
    sent = sent_at(message, dialect.zone, received, notes)
    if message.kind in _RESULTS and message.first("OBR") is None:
        notes.add(Code.SEGMENT_SEQUENCE, Place("OBR"), _WITHOUT_RESULT)
    _note_switches(message, notes)
    work = Work(message, content, origin, dialect, notes, event, sent)
    for segment in message.segments[1:]:
        read = _READERS.get(segment.name)
        if read is not None:
            read(work, segment)
    return _bundle(work)


def _note_switches(message: Message, notes: Notes) -> None:
    """Say where a text could not be read that switches to another character set."""
    holds = message.separators.still_switches
    for segment in message.segments[1:]:
        for number in range(1, len(segment.fields) + 1):
            values = segment.values(number)
            if any(holds(text) for value in values for parts in value.components for text in parts):
                notes.add(Code.TABLE_VALUE, segment.at(number), _SWITCHES)


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
    event = " ".join(event.split())
    if not event:
        raise Hl7Problem(Code.UNSUPPORTED_EVENT, at, "MSH-9 names no trigger event.")
    return event


def _insist_on_patient(message: Message, notes: Notes) -> None:
    """Insist that whose orders, results or document it tells is said before them, if at all.

    Raises:
        Hl7Problem: It is said after them, so they would be taken for nobody's.
    """
    if message.kind not in _OF_PATIENTS:
        return
    first = next((each for each in message.segments if each.name in _PATIENT_OR_HERS), None)
    if first is None or first.name == "PID":
        return
    if message.first("PID") is not None:
        says = f"{first.name} stands before PID, so nobody knows whose it is. Send PID before it."
        raise Hl7Problem(Code.SEGMENT_SEQUENCE, Place("PID"), says)
    says = (
        f"There is no PID, so {first.name} is kept as nobody's, and no model runs. Send a PID "
        "before it, with the patient's number in PID-3."
    )
    notes.add(Code.SEGMENT_SEQUENCE, Place("PID"), says)


def _bundle(work: Work) -> Converted:
    kept: list[tuple[Json, Place]] = []
    for made in work.made:
        content = finished(made.content, work.sent.at, work.subject)
        if content is None:
            says = "It stands before any PID and was left out."
            work.notes.add(Code.SEGMENT_SEQUENCE, made.place, says)
        else:
            kept.append((content, made.place))
    header = (_header(work), Place("MSH"))
    evidence = [(each, Place("MSH")) for each in _evidence(work, [each for each, _ in kept])]
    listed = [header, *kept, *evidence]
    # Without a time of its own a message that is sent again has to be the same version still.
    moment = {"lastUpdated": work.sent.at} if work.sent.is_dated else {}
    meta = {**moment, "versionId": version_of(work.raw), "source": work.origin.address}
    entries = [
        {
            "fullUrl": f"{work.origin.address}/{content['resourceType']}/{content['id']}",
            "resource": {**content, "meta": meta},
        }
        for content, _ in listed
    ]
    bundle = {"resourceType": "Bundle", "type": "message", "timestamp": work.sent.at}
    raw = orjson.dumps({**bundle, "entry": entries})
    places = tuple(place for _, place in listed)
    return Converted(raw, tuple(work.notes.found), places, work.sent.is_ahead)


def _header(work: Work) -> Json:
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


def _evidence(work: Work, contents: list[Json]) -> list[Json]:
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
        "recorded": work.sent.at,
        "agent": [{"who": {"type": "Device", "display": sender or work.origin.feed}}],
        "entity": [{"role": "source", "what": {"reference": f"Binary/{name}"}}],
    }
    return [binary, provenance]
