"""The value of an OBX: by its type (OBX-2), its unit (OBX-6) and its repetitions.

A number keeps its text, `1.50` stays `1.50`. What is no number where one is announced is kept as
text: it is shown to people, and no model takes it for a number.

Source: HL7 v2-to-FHIR, segment map OBX[Observation].
"""

import base64
import binascii
import re
from collections.abc import Callable, Mapping

import orjson

from adapters.hl7v2.datatypes import CONVERSIONS, Json, Reading, concept
from adapters.hl7v2.message import Segment, Value
from adapters.hl7v2.problems import Code
from adapters.hl7v2.tables import code_map, code_system, is_address, ucum_spellings
from adapters.hl7v2.times import in_order

UCUM = "http://unitsofmeasure.org"

_NUMBER = re.compile(r"([+-]?)0*(\d*)(\.\d+)?\.?$")
_BOUND = re.compile(r"(<=|>=|<|>)\s*(.+)$")
_BETWEEN = re.compile(r"([0-9.]+)\s*(?:-|to)\s*([0-9.]+)$")
_LONGEST_NUMBER = 30
_TEXTS = frozenset({"ST", "TX", "FT", "ID", "SI", "NA", "CX", "XCN", "XPN", "XON", "XAD"})
_ATTACHMENTS = frozenset({"ED", "RP"})
_REPORT = 5


def number(text: str) -> orjson.Fragment | None:
    """Write a number as JSON does, digit by digit as it was written; None when it is none."""
    found = _NUMBER.match(text.strip()) if len(text) <= _LONGEST_NUMBER else None
    if found is None or not text.isascii() or not (found[2] or found[3] or "0" in text):
        return None
    sign = "-" if found[1] == "-" else ""
    return orjson.Fragment(f"{sign}{found[2] or '0'}{found[3] or ''}".encode())


def quantity(text: str, unit: Json) -> Json | None:
    """Give a Quantity of a number or of a bound such as `<5`; None when it is neither."""
    bound = _BOUND.match(text.strip())
    value = number(bound[2] if bound else text)
    if value is None:
        return None
    return {"value": value, **({"comparator": bound[1]} if bound else {}), **unit}


def unit_of(value: Value) -> Json:
    """Give the unit of a Quantity from OBX-6.

    A unit that is named as UCUM's, or spelt in a way that means one UCUM code, gets that code.
    """
    written, display, system = value.text(), value.text(2), value.text(3)
    if not written and not display:
        return {}
    if written and code_system(system) == UCUM:
        return {"unit": display or written, "system": UCUM, "code": written}
    ucum = ucum_spellings().get(" ".join(written.lower().split()))
    if ucum:
        return {"unit": display or written, "system": UCUM, "code": ucum}
    return {"unit": display or written}


def attachments(segment: Segment, reading: Reading) -> list[Json]:
    """Give what an OBX carries as a file (ED) or points at (RP)."""
    if segment.text(2) not in _ATTACHMENTS:
        return []
    title = segment.text(3, 2)
    give = _encapsulated if segment.text(2) == "ED" else _pointed_at
    found = (give(value, reading) for value in segment.values(_REPORT))
    return [{**each, **({"title": title} if title else {})} for each in found if each]


def put_value(observation: Json, segment: Segment, reading: Reading) -> None:
    """Put the value of an OBX into its Observation.

    Args:
        observation: It has its code already.
        segment: The OBX.
        reading: How the feed writes; its place is OBX-5.
    """
    values = segment.values(_REPORT)
    kind = segment.text(2)
    if not values or kind in _ATTACHMENTS:
        return
    if kind in _TEXTS or kind not in _READERS:
        text = "\n".join(filter(None, (_written(value) for value in values)))
        observation["valueString"] = text
        return
    made = [_READERS[kind](value, segment, reading) for value in values]
    found = [each for each in made if each]
    if len(found) == 1:
        observation.update(found[0])
    elif found:
        # Several values of one question: parts with its code, and no value beside them (obs-7).
        code = observation.get("code", {})
        observation["component"] = [{"code": code, **each} for each in found]


def put_range(observation: Json, segment: Segment) -> None:
    """Give the bounds of a reference range (OBX-7) that is written as `a-b`, `<b` or `>a`."""
    text, unit = segment.text(7).strip(), unit_of(segment.value(6))
    between, bound = _BETWEEN.match(text), _BOUND.match(text)
    ends = {}
    if between:
        ends = {"low": number(between[1]), "high": number(between[2])}
    elif bound:
        ends = {"high" if bound[1].startswith("<") else "low": number(bound[2])}
    found = {name: {"value": end, **unit} for name, end in ends.items() if end is not None}
    if text:
        bounds = found if len(found) == len(ends) else {}
        observation["referenceRange"] = [{**bounds, "text": text}]


def _numeric(value: Value, segment: Segment, reading: Reading) -> Json:
    made = quantity(value.text(), unit_of(segment.value(6)))
    if made is None:
        says = "It is no number, though OBX-2 says so; it was kept as text."
        reading.notes.add(Code.DATA_TYPE, reading.place, says)
        return {"valueString": _written(value)}
    return {"valueQuantity": made}


