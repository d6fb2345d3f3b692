"""What a resource tells of itself that a consent may ask about.

What a resource leaves open stays unknown (None): an Observation without a performer was made by
somebody, and one without an encounter may belong to any. Only for a type that has no such element
is it known that there is none.

Source: FHIR R4; IHE PCF 1:53.4.2.6 (author, related encounter), 1:53.4.2.7 (labels).
"""

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.core.consent.elements import coding, codings
from gateway.core.consent.periods import DataTime, data_time
from gateway.core.consent.request import Names, ResourceFacts
from gateway.core.consent.vocabulary import ACT_CODE, CONFIDENTIALITY, label
from gateway.core.event import TIME_ELEMENTS, relative_reference

Json = Mapping[str, Any]

_CODES = ("code", "type", "vaccineCode", "medicationCodeableConcept")
_PERIODS = (
    *("effectivePeriod", "onsetPeriod", "occurrencePeriod", "performedPeriod", "period"),
    "createdPeriod",
)
_AUTHORS = ("performer", "author", "recorder", "asserter", "requester", "informationSource")
_ENCOUNTERS = ("encounter", "context", "episodeOfCare")
#: Types that are about a person or a thing, and neither have an author nor belong to an encounter.
_OF_NOBODY = frozenset(
    {"Patient", "Person", "RelatedPerson", "Practitioner", "Organization", "Device", "Location"}
)
#: A contained resource, or one of a Bundle that is not at hand.
_INNER = ("#", "urn:")
_NORMAL = f"{CONFIDENTIALITY}|N"
#: All that can be read of a resource, beside its type and its reference.
FACTS = frozenset(
    {"profiles", "codes", "all_codes", "labels", "time", "authors", "encounters", "related"}
)


def resource_facts(
    content: Json,
    *,
    base_url: str | None = None,
    unlabelled_is_normal: bool = False,
    only: frozenset[str] = FACTS,
) -> ResourceFacts:
    """Read what a resource tells of itself.

    Args:
        content: A valid resource as decoded JSON.
        base_url: FHIR base of the EHR; absolute references below it are its own.
        unlabelled_is_normal: Whether the site labels all its sensitive data, so that what has no
            label of confidentiality or sensitivity is normal.
        only: The facts that are wanted; type and reference always are. The others stay unknown.
    """
    kind = str(content["resourceType"])
    return ResourceFacts(
        type=kind,
        reference=f"{kind}/{content['id']}" if "id" in content else None,
        profiles=_profiles(content) if "profiles" in only else None,
        codes=_codes(content) if "codes" in only else None,
        all_codes=frozenset(_all_codes(content)) if "all_codes" in only else None,
        labels=_labels(content, unlabelled_is_normal) if "labels" in only else None,
        time=_time(content) if "time" in only else None,
        authors=_named(content, _AUTHORS, base_url) if "authors" in only else None,
        encounters=_named(content, _ENCOUNTERS, base_url) if "encounters" in only else None,
        related=_related(content, base_url) if "related" in only else None,
    )


def _profiles(content: Json) -> frozenset[str]:
    return frozenset((content.get("meta") or {}).get("profile") or ())


def _labels(content: Json, unlabelled_is_normal: bool) -> frozenset[str]:
    labels = labels_of(content)
    is_plain = unlabelled_is_normal and _is_unlabelled(content, labels)
    return labels | {_NORMAL} if is_plain else labels


def labels_of(content: Json) -> frozenset[str]:
    """Give the security labels of a resource, as `system|code`."""
    security = (content.get("meta") or {}).get("security") or ()
    return frozenset([label(*pair) for each in security if (pair := coding(each))])


def _is_unlabelled(content: Json, labels: frozenset[str]) -> bool:
    """Say whether nobody has said anything of confidentiality; what can't be read may say it."""
    security = (content.get("meta") or {}).get("security") or ()
    if any(coding(each) is None or not each.get("system") for each in security):
        return False
    return not any(each.rpartition("|")[0] in (CONFIDENTIALITY, ACT_CODE) for each in labels)


def _codes(content: Json) -> Names:
    element = next((content[name] for name in _CODES if name in content), None)
    if not isinstance(element, Mapping):
        return frozenset() if content["resourceType"] in _OF_NOBODY else None
    # A code that is written as text only may be any.
    return frozenset("|".join(pair) for pair in codings(element)) or None


def _all_codes(element: object) -> Iterator[str]:
    """Give every coding anywhere in a resource, labels and tags included."""
    if isinstance(element, Mapping):
        pair = coding(element) if isinstance(element.get("code"), str) else None
        if pair:
            yield "|".join(pair)
        for part in element.values():
            yield from _all_codes(part)
    elif isinstance(element, list):
        for part in element:
            yield from _all_codes(part)


def _time(content: Json) -> DataTime | None:
    for name in TIME_ELEMENTS:
        if name in content:
            return data_time(content[name], content[name])
    for name in _PERIODS:
        if isinstance(period := content.get(name), Mapping):
            return data_time(period.get("start"), period.get("end"))
    return None


def _named(content: Json, elements: tuple[str, ...], base_url: str | None) -> Names:
    """Give what some elements refer to; None when they are absent, or name it in no literal way."""
    if content["resourceType"] in _OF_NOBODY:
        return frozenset()
    found = [_literal(each, base_url) for name in elements for each in _each(content.get(name))]
    names = frozenset(each for each in found if each)
    return names if names and None not in found else None


def _each(element: object) -> Iterator[Json]:
    """Give the References in an element; some stand in a backbone element around them."""
    for each in element if isinstance(element, list) else [element]:
        if isinstance(each, Mapping):
            actor, encounters = each.get("actor"), each.get("encounter")
            if encounters is not None:
                yield from _each(encounters)
            else:
                yield actor if isinstance(actor, Mapping) else each


def _literal(reference: Json, base_url: str | None) -> str | None:
    written = reference.get("reference")
    is_literal = isinstance(written, str) and not written.startswith(_INNER)
    return _relative(str(written), base_url) if is_literal else None


def _relative(written: str, base_url: str | None) -> str:
    return relative_reference(written, base_url=base_url) or written.partition("/_history/")[0]


def _related(content: Json, base_url: str | None) -> Names:
    found = frozenset(_references(content, base_url))
    return None if any(each.startswith("urn:") for each in found) else found


def _references(element: object, base_url: str | None) -> Iterator[str]:
    if isinstance(element, Mapping):
        written = element.get("reference")
        if isinstance(written, str):
            yield _relative(written, base_url)
        for part in element.values():
            yield from _references(part, base_url)
    elif isinstance(element, list):
        for part in element:
            yield from _references(part, base_url)
