"""Codes, code systems and addresses of a site file that are written almost right.

What can't work at all is a slip: a file with one is not taken. A file that is in force already, or
was before, keeps its work in spite of one. What an EHR might really write so is only doubted.

* A LOINC code has a check digit.
* A code system is its URI to the letter.
* The base of a FHIR API is what its pages begin with, and no page of it.
"""

import re
from collections.abc import Callable, Iterator
from urllib.parse import unquote

from adapters.code_systems import LOINC, meant_system
from adapters.loinc import is_checked, said_of
from adapters.site_address import substitute, variables
from adapters.site_yaml import Document, Path, Problem

_CODE = re.compile(r"[0-9]{1,7}-[0-9]")
_LITERAL = re.compile(r"'((?:[^'\\]|\\.)*)'")
_VALUES = re.compile(r"[?&=,]")
_PAGE = "/metadata"
_IF_SO = " (Leave it where the system itself writes it so.)"

_Say = Callable[[str], Iterator[str]]


def slips(document: Document) -> Iterator[Problem]:
    """Point at what can't work, in a file that may have other problems."""
    yield from _said(document, _slips_at)


def doubts(document: Document) -> Iterator[Problem]:
    """Point at what works only where a system writes it wrongly too."""
    yield from _said(document, _doubts_at)


def _said(document: Document, saying: Callable[[Path], _Say | None]) -> Iterator[Problem]:
    for path, text in _texts(document.value, ()):
        say = saying(path)
        for words in say(text) if say else ():
            yield document.problem(path, words)


def _texts(value: object, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _texts(inner, (*path, str(key)))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _texts(inner, (*path, index))


def _slips_at(path: Path) -> _Say | None:
    match path:
        case ("systems", _, "base_url"):
            return _page_for_base
        case ("codes", "map", _, "loinc"):
            return _wrong_digit
        case ("systems", _, "receive", _, "mllp", "code_systems", _):
            return _other_system
    return None


def _doubts_at(path: Path) -> _Say | None:
    match path:
        case ("routes", _, "match"):
            return _in_expression
        case ("systems", _, "receive", _, _, "types", _):
            return _in_search
        case ("codes", "map", _, "system"):
            return _doubted_system
        case (*_, "write_back", "codes", _, "system" | "of_system"):
            return _doubted_system
    return None


def _page_for_base(written: str) -> Iterator[str]:
    address = substitute(written, variables(written)).rstrip("/")
    if address.lower().endswith(_PAGE):
        base = address[: -len(_PAGE)]
        yield f"ends in {_PAGE}, which is a page of the FHIR API; did you mean '{base}'?"


def _wrong_digit(code: str) -> Iterator[str]:
    if _CODE.fullmatch(code) and not is_checked(code):
        yield said_of(code)


def _other_system(uri: str) -> Iterator[str]:
    meant = meant_system(uri)
    if meant:
        yield f"'{uri}' is not how that code system is written; did you mean '{meant}'?"


def _doubted_system(uri: str) -> Iterator[str]:
    yield from (f"{words}{_IF_SO}" for words in _other_system(uri))


def _in_expression(expression: str) -> Iterator[str]:
    literals = dict.fromkeys(_LITERAL.findall(expression))
    systems = {each: meant_system(each) for each in literals}
    for each in literals:
        yield from _doubted_system(each)
    if LOINC in {*literals, *systems.values()}:
        for each in literals:
            yield from (f"{words}{_IF_SO}" for words in _wrong_digit(each))


def _in_search(asked: str) -> Iterator[str]:
    for value in map(unquote, _VALUES.split(asked)):
        system, bar, code = value.partition("|")
        if bar:
            yield from _doubted_system(system)
            if LOINC in {system, meant_system(system)}:
                yield from (f"{words}{_IF_SO}" for words in _wrong_digit(code))