def _structured(value: Value, segment: Segment, reading: Reading) -> Json:
    """Read an SN: a bound, a range, a ratio, or a plain number."""
    comparator, low, separator, high = (value.text(at) for at in range(1, 5))
    unit = unit_of(segment.value(6))
    first, second = number(low), number(high)
    if first is not None and not separator and not high:
        bound = code_map("quantity-comparator").get(comparator)
        if comparator in {"", "="} or bound:
            more = {"comparator": bound} if bound else {}
            return {"valueQuantity": {"value": first, **more, **unit}}
    if first is not None and second is not None and not comparator:
        if separator == "-" and float(low) <= float(high):
            ends = {"low": {"value": first, **unit}, "high": {"value": second, **unit}}
            return {"valueRange": ends}
        if separator in {":", "/"}:
            return {"valueRatio": {"numerator": {"value": first}, "denominator": {"value": second}}}
    reading.notes.add(Code.DATA_TYPE, reading.place, "It was kept as text: it is no plain number.")
    return {"valueString": f"{comparator}{low}{separator}{high}"}


def _coded(value: Value, _segment: Segment, reading: Reading) -> Json:
    made = concept(value, "", reading)
    return {"valueCodeableConcept": made} if made else {}


def _dated(conversion: str, element: str) -> Callable[[Value, Segment, Reading], Json]:
    def read(value: Value, _segment: Segment, reading: Reading) -> Json:
        made = CONVERSIONS[conversion](value, "", reading)
        return {element: made} if made else {"valueString": _written(value)}

    return read


def _period(value: Value, _segment: Segment, reading: Reading) -> Json:
    convert = CONVERSIONS["dateTime"]
    ends = {
        name: convert(Value(((value.text(at),),)), "", reading)
        for name, at in (("start", 1), ("end", 2))
        if value.text(at)
    }
    found = {name: end for name, end in ends.items() if end}
    period = in_order(found)
    if period != found:
        says = "It ends before it begins; it was kept as text."
        reading.notes.add(Code.DATA_TYPE, reading.place, says)
        return {"valueString": _written(value)}
    return {"valuePeriod": found} if found else {}


def _numeric_range(value: Value, segment: Segment, _reading: Reading) -> Json:
    unit = unit_of(segment.value(6))
    ends = {"low": number(value.text(1)), "high": number(value.text(2))}
    found = {name: {"value": end, **unit} for name, end in ends.items() if end is not None}
    is_empty = len(found) == 2 and float(value.text(1)) > float(value.text(2))  # noqa: PLR2004
    return {"valueRange": found} if found and not is_empty else {"valueString": _written(value)}


def _composite(value: Value, segment: Segment, reading: Reading) -> Json:
    """Read a CQ, which brings its unit itself."""
    made = quantity(value.text(), unit_of(value.component(2)) or unit_of(segment.value(6)))
    return {"valueQuantity": made} if made else _numeric(value, segment, reading)


_READERS: Mapping[str, Callable[[Value, Segment, Reading], Json]] = {
    "NM": _numeric,
    "SN": _structured,
    "CQ": _composite,
    "CE": _coded,
    "CWE": _coded,
    "CNE": _coded,
    "CF": _coded,
    "IS": _coded,
    "DT": _dated("dateTime", "valueDateTime"),
    "TS": _dated("dateTime", "valueDateTime"),
    "DTM": _dated("dateTime", "valueDateTime"),
    "TM": _dated("time", "valueTime"),
    "DR": _period,
    "NR": _numeric_range,
}


def _written(value: Value) -> str:
    parts = ("&".join(part for part in parts if part) for parts in value.components)
    return " ".join(part for part in parts if part)


def _encapsulated(value: Value, reading: Reading) -> Json | None:
    main, sub, encoding, data = (value.text(at) for at in range(2, 6))
    content = _encoded(encoding.lower(), data)
    if content is None:
        reading.notes.add(Code.DATA_TYPE, reading.place, "Its encoding can't be read: left out.")
        return None
    kind = _media_type(main.lower(), sub.lower())
    return {**({"contentType": kind} if kind else {}), "data": content}


def _media_type(main: str, sub: str) -> str:
    if "/" in main:
        return main
    named = {"ap": "application", "im": "image", "tx": "text", "au": "audio", "": "application"}
    return f"{named.get(main, main)}/{sub}" if sub else ""


def _encoded(encoding: str, data: str) -> str | None:
    plain = "".join(data.split())
    try:
        if encoding == "base64":
            base64.b64decode(plain, validate=True)
            return plain or None
        if encoding == "hex":
            return base64.b64encode(bytes.fromhex(plain)).decode() or None
    except (binascii.Error, ValueError):
        return None
    return base64.b64encode(data.encode()).decode() if data and encoding in {"a", ""} else None


def _pointed_at(value: Value, reading: Reading) -> Json | None:
    address = value.text()
    if is_address(address):
        return {"url": address}
    says = "It is no address that begins with http:, https: or urn: and has no blanks: left out."
    reading.notes.add(Code.DATA_TYPE, reading.place, says)
    return None
