"""Why a decision fell as it did: every rule with its conditions, and what would change it.

Whatever is said to change the verdict was tried: the request or the consents were changed in that
one way and decided again.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from gateway.core.consent.breaking import decide_broken
from gateway.core.consent.decision import (
    STRICT,
    ConsentDecision,
    ConsentSettings,
    Default,
    decide,
)
from gateway.core.consent.judging import Verdict, evaluate, judge
from gateway.core.consent.matching import (
    NO,
    UNKNOWN,
    YES,
    ByActor,
    Condition,
    ForAction,
    ForPurpose,
    HoldsDuring,
)
from gateway.core.consent.record import ConsentRecord, Rule
from gateway.core.consent.request import Actor, ConsentRequest


@dataclass(frozen=True)
class RuleVerdict:
    """What one rule says to a request.

    Attributes:
        rule: The Consent and the path of the rule; the Consent alone where it is not asked.
        kind: Whether it is a rule that permits or one that denies.
        verdict: What it says with its exceptions.
        why: Each of its conditions, and whether it holds.
    """

    rule: str
    kind: str
    verdict: Verdict
    why: str


@dataclass(frozen=True)
class Explanation:
    """A decision with the verdict of each rule, and what would change it."""

    decision: ConsentDecision
    rules: tuple[RuleVerdict, ...]
    changes: tuple[str, ...]


def explain(
    request: ConsentRequest,
    consents: Sequence[ConsentRecord],
    *,
    default: Default = "deny",
    settings: ConsentSettings = STRICT,
    breaks_glass: bool = False,
) -> Explanation:
    """Decide, and tell how every rule took part.

    Args:
        request: What is asked; for purpose BTG where the glass is broken.
        consents: Everything on record for the patient.
        default: What holds where no consent applies.
        settings: How the site wants consents to be taken.
        breaks_glass: Whether it is decided as in an emergency, see `breaking`.
    """
    asking = _Asking(request, tuple(consents), default, settings, breaks_glass)
    decision = asking.decide()
    changes = [words for words, tried in _trials(asking) if _is_other(tried, decision)]
    rules = (verdict for record in consents for verdict in _of_consent(record, request))
    return Explanation(decision, tuple(rules), tuple(dict.fromkeys(changes)))


_MATCHES = {NO: "does not hold", UNKNOWN: "is not known", YES: "holds"}


# -- each rule -------------------------------------------------------------------------------


def _of_consent(record: ConsentRecord, request: ConsentRequest) -> Iterator[RuleVerdict]:
    found = judge(record, request)
    if found.rule is None:
        kind = "permit" if record.rule.is_permit else "deny"
        yield RuleVerdict(record.ref, kind, found.verdict, found.why)
        return
    yield from _of_rule(record, record.rule, request)


def _of_rule(record: ConsentRecord, rule: Rule, request: ConsentRequest) -> Iterator[RuleVerdict]:
    verdict = evaluate(rule, request)[0]
    said = [f"{_told(each)} {_MATCHES[each.match(request)]}" for each in rule.conditions]
    why = "; ".join(said) or "it has no conditions"
    kind = "permit" if rule.is_permit else "deny"
    yield RuleVerdict(f"{record.ref} {rule.path}", kind, verdict, f"{why}.")
    for exception in rule.rules:
        yield from _of_rule(record, exception, request)


def _told(condition: Condition) -> str:
    return f"{condition.element} ({condition.words()})"


# -- what would change it --------------------------------------------------------------------


@dataclass(frozen=True)
class _Asking:
    """All that a decision is made from."""

    request: ConsentRequest
    consents: tuple[ConsentRecord, ...]
    default: Default
    settings: ConsentSettings
    breaks_glass: bool = False

    def decide(self) -> ConsentDecision:
        if self.breaks_glass:
            return decide_broken(self.request, self.consents, settings=self.settings)
        return decide(self.request, self.consents, default=self.default, settings=self.settings)


_Trial = tuple[str, _Asking]


def _is_other(tried: _Asking, decision: ConsentDecision) -> bool:
    return tried.decide().is_permitted != decision.is_permitted


def _trials(asking: _Asking) -> Iterator[_Trial]:
    """Give ways in which things could be otherwise, in words."""
    yield from _without_consents(asking)
    yield from _at_other_times(asking)
    conditions = [each for record in asking.consents for each in _conditions(record.rule)]
    if not asking.breaks_glass:
        yield from _for_other_purposes(asking, conditions)
    yield from _by_other_actors(asking, conditions)
    yield from _with_other_actions(asking, conditions)
    yield from _under_other_settings(asking)


def _conditions(rule: Rule) -> Iterator[Condition]:
    yield from rule.conditions
    for exception in rule.rules:
        yield from _conditions(exception)


def _without_consents(asking: _Asking) -> Iterator[_Trial]:
    for record in asking.consents:
        others = tuple(each for each in asking.consents if each is not record)
        yield f"{record.ref} withdrawn", replace(asking, consents=others)
        if record.status != "active":
            active = replace(record, status="active")
            changed = tuple(active if each is record else each for each in asking.consents)
            yield f"{record.ref} in force (status active)", replace(asking, consents=changed)
    yield from _with_new_consents(asking)
    found = (judge(record, asking.request) for record in asking.consents)
    denying = sorted({each.record.ref for each in found if each.verdict == "deny"})
    if denying:
        left = tuple(record for record in asking.consents if record.ref not in denying)
        words, without = f"{', '.join(denying)} withdrawn", replace(asking, consents=left)
        yield words, without
        if _is_other(without, asking.decide()):
            # Then nothing more is needed.
            return
        yield from ((f"{words} and {more}", tried) for more, tried in _with_new_consents(without))


def _with_new_consents(asking: _Asking) -> Iterator[_Trial]:
    purposes = frozenset({asking.request.purpose})
    for verb in ("permits", "denies"):
        named = ForPurpose(purposes, has_unknown=False, is_denial=verb == "denies")
        new = ConsentRecord(
            ref="Consent/new",
            status="active",
            patient=asking.request.patient,
            scope="privacy",
            rule=Rule("provision", is_permit=verb == "permits", conditions=(named,)),
        )
        words = f"a new Consent of the patient that {verb} {asking.request.purpose}"
        yield words, replace(asking, consents=(*asking.consents, new))


def _at_other_times(asking: _Asking) -> Iterator[_Trial]:
    for record in asking.consents:
        periods = (
            each.period for each in _conditions(record.rule) if isinstance(each, HoldsDuring)
        )
        for period in periods:
            for moment in () if period is None else (period.starts, period.ends):
                if moment is not None and moment > asking.request.now:
                    yield _from(moment), _asked(asking, now=moment)


def _from(moment: datetime) -> str:
    return f"from {moment.isoformat()} on"


def _for_other_purposes(asking: _Asking, conditions: Iterable[Condition]) -> Iterator[_Trial]:
    purposes = (each.codes for each in conditions if isinstance(each, ForPurpose))
    for purpose in sorted(frozenset().union(*purposes)):
        yield f"for purpose {purpose}", _asked(asking, purpose=purpose)


def _by_other_actors(asking: _Asking, conditions: Iterable[Condition]) -> Iterator[_Trial]:
    for condition in conditions:
        if isinstance(condition, ByActor):
            for party in condition.parties:
                name = party.reference or party.identifier
                if name is not None:
                    yield f"asked by {name}", _asked(asking, actor=_as_party(name, party.role))


def _as_party(name: str, roles: frozenset[str]) -> Actor:
    """Give an actor that is this party and nobody else."""
    names = frozenset((name,))
    return Actor(
        references=names, identifiers=names, groups=names, organizations=names, roles=roles
    )


def _with_other_actions(asking: _Asking, conditions: Iterable[Condition]) -> Iterator[_Trial]:
    for condition in conditions:
        if isinstance(condition, ForAction) and condition.codes:
            words = f"for {', '.join(sorted(condition.codes))} only"
            yield words, _asked(asking, actions=condition.codes)


def _under_other_settings(asking: _Asking) -> Iterator[_Trial]:
    other: Default = "permit" if asking.default == "deny" else "deny"
    yield f"a route whose default is to {other}", replace(asking, default=other)
    owed = asking.decide().obligations
    if owed:
        codes = frozenset(each.code for each in owed)
        fulfilling = replace(asking.settings, fulfils=asking.settings.fulfils | codes)
        words = f"{', '.join(sorted(codes))} seen to by whoever asks"
        yield words, replace(asking, settings=fulfilling)
    if not asking.settings.newer_supersedes:
        newer = replace(asking.settings, newer_supersedes=True)
        yield "a site where the newer consent sets aside the older", replace(asking, settings=newer)


def _asked(asking: _Asking, **changed: object) -> _Asking:
    return replace(asking, request=replace(asking.request, **changed))  # type: ignore[arg-type]  # any field
