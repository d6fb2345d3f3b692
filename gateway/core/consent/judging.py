"""What one Consent says to a request, and by which of its rules.

A rule applies where all its conditions hold, and its exceptions go before it: an exception that
denies carves out, one that permits widens, and of two that both hold the denial wins. A permit
needs certainty that its conditions hold, a denial only that they may.

What a Consent says is one of four things:

* deny: one of its rules denies;
* permit: one of its rules permits, and none denies;
* withhold: it speaks of this purpose, but its permit does not reach this actor, action or data.
  It then doesn't permit, and the default of the route doesn't hold, but another Consent may permit;
* silent: it is not in force, or not about this patient, scope or purpose.

It withholds as well where its permit is held back: withdrawn, over, or used up (`terms`).

Source: FHIR R4 Consent.provision; IHE PCF volume 1, 1:53.4.2, and its examples.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from gateway.core.consent.matching import (
    NO,
    UNKNOWN,
    YES,
    Condition,
    ForPurpose,
    HoldsDuring,
    match_all,
)
from gateway.core.consent.record import ConsentRecord, Rule
from gateway.core.consent.request import ConsentRequest
from gateway.core.consent.vocabulary import PERMITTED_BY, RESEARCH

Verdict = Literal["deny", "permit", "withhold", "silent"]
#: The verdict of a rule with its exceptions, which of them gave it, what is not surely met in it.
Said = tuple[Verdict, Rule, Condition | None]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one Consent says to a request.

    Attributes:
        rule: The rule that says it; None when the whole Consent does.
        condition: The first condition that does not surely hold; None when all do.
        why: In words, after the name of the Consent.
    """

    record: ConsentRecord
    verdict: Verdict
    why: str
    rule: Rule | None = None
    condition: Condition | None = None


def judge(record: ConsentRecord, request: ConsentRequest) -> Finding:
    """Say what one Consent says to a request, and why."""
    if not record.is_readable:
        return Finding(record, "deny", "can't be read, and in doubt the answer is no.")
    silence = _why_silent(record, request)
    if silence:
        return Finding(record, "silent", silence)
    if record.doubts or record.silence:
        return _of_no_use(record, request)
    verdict, rule, condition = evaluate(record.rule, request)
    held_back = _held_back(record, request, rule) if verdict in ("permit", "withhold") else None
    if held_back:
        return held_back
    why = _WORDS[verdict](rule, condition, request)
    if verdict == "deny" and record.refuses_ai:
        why = _REFUSED_BEFORE if record.is_of_key else "refuses all AI."
    return Finding(record, verdict, why, rule, condition)


_REFUSED_BEFORE = "refused all AI before her data was erased, and that was not taken back."


def _held_back(record: ConsentRecord, request: ConsentRequest, rule: Rule) -> Finding | None:
    """Say what keeps a permit from counting, whatever its rules say."""
    silence = _why_no_permit(record, request)
    if silence:
        return Finding(record, "silent", silence, rule)
    why = record.terms.why_not(request)
    return Finding(record, "withhold", why) if why else None


def _why_silent(record: ConsentRecord, request: ConsentRequest) -> str:
    """Say why a Consent says nothing at all here; empty when it does."""
    if record.status != "active":
        return f"is not in force (status {record.status})."
    if request.patient != record.patient and not record.is_of_key:
        return "is about another patient."
    is_research = RESEARCH in PERMITTED_BY.get(request.purpose, ())
    return _OTHER_USE if record.scope == "other" and not is_research else ""


_OTHER_USE = "is not about this use of data (scope is not patient-privacy)."


def _of_no_use(record: ConsentRecord, request: ConsentRequest) -> Finding:
    """Judge a Consent that can't be relied on, or states no rule: while it holds, it denies."""
    periods = [each for each in record.rule.conditions if isinstance(each, HoldsDuring)]
    met, condition = match_all(periods, request)
    if met is NO:
        why = _silent_in_words(record.rule, condition, request)
        return Finding(record, "silent", why, record.rule, condition)
    why = record.silence or f"denies, since it can't be relied on: {'; '.join(record.doubts)}."
    return Finding(record, "deny", why)


