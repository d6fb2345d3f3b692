"""Everything that is wrong in a site file, in words for the engineer who wrote it.

What the models of `site_model` refuse is worded here, and what they can't see is checked here:
names that lead nowhere, FHIRPath, codes mapped twice. The checks read the raw document, so that
one problem never hides another. No message repeats what could be a secret.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from adapters.ehr_profile import profiles
from adapters.site_cds_hooks import cds_hooks_problems
from adapters.site_consent_terms import contradictions
from adapters.site_feeds import feed_problems
from adapters.site_model import SiteFile
from adapters.site_oru import oru_problems
from adapters.site_shape import Place, located, word_of
from adapters.site_terms import slips
from adapters.site_trigger import check
from adapters.site_yaml import Document, Path, Problem, meant, suggestion

_WORDS = {
    "missing": "is missing",
    "dict_type": "must be a mapping (key: value)",
    "model_type": "must be a mapping (key: value)",
    "model_attributes_type": "must be a mapping (key: value)",
    "list_type": "must be a list ([a, b])",
    "string_type": "must be a text; put quotes around it",
    "float_type": "must be a number, without quotes",
    "int_type": "must be a whole number, without quotes",
    "int_from_float": "must be a whole number",
    "bool_type": "must be true or false",
}
#: What is meant for true and for false; YAML 1.2 reads yes, no, on and off as texts.
_TRUE, _FALSE = ("true", "yes", "on", "y", "1"), ("false", "no", "off", "n", "0")
_PATTERNS = {
    **dict.fromkeys(
        ("ae_title", "callers"), "must be an AE title: 1 to 16 characters without backslash"
    ),
    "devices": "must be Device/<id>",
    "organizations": "must be Organization/<id>",
    "groups": "must be Group/<id> or CareTeam/<id>",
    "consent_manager": "must be an id of letters, digits and . _ -",
    "path": "must be an absolute path",
    **dict.fromkeys(("start", "end"), 'must be a time of day in quotes, such as "08:00"'),
    "holidays": 'must be a date in quotes, such as "2027-01-26"',
    "languages": "must be a language code, such as en or hi",
    **dict.fromkeys(("client_id", "key_id"), "must be plain ASCII without blanks"),
    "scopes": "must be a scope, such as system/Observation.rs",
    **dict.fromkeys(
        ("application", "facility", "as_application", "as_facility", "authority"),
        "must be plain ASCII, without blanks at its ends",
    ),
    "folder": "must be an absolute path",
    "smtp": "must be host:port",
    "url": "must be http:// or https:// and an address, without user, query or fragment",
    "password": "write env:NAME or file:PATH; a secret never stands in the site file",
    "token": "write env:NAME or file:PATH; a secret never stands in the site file",
    "model": "must be name@version, such as ckd-risk@1",
    "between": 'must be two times of day in quotes, such as ["20:00", "06:00"]',
    **dict.fromkeys(
        ("identifier", "authorities", "code_systems"),
        "must be a URI, such as https://hospital.example/mrn or urn:oid:1.2.3",
    ),
    "types": "must be a resource type, perhaps with search parameters, such as "
    "Observation?category=laboratory",
    "include": "must be a type and a search parameter, such as Observation:subject",
    "search_parameters": "must be a type and a parameter of its own, such as Observation:ward",
    "test_patient": "must be Patient/<id>",
    "topic": "must be the URL of a topic",
    "origins": "must be an origin without path, such as https://ehr.example",
    "user": "must be a name without a colon or spaces",
    "loinc": "must be a LOINC code, such as 2160-0",
}
_FHIR = "fhir-rest"
#: So many letters tell which product was meant.
_BEGUN = 3
_NAME = "must be a name: small letters, digits and hyphens, at most 64, a letter first"


def validated(document: Document, *, is_new: bool = False) -> tuple[SiteFile | None, list[Problem]]:
    """Give the file if its shape is right, and every problem but those of YAML itself.

    Args:
        document: What was written.
        is_new: Also tell of what would not keep an applied file from its work.
    """
    problems = [*_reference_problems(document), *(slips(document) if is_new else ())]
    try:
        return SiteFile.model_validate(document.value), problems
    except ValidationError as error:
        issues = error.errors(include_url=False, include_input=False, include_context=True)
        return None, [*problems, *(_worded(document, issue) for issue in issues)]


def _worded(document: Document, issue: ErrorDetails) -> Problem:
    place = located(issue["loc"])
    return document.problem(_at(document, issue, place), _words(document, issue, place))


def _at(document: Document, issue: ErrorDetails, place: Place) -> Path:
    """Say where a problem is: of a kind that is none, at the word and not at what it begins."""
    kind = (*place.path, "kind")
    is_of_kind = issue["type"] == "union_tag_invalid" and kind in document.positions
    return kind if is_of_kind else place.path


def _words(document: Document, issue: ErrorDetails, place: Place) -> str:
    kind = issue["type"]
    if kind == "extra_forbidden":
        return f"unknown key{suggestion(str(place.path[-1]), place.siblings)}"
    if kind == "string_pattern_mismatch":
        return _pattern(place.path)
    written = word_of(place, document.at(place.path))
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        says = "needs `kind`" if kind == "union_tag_not_found" else "unknown kind"
        known = ", ".join(sorted(place.words))
        return f"{says}; known: {known}{_kind_meant(written, place.words)}"
    if kind in ("literal_error", "enum"):
        return f"must be {issue.get('ctx', {}).get('expected', '')}{meant(written, place.words)}"
    if kind == "value_error":
        return issue["msg"].removeprefix("Value error, ") + _offered(written, place.words)
    offered = meant(written, place.words)
    if kind == "bool_type":
        offered = _truth_meant(document.at(place.path))
    return _WORDS.get(kind, _begun_small(issue["msg"])) + offered


def _kind_meant(written: str, known: Sequence[str]) -> str:
    """Offer a kind; the name of a product is a profile of the kind that speaks FHIR."""
    is_word = len(written) >= _BEGUN and _FHIR in known
    begun = [each for each in sorted(profiles()) if is_word and each.startswith(written.lower())]
    if begun:
        return f"; did you mean '{_FHIR}', with `profile: {begun[0]}` beside it?"
    return meant(written, known)


def _truth_meant(written: object) -> str:
    word = str(written).lower()
    if word in _TRUE + _FALSE:
        return f"; did you mean {'true' if word in _TRUE else 'false'}, without quotes?"
    near = meant(word, ("true", "false")).replace("'", "")
    return near if isinstance(written, str) else ""


def _offered(written: str, known: Sequence[str]) -> str:
    """Offer a word of a vocabulary; where none is near and they are many, say where they are."""
    more = f"; {len(known)} are known: see `nadi site schema`" if known else ""
    return suggestion(written, known) or more


def _begun_small(message: str) -> str:
    """Let a message go on a line; names in it, such as Asia/Kolkata, stay as they are."""
    return (message[:1].lower() + message[1:]).replace("input should be ", "must be ", 1)


def _pattern(path: Path) -> str:
    """Say what a text has to look like, by its key or by that of the mapping it stands in."""
    keys = [step for step in path if isinstance(step, str)]
    return next((_PATTERNS[key] for key in reversed(keys[-2:]) if key in _PATTERNS), _NAME)


def _reference_problems(document: Document) -> Iterator[Problem]:
    site = _mapping(document.value)
    systems = _mapping(site.get("systems"))
    for name, entry in _mapping(site.get("routes")).items():
        route = _mapping(entry)
        sink = _mapping(route.get("sink"))
        at = ("routes", name)
        yield from _unknown_system(document, systems, (*at, "source"), route.get("source"))
        yield from _unknown_system(document, systems, (*at, "sink", "system"), sink.get("system"))
        yield from _trigger_problems(document, name, route.get("match"))
        if route.get("run") and not (_mapping(route["run"]).get("timezone") or site.get("hours")):
            words = "needs a time zone: `timezone` here, or that of the key `hours`"
            yield document.problem(("routes", name, "run"), words)
    yield from feed_problems(document)
    yield from oru_problems(document)
    yield from cds_hooks_problems(document)
    implicit = _mapping(_mapping(site.get("consent")).get("implicit"))
    for name, words in contradictions(_mapping(site.get("routes")), implicit):
        yield document.problem(("routes", name, "consent", "default"), words)
    for name in _mapping(_mapping(site.get("privacy")).get("outside_india")):
        yield from _unknown_system(document, systems, ("privacy", "outside_india", name), name)
    yield from _repeated_codes(document, _mapping(site.get("codes")).get("map"))


def _unknown_system(
    document: Document, systems: Mapping[str, Any], path: Path, name: object
) -> Iterator[Problem]:
    if isinstance(name, str) and name not in systems:
        message = f"unknown system '{name}'{suggestion(name, systems)}"
        yield document.problem(path, message)


def _trigger_problems(document: Document, route: str, match: object) -> Iterator[Problem]:
    if isinstance(match, str) and match:
        for message in check(match):
            yield document.problem(("routes", route, "match"), message)


def _repeated_codes(document: Document, rows: object) -> Iterator[Problem]:
    seen: dict[tuple[object, object], int] = {}
    for index, row in enumerate(rows if isinstance(rows, list) else []):
        entry = _mapping(row)
        key = (entry.get("system", ""), entry.get("code"))
        if key in seen and key[1] is not None:
            yield document.problem(("codes", "map", index), f"is mapped already in row {seen[key]}")
        seen.setdefault(key, index)


def _mapping(value: object) -> dict[str, Any]:
    return {str(key): item for key, item in value.items()} if isinstance(value, dict) else {}
