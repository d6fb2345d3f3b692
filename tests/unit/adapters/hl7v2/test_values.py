"""What an OBX says: a number keeps its digits, a bound is no number, a text is never one."""

import json
from decimal import Decimal
from zoneinfo import ZoneInfo

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.hl7v2.datatypes import Reading
from adapters.hl7v2.dialect import Dialect, Notes
from adapters.hl7v2.message import parsed
from adapters.hl7v2.problems import Place
from adapters.hl7v2.values import attachments, number, put_range, put_value

LOCAL = {("urn:lab", "CREA"): ("http://loinc.org", "2160-0")}
DIALECT = Dialect(zone=ZoneInfo("Asia/Kolkata"), code_systems={"L": "urn:lab"}, local_codes=LOCAL)


def read(fields: str) -> tuple[dict, list[str]]:
    """Read `OBX-2|OBX-3|OBX-4|OBX-5|…`."""
    segment = parsed(f"MSH|^~\\&|x\rOBX|1|{fields}".encode()).first("OBX")
    notes, made = Notes(), {"code": {"text": "c"}}
    put_value(made, segment, Reading(DIALECT, notes, Place("OBX", 1, 5)))
    put_range(made, segment)
    del made["code"]
    return json.loads(orjson.dumps(made), parse_float=str), [note.says for note in notes.found]


UNIT = {"unit": "mg/dL", "system": "http://unitsofmeasure.org", "code": "mg/dL"}


@pytest.mark.parametrize(
    ("fields", "value"),
    [
        ("NM|c||1.50|mg/dL^^UCUM", {"valueQuantity": {"value": "1.50", **UNIT}}),
        ("NM|c||1.50|mg/dl", {"valueQuantity": {"value": "1.50", **UNIT, "unit": "mg/dl"}}),
        ("NM|c||1.50|odd", {"valueQuantity": {"value": "1.50", "unit": "odd"}}),
        ("NM|c||<0.5|", {"valueQuantity": {"value": "0.5", "comparator": "<"}}),
        ("NM|c||007|", {"valueQuantity": {"value": 7}}),
        ("NM|c||hemolysed|", {"valueString": "hemolysed"}),
        ("SN|c||>^100|mg/dL^^UCUM", {"valueQuantity": {"value": 100, "comparator": ">", **UNIT}}),
        ("SN|c||^10^-^20|", {"valueRange": {"low": {"value": 10}, "high": {"value": 20}}}),
        (
            "SN|c||^1^:^128|",
            {"valueRatio": {"numerator": {"value": 1}, "denominator": {"value": 128}}},
        ),
        ("SN|c||^2^+|", {"valueString": "2+"}),
        (
            "CWE|c||CREA^Kreatinin^L|",
            {
                "valueCodeableConcept": {
                    "coding": [
                        {"system": "urn:lab", "code": "CREA", "display": "Kreatinin"},
                        {"system": "http://loinc.org", "code": "2160-0"},
                    ]
                }
            },
        ),
        ("IS|c||POS|", {"valueCodeableConcept": {"coding": [{"code": "POS"}]}}),
        ("ST|c||A\\T\\B|", {"valueString": "A&B"}),
        ("TX|c||one~two|", {"valueString": "one\ntwo"}),
        ("DT|c||20261126|", {"valueDateTime": "2026-11-26"}),
        ("TS|c||202611260930|", {"valueDateTime": "2026-11-26T09:30:00+05:30"}),
        ("TM|c||0930|", {"valueTime": "09:30:00"}),
        (
            "DR|c||20261101^20261126|",
            {"valuePeriod": {"start": "2026-11-01", "end": "2026-11-26"}},
        ),
        ("NR|c||1^2|", {"valueRange": {"low": {"value": 1}, "high": {"value": 2}}}),
        ("CQ|c||7^mg/dL&&UCUM|", {"valueQuantity": {"value": 7, **UNIT}}),
        ("|c||text|", {"valueString": "text"}),
        ("NM|c|||", {}),
        (
            "NM|c||1~2|",
            {
                "component": [
                    {"code": {"text": "c"}, "valueQuantity": {"value": 1}},
                    {"code": {"text": "c"}, "valueQuantity": {"value": 2}},
                ]
            },
        ),
    ],
)
def test_a_value_is_read_by_its_type(fields: str, value: dict):
    assert read(fields)[0] == value


def test_what_could_not_be_read_as_announced_is_told():
    assert read("NM|c||hemolysed|")[1] == [
        "It is no number, though OBX-2 says so; it was kept as text."
    ]


@pytest.mark.parametrize(
    ("written", "ends"),
    [
        ("0.60-1.20", {"low": {"value": "0.60"}, "high": {"value": "1.20"}}),
        ("<5", {"high": {"value": 5}}),
        (">= 60", {"low": {"value": 60}}),
        ("negative", {}),
        ("1.2.3-4", {}),
    ],
)
def test_a_reference_range_has_the_bounds_that_it_names(written: str, ends: dict):
    assert read(f"NM|c||1||{written}")[0]["referenceRange"] == [{**ends, "text": written}]


@given(
    st.decimals(allow_nan=False, allow_infinity=False, places=4).filter(lambda n: abs(n) < 10**9)
)
def test_a_number_keeps_every_digit(value: Decimal):
    text = f"{value:f}"

    assert orjson.dumps(number(text)).decode() == text


@given(st.text(max_size=12))
def test_a_number_is_json_or_none(text: str):
    found = number(text)

    if found is not None:
        json.loads(orjson.dumps(found))


@pytest.mark.parametrize(
    ("value", "made"),
    [
        (
            "^application^pdf^Base64^JVBERg==",
            {"contentType": "application/pdf", "data": "JVBERg=="},
        ),
        ("^AP^PDF^Hex^255044", {"contentType": "application/pdf", "data": "JVBE"}),
        ("^TX^plain^A^hello", {"contentType": "text/plain", "data": "aGVsbG8="}),
        ("^application^pdf^Base64^***", None),
    ],
)
def test_a_file_in_a_message_is_an_attachment(value: str, made: dict | None):
    segment = parsed(f"MSH|^~\\&|x\rOBX|1|ED|r^Report||{value}".encode()).first("OBX")
    notes = Notes()

    found = attachments(segment, Reading(DIALECT, notes, Place("OBX", 1, 5)))

    assert found == ([{**made, "title": "Report"}] if made else [])
    assert bool(notes.found) is (made is None)
