"""The canary: a built-in patient who refuses everything, taken through the live path all the time.

* She is a patient of a system of her own, `nadi-canary`, which no site names: what is made for her
  has nowhere to go.
* For each route of the site there is one of hers, asking for the same purpose and the same model.
  Its default is to permit, so that her Consent alone stands between her and the model.
* Two more of each begin further on: `-infer` as if admission had let her in, `-deliver` as if a
  result of hers were there. Whoever infers or delivers has to refuse them.

If she is ever permitted, consent does not hold in this gateway, for nobody.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from gateway.core.errors import TransientError
from gateway.core.routing import Route

CANARY_SYSTEM = "nadi-canary"
CANARY_PATIENT = "Patient/nadi-canary"
#: Ends the names of her routes, before the stage.
CANARY = "+canary"
STAGES = {"": "admission", "-infer": "inference", "-deliver": "the write-back"}

_CODE = {"system": "https://nadi.health/fhir/sid/canary", "code": "canary"}
_LONGEST_NAME = 64
_SCOPE = "http://terminology.hl7.org/CodeSystem/consentscope"

Json = Mapping[str, Any]


class CanaryPermitted(TransientError):
    """The canary was permitted: nothing is admitted until a person has looked and cleared it."""


def canary_routes(routes: Sequence[Route]) -> tuple[Route, ...]:
    """Give her routes; one of a name too long to carry hers is left out."""
    longest = _LONGEST_NAME - len(CANARY) - max(map(len, STAGES))
    return tuple(canary_route(each) for each in routes if len(each.name) <= longest)


def canary_route(route: Route, stage: str = "") -> Route:
    """Give a route as it is run for the canary.

    Args:
        route: Of the site.
        stage: Where she begins, a key of `STAGES`.
    """
    return replace(
        route,
        name=f"{route.name}{CANARY}{stage}",
        source=CANARY_SYSTEM,
        sink=CANARY_SYSTEM,
        window=None,
        resource_type="Observation",
        consent_default="permit",
        trigger=_is_hers,
    )


def split_name(name: str) -> tuple[str, str] | None:
    """Give the site's route and the stage that a name of hers stands for; None for any other."""
    plain, mark, stage = name.partition(CANARY)
    return (plain, stage) if mark and stage in STAGES else None


def is_canary(route: str) -> bool:
    """Say whether a route's name is one of hers."""
    return CANARY in route


def _is_hers(content: Json) -> bool:
    return _CODE in (content.get("code") or {}).get("coding", ())


def canary_consent() -> dict[str, Any]:
    """Give her Consent: it denies everything, to everybody, for ever."""
    return {
        "resourceType": "Consent",
        "id": "nadi-canary",
        "status": "active",
        "scope": {"coding": [{"system": _SCOPE, "code": "patient-privacy"}]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": {"reference": CANARY_PATIENT},
        "policyRule": {"text": "The canary refuses everything."},
        "provision": {"type": "deny"},
    }


def canary_event(at: datetime, version: int) -> dict[str, Any]:
    """Give the event that sets her routes going, as a new version each time."""
    return {
        "resourceType": "Observation",
        "id": "nadi-canary",
        "meta": {"versionId": str(version)},
        "status": "final",
        "code": {"coding": [_CODE]},
        "subject": {"reference": CANARY_PATIENT},
        "effectiveDateTime": at.isoformat(),
        "valueInteger": 0,
    }
