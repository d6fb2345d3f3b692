"""Search results: a searchset Bundle of bounded size with links.

Source: FHIR R4 search.html#count, bundle.html#searchset.
"""

import re
from collections.abc import Sequence
from urllib.parse import urlencode

from starlette.requests import Request

from gateway.core.errors import ContentError

DEFAULT_COUNT = 50
MOST_COUNT = 500

# What fits into a 64-bit column; longer numbers are none of ours.
_MOST_DIGITS = 18

_PAGING = ("_count", "before")
# Asked of every FHIR server by some clients: how the answer looks, not what is in it.
_TOLERATED = ("_format", "_pretty")

# FHIR id, http://hl7.org/fhir/R4/datatypes.html#id
_ID = re.compile(r"[A-Za-z0-9.-]{1,64}")


def count_of(request: Request) -> int:
    """Read `_count`, bounded.

    Raises:
        ContentError: It is not a whole number, or zero.
    """
    count = whole_number(request, "_count")
    if count == 0:
        raise ContentError("_count has to be at least 1.", location="_count")
    return DEFAULT_COUNT if count is None else min(count, MOST_COUNT)


def insist_on_known(request: Request, *names: str) -> None:
    """Refuse a search that asks for what is not understood: its answer would mislead.

    Args:
        request: The search.
        names: The parameters of its own, besides those of every search.

    Raises:
        ContentError: A parameter is unknown, empty, or given more than once (only `date` may be).
    """
    given = [name for name, _ in request.query_params.multi_items()]
    if not {*names, *_PAGING, *_TOLERATED}.issuperset(given):
        known = ", ".join((*names, *_PAGING))
        raise ContentError(f"A parameter of this search is not known here; known: {known}.")
    for name in (*names, *_PAGING):
        values = request.query_params.getlist(name)
        if "" in values:
            raise ContentError(f"{name} is empty; leave it out or give it a value.", location=name)
        if len(values) > 1 and name != "date":
            raise ContentError(f"{name} may be given only once.", location=name)


def whole_number(request: Request, name: str) -> int | None:
    """Read a parameter that is a whole number; None when it is not given.

    Raises:
        ContentError: It is something else.
    """
    given = request.query_params.get(name)
    if given is None:
        return None
    if not (given.isascii() and given.isdecimal() and len(given) <= _MOST_DIGITS):
        raise ContentError(f"{name} has to be a whole number.", location=name)
    return int(given)


def next_of(request: Request) -> str | None:
    """Read `before`, the id that a next link gave; None on the first page.

    Raises:
        ContentError: It is no id.
    """
    given = request.query_params.get("before")
    if given is not None and not _ID.fullmatch(given):
        raise ContentError("before has to be the id that a next link gave.", location="before")
    return given


def next_link(name: str, value: str | None) -> dict[str, str]:
    """Give the parameter that leads to the next page; none on the last page."""
    return {name: value} if value else {}


def searchset(
    request: Request,
    resources: Sequence[dict[str, object]],
    *,
    following: dict[str, str],
    total: int | None = None,
    addresses: Sequence[str] = (),
) -> dict[str, object]:
    """Wrap resources in a searchset Bundle.

    Args:
        request: The search; its own address becomes the link `self`.
        resources: This page.
        following: The parameter of the next page, empty on the last.
        total: How many match in all, where that was counted.
        addresses: The `fullUrl` of each resource, where they have one.
    """
    path = request.url.path
    # A parameter may be given more than once: date=ge…&date=lt…
    given = request.query_params.multi_items()
    links = [{"relation": "self", "url": _address(path, given)}]
    if following:
        kept = [pair for pair in given if pair[0] not in following]
        links.append({"relation": "next", "url": _address(path, [*kept, *following.items()])})
    bundle: dict[str, object] = {"resourceType": "Bundle", "type": "searchset", "link": links}
    if total is not None:
        bundle["total"] = total
    if resources:
        named = [{"fullUrl": each} for each in addresses] or [{}] * len(resources)
        bundle["entry"] = [
            {**name, "resource": resource, "search": {"mode": "match"}}
            for name, resource in zip(named, resources, strict=True)
        ]
    return bundle


def _address(path: str, parameters: Sequence[tuple[str, str]]) -> str:
    return f"{path}?{urlencode(parameters)}" if parameters else path
