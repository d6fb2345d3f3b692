"""Permit or deny: what all consents on record together say to one request, with the reasons.

Of several consents any denial overrides every permit, unless the site lets the newer one count
where two come from the same performer under the same policy (`newer_supersedes`). Where none
denies, permits or withholds, the default of the route decides. A patient's refusal of all AI is
above everything: nothing sets it aside, and the decision says so (`is_ai_refused`).

Source: FHIR R4 Consent; IHE PCF volume 1, 1:53.4.2, which leaves several consents to the site.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from gateway.core.consent.judging import Finding, Verdict, judge
from gateway.core.consent.matching import NO, OF_RESOURCE, match_all
from gateway.core.consent.periods import is_later
from gateway.core.consent.record import ConsentRecord, Rule
from gateway.core.consent.request import ConsentRequest
from gateway.core.consent.vocabulary import REDACT

Default = Literal["deny", "permit"]


@dataclass(frozen=True, slots=True)
class ConsentSettings:
    """How a site wants consents to be taken.

    Attributes:
        newer_supersedes: Whether a newer Consent sets aside an older one that the same performers
            gave under the same policies, as far as it speaks of the request. Otherwise a denial
            denies until it is withdrawn.
        fulfils: The obligations (v3-ActCode) that whoever asks sees to. A permit that comes with
            another one is a denial.
    """

    newer_supersedes: bool = False
    fulfils: frozenset[str] = frozenset()


STRICT = ConsentSettings()


#: What an AuditEvent says for a decision that rests on nothing, as a denial does.
NO_BASIS = "none"


@dataclass(frozen=True, slots=True)
class Obligation:
    """What has to be done for a permit to hold.

    Attributes:
        code: Of v3-ActCode. REDACT: ask for each resource, and leave out what is not permitted.
        consent: The Consent that demands it.
        path: Its rule.
        limits: What the rule speaks of, in words; empty when of everything.
    """

    code: str
    consent: str
    path: str
    limits: str = ""

    def as_json(self) -> dict[str, str]:
        """Give it as it is kept with a decision: without labels, which tell of the patient."""
        return {"code": self.code, "rule": f"{self.consent} {self.path}"}


@dataclass(frozen=True)
class ConsentDecision:
    """Permit or deny, with the reasons in words.

    Attributes:
        consents: The consents that decided.
        rules: The paths of the rules that decided, as `Consent/x provision.provision[1]`.
        obligations: What the permit comes with; those that made it a denial, if one did.
        is_ai_refused: Whether the patient refuses all AI: then nothing permits, not even BTG.
        basis: The ground that a permit rests on: `consent`, what the site states for the purpose,
            or `route-default`; empty for a denial, and where nobody asked as a route.
    """

    is_permitted: bool
    purpose: str
    reasons: tuple[str, ...]
    consents: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    obligations: tuple[Obligation, ...] = ()
    is_ai_refused: bool = False
    basis: str = ""

    def resting_on(self, basis: str, *reasons: str) -> "ConsentDecision":
        """Give it with its basis, and what else is to be said of that."""
        return ConsentDecision(  # several times as fast as `replace`
            is_permitted=self.is_permitted,
            purpose=self.purpose,
            reasons=(*self.reasons, *reasons),
            consents=self.consents,
            rules=self.rules,
            obligations=self.obligations,
            is_ai_refused=self.is_ai_refused,
            basis=basis,
        )

    def as_json(self, stage: str, at: datetime) -> dict[str, object]:
        """Give the decision as it is kept with the job; `stage` is the verb that asked."""
        kept: dict[str, object] = {
            "stage": stage,
            "at": at.isoformat(timespec="milliseconds"),
            "decision": "permit" if self.is_permitted else "deny",
            "purpose": self.purpose,
            "reasons": list(self.reasons),
            "consents": list(self.consents),
        }
        if self.obligations:
            kept["obligations"] = [each.as_json() for each in self.obligations]
        if self.basis:
            kept["basis"] = self.basis
        if self.is_ai_refused:
            kept["ai_refused"] = True
        return kept

    def facts(self) -> dict[str, str | None]:
        """Give what its AuditEvent has no place of its own for, so that nobody can change it.

        The basis is always among it: a log that tells none was written before any of this was.
        """
        obligations = (f"{each.code} {each.consent} {each.path}" for each in self.obligations)
        return {
            "purpose": self.purpose,
            "basis": self.basis or NO_BASIS,
            "obligations": "; ".join(obligations) or None,
            "ai-refused": "true" if self.is_ai_refused else None,
        }


def decide(
    request: ConsentRequest,
    consents: Sequence[ConsentRecord],
    *,
    default: Default = "deny",
    settings: ConsentSettings = STRICT,
    unsaid: str = "",
) -> ConsentDecision:
    """Decide one request against everything on record for the patient.

    Args:
        request: What is asked.
        consents: Everything on record.
        default: What holds where no consent applies.
        settings: How the site wants consents to be taken.
        unsaid: The reason given then, in place of the route's default.
    """
    findings = [judge(record, request) for record in consents]
    reasons = [f"{each.record.ref}: {each.why}" for each in findings]
    counted: Sequence[Finding] = findings
    if settings.newer_supersedes:
        counted = _counted(findings)
        reasons += [
            f"{name}: is set aside by a newer one." for name in _left_out(findings, counted)
        ]
    verdict, deciding = _strongest(counted)
    if verdict == "silent":
        verdict = default
        reasons.append(unsaid or _BY_DEFAULT[default])
    obligations: tuple[Obligation, ...] = ()
    owed = obligations
    if verdict == "permit":
        obligations = tuple(_obligations(findings, deciding, request, settings.fulfils))
        owed = tuple(each for each in obligations if each.code not in settings.fulfils)
        reasons += [
            f"{each.consent}: demands {each.code} ({each.path}), which is not seen to here."
            for each in owed
        ]
    refs = [each.record.ref for each in deciding]
    return ConsentDecision(
        is_permitted=verdict == "permit" and not owed,
        purpose=request.purpose,
        reasons=tuple(reasons),
        consents=tuple(dict.fromkeys(refs + [each.consent for each in owed])),
        rules=tuple([f"{each.record.ref} {each.rule.path}" for each in deciding if each.rule]),
        obligations=owed or obligations,
        is_ai_refused=any(each.verdict == "deny" and each.record.refuses_ai for each in findings),
    )


def _strongest(findings: Sequence[Finding]) -> tuple[Verdict, list[Finding]]:
    """Give the verdict that counts and the findings that give it; "silent" when none applies."""
    for verdict in _BY_STRENGTH:
        deciding = [each for each in findings if each.verdict == verdict]
        if deciding:
            return verdict, deciding
    return "silent", []


_BY_DEFAULT: dict[Default, str] = {
    each: f"No consent on record applies; the route's default is to {each}."
    for each in get_args(Default)
}
_BY_STRENGTH: tuple[Verdict, ...] = ("deny", "permit", "withhold")


# -- several consents ------------------------------------------------------------------------


def _counted(findings: Sequence[Finding]) -> list[Finding]:
    """Leave out what a newer Consent of the same performers and policies sets aside.

    A denial falls only to a newer permit of the very thing, a permit only to a newer Consent that
    withholds it. So no denial that is added ever makes way for anything.
    """
    return [each for each in findings if not any(_sets_aside(newer, each) for newer in findings)]


def _left_out(findings: Sequence[Finding], counted: Sequence[Finding]) -> list[str]:
    kept = {id(each) for each in counted}
    return [each.record.ref for each in findings if id(each) not in kept]


def _sets_aside(newer: Finding, older: Finding) -> bool:
    falls = (older.verdict, newer.verdict) in (("deny", "permit"), ("permit", "withhold"))
    new, old = newer.record, older.record
    return (
        falls
        and old.is_readable
        and not old.refuses_ai
        and not old.doubts
        and bool(new.performers and new.policies)
        and (new.performers, new.policies) == (old.performers, old.policies)
        and new.issued is not None
        and old.issued is not None
        and is_later(new.issued, old.issued)
    )


def _obligations(
    findings: Sequence[Finding],
    permits: Sequence[Finding],
    request: ConsentRequest,
    fulfils: frozenset[str],
) -> Iterator[Obligation]:
    """Give what a permit comes with: what its rule demands, and the rules that deny other data.

    Where several permit it is enough to fulfil what one of them demands.
    """
    demands = [tuple(_demands(each)) for each in permits]
    fulfilled = [each for each in demands if all(demand.code in fulfils for demand in each)]
    if all(demands):
        for each in fulfilled or demands:
            yield from each
    for finding in findings:
        if finding.verdict != "silent" or finding.rule is not None:
            for rule in finding.record.limiting:
                if not rule.is_permit and _may_speak(rule, request):
                    yield _redaction(finding.record, rule)


def _demands(permit: Finding) -> Iterator[Obligation]:
    rule = permit.rule or permit.record.rule
    yield from (Obligation(code, permit.record.ref, rule.path) for code in rule.obligations)
    if any(each.element in OF_RESOURCE for each in rule.conditions):
        yield _redaction(permit.record, rule)


def _redaction(record: ConsentRecord, rule: Rule) -> Obligation:
    limits = [each for each in rule.conditions if each.element in OF_RESOURCE]
    words = "; ".join(f"{each.element} {each.words()}" for each in limits)
    kind = "permits only" if rule.is_permit else "denies"
    return Obligation(REDACT, record.ref, rule.path, f"{kind} {words}")


def _may_speak(rule: Rule, request: ConsentRequest) -> bool:
    """Say whether a rule would speak to the request if it were about other data."""
    about_use = [each for each in rule.stated if each.element not in OF_RESOURCE]
    return match_all(about_use, request)[0] is not NO
