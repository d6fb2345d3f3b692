"""The answers of a result as the fields of OBX segments: code, value, unit, range, flags, status.

The result itself comes first, unless it is a panel and has no value of its own; its components
follow, each in an OBX.

Source: HL7 v2.5.1 7.4.2 OBX; tables 0078, 0085, 0123, 0125.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adapters.hl7v2.tables import system_name
from adapters.hl7v2.writing import composite, moment, number, repeated, text

Json = Mapping[str, Any]

_ABSENT = "X"
_WRONG = "W"
#: OBX-11 by ObservationStatus.
_STATUS = {
    "preliminary": "P",
    "final": "F",
    "corrected": "C",
    "amended": "C",
    "registered": "I",
    "cancelled": "X",
    "entered-in-error": "W",
}
#: OBR-25 where table 0123 lacks a code of table 0085.
_OF_REPORT = {"W": "C"}
#: Longest ST.
_SHORT = 199


@dataclass(frozen=True)
class Part:
    """One answer.

    Attributes:
        fields: Of its OBX, by number, each written already.
    """

    fields: dict[int, str]

    def retracted(self) -> "Part":
        """Give it as one that must not be used any more, and without its value."""
        return Part({3: self.fields[3], 11: _WRONG})


def answers_of(observation: Json) -> list[Part]:
    """Give the answers of an Observation, the chief one first."""
    status = _STATUS.get(str(observation["status"]), "P")
    found = [_part(each, status) for each in observation.get("component") or ()]
    is_panel = bool(found) and _value(observation) is None and "dataAbsentReason" not in observation
    return found if is_panel else [_part(observation, status), *found]


def status_of(observation: Json) -> str:
    """Give OBR-25."""
    found = _STATUS.get(str(observation["status"]), "P")
    return _OF_REPORT.get(found, found)


def code_field(concept: Json) -> str:
    """Write a CodeableConcept: what it is called stands beside the first code (CE.2).

    Of several codes the first two have room in a CE.
    """
    called = str(concept.get("text", ""))
    first, second = [*(concept.get("coding") or ()), {}, {}][:2]
    named = called or str(first.get("display", ""))
    other = str(second.get("display", "")) if second else ""
    components = [*_coded(first, named), *_coded(second, other)]
    return composite(*components)


def interval(observation: Json) -> tuple[str, str]:
    """Give when it was true of the patient: begin and end, as far as they are known."""
    period = observation.get("effectivePeriod") or {}
    at = observation.get("effectiveDateTime") or observation.get("effectiveInstant")
    began, ended = at or period.get("start") or period.get("end"), period.get("end")
    return moment(str(began or "")), moment(str(ended or ""))


def _coded(coding: Json, called: str) -> tuple[str, str, str]:
    code = str(coding.get("code", ""))
    return code, called, system_name(str(coding.get("system", ""))) if code else ""


def _part(answer: Json, status: str) -> Part:
    value = _value(answer)
    kind, written, unit = value or ("", "", "")
    fields = {
        2: kind,
        3: code_field(answer["code"]),
        5: written,
        6: unit,
        7: _range(answer),
        8: _flags(answer),
        11: status if value else _ABSENT,
    }
    return Part(fields)


def _value(answer: Json) -> tuple[str, str, str] | None:
    """Give type, value and unit; None where there is no value."""
    quantity, concept = answer.get("valueQuantity"), answer.get("valueCodeableConcept")
    if quantity is not None:
        return _quantity(quantity)
    if concept is not None:
        return "CWE", _original(concept), ""
    words = answer.get("valueString")
    if words is None:
        return None
    written = text(str(words))
    is_short = len(written) <= _SHORT and "\n" not in str(words)
    return "ST" if is_short else "FT", written, ""


def _quantity(quantity: Json) -> tuple[str, str, str]:
    value, bound = number(quantity["value"]), quantity.get("comparator")
    code, unit = str(quantity.get("code", "")), str(quantity.get("unit", ""))
    system = system_name(str(quantity.get("system", ""))) if code else ""
    named = composite(code or unit, unit, system)
    return ("SN", composite(str(bound), value), named) if bound else ("NM", value, named)


def _original(concept: Json) -> str:
    """Write a CodeableConcept as a CWE: its ninth component is how it was said."""
    codings = [*(concept.get("coding") or ()), {}, {}][:2]
    parts = [part for c in codings for part in _coded(c, str(c.get("display", "")))]
    return composite(*parts, "", "", str(concept.get("text", "")))


def _range(answer: Json) -> str:
    listed = answer.get("referenceRange") or ()
    return repeated([_bounds(each) for each in listed][:1])


def _bounds(each: Json) -> str:
    low, high = (each.get(name, {}).get("value") for name in ("low", "high"))
    if low is None and high is None:
        return composite(str(each.get("text", "")))
    if high is None:
        return composite(f">={number(low)}")
    return composite(f"<={number(high)}" if low is None else f"{number(low)}-{number(high)}")


def _flags(answer: Json) -> str:
    """Write OBX-8: the codes of table 0078, which are those of FHIR."""
    codings = [c for each in answer.get("interpretation") or () for c in each.get("coding") or ()]
    return repeated([composite(str(coding["code"])) for coding in codings if coding.get("code")])
