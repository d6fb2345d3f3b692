"""What is asked of the consents when a route uses a patient's data; asked here, wherever it is.

Admission, inference, write-back, withdrawal and every explanation build their question with
`question`, so that what is explained is what is asked.

Who asks is the model: a Device with its name and digest, which works for the organizations that
the site names. Reading is `access` and `use`, writing a result back is `disclose`.

A Consent that speaks of some data only has to be asked for each resource by itself (REDACT). Before
anything is unsealed it can only be foreseen whether it permits any data at all.

Source: FHIR R4 Consent; HL7 consentaction; DPDP Act 2023, section 7 (f) and (g).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from typing import Any, ClassVar, Literal

from gateway.core.audit_event import MODEL_SYSTEM
from gateway.core.consent.breaking import decide_broken
from gateway.core.consent.decision import ConsentDecision, ConsentSettings, Default, decide
from gateway.core.consent.explaining import Explanation, explain
from gateway.core.consent.matching import NO, OF_RESOURCE, Condition, Match
from gateway.core.consent.record import ConsentRecord, Rule, once_per_record, under_policies
from gateway.core.consent.request import SOMETHING, Actor, ConsentRequest, ResourceFacts
from gateway.core.consent.resource import FACTS, resource_facts
from gateway.core.consent.vocabulary import REDACT
from gateway.core.result_terms import DIGEST_SYSTEM

Json = Mapping[str, Any]
Basis = Literal[
    "consent", "dpdp-7-emergency", "dpdp-7-public-health", "dpdp-7-disaster", "legal-obligation"
]

READ = frozenset({"access", "use"})
WRITE = frozenset({"disclose"})


@dataclass(frozen=True, slots=True)
class Implicit:
    """What holds for a purpose where the patient has said nothing, and why it may.

    Attributes:
        basis: The ground it rests on; empty where the site names none.
        evidence: Where it is written that this ground is there, for another ground than consent.
    """

    default: Default
    basis: Basis | Literal[""] = ""
    evidence: str = ""


#: Where the site does not say what its models are known as, they may be known as anything.
_UNTOLD = Actor(identifiers=frozenset(), may_have_others=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentTerms:
    """How a site wants its routes to ask.

    Attributes:
        actor: What the models are known as, beside their names and digests.
        newer_supersedes: See `ConsentSettings`.
        unlabelled_is_normal: See `resource_facts`.
        implicit: By purpose.
        policies: `policy.uri` to whether it permits where a Consent under it states no rule.
    """

    actor: Actor = _UNTOLD
    newer_supersedes: bool = False
    unlabelled_is_normal: bool = False
    implicit: Mapping[str, Implicit] = field(default_factory=dict)
    policies: Mapping[str, bool] = field(default_factory=dict)


PLAIN = ConsentTerms()


@dataclass(frozen=True, slots=True)
class About:
    """Whose data is used, for what received event, and when."""

    patient: str
    event: str | None
    now: datetime


@dataclass(frozen=True, slots=True)
class Model:
    """The model that asks: `name@version`, and its digest where it is known."""

    name: str
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """A request with all that it is decided from; of no resource yet.

    Attributes:
        implicit: What holds where no consent applies.
        breaks_glass: Whether the glass was broken for it.
    """

    request: ConsentRequest
    consents: Sequence[ConsentRecord]
    terms: ConsentTerms
    implicit: Implicit
    breaks_glass: bool = False

    @property
    def is_limited(self) -> bool:
        """Whether a consent speaks of some data only: each resource has to be asked for."""
        return any(record.limiting for record in self.consents)

    def foresee(self) -> ConsentDecision:
        """Decide before anything is unsealed: a denial is final, whatever the data is.

        A permit is final where the question is not limited; else it permits some data at most.
        """
        if not self.is_limited:
            return self._decided(self.request, self.consents)
        return self._decided(self.request, [_for_some_data(each) for each in self.consents])

    def decide(self, content: Json) -> ConsentDecision:
        """Decide for one resource; whoever asks leaves out what is not permitted."""
        if not self.is_limited:
            return self._decided(self.request, self.consents)
        return self.of(self.facts(content, only=self._looked_at()))

    def of(self, resource: ResourceFacts) -> ConsentDecision:
        """Decide for one resource of which these facts are known."""
        return self._decided(self._about(resource), self.consents)

    def explain(self, resource: ResourceFacts = SOMETHING) -> Explanation:
        """Decide, and tell how every rule took part."""
        told = explain(
            self._about(resource),
            self.consents,
            default=self.implicit.default,
            settings=self._settings,
            breaks_glass=self.breaks_glass,
        )
        return replace(told, decision=self.of(resource))

    def permits(self, content: Json) -> bool:
        """Say whether one resource may be used."""
        return not self.is_limited or self.decide(content).is_permitted

    def facts(self, content: Json, *, only: frozenset[str] = FACTS) -> ResourceFacts:
        """Read what a resource tells of itself, as the site wants it taken."""
        is_normal = self.terms.unlabelled_is_normal
        return resource_facts(content, unlabelled_is_normal=is_normal, only=only)

    def _looked_at(self) -> frozenset[str]:
        """Give the facts that some rule looks at: every limit on data is stated in a limiting rule.

        One that were left out would be unknown, which permits nothing.
        """
        rules = [rule for record in self.consents for rule in record.limiting]
        return frozenset().union(*[each.facts for rule in rules for each in rule.conditions])

    @property
    def _settings(self) -> ConsentSettings:
        return _SETTINGS[self.terms.newer_supersedes]

    def _about(self, resource: ResourceFacts) -> ConsentRequest:
        asked = self.request
        return ConsentRequest(  # several times as fast as `replace`
            asked.patient,
            asked.purpose,
            asked.now,
            actor=asked.actor,
            actions=asked.actions,
            resource=resource,
            use=asked.use,
        )

    def _decided(
        self, request: ConsentRequest, consents: Sequence[ConsentRecord]
    ) -> ConsentDecision:
        if self.breaks_glass:
            broken = decide_broken(request, consents, settings=self._settings)
            return self._with_basis(broken)
        default = self.implicit.default
        return self._with_basis(decide(request, consents, default=default, settings=self._settings))

    def _with_basis(self, decision: ConsentDecision) -> ConsentDecision:
        """Name the ground that a permit rests on."""
        if not decision.is_permitted:
            return decision
        if decision.consents:
            return decision.resting_on("consent")
        implicit = self.implicit
        if not implicit.basis:
            name = "break-glass" if self.breaks_glass else "route-default"
            return decision.resting_on(name)
        said = f"The site states its basis: {implicit.basis}"
        said = f"{said} ({implicit.evidence})." if implicit.evidence else f"{said}."
        return decision.resting_on(implicit.basis, said)


_SETTINGS = {
    newer: ConsentSettings(newer_supersedes=newer, fulfils=frozenset({REDACT}))
    for newer in (False, True)
}


def question(
    asked: "Asks",
    about: About,
    consents: Sequence[ConsentRecord],
    model: Model,
    actions: frozenset[str],
) -> Question:
    """Put together what is asked of the consents.

    Args:
        asked: The purpose, what holds without a consent, and the site's terms: those of a route.
        about: Whose data, when.
        consents: Everything on record for the patient.
        model: Who asks.
        actions: What is done: `READ` or `WRITE`.
    """
    request = ConsentRequest(
        about.patient,
        asked.purpose,
        about.now,
        actor=_as_actor(asked.terms.actor, model),
        actions=actions,
        use=about.event,
    )
    implicit = asked.terms.implicit.get(asked.purpose) or Implicit(asked.default)
    policies = asked.terms.policies
    if policies:
        consents = [under_policies(each, policies) for each in consents]
    return Question(request, consents, asked.terms, implicit, asked.breaks_glass)


@dataclass(frozen=True, slots=True)
class Asks:
    """What a route asks under.

    Attributes:
        default: What holds where no consent applies and the site states nothing for the purpose.
        breaks_glass: Whether a clinician broke the glass for it, see `breaking`.
    """

    purpose: str
    default: Default = "deny"
    terms: ConsentTerms = PLAIN
    breaks_glass: bool = False


@lru_cache(maxsize=256)
def _as_actor(actor: Actor, model: Model) -> Actor:
    names = frozenset((f"{MODEL_SYSTEM}|{model.name}", f"{DIGEST_SYSTEM}|{model.digest}"))
    return replace(
        actor,
        identifiers=names.union(actor.identifiers or ()),
        may_have_others=actor.may_have_others or not model.digest,
    )


# -- before the data is known ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Never:
    """A condition that holds for no data: stands in for one that need not hold for all."""

    element: ClassVar[str] = "data"
    facts: ClassVar[frozenset[str]] = frozenset()

    def match(self, _: ConsentRequest) -> Match:
        """It never holds."""
        return NO

    def words(self) -> str:
        """Say so."""
        return "some data only"


_NEVER = _Never()


@once_per_record
def _for_some_data(record: ConsentRecord) -> ConsentRecord:
    """Give a consent that permits whatever this one may permit for any data."""
    return replace(record, rule=_widest(record.rule), limiting=())


def _widest(rule: Rule) -> Rule:
    is_limited = any(each.element in OF_RESOURCE for each in rule.conditions)
    more = (_NEVER,) if is_limited and not rule.is_permit else ()
    return replace(
        rule,
        stated=(*_of_use(rule.stated), *more),
        conditions=(*_of_use(rule.conditions), *more),
        rules=tuple(map(_widest, rule.rules)),
    )


def _of_use(conditions: Sequence[Condition]) -> tuple[Condition, ...]:
    return tuple([each for each in conditions if each.element not in OF_RESOURCE])
