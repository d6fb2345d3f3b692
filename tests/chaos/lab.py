"""The laboratory of a run: it sends results as HL7 v2 messages, again until they are acknowledged.

An acknowledgement names no event. So the event of a message is found by whom it is about and its
clinical time, which no other result of a story has.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from adapters.hl7v2.sender import Acknowledgement, NoAnswer, acknowledgement, connected
from tests.chaos.expected import Acknowledged, Expected

_SYSTEM = """\
systems:
  lab:
    kind: hl7v2
    title: the laboratory
    # Its numbers are the EHR's ids of patients.
    patients: {{of: ehr, identifier: "https://hospital.example/mrn", find: id}}
    receive:
      - mllp: {{port: {port}, timezone: Asia/Kolkata}}
"""
_ORU = """\
MSH|^~\\&|LIS|LABORATORY|NADI|HOSPITAL|{sent}||ORU^R01^ORU_R01|{control_id}|P|2.5.1
PID|1||{patient}^^^^MR||{name}^Given|||F
OBR|1|P-{order}|F-{order}|24323-8^Metabolic panel^LN|||{at}|||||||||||||||{at}|||F
OBX|1|NM|2160-0^Creatinine^LN||{value!r}|mg/dL^^UCUM|||||F|||{at}
"""
_ANSWER_WITHIN_S = 10.0


@dataclass(frozen=True)
class Message:
    """One result as a message.

    Attributes:
        control_id: MSH-10, the same whenever it is sent.
        at: Its clinical time, FHIR dateTime.
    """

    control_id: str
    patient_id: str
    at: str
    content: bytes


@dataclass(frozen=True)
class Sent:
    """A message that was sent until it was acknowledged, or given up.

    Attributes:
        is_acknowledged: Whether MSA-1 said AA.
    """

    message: Message
    expected: Expected
    is_acknowledged: bool


def add_lab(site: str, port: int) -> str:
    """Give a site file with the laboratory, which sends to a port."""
    before, after = site.split("systems:\n", 1)
    return f"{before}{_SYSTEM.format(port=port)}{after}"


def write_site(site: str, folder: Path, port: int) -> Path:
    """Write a site file with the laboratory."""
    file = folder / "site-with-lab.yaml"
    file.write_text(add_lab(site, port), encoding="utf-8")
    return file


def oru(
    resource: Mapping[str, Any], *, control_id: str, name: str, at: datetime, sent: datetime
) -> Message:
    """Write a creatinine as an ORU message.

    Args:
        resource: The Observation.
        control_id: MSH-10.
        name: Of the patient's family.
        at: Its clinical time, in place of the resource's.
        sent: MSH-7.
    """
    patient = str(resource["subject"]["reference"]).partition("/")[2]
    content = _ORU.format(
        control_id=control_id,
        patient=patient,
        name=name,
        order=resource["id"],
        value=resource["valueQuantity"]["value"],
        at=f"{at:%Y%m%d%H%M%S%z}",
        sent=f"{sent:%Y%m%d%H%M%S%z}",
    )
    return Message(control_id, patient, at.isoformat(), content.replace("\n", "\r").encode())


def exchanged(message: Message, port: int) -> Acknowledgement:
    """Send a message once; give what was answered.

    Raises:
        NoAnswer: Nothing, or something that answers another message.
    """
    with connected("127.0.0.1", port, timeout_s=_ANSWER_WITHIN_S) as sender:
        (answer,) = sender.send(message.content)
    said = acknowledgement(answer)
    if said.of != message.control_id:
        raise NoAnswer("What came answers another message.")
    return said


@dataclass(frozen=True)
class Located:
    """The events of messages.

    Attributes:
        acknowledged: One for each message that was acknowledged; of the others those that are
            there all the same: what is there has to come to a right end.
        answers: By message all events that it became.
    """

    acknowledged: Sequence[Acknowledged]
    answers: Mapping[str, set[str]]


def locate(
    sent: Sequence[Sent], events: Iterable[Mapping[str, Any]], pushed: Sequence[Acknowledged]
) -> Located:
    """Find the events of messages.

    Args:
        sent: The messages.
        events: Rows of all events.
        pushed: What was acknowledged otherwise: at least one event of each patient.
    """
    rows = {row["id"]: row for row in events}
    key_of = {
        each.patient_id: rows[each.event_id]["patient_key"]
        for each in pushed
        if each.event_id in rows
    }
    others = {each.event_id for each in pushed}
    found: dict[tuple[str, int], set[str]] = defaultdict(set)
    for row in rows.values():
        if row["resource_type"] == "Observation" and row["id"] not in others:
            found[row["patient_key"], row["effective_ms"]].add(row["id"])
    acknowledged, answers = [], {}
    for each in sent:
        message = each.message
        moment_ms = int(datetime.fromisoformat(message.at).timestamp() * 1000)
        ids = found.get((key_of.get(message.patient_id, ""), moment_ms), set())
        named = sorted(ids)[:1] or ([f"of {message.control_id}"] if each.is_acknowledged else [])
        acknowledged += [
            Acknowledged(event_id, message.patient_id, each.expected, message.at)
            for event_id in named
        ]
        if ids:
            answers[f"message/{message.control_id}"] = ids
    return Located(acknowledged, answers)
