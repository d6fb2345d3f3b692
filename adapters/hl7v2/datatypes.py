"""Data types of HL7 v2 as those of FHIR: one repetition of a field gives one value, or none.

What can't be read is left out and noted, so that the sender is told; nothing is guessed.

Source: HL7 v2-to-FHIR, data type maps.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from adapters.hl7v2 import times
from adapters.hl7v2.dialect import Dialect, Notes
from adapters.hl7v2.message import Value
from adapters.hl7v2.problems import Code, Place
from adapters.hl7v2.tables import code_map, code_system

Json = dict[str, Any]

_IDENTIFIER_TYPES = "http://terminology.hl7.org/CodeSystem/v2-0203"
_PARTICIPATION = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
_ACT = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
_INTERPRETATION = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"
_SSN = "http://hl7.org/fhir/sid/us-ssn"
_BOOLEANS = {"Y": True, "N": False}
#: Universal id types, and how their ids begin as a URI.
_UNIVERSAL = {"ISO": "urn:oid:", "UUID": "urn:uuid:", "GUID": "urn:uuid:", "URI": "", "URL": ""}

_SPECIMEN_SOURCES = "HL70070"
_UNBROKEN = re.compile(r"[!-~]+")


@dataclass(frozen=True)
class Reading:
    """What a conversion needs besides the value.

    Attributes:
        place: Where the value stands, for what is noted.
    """

    dialect: Dialect
    notes: Notes
    place: Place

    def unread(self, code: Code, says: str) -> None:
        """Note that something was left out."""
        self.notes.add(code, self.place, says)


Conversion = Callable[[Value, str, Reading], Any]


def _text(value: Value, _argument: str, _reading: Reading) -> str | None:
    return value.text() or None


def _boolean(value: Value, _argument: str, reading: Reading) -> bool | None:
    found = _BOOLEANS.get(value.text().upper())
    if found is None:
        reading.unread(Code.TABLE_VALUE, "It is neither Y nor N and was left out.")
    return found


def _integer(value: Value, _argument: str, reading: Reading) -> int | None:
    text = value.text()
    if text.isascii() and text.isdecimal() and 0 < int(text) < 2**31:
        return int(text)
    reading.unread(Code.DATA_TYPE, "It is no positive number and was left out.")
    return None


def _time(write: Callable[[str, Reading], str]) -> Conversion:
    def convert(value: Value, _argument: str, reading: Reading) -> str | None:
        try:
            return write(value.text(), reading)
        except times.NoTime:
            reading.unread(Code.DATA_TYPE, "It is no date or time and was left out.")
            return None

    return convert


def _code(value: Value, table: str, reading: Reading) -> str | None:
    known = code_map(table)
    found = known.get(value.text()) or known.get(value.text().upper())
    if found is None:
        reading.unread(Code.TABLE_VALUE, "It is no code of its table and was left out.")
    return found


def _coding(value: Value, table: str, reading: Reading) -> Json | None:
    code = _code(value, table, reading)
    return {"system": _ACT, "code": code} if code else None


def concept(value: Value, system: str, reading: Reading) -> Json | None:
    """Give a CodeableConcept of a CWE, CE or CNE; a local code gets its LOINC code beside it.

    Args:
        value: The field.
        system: Name of the coding system where the message names none.
        reading: How the feed writes.
    """
    codings = [_coding_at(value, first, system, reading) for first in (1, 4, 10)]
    found = [coding for coding in codings if coding]
    for coding in list(found):
        key = (coding.get("system", ""), coding.get("code", ""))
        loinc = reading.dialect.local_codes.get(key)
        if loinc and not any((c.get("system"), c.get("code")) == loinc for c in found):
            found.append({"system": loinc[0], "code": loinc[1]})
    text = value.text(9)
    made = {"coding": found} if found else {}
    return _without_nothing({**made, "text": text or _plain(value, found)}) or None


def _plain(value: Value, found: list[Json]) -> str:
    """Give the text of a concept that has a text and no code."""
    return "" if found else value.text(2) or value.text(5)


def _coding_at(value: Value, first: int, system: str, reading: Reading) -> Json | None:
    code, display, name = (value.text(first + each) for each in range(3))
    if not code:
        return None
    known = reading.dialect.code_systems
    named = name or (system if first == 1 else "")
    uri = known.get(named) or code_system(named)
    return _without_nothing({"system": uri, "code": _as_code(code), "display": display})


def _as_code(text: str) -> str:
    """Write a code as FHIR does: with single spaces."""
    return " ".join(text.split())


def _concept_text(value: Value, _argument: str, reading: Reading) -> Json | None:
    """Give a concept where senders write plain text into its first component."""
    made = concept(value, "", reading)
    coding = (made or {}).get("coding", [{}])[0]
    if set(coding) == {"code"}:
        return {"text": coding["code"]}
    return made


def _interpretation(value: Value, _argument: str, _reading: Reading) -> Json | None:
    code, system = value.text(), value.text(3)
    uri = code_system(system) if system else _INTERPRETATION
    if uri and uri.endswith("v2-0078"):
        uri = _INTERPRETATION
    made = _without_nothing({"system": uri, "code": _as_code(code), "display": value.text(2)})
    return {"coding": [made]} if code else None


def authority(value: Value, reading: Reading) -> str | None:
    """Give the URI of an assigning authority (HD), by its name here or its universal id."""
    name, universal, kind = value.text(1), value.text(2), value.text(3).upper()
    known = reading.dialect.authorities
    if name in known or universal in known:
        return known.get(name) or known.get(universal)
    begins = _UNIVERSAL.get(kind)
    is_uri = begins is not None and _UNBROKEN.fullmatch(universal)
    return f"{begins}{universal}" if is_uri else None


def identifier(value: Value, kind: str, reading: Reading) -> Json | None:
    """Give an Identifier of a CX."""
    number = value.text()
    if not number:
        return None
    code = _as_code(value.text(5)) or kind
    period = {name: _day(value.text(at)) for name, at in (("start", 7), ("end", 8))}
    return _without_nothing(
        {
            "type": {"coding": [{"system": _IDENTIFIER_TYPES, "code": code}]} if code else None,
            "system": authority(value.component(4), reading),
            "value": number,
            "period": times.in_order(_without_nothing(period)),
        }
    )


def _ssn(value: Value, _argument: str, _reading: Reading) -> Json | None:
    kind = {"coding": [{"system": _IDENTIFIER_TYPES, "code": "SS"}]}
    return {"type": kind, "system": _SSN, "value": value.text()} if value.text() else None


def entity(value: Value, kind: str, reading: Reading) -> Json | None:
    """Give an Identifier of an EI."""
    if not value.text():
        return None
    named = Value(((value.text(2),), (value.text(3),), (value.text(4),)))
    return _without_nothing(
        {
            "type": {"coding": [{"system": _IDENTIFIER_TYPES, "code": kind}]} if kind else None,
            "system": authority(named, reading),
            "value": value.text(),
        }
    )


def _pair(value: Value, component: str, reading: Reading) -> Json | None:
    """Give an Identifier of an EIP: component 1 is the placer's, component 2 the filler's."""
    number = int(component)
    return entity(value.component(number), "PLAC" if number == 1 else "FILL", reading)


def _name(value: Value, _argument: str, _reading: Reading) -> Json | None:
    given = [text for text in (value.text(2), *value.text(3).split()) if text]
    made = _without_nothing(
        {
            "use": code_map("name-use").get(value.text(7)),
            "family": value.text(1),
            "given": given,
            "prefix": [value.text(5)] if value.text(5) else [],
            "suffix": [text for text in (value.text(4), value.text(6)) if text],
        }
    )
    return made if set(made) - {"use"} else None


def _address(value: Value, _argument: str, _reading: Reading) -> Json | None:
    kind = value.text(7)
    made = _without_nothing(
        {
            "use": code_map("address-use").get(kind),
            "type": code_map("address-type").get(kind),
            "line": [text for text in (value.text(1), value.text(2), value.text(8)) if text],
            "city": value.text(3),
            "state": value.text(4),
            "postalCode": value.text(5),
            "country": value.text(6),
            "district": value.text(9),
        }
    )
    return made if set(made) - {"use", "type"} else None


def _telecom(value: Value, use: str, _reading: Reading) -> Json | None:
    # Before version 2.7 the number, or the mail address, may be in one of three components.
    mail, number = value.text(4), value.text(12) or value.text(1)
    if not (mail or number) and value.text(7):
        parts = (value.text(at) for at in (5, 6, 7))
        number = " ".join(part for part in parts if part)
    if not mail and not number:
        return None
    kind = code_map("contact-system").get(value.text(3), "phone")
    return _without_nothing(
        {
            "system": "email" if mail and not number else kind,
            "value": number or mail,
            "use": code_map("contact-use").get(value.text(2)) or use,
        }
    )


def _person(value: Value, _argument: str, reading: Reading) -> Json | None:
    """Give a reference to a person (XCN): who is named, not a resource that is nowhere."""
    words = (value.text(6), value.text(3), value.text(4), value.text(2), value.text(5))
    display = " ".join(word for word in words if word)
    number = value.text()
    named = {"system": authority(value.component(9), reading), "value": number}
    made = {"identifier": _without_nothing(named) if number else None, "display": display}
    return _reference("Practitioner", made)


def _participant(value: Value, role: str, reading: Reading) -> Json | None:
    individual = _person(value, "", reading)
    if not role:
        return individual
    kind = [{"coding": [{"system": _PARTICIPATION, "code": role}]}]
    return {"type": kind, "individual": individual} if individual else None


def _organization(value: Value, _argument: str, reading: Reading) -> Json | None:
    number = value.text(10) or value.text(3)
    named = {"system": authority(value.component(6), reading), "value": number}
    # Where a CWE stands instead of an XON, its text is the name.
    display = value.text(1) if value.text(10) or not value.text(2) else value.text(2)
    made = {"identifier": _without_nothing(named) if number else None, "display": display}
    return _reference("Organization", made)


def _location(value: Value, _argument: str, _reading: Reading) -> Json | None:
    parts = (value.text(at) for at in (4, 7, 8, 1, 2, 3, 9))
    return _reference("Location", {"display": ", ".join(part for part in parts if part)})


def _discharged_to(value: Value, _argument: str, _reading: Reading) -> Json | None:
    return _reference("Location", {"display": value.text(1)})


def _named(value: Value, _argument: str, _reading: Reading) -> Json | None:
    return _reference("", {"display": value.text(2) or value.text(1)})


def _device(value: Value, _argument: str, reading: Reading) -> Json | None:
    made = {"identifier": entity(value, "", reading)}
    return _reference("Device", made)


def _source(value: Value, component: str, reading: Reading) -> Json | None:
    """Give a concept of an SPS, a specimen's source: what, from where, by which method."""
    number = int(component)
    return concept(value.component(number), _SPECIMEN_SOURCES if number == 1 else "", reading)


