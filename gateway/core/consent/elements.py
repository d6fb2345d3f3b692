"""Read the data types that a Consent is made of, and notice what can't be understood.

A permit must not rest on an element whose meaning is not known here, so every element that R4
does not define for its place, and every modifier extension, is a doubt about the whole Consent.

Source: FHIR R4 Consent (http://hl7.org/fhir/R4/consent.html), Extensibility: "applications SHALL
NOT process resources with modifier extensions they don't understand".
"""

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.core.consent.vocabulary import system_of

Json = Mapping[str, Any]

_BASE = frozenset({"id", "extension"})
_BACKBONE = _BASE | {"modifierExtension"}
_CODING = _BASE | {"system", "version", "code", "display", "userSelected"}
_CONCEPT = _BASE | {"coding", "text"}
_REFERENCE = _BASE | {"reference", "type", "identifier", "display"}
_PERIOD = _BASE | {"start", "end"}
_PROVISION = _BACKBONE.union(
    ("type", "period", "actor", "action", "securityLabel", "purpose", "class", "code"),
    ("dataPeriod", "data", "provision"),
)
_CONSENT = _BACKBONE.union(
    ("resourceType", "meta", "implicitRules", "language", "text", "contained", "identifier"),
    ("status", "scope", "category", "patient", "dateTime", "performer", "organization"),
    ("sourceAttachment", "sourceReference", "policy", "policyRule", "verification", "provision"),
)
#: Elements whose content decides, by the element they stand in.
_WITHIN: Mapping[str, Mapping[str, str]] = {
    "Consent": {
        "scope": "concept",
        "category": "concept",
        "patient": "reference",
        "performer": "reference",
        "policy": "policy",
        "policyRule": "concept",
        "verification": "verification",
        "provision": "provision",
    },
    "provision": {
        "period": "period",
        "actor": "actor",
        "action": "concept",
        "securityLabel": "coding",
        "purpose": "coding",
        "class": "coding",
        "code": "concept",
        "dataPeriod": "period",
        "data": "data",
        "provision": "provision",
    },
    "actor": {"role": "concept", "reference": "reference"},
    "data": {"reference": "reference"},
    "concept": {"coding": "coding"},
}
_KNOWN: Mapping[str, frozenset[str]] = {
    "Consent": _CONSENT,
    "provision": _PROVISION,
    "actor": _BACKBONE | {"role", "reference"},
    "data": _BACKBONE | {"meaning", "reference"},
    "policy": _BACKBONE | {"authority", "uri"},
    "verification": _BACKBONE | {"verified", "verifiedWith", "verificationDate"},
    "concept": _CONCEPT,
    "coding": _CODING,
    "reference": _REFERENCE,
    "period": _PERIOD,
}
_CHANGES_ALL = frozenset({"modifierExtension", "implicitRules"})
_DEEPEST = 100


def not_understood(consent: Json) -> Iterator[str]:
    """Give the path of each element of a Consent whose meaning is not known here."""
    yield from _strange(consent, "Consent", "Consent", 0)


def _strange(element: Json, kind: str, path: str, depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        yield f"{path} (nested too deeply)"
        return
    within = _WITHIN.get(kind, {})
    for name, value in element.items():
        if not _is_known(name, kind) or value in ([], {}, None):
            yield f"{path}.{name}"
        elif name in within:
            for index, part in _parts(value):
                yield from _strange(part, within[name], f"{path}.{name}{index}", depth + 1)


def _is_known(name: str, kind: str) -> bool:
    if name in _CHANGES_ALL:
        return False
    # `_name` holds the extensions of a primitive; what is no primitive has no such twin.
    is_twin = name.startswith("_") and name[1:] not in _WITHIN.get(kind, {})
    return (name[1:] if is_twin else name) in _KNOWN[kind]


def _parts(value: Any) -> Iterator[tuple[str, Json]]:  # noqa: ANN401 - any JSON
    if isinstance(value, list):
        yield from ((f"[{index}]", part) for index, part in enumerate(value))
    else:
        yield "", value


def codings(concept: Json | None) -> list[tuple[str, str]]:
    """Give system and code of what is coded in a CodeableConcept."""
    return [pair for each in (concept or {}).get("coding", ()) if (pair := coding(each))]


def coding(written: Json) -> tuple[str, str] | None:
    """Give system and code of a Coding; None when it has no code."""
    return (system_of(written.get("system")), written["code"]) if written.get("code") else None


def named_by(reference: Json) -> tuple[str | None, str | None]:
    """Give what a Reference names literally, without a version, and by identifier."""
    literal = reference.get("reference")
    identifier = reference.get("identifier") or {}
    value = identifier.get("value")
    return (
        literal.partition("/_history/")[0] if literal else None,
        f"{identifier.get('system', '')}|{value}" if value else None,
    )
