"""Strict JSON: what the decoder lets pass is found by counting strings."""

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.core.errors import ContentError, MalformedJson
from gateway.core.fhir import ParsedBundle, Resource, parse_bundle, parse_resource
from gateway.core.r4_json import count_strings, decode, may_hold

SUITE = Path(__file__).resolve().parents[4] / ".." / "shared" / "data" / "json-test-suite"
needs_suite = pytest.mark.skipif(not SUITE.is_dir(), reason="shared json-test-suite is absent")

names = st.text(st.sampled_from('ab"\\:/_ {\x1f\u00e9'), max_size=3)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | names,
    lambda inner: (
        st.lists(inner, max_size=3) | st.lists(st.tuples(names, inner), max_size=3).map(tuple)
    ),
    max_leaves=8,
)
"""JSON values; a tuple of pairs stands for an object, which may repeat a name."""


ELEMENTS = (
    *("resourceType", "id", "status", "_status", "code", "coding", "entry", "type", "extension"),
    *("valueQuantity", "_valueString", "value", "contained", "url", "reference", "resource"),
    *("component", "effectivePeriod", "start", "end", "request", "response", "outcome", "meta"),
    *("fullUrl", "parameter", "part"),
)


def written(value: object, *, ascii_only: bool) -> str:
    if isinstance(value, tuple):
        pairs = (
            f"{written(name, ascii_only=ascii_only)} : {written(item, ascii_only=ascii_only)}"
            for name, item in value
        )
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ",".join(written(item, ascii_only=ascii_only) for item in value) + "]"
    return json.dumps(value, ensure_ascii=ascii_only)


def repeats(value: object) -> bool:
    if isinstance(value, tuple):
        keys = [name for name, _ in value]
        return len(set(keys)) < len(keys) or any(repeats(item) for _, item in value)
    return isinstance(value, list) and any(repeats(item) for item in value)


@given(values, st.booleans())
@example((('"', 1), ('\\"', 1)), True)
@example((("a", '"'), ("a", 2)), True)
def test_exactly_the_documents_that_repeat_a_property_are_refused(
    value: object, ascii_only: bool
) -> None:
    raw = written(value, ascii_only=ascii_only).encode()

    try:
        decode(raw, max_depth=40)
        refused = False
    except MalformedJson:
        refused = True

    assert refused is repeats(value)


@given(st.lists(names))
def test_strings_are_counted_whatever_is_escaped_in_them(strings: list[str]) -> None:
    assert count_strings(json.dumps(strings).encode()) == len(strings)


@pytest.mark.parametrize("raw", [b'["_a"]', b'["\\u005fa"]', b'["\\u005Fa"]'])
def test_a_prefix_is_seen_escaped_or_not(raw: bytes) -> None:
    assert may_hold(raw, b"_")


def test_a_prefix_that_is_not_there_is_not_seen() -> None:
    assert not may_hold(b'["a_"]', b"_")


@given(st.binary(max_size=200))
def test_any_bytes_give_a_resource_or_a_content_error(raw: bytes) -> None:
    assert isinstance(outcome(raw), (Resource, ParsedBundle, ContentError))


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(ELEMENTS),
                inner | st.sampled_from(["Observation", "Bundle", "Patient", "#a", "history"]),
                max_size=6,
            )
        ),
        max_leaves=25,
    ),
    st.sampled_from(["Observation", "Bundle", "Parameters", "RiskAssessment", "Patient"]),
)
def test_any_json_gives_a_resource_or_a_content_error(content: object, name: str) -> None:
    if isinstance(content, dict):
        content["resourceType"] = name

    assert isinstance(outcome(json.dumps(content).encode()), (Resource, ParsedBundle, ContentError))


def outcome(raw: bytes) -> Resource | ParsedBundle | ContentError:
    with contextlib.suppress(ContentError):
        parse_bundle(raw)
    try:
        return parse_resource(raw)
    except ContentError as error:
        return error


@needs_suite
@pytest.mark.parametrize("kind", ["y", "n", "i"])
def test_the_json_test_suite_decodes_as_it_says(kind: str) -> None:
    wrong = []

    for path in sorted(SUITE.glob(f"{kind}_*.json")):
        # RFC 8259 leaves repeated names to the reader; FHIR forbids them.
        expected = kind == "y" and "duplicated_key" not in path.name
        if kind != "i" and accepts(path.read_bytes()) is not expected:
            wrong.append(path.name)

    assert wrong == []


@needs_suite
def test_the_json_test_suite_inside_of_an_observation_gives_only_content_errors() -> None:
    kinds = set()

    for path in sorted(SUITE.glob("*.json")):
        raw = b'{"resourceType":"Observation","status":"final","code":%s}' % path.read_bytes()
        kinds.add(type(outcome(raw)).__name__)

    assert kinds <= {"InvalidResource", "MalformedJson", "TooLarge"}


def accepts(raw: bytes) -> bool:
    try:
        decode(raw, max_depth=600)
    except ContentError:
        return False
    return True
