"""What R4 asks for and a JSON Schema can't say.

* invariants that compare values (`INVARIANTS`, called by the schema through `fhirInvariant`);
* `[x]`: one type at a time (`repeated_choice`).

Every function takes content that may be wrong in any other way, and then says nothing of it: the
schema does.

Source: http://hl7.org/fhir/R4/formats.html#choice and each resource's page.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import orjson

_DATE_LENGTH = len("2000-01-01")
_WITH_REQUEST = frozenset(("batch", "transaction", "history"))
_WITH_RESPONSE = frozenset(("batch-response", "transaction-response", "history"))

Object = dict[str, Any]


def repeated_choice(element: Mapping[str, Any], choices: Mapping[str, str]) -> str | None:
    """Name the first `[x]` that is there in two types.

    Args:
        element: A JSON object.
        choices: Property to the name of its choice: `valueString` to `value`.
    """
    seen: dict[str, str] = {}
    for key in element:
        name = key.removeprefix("_")
        choice = choices.get(name)
        if choice is not None and seen.setdefault(choice, name) != name:
            return choice
    return None


def _period_is_ordered(period: Object) -> bool:
    return not _is_later(period.get("start"), period.get("end"))


def _is_later(first: object, second: object) -> bool:
    """Compare two dateTimes as far as FHIRPath would: what is not comparable is not later."""
    if not (isinstance(first, str) and isinstance(second, str)):
        return False
    precision = min(len(first), len(second))
    if max(len(first), len(second)) <= _DATE_LENGTH:
        return first[:precision] > second[:precision]
    if precision <= _DATE_LENGTH:
        return False
    try:
        return datetime.fromisoformat(first) > datetime.fromisoformat(second)
    except (ValueError, TypeError):  # a leap second, or a zone is missing
        return False


def _range_is_ordered(range_: Object) -> bool:
    low, high = range_.get("low"), range_.get("high")
    if not (isinstance(low, dict) and isinstance(high, dict)):
        return True
    if any(low.get(name) != high.get(name) for name in ("system", "code", "unit")):
        return True
    lowest, highest = _number(low.get("value")), _number(high.get("value"))
    return lowest is None or highest is None or lowest <= highest


def _number(value: object) -> float | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    return None


def _components_have_other_codes(observation: Object) -> bool:
    if not any(name.lstrip("_").startswith("value") for name in observation):
        return True
    own = _codings(observation)
    components = _objects(observation, "component")
    return all(own.isdisjoint(_codings(component)) for component in components)


def _codings(element: Object) -> set[bytes]:
    """Give the codings of `code` in a form that can be compared at once."""
    code = element.get("code")
    codings = _objects(code, "coding") if isinstance(code, dict) else []
    return {orjson.dumps(coding, option=orjson.OPT_SORT_KEYS) for coding in codings}


def _probability_is_a_percentage(prediction: Object) -> bool:
    probability = _number(prediction.get("probabilityDecimal"))
    return probability is None or probability <= 100  # noqa: PLR2004 - per cent


def _has_where_due(part: str, types: frozenset[str]) -> Callable[[Object], bool]:
    def holds(bundle: Object) -> bool:
        due = bundle.get("type") in types if isinstance(bundle.get("type"), str) else None
        return due is None or all((part in e) is due for e in _objects(bundle, "entry"))

    return holds


def _begins_with(bundle_type: str, resource_type: str) -> Callable[[Object], bool]:
    def holds(bundle: Object) -> bool:
        if bundle.get("type") != bundle_type:
            return True
        entries = _objects(bundle, "entry")
        first = entries[0].get("resource") if entries else None
        return isinstance(first, dict) and first.get("resourceType") == resource_type

    return holds


def _full_urls_are_distinct(bundle: Object) -> bool:
    if bundle.get("type") == "history":
        return True
    seen: set[tuple[str, str]] = set()
    for entry in _objects(bundle, "entry"):
        url, resource = entry.get("fullUrl"), entry.get("resource")
        meta = resource.get("meta") if isinstance(resource, dict) else None
        version = str(meta.get("versionId")) if isinstance(meta, dict) else ""
        if isinstance(url, str):
            if (url, version) in seen:
                return False
            seen.add((url, version))
    return True


def _full_url_has_no_version(entry: Object) -> bool:
    return "/_history/" not in str(entry.get("fullUrl", ""))


INVARIANTS: Mapping[str, Callable[[Object], bool]] = {
    "bdl-3": _has_where_due("request", _WITH_REQUEST),
    "bdl-4": _has_where_due("response", _WITH_RESPONSE),
    "bdl-7": _full_urls_are_distinct,
    "bdl-8": _full_url_has_no_version,
    "bdl-11": _begins_with("document", "Composition"),
    "bdl-12": _begins_with("message", "MessageHeader"),
    "obs-7": _components_have_other_codes,
    "per-1": _period_is_ordered,
    "ras-2": _probability_is_a_percentage,
    "rng-2": _range_is_ordered,
}
"""Invariant key to a function that says whether an object keeps it."""


def _objects(owner: Object, name: str) -> list[Any]:
    items = owner.get(name)
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