def _why_no_permit(record: ConsentRecord, request: ConsentRequest) -> str:
    """Say why the permits of a Consent don't count for this use; empty when they do."""
    if record.scope != "privacy":
        return _OTHER_USE
    only = record.only_purposes
    if only is None or not only.isdisjoint(PERMITTED_BY.get(request.purpose, ())):
        return ""
    return "is not about this use of data (its category limits what it can permit)."


def evaluate(rule: Rule, request: ConsentRequest) -> Said:
    """Say what a rule with its exceptions says, by which of them, and what is not surely met."""
    widened = withheld = None
    passed: list[Rule] = []
    for exception in rule.rules:
        found = evaluate(exception, request)
        if found[0] == "deny":
            return found
        if found[0] == "permit":
            widened = found
        else:
            passed.append(exception)
            withheld = found if found[0] == "withhold" and _names_purpose(exception) else withheld
    carved = _carved(passed, request) if widened else None
    return carved or _first(_alone(rule, request), widened, withheld)


def _first(own: Said, widened: Said | None, withheld: Said | None) -> Said:
    """Choose between what a rule says by itself and what its exceptions say."""
    if widened and own[0] != "permit":
        return widened
    return withheld if withheld and own[0] == "silent" else own


def _alone(rule: Rule, request: ConsentRequest) -> Said:
    """Say what a rule says without its exceptions."""
    met, condition = match_all(rule.conditions, request)
    if rule.is_permit:
        return ("permit" if met is YES else _short_of(condition)), rule, condition
    return ("silent" if met is NO else "deny"), rule, condition


def _short_of(condition: Condition | None) -> Verdict:
    """Say what a permit says where a condition of it does not surely hold.

    Of another time or purpose it says nothing; a time that can't be read is no reason either to
    withhold what others permit.
    """
    return "silent" if isinstance(condition, HoldsDuring | ForPurpose) else "withhold"


def _names_purpose(rule: Rule) -> bool:
    """Say whether an exception speaks of purposes of its own, which its parent may not speak of."""
    return any(isinstance(each, ForPurpose) for each in rule.stated)


def _carved(exceptions: Iterable[Rule], request: ConsentRequest) -> Said | None:
    """Say whether a denial beside a permit that widens takes away what that permits.

    It carves out of its parent as widened, so here only its own conditions have to hold.
    """
    for exception in exceptions:
        if not exception.is_permit:
            met, condition = match_all(exception.stated, request)
            if met is not NO:
                return "withhold", exception, condition
    return None


# -- in words --------------------------------------------------------------------------------


def _at(rule: Rule) -> str:
    return "" if rule.path == "provision" else f" ({rule.path})"


def _denies_in_words(rule: Rule, condition: Condition | None, request: ConsentRequest) -> str:
    said = f"denies {request.purpose}{_at(rule)}"
    if condition is None:
        return f"{said}."
    return f"{said}, as far as is known: whether its {condition.element} holds is not."


def _permits_in_words(rule: Rule, _: Condition | None, request: ConsentRequest) -> str:
    return f"permits {request.purpose}{_at(rule)}."


def _withholds_in_words(rule: Rule, condition: Condition | None, request: ConsentRequest) -> str:
    if not rule.is_permit:
        return f"does not permit {request.purpose} where {rule.path} denies it."
    element = condition.element if condition else ""
    met = condition.match(request) if condition else UNKNOWN
    known = "which is not known" if met is UNKNOWN else "and it does not"
    return f"permits {request.purpose} only where its {element} holds, {known}{_at(rule)}."


def _silent_in_words(_: Rule, condition: Condition | None, request: ConsentRequest) -> str:
    if isinstance(condition, HoldsDuring):
        period = condition.period
        if period is None:
            return "has a period that can't be read."
        is_early = period.starts is not None and request.now < period.starts
        return "is not yet in force." if is_early else "has expired."
    if condition is None or isinstance(condition, ForPurpose):
        return f"does not speak of purpose {request.purpose}."
    return f"does not speak of this: its {condition.element} does not hold."


_WORDS = {
    "deny": _denies_in_words,
    "permit": _permits_in_words,
    "withhold": _withholds_in_words,
    "silent": _silent_in_words,
}
