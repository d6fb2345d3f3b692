"""Read JSON as FHIR wants it: UTF-8, no property twice, bounded depth.

`orjson` is the decoder: it refuses invalid UTF-8, lone surrogates, NaN and Infinity. What it lets
pass, a property given twice (it keeps the last), is found without a parser of ours: writing the
decoded document out again must give as many strings as came in.

Source: RFC 8259, http://hl7.org/fhir/R4/json.html.
"""

import json
import re
from collections import Counter
from typing import Any

import orjson

from gateway.core.errors import MalformedJson, TooLarge

ELEMENT_NAME = re.compile(r"[A-Za-z_]{1,64}")


def decode(raw: bytes, *, max_depth: int) -> object:
    """Decode one JSON document.

    Numbers are for reading only: 1.50 becomes 1.5 here and stays 1.50 in `raw`.

    Args:
        raw: The whole document.
        max_depth: Deepest nesting of objects and arrays that is accepted.

    Raises:
        MalformedJson: Not JSON, or a property is given twice.
        TooLarge: Nested deeper than `max_depth`.
    """
    content = decode_repeating(raw, max_depth=max_depth)
    if repeats_a_property(raw, content):
        raise repetition(raw)
    return content


def decode_repeating(raw: bytes, *, max_depth: int) -> object:
    """Decode like `decode`, but let repeated properties pass: the last one is kept.

    Raises:
        MalformedJson: Not JSON.
        TooLarge: Nested deeper than `max_depth`.
    """
    try:
        content: object = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise _refusal(error, max_depth) from None
    if raw.count(b"{") + raw.count(b"[") > max_depth and _is_deeper(content, max_depth):
        raise _too_deep(max_depth)
    return content


def repeats_a_property(raw: bytes, content: object) -> bool:
    """Say whether the decoder dropped anything, which it only does with repeated properties."""
    return count_strings(raw) != count_strings(orjson.dumps(content))


def repetition(raw: bytes) -> MalformedJson:
    """Name the first property that is given twice, if it looks like one of FHIR's."""
    repeated: list[str] = []

    def note(pairs: list[tuple[str, Any]]) -> None:
        counts = Counter(name for name, _ in pairs)
        repeated.extend(name for name, count in counts.items() if count > 1)

    json.loads(raw, object_pairs_hook=note)
    which = next((f" ('{name}')" for name in repeated if ELEMENT_NAME.fullmatch(name)), "")
    return MalformedJson(f"A property is given twice in the same object{which}.")


def count_strings(raw: bytes) -> int:
    r"""Count the strings of a well-formed JSON document, property names among them.

    Each has two quotes that are not escaped. An escaped quote is a backslash and a quote, once
    escaped backslashes are taken away: escapes begin at the first backslash of a run.
    """
    if b"\\\\" in raw:
        raw = raw.replace(b"\\\\", b"")
    return (raw.count(b'"') - raw.count(b'\\"')) // 2


def may_hold(raw: bytes, *prefixes: bytes) -> bool:
    r"""Say whether a string of the document may begin with one of these ASCII prefixes.

    A quick test on the bytes; `True` may be wrong, `False` never is (`"\u0023"` is a `#` too).
    """
    return b'"\\u00' in raw or any(b'"' + prefix in raw for prefix in prefixes)


def _is_deeper(content: object, max_depth: int) -> bool:
    # Every document is walked through here: no call and no generator for each of its parts.
    level: list[Any] = [content] if isinstance(content, (dict, list)) else []
    for _ in range(max_depth):
        level = [
            child
            for parent in level
            for child in (parent.values() if type(parent) is dict else parent)
            if type(child) is dict or type(child) is list
        ]
        if not level:
            return False
    return True


def _refusal(error: json.JSONDecodeError, max_depth: int) -> MalformedJson | TooLarge:
    """Say what is wrong; of the decoder's words only the position is passed on."""
    if "depth limit" in error.msg:
        return _too_deep(max_depth)
    where = f"line {error.lineno}, column {error.colno}"
    if "infinity" in error.msg:
        return MalformedJson(f"A number is too large ({where}).")
    return MalformedJson(f"The body is not well-formed JSON in UTF-8 ({where}).")


def _too_deep(max_depth: int) -> TooLarge:
    return TooLarge(f"The content is nested deeper than {max_depth} levels.")
