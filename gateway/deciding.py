"""Ask now what a route would be told of a patient's consents, and why; nothing is used by it.

For the command line and the API alike. The question is the one that a route asks
(`gateway.core.consent.use`); what is given otherwise is asked in its place. Purpose BTG is decided
as `nadi break-glass run` decides it, where the site lets anybody break the glass.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from adapters.site import Site
from gateway.core.consent import (
    BREAK_GLASS,
    READ,
    About,
    Actor,
    Asks,
    ConsentDecision,
    Explanation,
    Model,
    Question,
    question,
)
from gateway.core.consent.summary import summary
from gateway.core.errors import ContentError
from gateway.store.unit_of_work import UnitOfWork
from models.versions import routable


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is asked.

    Attributes:
        key: Keyed hash of the patient.
        patient: `Patient/<id>`.
        route: Gives purpose, default, actor and model; None asks for a purpose alone.
        purpose: In place of the route's.
        actions: What would be done; reading if empty.
        actor: In place of the model.
        resource: The data: a FHIR resource, which need not be whole; None asks of no data.
    """

    key: str
    patient: str
    route: str | None = None
    purpose: str | None = None
    actions: frozenset[str] = READ
    actor: Actor | None = None
    resource: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Answer:
    """A decision with its reasons, and under what it was asked."""

    explanation: Explanation
    foreseen: ConsentDecision
    asks: Asks

    @property
    def decision(self) -> ConsentDecision:
        """The decision; of no data in particular, what is foreseen before data is unsealed."""
        return self.explanation.decision


def answered(uow: UnitOfWork, site: Site, wanted: Wanted) -> Answer:
    """Decide now, and tell how every rule took part.

    Raises:
        ContentError: No such route, neither route nor purpose, or the resource can't be read.
    """
    asks, model = _asks(uow, site, wanted)
    consents = uow.consents.of([wanted.key], site.abdm_policy)[wanted.key]
    about = About(wanted.patient, None, uow.now)
    asked = question(asks, about, consents, model, wanted.actions)
    if wanted.actor is not None:
        asked = replace(asked, request=replace(asked.request, actor=wanted.actor))
    told = _explained(asked, wanted.resource)
    if wanted.purpose == BREAK_GLASS:
        said = _EMERGENCY if asks.breaks_glass else _NO_EMERGENCY
        reasons = (said, *told.decision.reasons)
        told = replace(told, decision=replace(told.decision, reasons=reasons))
    return Answer(told, asked.foresee(), asks)


_EMERGENCY = (
    "Asked as `nadi break-glass run` asks: what nobody forbade for emergencies is permitted, to "
    "whom the site file names (break_glass.clinicians)."
)
_NO_EMERGENCY = (
    "The site file names nobody who may break the glass (break_glass.clinicians): BTG is asked "
    "like any other purpose, and `nadi break-glass run` refuses whatever is said here."
)


@dataclass(frozen=True)
class Still:
    """What is permitted of a patient's data, whatever was denied or taken back.

    Attributes:
        purposes: Codes of v3-ActReason.
        consents: The consents that permit it; none where something else does.
        basis: See `ConsentDecision.basis`.
        is_limited: Whether it is some data only.
    """

    purposes: tuple[str, ...]
    consents: tuple[str, ...]
    basis: str
    is_limited: bool


@dataclass(frozen=True)
class Denied:
    """What is not permitted of a patient's data.

    Attributes:
        purposes: Codes of v3-ActReason.
        reasons: Why, in words.
        consents: Those that deny or withhold it; none where nothing permits it.
    """

    purposes: tuple[str, ...]
    reasons: tuple[str, ...]
    consents: tuple[str, ...] = ()


def still_permitted(uow: UnitOfWork, site: Site, key: str, patient: str) -> list[Still]:
    """Tell what is permitted now, see `holding`."""
    return holding(uow, site, key, patient)[0]