def _parent(value: Value, _argument: str, reading: Reading) -> Json | None:
    """Name the specimen from which another was taken (EIP): by the filler's number first."""
    filler, placer = (_pair(value, component, reading) for component in ("2", "1"))
    return _reference("Specimen", {"identifier": filler or placer})


def _reference(kind: str, made: Mapping[str, Any]) -> Json | None:
    found = _without_nothing(made)
    return {"type": kind, **found} if found and kind else found or None


def _day(text: str) -> str:
    try:
        return times.date(text) if text else ""
    except times.NoTime:
        return ""


def _planned(at: int) -> Conversion:
    def convert(value: Value, _argument: str, reading: Reading) -> Any:  # noqa: ANN401
        written = Value(((value.text(at),),))
        return CONVERSIONS["instant"](written, "", reading) if written else None

    return convert


def _without_nothing(made: Mapping[str, Any]) -> Json:
    return {name: value for name, value in made.items() if value not in (None, "", [], {})}


CONVERSIONS: Mapping[str, Conversion] = {
    "text": _text,
    "boolean": _boolean,
    "integer": _integer,
    "date": _time(lambda text, _reading: times.date(text)),
    "dateTime": _time(lambda text, reading: times.date_time(text, reading.dialect.zone)),
    "instant": _time(lambda text, reading: times.instant(text, reading.dialect.zone)),
    "time": _time(lambda text, _reading: times.time(text)),
    "code": _code,
    "coding": _coding,
    "CWE": concept,
    "CWE-reference": _named,
    "concept-text": _concept_text,
    "interpretation": _interpretation,
    "CX": identifier,
    "EI": entity,
    "EI-device": _device,
    "EIP": _pair,
    "EIP-specimen": _parent,
    "SPS": _source,
    "ssn": _ssn,
    "XPN": _name,
    "XAD": _address,
    "XTN": _telecom,
    "XCN": _participant,
    "XON": _organization,
    "PL": _location,
    "DLD": _discharged_to,
    "TQ-start": _planned(4),
    "TQ-end": _planned(5),
}
