"""A result as an HL7 v2.5.1 message, ORU^R01, for a system that takes no FHIR.

* The same result gives the same bytes, and with them the same MSH-10 and OBR-3: who receives it
  twice can tell. That it must not be used any more is a message of its own, under the same OBR-3.
* Nobody reviewed it: OBR-25 and OBX-11 say P. Where there is no value, OBX-11 says X, and a note
  why. One that must not be used any more says W in OBX-11 and C in OBR-25, without its value.
* That an AI made it stands where people look: in OBX-3 and OBR-4, in the note of each OBX, and as
  AIAST with the model's name in OBX-17. The model itself is the equipment of OBX-18.
* Of the patient stand there the number, name, birth date and sex, and nothing else.

Source: HL7 v2.5.1 2.15.9 MSH, 3.4.2 PID, 7.3.1 ORU^R01, 7.4.1 OBR, 7.4.2 OBX, 2.15.10 NTE.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

from adapters.hl7v2.addressed import Addressed
from adapters.hl7v2.charsets import CODECS
from adapters.hl7v2.oru_results import Part, answers_of, code_field, interval, status_of
from adapters.hl7v2.writing import SEPARATORS, composite, moment, nested, segment
from gateway.core.errors import ProcessingError
from gateway.core.findings import DIGEST_SYSTEM, RESULT_SYSTEM, Report
from gateway.core.result_carriers import with_ai_note, words_of
from gateway.core.result_terms import AIAST, instant

Json = dict[str, Any]

_VERSION = "2.5.1"
_KIND = ("ORU", "R01", "ORU_R01")
#: Longest MSH-10 of version 2.5.1.
_CONTROL_ID = 20
_NADI = "NADI"
_SEX = {"female": "F", "male": "M", "other": "O", "unknown": "U"}
_NAME_UNKNOWN = ("", "", "", "", "", "", "U")
#: The filler, a laboratory or a machine, is who comments (table 0105).
_FILLER = "L"
_REMARK = ("RE", "Remark", "HL70364")
_UNIVERSAL = {"urn:oid:": "ISO", "urn:uuid:": "UUID"}


class NotSendable(ProcessingError):
    """The result can't be put into such a message; the message of the error says why."""


@dataclass(frozen=True)
class Oru:
    """A message.

    Attributes:
        control_id: Its MSH-10.
        content: Its bytes.
    """

    control_id: str
    content: bytes


def result_message(report: Report, patient: Json, to: Addressed) -> Oru:
    """Write a result.

    Args:
        report: The result.
        patient: The Patient whom it is about.
        to: Who receives it.

    Raises:
        NotSendable: The patient has no number that the receiver knows, or the text has characters
            that the character set lacks.
    """
    observation = report.observation
    parts = answers_of(observation)
    segments = [_obr(report, observation, status_of(observation))]
    notes = [*_told(observation)]
    if not parts:
        segments += _notes(notes)
    for at, part in enumerate(parts, 1):
        segments.append(_obx(report, part, at))
        segments += _notes(notes if at == 1 else notes[:1])
    control_id = _control_id(report.identifier)
    head = _msh(to, control_id, str(observation["issued"]))
    return _message(control_id, [head, _pid(patient, to), *segments], to)


def retraction_message(
    report: Report, patient: Json, to: Addressed, *, at: datetime, words: str
) -> Oru:
    """Write that a result must not be used any more.

    Args:
        report: The result.
        patient: The Patient whom it is about.
        to: Who received it.
        at: When it was ordered.
        words: That it must not be used, and why.

    Raises:
        NotSendable: As of a result.
    """
    observation = report.observation
    segments = [_obr(report, observation, "C")]
    for index, part in enumerate(answers_of(observation), 1):
        segments.append(_obx(report, part.retracted(), index))
        segments += _notes([words])
    control_id = _control_id(report.identifier, "retracted")
    head = _msh(to, control_id, instant(at))
    return _message(control_id, [head, _pid(patient, to), *segments], to)


def _message(control_id: str, segments: Sequence[str], to: Addressed) -> Oru:
    written = "".join(f"{each}\r" for each in segments)
    try:
        return Oru(control_id, written.encode(CODECS[to.charset.upper()]))
    except UnicodeEncodeError as error:
        words = f"Its text has characters that {to.charset} lacks."
        raise NotSendable(words) from error


