"""What the sender of a message is told.

* Original mode (MSH-15 and MSH-16 empty): one acknowledgement, AA, AE or AR.
* Enhanced mode: an accept acknowledgement (CA, CE, CR) where MSH-15 asks for it, and after it an
  application acknowledgement where MSH-16 does, both on the connection the message came by.
* AE and CE: the content has to be mended. AR and CR: mending it does not help.
* MSA-2 is MSH-10 to the letter: a sender may compare the whole field.
* An ERR segment says what is wrong and where; in a message that was taken, with severity W, what of
  it was left out.

Source: HL7 v2.9 2.9.2, 2.9.3, 2.15.5 ERR, 2.15.8 MSA; tables 0008, 0155, 0357, 0516.
"""

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from adapters.hl7v2.dialect import Note
from adapters.hl7v2.escapes import Separators
from adapters.hl7v2.message import Message
from adapters.hl7v2.problems import TEXTS, Hl7Problem

_TAKEN, _ERROR, _REJECTED = "A", "E", "R"
#: First version whose ERR says what is wrong in fields of their own.
_ERR_BY_FIELDS = (2, 5)
_VERSION = re.compile(r"([0-9])\.([0-9]{1,2})(?![0-9])")
_UTF_8 = "UNICODE UTF-8"
_MOST_TEXT = 250


@dataclass(frozen=True)
class Outcome:
    """What became of a message.

    Attributes:
        code: `A`, `E` or `R`, the second letter of table 0008.
        notes: What was wrong, or what was left out.
    """

    code: str = _TAKEN
    notes: tuple[Note, ...] = ()

    @property
    def is_taken(self) -> bool:
        """Whether it is stored."""
        return self.code == _TAKEN


def refused(problem: Hl7Problem) -> Outcome:
    """Give the outcome of a message that has a problem."""
    note = Note(problem.code, problem.place, problem.message)
    return Outcome(_REJECTED if problem.is_rejected else _ERROR, (note,))


def acknowledgements(message: Message | None, outcome: Outcome, now: datetime) -> list[bytes]:
    """Give what the sender is sent, in order; nothing where it asked for nothing.

    Args:
        message: What it sent, or its header alone; None where not even that could be read.
        outcome: What became of it.
        now: The present, in the zone of the feed.
    """
    return [_written(message, kind, outcome, now) for kind in _kinds(message, outcome)]


def _kinds(message: Message | None, outcome: Outcome) -> list[str]:
    accept, application = (message.header.text(at) if message else "" for at in (15, 16))
    if not accept and not application:
        return ["A"]
    wanted = (("C", accept), ("A", application))
    return [kind for kind, condition in wanted if _is_wanted(condition, outcome)]


def _is_wanted(condition: str, outcome: Outcome) -> bool:
    """Decide by table 0155; what is not in it is taken as "always"."""
    if condition in {"", "NE"}:
        return False
    return outcome.is_taken if condition == "SU" else condition != "ER" or not outcome.is_taken


def _written(message: Message | None, kind: str, outcome: Outcome, now: datetime) -> bytes:
    separators = message.separators if message else Separators()
    version = message.header.text(12) if message else ""
    by_fields = _version(version) >= _ERR_BY_FIELDS
    segments = [_header(message, separators, now), _answer(message, kind, outcome, separators)]
    segments += [_err(note, outcome, separators, by_fields=by_fields) for note in outcome.notes]
    text = "\r".join(segments) + "\r"
    return text.encode("utf-8")


def _header(message: Message | None, separators: Separators, now: datetime) -> str:
    """Write MSH; what is repeated of the sender's stands there as it was sent."""

    def sent(field: int, otherwise: str = "") -> str:
        says = message is not None and bool(message.header.value(field))
        return message.as_sent(field) if message and says else otherwise

    event = separators.escaped(message.event) if message else ""
    kind = separators.component.join(["ACK", event, "ACK"]) if event else "ACK"
    moment = now.strftime("%Y%m%d%H%M%S%z")
    fields = [
        *("MSH", separators.encoding, *map(sent, (5, 6, 3, 4)), moment, "", kind),
        *(secrets.token_hex(10), sent(11, "P"), sent(12, "2.5.1")),
    ]
    if not "".join([*fields, sent(10)]).isascii():
        fields += ["", "", "", "", "", _UTF_8]
    return separators.field.join(fields)


def _answer(message: Message | None, kind: str, outcome: Outcome, separators: Separators) -> str:
    control_id = message.control_id if message else ""
    return separators.field.join(["MSA", f"{kind}{outcome.code}", control_id])


def _err(note: Note, outcome: Outcome, separators: Separators, *, by_fields: bool) -> str:
    place = note.place
    where = [place.segment, str(place.sequence), *([str(place.field)] if place.field else [])]
    said = separators.escaped(note.says[:_MOST_TEXT])
    if not by_fields:
        code = separators.subcomponent.join([str(int(note.code)), said, "HL70357"])
        located = [*where, *([""] * (3 - len(where))), code]
        return separators.field.join(["ERR", separators.component.join(located)])
    code = separators.component.join([str(int(note.code)), TEXTS[note.code], "HL70357"])
    severity = "W" if outcome.is_taken else "E"
    fields = ["ERR", "", separators.component.join(where), code, severity, "", "", "", said]
    return separators.field.join(fields)


def _version(text: str) -> tuple[int, ...]:
    found = _VERSION.match(text)
    return tuple(map(int, found.groups())) if found else _ERR_BY_FIELDS


def batched(answers: Sequence[bytes], now: datetime, comment: str = "") -> bytes:
    """Put the acknowledgements of a batch into a batch; `comment` (BTS-2) is about the whole."""
    head = f"BHS|^~\\&|||||{now:%Y%m%d%H%M%S%z}\r".encode()
    said = f"|{comment}" if comment else ""
    return head + b"".join(answers) + f"BTS|{len(answers)}{said}\r".encode()
