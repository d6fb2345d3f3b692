"""What an ABDM consent artefact permits, for the one engine to decide on.

An artefact only ever grants; one that grants nothing *withholds* (see `terms`), so the default of
a route never stands in for it, but it denies nothing that another consent permits.

* It permits while it is GRANTED and nothing else was ever said of it: REVOKED, EXPIRED and DENIED
  are final in whatever order notifications come, and so is a status that is not known.
* `permission.dataEraseAt` ends it, whether or not anybody tells us.
* `hiTypes` say which resources, by a table in `data/abdm-hi-types.json`; `careContexts` say which
  encounters; `dateRange` which days on the calendar. The Patient belongs to every record.
* What its purpose stands for in v3-ActReason, and whether that is allowed, is the site's policy.
* It has to be of our consent manager, and for one of our facilities.

Source: NHA ABDM; `abdm_artefact` reads the bytes.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import MAXYEAR, datetime, time, timedelta
from functools import cached_property, lru_cache
from importlib import resources
from typing import Any, ClassVar

from gateway.core.consent.abdm_artefact import Notification, Scope, ScopeUnclear, read_scope
from gateway.core.consent.matching import (
    NO,
    UNKNOWN,
    YES,
    Condition,
    Datum,
    ForPurpose,
    FromTime,
    Match,
    OfData,
)
from gateway.core.consent.periods import Period
from gateway.core.consent.record import ConsentRecord, Rule
from gateway.core.consent.request import ConsentRequest
from gateway.core.consent.terms import Terms

GRANTED = "GRANTED"
#: Statuses after which an artefact never grants again; of several the first one here is told.
TERMINAL = {
    "REVOKED": "was revoked by the patient.",
    "DENIED": "was denied by the patient.",
    "EXPIRED": "has expired, and what was had under it is to be erased.",
}
UNKNOWN_STATUS = "has a status that is not known, and in doubt it grants nothing."
_PENDING = "REQUESTED"
_CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category|"
_WITHOUT = "none"


@dataclass(frozen=True, slots=True)
class PurposeRule:
    """What a purpose of ABDM means here.

    Attributes:
        stands_for: Codes of v3-ActReason that an artefact for it speaks of.
        is_allowed: Whether data may be used for it at all.
    """

    stands_for: frozenset[str]
    is_allowed: bool


@dataclass(frozen=True, kw_only=True)
class AbdmPolicy:
    """How a site takes ABDM artefacts.

    Attributes:
        consent_manager: Id of the consent manager it belongs to, `abdm` or `sbx`.
        facilities: Its own ids in the Health Facility Registry.
        purposes: By ABDM's code; one that is not there is not allowed.
        access_modes: The modes under which a model may read the data.
    """

    consent_manager: str
    facilities: frozenset[str]
    purposes: Mapping[str, PurposeRule]
    access_modes: frozenset[str]

    @cached_property
    def fingerprint(self) -> str:
        """Tells one policy from another."""
        purposes = sorted((c, sorted(r.stands_for), r.is_allowed) for c, r in self.purposes.items())
        whole = (self.consent_manager, sorted(self.facilities), purposes, sorted(self.access_modes))
        return hashlib.sha256(repr(whole).encode()).hexdigest()


def default_purposes() -> dict[str, PurposeRule]:
    """Give the policy that comes with Nadi, from `data/abdm-purposes.json`."""
    return {
        code: PurposeRule(frozenset(rule["stands_for"]), rule["inference"] == "allow")
        for code, rule in _table("abdm-purposes.json").items()
    }


def settled_status(notifications: Sequence[Notification]) -> str:
    """Say how an artefact stands after all that was said of it, in whatever order."""
    said = {each.status for each in notifications}
    for status in TERMINAL:
        if status in said:
            return status
    odd = sorted(said - {GRANTED, _PENDING})
    if odd:
        return odd[0]
    return GRANTED if GRANTED in said else _PENDING


def artefact_scope(notifications: Sequence[Notification]) -> Scope:
    """Give what an artefact permits, as it was first granted.

    Raises:
        ScopeUnclear: It was never told, or not in a way that can be relied on.
    """
    for each in notifications:
        if each.status == GRANTED and each.detail is not None:
            return read_scope(each.detail)
    raise ScopeUnclear("consentDetail is missing")


def read_artefact(
    notifications: Sequence[Notification],
    ref: str,
    *,
    patient: str | None,
    policy: AbdmPolicy | None,
) -> ConsentRecord:
    """Read an artefact into a record.

    Args:
        notifications: All that was said of it, as it was received.
        ref: How decisions shall name it.
        patient: Whom it is about, as this site's system names the patient.
        policy: How the site takes artefacts; None where it takes none.
    """
    try:
        scope = artefact_scope(notifications)
    except ScopeUnclear as error:
        status = settled_status(notifications)
        why = TERMINAL.get(status) or f"grants nothing: {error.message}."
        return _record(ref, patient, (), Terms(stopped=why))
    terms = Terms(
        stopped=_why_stopped(settled_status(notifications), scope, policy),
        until=scope.erase_at,
        most=scope.frequency.most,
        per_s=scope.frequency.per_s,
    )
    rule = policy.purposes.get(scope.purpose) if policy else None
    return _record(ref, patient, tuple(_limits(scope, rule)), terms)


def _record(
    ref: str, patient: str | None, limits: tuple[Condition, ...], terms: Terms
) -> ConsentRecord:
    rule = Rule("permission", is_permit=True, stated=limits, conditions=limits)
    return ConsentRecord(
        ref=ref,
        status="active",
        patient=patient,
        scope="privacy",
        rule=rule,
        limiting=(rule,),
        terms=terms,
    )


def _why_stopped(status: str, scope: Scope, policy: AbdmPolicy | None) -> str:
    """Say why an artefact of known scope grants nothing, whatever is asked; empty when it does."""
    if status != GRANTED:
        pending = "was not granted yet." if status == _PENDING else UNKNOWN_STATUS
        return TERMINAL.get(status, pending)
    if policy is None:
        return "grants nothing: this site takes no ABDM artefacts (site file, key abdm)."
    why = _why_not_here(scope, policy)
    return f"grants nothing: {why}." if why else ""


def _why_not_here(scope: Scope, policy: AbdmPolicy) -> str:
    """Say what the site has against an artefact."""
    if scope.consent_manager != policy.consent_manager:
        return "it is not of this site's consent manager"
    if (scope.hiu or scope.hip) not in policy.facilities:
        return "it is for another facility"
    if scope.access_mode not in policy.access_modes:
        return "the site's policy does not allow its access mode"
    rule = policy.purposes.get(scope.purpose)
    is_allowed = rule is not None and rule.is_allowed
    return "" if is_allowed else "the site's policy does not allow its purpose"


def _limits(scope: Scope, rule: PurposeRule | None) -> Sequence[Condition]:
    # A purpose of which the site has no policy may stand for any.
    purposes = [ForPurpose(rule.stands_for, has_unknown=False, is_denial=False)] if rule else []
    contexts = [Datum("related", f"Encounter/{each}") for each in sorted(scope.care_contexts)]
    return (
        *purposes,
        OfHiTypes(scope.hi_types),
        OnDays(_days(scope), is_denial=False),
        OfCareContexts((*contexts,)),
    )


def _days(scope: Scope) -> Period:
    """Give the days of a date range: naive, days on the calendar where the data was written."""
    first, last = (datetime.combine(each.date(), time.min) for each in (scope.first, scope.last))
    return Period(first, None if last.year == MAXYEAR else last + timedelta(days=1))


@dataclass(frozen=True, slots=True)
class OfHiTypes:
    """`hiTypes`: the kinds of record, as types of resource and categories of Observations."""

    element: ClassVar[str] = "class"
    facts: ClassVar[frozenset[str]] = frozenset({"all_codes"})
    hi_types: frozenset[str]

    def match(self, request: ConsentRequest) -> Match:
        """Say whether the resource is of one of these kinds of record."""
        kind, codes = request.resource.type, request.resource.all_codes
        if kind is None:
            return UNKNOWN
        if kind in _always():
            return YES
        found = [table[kind] for each in self.hi_types if kind in (table := _types_of(each))]
        if not found:
            return NO
        if not all(found):
            return YES
        return UNKNOWN if codes is None else _of_category(codes, frozenset().union(*found))

    def words(self) -> str:
        """Name the kinds of record."""
        return ", ".join(sorted(self.hi_types))


def _of_category(codes: frozenset[str], permitted: frozenset[str]) -> Match:
    """Say whether an Observation is of these categories; without one it may be of any."""
    found = {each.removeprefix(_CATEGORY) for each in codes if each.startswith(_CATEGORY)}
    if not found:
        return YES if _WITHOUT in permitted else UNKNOWN
    return YES if found <= permitted else NO


class OnDays(FromTime):
    """`dateRange`: when the data was true of the patient; it says nothing of who the patient is."""

    __slots__ = ()

    def match(self, request: ConsentRequest) -> Match:
        """Say whether the data is of these days."""
        return YES if request.resource.type in _always() else FromTime.match(self, request)


class OfCareContexts(OfData):
    """`careContexts`: the encounters that the data belongs to."""

    __slots__ = ()

    def match(self, request: ConsentRequest) -> Match:
        """Say whether the data is of one of these encounters."""
        return YES if request.resource.type in _always() else OfData.match(self, request)


def _types_of(hi_type: str) -> Mapping[str, frozenset[str]]:
    """Give the types of resource of a kind of record; empty of one that is not known."""
    return _hi_types().get(hi_type, {})


@lru_cache(maxsize=1)
def _hi_types() -> Mapping[str, Mapping[str, frozenset[str]]]:
    return {
        hi_type: {kind: frozenset(categories) for kind, categories in types.items()}
        for hi_type, types in _table("abdm-hi-types.json")["hi_types"].items()
    }


@lru_cache(maxsize=1)
def _always() -> frozenset[str]:
    return frozenset(_table("abdm-hi-types.json")["always"])


def _table(name: str) -> Any:  # noqa: ANN401 - a table of its own shape
    content = resources.files("gateway.core").joinpath(f"data/{name}").read_bytes()
    return json.loads(content)