def _control_id(*of: str) -> str:
    """Give the same control id for the same cause: who receives it can tell a repeat."""
    return sha256("|".join(of).encode()).hexdigest()[:_CONTROL_ID].upper()


def _msh(to: Addressed, control_id: str, at: str) -> str:
    fields = {
        2: composite(to.as_application),
        3: composite(to.as_facility),
        4: composite(to.application),
        5: composite(to.facility),
        6: moment(at),
        8: composite(*_KIND),
        9: control_id,
        10: to.processing_id,
        11: _VERSION,
        17: composite(to.charset),
    }
    # MSH-1 is the mark that divides fields: the first field that is written is MSH-2.
    return segment("MSH", {1: SEPARATORS.encoding, **fields})


def _pid(patient: Json, to: Addressed) -> str:
    fields = {
        1: "1",
        3: nested((_number(patient, to),), (), (), _authority(to), ("MR",)),
        5: composite(*_name(patient)),
        7: moment(str(patient.get("birthDate", ""))),
        8: composite(_SEX.get(str(patient.get("gender")), "U")),
    }
    return segment("PID", fields)


def _number(patient: Json, to: Addressed) -> str:
    listed = patient.get("identifier")
    for each in listed if isinstance(listed, list) else ():
        if each.get("system") == to.numbers and each.get("value") and each.get("use") != "old":
            return str(each["value"])
    raise NotSendable(f"The Patient has no identifier of {to.numbers}.")


def _authority(to: Addressed) -> tuple[str, ...]:
    """Name who assigns the numbers (HD)."""
    if to.authority:
        return (to.authority,)
    for begins, kind in _UNIVERSAL.items():
        if to.numbers.startswith(begins):
            return ("", to.numbers.removeprefix(begins), kind)
    return ("", to.numbers, "URI")


def _name(patient: Json) -> tuple[str, ...]:
    """Give the name that the patient goes by (XPN)."""
    listed = [
        each for each in patient.get("name") or () if each.get("use") not in ("old", "maiden")
    ]
    best: Json = min(listed, key=lambda each: each.get("use") != "official", default={})
    family = str(best.get("family") or best.get("text") or "")
    first, *others = [*map(str, best.get("given") or ()), ""]
    if not family and not first:
        return _NAME_UNKNOWN
    return (family, first, " ".join(filter(None, others)), "", "", "", "L")


def _obr(report: Report, observation: Json, status: str) -> str:
    began, ended = interval(observation)
    fields = {
        1: "1",
        3: _named(report.identifier, RESULT_SYSTEM),
        4: code_field(observation["code"]),
        7: began,
        8: ended,
        22: moment(str(observation["issued"])),
        25: status,
    }
    return segment("OBR", fields)


def _obx(report: Report, part: Part, at: int) -> str:
    observation = report.observation
    digest = str(report.device["identifier"][0]["value"])
    method = str((observation.get("method") or {}).get("text", ""))
    fields = {
        1: str(at),
        **part.fields,
        4: str(at),
        14: interval(observation)[0],
        17: composite(AIAST["code"], method or AIAST["display"], "99NADI"),
        18: _named(digest, DIGEST_SYSTEM),
        19: moment(str(observation["issued"])),
    }
    return segment("OBX", fields)


def _named(value: str, system: str) -> str:
    """Write an identifier (EI)."""
    return composite(value, _NADI, system, "URI")


def _told(observation: Json) -> Iterator[str]:
    """Give what people read beside the value: that an AI made it, the words, the limits."""
    first, *notes = with_ai_note(observation)["note"]
    yield str(first["text"])
    words = words_of(observation)
    yield words
    absent: Mapping[str, Any] = observation.get("dataAbsentReason") or {}
    for each in (absent.get("text"), *(note.get("text") for note in notes)):
        if each and str(each) not in words:
            yield str(each)


def _notes(texts: Sequence[str]) -> Iterator[str]:
    for at, each in enumerate((text for text in texts if text), 1):
        fields = {1: str(at), 2: _FILLER, 3: composite(each), 4: composite(*_REMARK)}
        yield segment("NTE", fields)