def holding(
    uow: UnitOfWork, site: Site, key: str, patient: str
) -> tuple[list[Still], list[Denied]]:
    """Tell what holds now: for the routes of the site, and for what her consents speak of.

    Args:
        uow: Reads.
        site: In force.
        key: Keyed hash of the patient.
        patient: `Patient/<id>`.

    Returns:
        What is permitted and what is denied, each with its grounds.
    """
    permitted: dict[tuple[tuple[str, ...], str, bool], list[str]] = {}
    denied: dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for wanted in _of_interest(uow, site, key, patient):
        answer = answered(uow, site, wanted)
        said, whole = answer.foreseen, answer.decision
        if said.is_permitted:
            ground = (said.consents, said.basis, not whole.is_permitted)
            permitted.setdefault(ground, []).append(said.purpose)
        else:
            denied.setdefault((said.reasons, said.consents), []).append(said.purpose)
    still = [Still(_once(purposes), *ground) for ground, purposes in permitted.items()]
    return still, [Denied(_once(purposes), *why) for why, purposes in denied.items()]


def _of_interest(uow: UnitOfWork, site: Site, key: str, patient: str) -> list[Wanted]:
    records = uow.consents.of([key], site.abdm_policy)[key]
    named = {code for record in records for code in summary(record, uow.now).purposes}
    routes = {(each.purpose, each.consent_default): each.name for each in site.routes}
    alone = sorted(named - {purpose for purpose, _ in routes})
    asked = [Wanted(key=key, patient=patient, route=name) for name in routes.values()]
    return asked + [Wanted(key=key, patient=patient, purpose=each) for each in alone]


def _once(purposes: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(purposes))


def _asks(uow: UnitOfWork, site: Site, wanted: Wanted) -> tuple[Asks, Model]:
    if wanted.route is None:
        if wanted.purpose is None:
            raise ContentError("Give a route or a purpose.", location="purpose")
        asks = Asks(wanted.purpose, terms=site.consent)
        return _in_emergency(asks, site, wanted), Model("unnamed")
    route = site.route(wanted.route)
    if route is None:
        known = ", ".join(each.name for each in site.routes) or "none"
        raise ContentError(
            f"The site in force has no such route; known: {known}.", location="route"
        )
    asks = route.asks
    digest = routable(uow.models.in_service()).get(route.model, "")
    asks = replace(asks, purpose=wanted.purpose or asks.purpose)
    return _in_emergency(asks, site, wanted), Model(route.model, digest)


def _in_emergency(asks: Asks, site: Site, wanted: Wanted) -> Asks:
    """Ask for purpose BTG as is asked when the glass is broken, see `routing.broken`."""
    if wanted.purpose != BREAK_GLASS or site.break_glass is None:
        return asks
    return replace(asks, default="permit", breaks_glass=True)


def _explained(asked: Question, resource: Mapping[str, Any] | None) -> Explanation:
    if resource is None:
        return asked.explain()
    try:
        facts = asked.facts(resource)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ContentError(
            "The resource can't be read: it needs resourceType, and elements as R4 has them.",
            location="resource",
        ) from None
    return asked.explain(facts)


def as_json(answer: Answer) -> dict[str, Any]:
    """Give an answer for a program."""
    decision = answer.decision
    return {
        "decision": _word(decision),
        "foreseen": _word(answer.foreseen),
        "purpose": decision.purpose,
        "default": answer.asks.default,
        "basis": decision.basis,
        "obligations": [asdict(each) for each in decision.obligations],
        "reasons": list(decision.reasons),
        "consents": list(decision.consents),
        "rules": [asdict(rule) for rule in answer.explanation.rules],
        "changes": list(answer.explanation.changes),
    }


def _word(decision: ConsentDecision) -> str:
    return "permit" if decision.is_permitted else "deny"


def as_parameters(answer: Answer) -> dict[str, Any]:
    """Give an answer as a FHIR Parameters resource."""
    told = as_json(answer)
    parts = [{"name": name, "valueString": told[name]} for name in _WORDS if told[name]]
    for name, each in (("reason", "reasons"), ("consent", "consents"), ("change", "changes")):
        parts += [{"name": name, "valueString": line} for line in told[each]]
    for name, each in (("obligation", "obligations"), ("rule", "rules")):
        parts += [{"name": name, "part": _parts(line)} for line in told[each]]
    return {"resourceType": "Parameters", "parameter": parts}


_WORDS: Sequence[str] = ("decision", "foreseen", "purpose", "default", "basis")


def _parts(line: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "valueString": value} for name, value in line.items() if value]
