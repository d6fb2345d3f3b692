"""FHIR that went wrong on its way: real resources with something deleted, doubled, retyped, …

The text of a document is made here, not by a JSON library, for most of what goes wrong is what a
library would not write: a property twice, a lone surrogate, a number of thirty digits.
"""

import json
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from hypothesis import strategies as st

from tests.factories import bundle, consent, creatinine, patient
from tests.fuzz.served import MARK
from tests.fuzz.target import shared

# No name of an element: an unknown one that might be is repeated, to help who mistyped it.
_NAME = f"{MARK} 1"
_ODD = (
    "null",
    "true",
    "0",
    "-0",
    "1e400",
    "-1e-400",
    "1E+2",
    "0.1e",
    "01",
    "NaN",
    "1" * 30,
    f"0.{'1' * 30}",
    "9" * 4400,
    "2147483648",
    "[]",
    "{}",
    "[null]",
    '[""]',
    '""',
    '" "',
    f'"{MARK}"',
    f'"{MARK} \\u0000"',
    f'"\\ud800{MARK}"',
    '"\\udc00\\ud800"',
    f'"\x01{MARK}"',
    f'"\U0001f600{MARK}"',
    f'"{MARK * 20_000}"',
    f'{{"{_NAME}":"{MARK}"}}',
    f'{{"resourceType":"{MARK}"}}',
    '{"resourceType":"Patient"}',
    '{"reference":"#1"}',
    '{"reference":"Patient/../../x"}',
    '{"coding":[{"system":"urn:x","code":"a\\nb"}]}',
    f'"2026-02-30T25:61:00{MARK}"',
    '"0001-01-01"',
    '"9999-12-31T23:59:59.999999999-14:00"',
    '{"extension":[{"url":"x","valueString":"y"}]}',
)
_DEPTHS = (1, 2, 35, 45, 1100)


class _Members(list[tuple[str, Any]]):
    """The members of an object in their order, where a name may stand twice."""


class _Text(str):
    """A piece of JSON as it stands, well-formed or not."""

    __slots__ = ()


@cache
def _seeds() -> tuple[str, ...]:
    made = [patient(1), creatinine(1), consent(1)]
    made += [bundle(patient(1), creatinine(1), kind=kind) for kind in ("batch", "transaction")]
    official = shared("r4-examples/*.json", most=60, largest=8000)
    return (*map(json.dumps, made), *(each.decode() for each in official))


@st.composite
def broken(draw: st.DrawFn, seeds: Sequence[str] = ()) -> tuple[str, bytes]:
    """Give a resource type and a document of it with one to three things wrong.

    Args:
        draw: Of hypothesis.
        seeds: Documents to break; those of the usual resources and official ones if none is given.
    """
    root = json.loads(draw(st.sampled_from(seeds or _seeds())), object_pairs_hook=_Members)
    kind = str(dict(root).get("resourceType", "Patient"))
    holder = [root]
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(holder))
        if not places:
            break
        parent, key = draw(st.sampled_from(places))
        _CHANGES[draw(st.sampled_from(sorted(_CHANGES)))](draw, parent, key)
    text = "".join(_written(each) for each in holder)
    return kind, text.encode("utf-8", "surrogatepass")


def _places(node: Any) -> Iterator[tuple[list[Any], int]]:
    """Every place below a node: the list of members or items that it stands in, and where."""
    if isinstance(node, list):
        for key, child in enumerate(node):
            yield node, key
            yield from _places(child[1] if isinstance(node, _Members) else child)


def _put(parent: list[Any], key: int, value: Any) -> None:
    parent[key] = (parent[key][0], value) if isinstance(parent, _Members) else value


def _delete(_draw: st.DrawFn, parent: list[Any], key: int) -> None:
    del parent[key]


def _double(_draw: st.DrawFn, parent: list[Any], key: int) -> None:
    parent.insert(key, parent[key])


def _retype(draw: st.DrawFn, parent: list[Any], key: int) -> None:
    _put(parent, key, _Text(draw(st.sampled_from(_ODD))))


def _reorder(draw: st.DrawFn, parent: list[Any], _key: int) -> None:
    parent[:] = draw(st.permutations(parent))


def _nest(draw: st.DrawFn, parent: list[Any], key: int) -> None:
    depth, opening = draw(st.sampled_from(_DEPTHS)), draw(st.sampled_from(["[", '{"extension":']))
    value = parent[key][1] if isinstance(parent, _Members) else parent[key]
    closing = "]" if opening == "[" else "}"
    _put(parent, key, _Text(opening * depth + _written(value) + closing * depth))


def _rename(draw: st.DrawFn, parent: list[Any], key: int) -> None:
    if isinstance(parent, _Members):
        name = draw(
            st.sampled_from([f"_{parent[key][0]}", _NAME, "", "id", "valueString", "resource"])
        )
        parent[key] = (name, parent[key][1])


_CHANGES = {
    "delete": _delete,
    "double": _double,
    "retype": _retype,
    "reorder": _reorder,
    "nest": _nest,
    "rename": _rename,
}


def _written(node: Any) -> str:
    if isinstance(node, _Text):
        return str(node)
    if isinstance(node, _Members):
        return "{" + ",".join(f"{json.dumps(name)}:{_written(value)}" for name, value in node) + "}"
    if isinstance(node, list):
        return "[" + ",".join(map(_written, node)) + "]"
    return json.dumps(node)
