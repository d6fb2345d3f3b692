"""Search results: a searchset Bundle of bounded size with links.

Source: FHIR R4 search.html#count, bundle.html#searchset.
"""

from collections.abc import Sequence
from urllib.parse import urlencode

from starlette.requests import Request

from gateway.core.errors import ContentError
from gateway.store.sealing import Sealer

DEFAULT_COUNT = 50
MOST_COUNT = 500

#: The system that patients belong to unless `system=` says otherwise.
DEFAULT_SYSTEM = "ehr"


def count_of(request: Request) -> int:
    """Read `_count`, bounded.

    Raises:
        ContentError: It is not a whole number.
    """
    given = request.query_params.get("_count", str(DEFAULT_COUNT))
    if not given.isdecimal():
        raise ContentError("_count has to be a whole number.", location="_count")
    return min(max(int(given), 1), MOST_COUNT)


def patient_key_of(request: Request, sealer: Sealer) -> str | None:
    """Turn `patient=` into the patient's keyed hash; None when no patient is named.

    `system=` says whose patient it is, for a site with more than one EHR.
    """
    patient = request.query_params.get("patient")
    if patient is None:
        return None
    reference = patient if "/" in patient else f"Patient/{patient}"
    return sealer.patient_key(request.query_params.get("system", DEFAULT_SYSTEM), reference)


def next_link(name: str, value: str | None) -> dict[str, str]:
    """Give the parameter that leads to the next page; none on the last page."""
    return {name: value} if value else {}


def searchset(
    request: Request,
    resources: Sequence[dict[str, object]],
    *,
    following: dict[str, str],
    total: int | None = None,
) -> dict[str, object]:
    """Wrap resources in a searchset Bundle.

    Args:
        request: The search; its own address becomes the link `self`.
        resources: This page.
        following: The parameter of the next page, empty on the last.
        total: How many match in all, where that was counted.
    """
    path = request.url.path
    given = dict(request.query_params)
    links = [{"relation": "self", "url": _address(path, given)}]
    if following:
        links.append({"relation": "next", "url": _address(path, {**given, **following})})
    bundle: dict[str, object] = {"resourceType": "Bundle", "type": "searchset", "link": links}
    if total is not None:
        bundle["total"] = total
    if resources:
        bundle["entry"] = [
            {"resource": resource, "search": {"mode": "match"}} for resource in resources
        ]
    return bundle


def _address(path: str, parameters: dict[str, str]) -> str:
    return f"{path}?{urlencode(parameters)}" if parameters else path
