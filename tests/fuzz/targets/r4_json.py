"""Strict JSON, beside Python's own reader: what is taken is JSON, and repeats nothing."""

import json
from typing import Any

from gateway.core.errors import MalformedJson, TooLarge
from gateway.core.r4_json import decode
from tests.factories import creatinine, raw
from tests.fuzz.target import Target, shared

_DEPTH = 20


class _Repeated(Exception):
    """A property is given twice."""


def run(data: bytes) -> None:
    """Decode; another reader has to agree, and to find no property twice."""
    content = decode(data, max_depth=_DEPTH)
    # Digits beyond Python's own limit are no number to it; they are to JSON.
    other = json.loads(data, object_pairs_hook=_insist_on_once, parse_int=float)
    assert _shape(other) == _shape(content)


def _insist_on_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise _Repeated
    return dict(pairs)


def _shape(value: Any) -> Any:
    """The value without its numbers, which two readers may round differently."""
    if isinstance(value, dict):
        return {name: _shape(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_shape(each) for each in value]
    return 0 if isinstance(value, int | float) and not isinstance(value, bool) else value


def seeds() -> list[bytes]:
    """Give documents that are read, and the files of the JSON Test Suite."""
    twice = [b'{"a":1,"a":2}', rb'{"a":1,"\u0061":{"b":"\"\\"}}', b'{"n":-0.10E+2,"":[null,true]}']
    return [raw(creatinine(1)), *twice, *shared("json-test-suite/*.json", most=200)]


TARGET = Target(run, seeds, (MalformedJson, TooLarge), longest=4096)
