"""Everything that is wrong in a site file, in words for the engineer who wrote it.

What the models of `site_model` refuse is worded here, and what they can't see is checked here:
names that lead nowhere, FHIRPath, codes mapped twice. The checks read the raw document, so that
one problem never hides another. No message repeats what could be a secret.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from adapters.site_cds_hooks import cds_hooks_problems
from adapters.site_consent_terms import contradictions
from adapters.site_feeds import feed_problems
from adapters.site_login import KINDS as LOGIN_KINDS
from adapters.site_login import SmartBackendAuth
from adapters.site_model import SiteFile
from adapters.site_oru import OruEntry, oru_problems
from adapters.site_trigger import check
from adapters.site_yaml import Document, Path, Problem, suggestion
from gateway.core.consent.vocabulary import PURPOSES

_WORDS = {
    "missing": "is missing",
    "dict_type": "must be a mapping (key: value)",
    "model_type": "must be a mapping (key: value)",
    "model_attributes_type": "must be a mapping (key: value)",
    "list_type": "must be a list ([a, b])",
    "string_type": "must be a text; put quotes around it",
    "float_type": "must be a number",
}
_PATTERNS = {
    **dict.fromkeys(
        ("ae_title", "callers"), "must be an AE title: 1 to 16 characters without backslash"
    ),
    "devices": "must be Device/<id>",
    "organizations": "must be Organization/<id>",
    "groups": "must be Group/<id> or CareTeam/<id>",
    "consent_manager": "must be an id of letters, digits and . _ -",
    "path": "must be an absolute path",
    "host": "must be the name or the address of a host, without a port",
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
    "test_patient": "must be Patient/<id>",
    "topic": "must be the URL of a topic",
    "origins": "must be an origin without path, such as https://ehr.example",
    "user": "must be a name without a colon or spaces",
    "loinc": "must be a LOINC code, such as 2160-0",
}
_WITNESSES = ("file", "http", "syslog", "email", "qr")
_SYSTEMS = ("fhir-rest", "hl7v2", "dicom", "folder")
_KINDS = {*LOGIN_KINDS, *_WITNESSES, *_SYSTEMS}
_NAME = "must be a name: small letters, digits and hyphens, at most 64, a letter first"


def validated(document: Document) -> tuple[SiteFile | None, list[Problem]]:
    """Give the file if its shape is right, and every problem but those of YAML itself."""
    problems = list(_reference_problems(document))
    try:
        return SiteFile.model_validate(document.value), problems
    except ValidationError as error:
        issues = error.errors(include_url=False, include_input=False, include_context=True)
        return None, [*problems, *(_worded(document, issue) for issue in issues)]


def _worded(document: Document, issue: ErrorDetails) -> Problem:
    path = _yaml_path(document, issue)
    kind = issue["type"]
    if kind == "extra_forbidden":
        return document.problem(path, f"unknown key{suggestion(str(path[-1]), _siblings(path))}")
    if kind == "string_pattern_mismatch":
        return document.problem(path, _pattern(path))
    if kind == "value_error":
        return document.problem(path, _value_error(issue))
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        says = "needs `kind`" if kind == "union_tag_not_found" else "unknown kind"
        return document.problem(path, f"{says}; known: {_kinds(path)}")
    if kind == "literal_error":
        return document.problem(path, f"must be {issue.get('ctx', {}).get('expected', '')}")
    return document.problem(path, _WORDS.get(kind, _begun_small(issue["msg"])))


def _begun_small(message: str) -> str:
    """Let a message go on a line; names in it, such as Asia/Kolkata, stay as they are."""
    return message[:1].lower() + message[1:]


def _pattern(path: Path) -> str:
    """Say what a text has to look like, by its key or by that of the mapping it stands in."""
    keys = [step for step in path if isinstance(step, str)]
    return next((_PATTERNS[key] for key in reversed(keys[-2:]) if key in _PATTERNS), _NAME)


def _key_of(path: Path) -> str:
    """Give the key that a value stands under; in a list, that of the list."""
    return next((step for step in reversed(path) if isinstance(step, str)), "")


def _kinds(path: Path) -> str:
    if path[:1] == ("witnesses",):
        return ", ".join(_WITNESSES)
    return ", ".join(LOGIN_KINDS if path[-1:] in (("auth",), ("dicomweb_auth",)) else _SYSTEMS)


def _value_error(issue: ErrorDetails) -> str:
    message = issue["msg"].removeprefix("Value error, ")
    if "purpose of use" not in message:
        return message
    word = message.split("'")[1]
    return message + (suggestion(word, PURPOSES) or "; use a v3-ActReason code such as TREAT")


def _yaml_path(document: Document, issue: ErrorDetails) -> Path:
    """Turn pydantic's location into the file's keys: drop the tags of unions and `[key]`."""
    path: Path = ()
    steps = [step for step in issue["loc"] if step != "[key]"]
    for index, step in enumerate(steps):
        is_last = index == len(steps) - 1
        if (*path, step) in document.positions or (is_last and step not in _KINDS):
            path = (*path, step)
    return path


def _siblings(path: Path) -> list[str]:
    """List the keys that are allowed where an unknown one stands."""
    known: type[BaseModel] = SiteFile
    steps = list(path[:-1])
    parts: Mapping[Path, type[BaseModel]] = _models_by_place()
    place = tuple("*" if _is_free(steps, index) else step for index, step in enumerate(steps))
    return list(parts.get(place, known).model_fields)


def _is_free(steps: list[str | int], index: int) -> bool:
    """Say whether a step is a name that the engineer chose, or a position in a list."""
    is_named = index == 1 and steps[0] in ("systems", "routes", "witnesses", "notices")
    is_named = is_named or (index == 2 and steps[:2] == ["cds_hooks", "clients"])  # noqa: PLR2004
    is_named = is_named or (index == 2 and steps[:2] == ["abdm", "purposes"])  # noqa: PLR2004
    is_named = is_named or (index == 2 and steps[:2] == ["consent", "implicit"])  # noqa: PLR2004
    return is_named or isinstance(steps[index], int)


#: Where the certificates of a connection to a system stand.
_PEERS: tuple[Path, ...] = (("systems", "*", "tls"), ("systems", "*", "oru", "tls"))


def _models_by_place() -> dict[Path, type[BaseModel]]:
    from adapters import site_cds_hooks as cds  # noqa: PLC0415 - only errors need all of them
    from adapters import site_consent as consent  # noqa: PLC0415 - only errors need all of them
    from adapters import site_consent_terms as terms  # noqa: PLC0415
    from adapters import site_drop as drop  # noqa: PLC0415
    from adapters import site_following as following  # noqa: PLC0415
    from adapters import site_mllp as mllp  # noqa: PLC0415
    from adapters import site_model as model  # noqa: PLC0415
    from adapters import site_patients as patients  # noqa: PLC0415
    from adapters import site_ports as ports  # noqa: PLC0415
    from adapters import site_run as run  # noqa: PLC0415
    from adapters import site_write_back as write_back  # noqa: PLC0415

    return {
        (): model.SiteFile,
        ("systems", "*"): model.FhirRestEntry,
        ("systems", "*", "patients"): patients.PatientsEntry,
        ("systems", "*", "oru"): OruEntry,
        **dict.fromkeys(_PEERS, ports.PeerTlsEntry),
        ("systems", "*", "receive", "*", "drop"): drop.DropEntry,
        ("systems", "*", "receive", "*", "mllp"): mllp.MllpEntry,
        ("systems", "*", "receive", "*", "mllp", "tls"): ports.TlsEntry,
        ("systems", "*", "receive", "*", "poll"): following.PollEntry,
        ("systems", "*", "receive", "*", "subscription"): following.SubscriptionEntry,
        ("systems", "*", "receive", "*", "atom"): following.AtomEntry,
        ("systems", "*", "auth"): SmartBackendAuth,
        ("routes", "*"): model.RouteEntry,
        ("routes", "*", "consent"): model.ConsentRule,
        ("routes", "*", "sink"): model.SinkRule,
        ("routes", "*", "run"): run.RunEntry,
        ("systems", "*", "rate"): run.RateEntry,
        ("systems", "*", "write_back"): write_back.WriteBackEntry,
        ("systems", "*", "write_back", "codes", "*"): write_back.OwnCode,
        ("routes", "*", "sink", "write_back"): write_back.WriteBackEntry,
        ("routes", "*", "sink", "write_back", "codes", "*"): write_back.OwnCode,
        ("routes", "*", "cds_hooks"): cds.RouteHooksEntry,
        ("cds_hooks",): cds.CdsHooksEntry,
        ("cds_hooks", "clients", "*"): cds.CdsClientEntry,
        ("codes",): model.CodeMap,
        ("codes", "map", "*"): model.LocalCode,
        ("models",): model.ModelRules,
        ("models", "signers", "*"): model.SignerEntry,
        ("abdm",): consent.AbdmEntry,
        ("abdm", "purposes", "*"): consent.PurposeEntry,
        ("notices", "*"): consent.NoticeEntry,
        ("consent",): terms.ConsentEntry,
        ("consent", "actor"): terms.ActorEntry,
        ("consent", "actor", "identifiers", "*"): terms.IdentifierEntry,
        ("consent", "implicit", "*"): terms.ImplicitEntry,
    }


def _reference_problems(document: Document) -> Iterator[Problem]:
    site = _mapping(document.value)
    systems = _mapping(site.get("systems"))
    for name, entry in _mapping(site.get("routes")).items():
        route = _mapping(entry)
        sink = _mapping(route.get("sink"))
        yield from _unknown_system(document, systems, (name, "source"), route.get("source"))
        yield from _unknown_system(document, systems, (name, "sink", "system"), sink.get("system"))
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
    yield from _repeated_codes(document, _mapping(site.get("codes")).get("map"))


def _unknown_system(
    document: Document, systems: Mapping[str, Any], path: Path, name: object
) -> Iterator[Problem]:
    if isinstance(name, str) and name not in systems:
        message = f"unknown system '{name}'{suggestion(name, systems)}"
        yield document.problem(("routes", *path), message)


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
