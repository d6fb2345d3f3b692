"""The conditions of a rule: does this request meet them? Yes, no, or it is not known.

Within one condition any entry that matches is enough; of the conditions of a rule all must hold.
`is_denial` tells in which kind of rule a condition was stated, and so which way hierarchies lean:
a permit of label R covers all that is no more confidential than R, a denial of R all that is no
less. An exception takes its parent's conditions over as they are.

Source: FHIR R4 Consent.provision (http://hl7.org/fhir/R4/consent.html); IHE PCF 1:53.4.2.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Protocol

from gateway.core.consent.periods import Period, position
from gateway.core.consent.request import Actor, ConsentRequest, Names, ResourceFacts
from gateway.core.consent.vocabulary import (
    ACT_CODE,
    CONFIDENTIALITIES,
    CONFIDENTIALITY,
    DENIED_BY,
    NORMAL,
    OBLIGATIONS,
    PERMITTED_BY,
    RECIPIENTS,
    RESTRICTED,
    SENSITIVITY_DENIED_BY,
    SENSITIVITY_PERMITTED_BY,
)


class Match(IntEnum):
    """Whether a condition holds."""

    NO = 0
    UNKNOWN = 1
    YES = 2


NO, UNKNOWN, YES = Match.NO, Match.UNKNOWN, Match.YES


class Condition(Protocol):
    """One element of a provision."""

    #: Its name in FHIR.
    element: ClassVar[str]
    #: What of `ResourceFacts` it looks at, beside type and reference; the rest need not be read.
    facts: ClassVar[frozenset[str]]

    def match(self, request: ConsentRequest) -> Match:
        """Say whether a request meets it."""

    def words(self) -> str:
        """Say what it asks for."""


def match_all(
    conditions: Sequence[Condition], request: ConsentRequest
) -> tuple[Match, Condition | None]:
    """Say whether a request meets all conditions, and the first that it does not surely meet."""
    doubtful: Condition | None = None
    for condition in conditions:
        met = condition.match(request)
        if met is NO:
            return NO, condition
        if met is UNKNOWN and doubtful is None:
            doubtful = condition
    return (YES, None) if doubtful is None else (UNKNOWN, doubtful)


@dataclass(frozen=True, slots=True)
class HoldsDuring:
    """`period`: when the rule holds; None when it can't be read."""

    element: ClassVar[str] = "period"
    facts: ClassVar[frozenset[str]] = frozenset()
    period: Period | None

    def match(self, request: ConsentRequest) -> Match:
        """Say whether the rule holds now."""
        if self.period is None:
            return UNKNOWN
        starts, ends, now = self.period.starts, self.period.ends, request.now
        return NO if (starts and now < starts) or (ends and now >= ends) else YES

    def words(self) -> str:
        """Say when it holds."""
        if self.period is None:
            return "a period that can't be read"
        return _span_in_words(self.period)


@dataclass(frozen=True, slots=True)
class ForPurpose:
    """`purpose`: what the data is used for.

    Attributes:
        codes: Of v3-ActReason as they are, of other vocabularies as `system|code`.
        has_unknown: One of them has no place in the tree of purposes that is known here.
    """

    element: ClassVar[str] = "purpose"
    facts: ClassVar[frozenset[str]] = frozenset()
    codes: frozenset[str]
    has_unknown: bool
    is_denial: bool

    def match(self, request: ConsentRequest) -> Match:
        """Say whether one of the purposes covers the one asked."""
        covering = (DENIED_BY if self.is_denial else PERMITTED_BY).get(request.purpose)
        if covering is None:
            if request.purpose in self.codes:
                return YES
            # What is not known here may well be a kind of what is denied.
            return UNKNOWN if self.is_denial else NO
        if not self.codes.isdisjoint(covering):
            return YES
        return UNKNOWN if self.is_denial and self.has_unknown else NO

    def words(self) -> str:
        """Name the purposes."""
        return _listed(self.codes) or "a purpose that is not coded"


@dataclass(frozen=True, slots=True)
class Party:
    """One `actor`: who, and in what role."""

    role: frozenset[str]
    reference: str | None
    identifier: str | None

    def match(self, actor: Actor) -> Match:
        """Say whether an actor is this one, in this role."""
        who = self._who(actor)
        if who is not YES or not self.role.isdisjoint(RECIPIENTS):
            return who
        held = actor.roles
        return YES if held is not None and not self.role.isdisjoint(held) else UNKNOWN

    def _who(self, actor: Actor) -> Match:
        found = NO if self.reference or self.identifier else UNKNOWN
        if self.reference:
            found = _named(self.reference, _names_of(actor, self.reference))
        if self.identifier and found is not YES:
            known = actor.identifiers
            is_same = known is not None and self.identifier in known
            is_told = known is not None and not actor.may_have_others
            found = YES if is_same else max(found, NO if is_told else UNKNOWN)
        return found


@dataclass(frozen=True, slots=True)
class ByActor:
    """`actor`: who uses the data."""

    element: ClassVar[str] = "actor"
    facts: ClassVar[frozenset[str]] = frozenset()
    parties: tuple[Party, ...]

    def match(self, request: ConsentRequest) -> Match:
        """Say whether the actor is one of them."""
        return max(party.match(request.actor) for party in self.parties)

    def words(self) -> str:
        """Name them."""
        return _listed(party.reference or party.identifier or "somebody" for party in self.parties)


@dataclass(frozen=True, slots=True)
class ForAction:
    """`action`: what is done with the data; a permit has to cover all of it."""

    element: ClassVar[str] = "action"
    facts: ClassVar[frozenset[str]] = frozenset()
    codes: frozenset[str]
    has_unknown: bool
    is_denial: bool

    def match(self, request: ConsentRequest) -> Match:
        """Say whether what is asked to be done is listed."""
        asked = request.actions
        if not asked:
            return UNKNOWN
        if self.is_denial:
            unclear = UNKNOWN if self.has_unknown else NO
            return unclear if asked.isdisjoint(self.codes) else YES
        return YES if asked <= self.codes else NO

    def words(self) -> str:
        """Name the actions."""
        return _listed(self.codes) or "an action that is not coded"


@dataclass(frozen=True, slots=True)
class OfClass:
    """`class`: the type of resource, or the profile it claims."""

    element: ClassVar[str] = "class"
    facts: ClassVar[frozenset[str]] = frozenset({"profiles"})
    types: frozenset[str]
    profiles: frozenset[str]
    has_unknown: bool
    is_denial: bool

    def match(self, request: ConsentRequest) -> Match:
        """Say whether the resource is of one of the classes."""
        resource = request.resource
        if resource.type is not None and resource.type in self.types:
            return YES
        if resource.profiles is not None and not resource.profiles.isdisjoint(self.profiles):
            return YES
        # A resource may conform to a profile without claiming it.
        is_unclear = self.has_unknown or (self.is_denial and bool(self.profiles))
        return UNKNOWN if resource.type is None or is_unclear else NO

    def words(self) -> str:
        """Name the classes."""
        return _listed((*self.types, *self.profiles)) or "a class that is not coded"


@dataclass(frozen=True, slots=True)
class OfCode:
    """`code`: what the resource is about.

    Attributes:
        codes: `system|code` of all of them.
        systems: The code systems of each concept, whose codings mean the same.
    """

    element: ClassVar[str] = "code"
    facts: ClassVar[frozenset[str]] = frozenset({"codes", "all_codes"})
    codes: frozenset[str]
    systems: tuple[frozenset[str], ...]
    has_unknown: bool
    is_denial: bool

    def match(self, request: ConsentRequest) -> Match:
        """Say whether the resource is about one of them; a denial looks at every coding in it."""
        resource = request.resource
        found = resource.codes
        if found is not None and not found.isdisjoint(self.codes):
            return YES
        if self.is_denial and resource.all_codes and not resource.all_codes.isdisjoint(self.codes):
            return YES
        if found is None or self.has_unknown or (self.is_denial and resource.all_codes is None):
            return UNKNOWN
        # In another code system the same thing has another name.
        spoken = {each.rpartition("|")[0] for each in found}
        is_foreign = bool(spoken) and any(spoken.isdisjoint(each) for each in self.systems)
        return UNKNOWN if is_foreign else NO

    def words(self) -> str:
        """Name the codes."""
        return _listed(self.codes) or "a code that is written as text only"


@dataclass(frozen=True, slots=True)
class Labelled:
    """`securityLabel`: how confidential and how sensitive the data is.

    Attributes:
        levels: Places in `CONFIDENTIALITIES`.
        sensitivities: Codes of v3-ActCode.
        others: `system|code` of all other labels.
        has_unknown: A label is not coded, or in a vocabulary that is not known here.
    """

    element: ClassVar[str] = "securityLabel"
    facts: ClassVar[frozenset[str]] = frozenset({"labels"})
    levels: frozenset[int]
    sensitivities: frozenset[str]
    others: frozenset[str]
    has_unknown: bool
    is_denial: bool

    def match(self, request: ConsentRequest) -> Match:
        """Say whether the labels of the resource are of the ones listed."""
        labels = request.resource.labels
        if not labels:
            # Nobody has looked at how sensitive it is.
            return UNKNOWN
        if not labels.isdisjoint(self.others):
            return YES
        level, sensitive, is_clear = weigh(labels)
        return (
            self._denied(level, sensitive, is_clear=is_clear)
            if self.is_denial
            else self._permitted(level, sensitive)
        )

    def _permitted(self, level: int | None, sensitive: frozenset[str]) -> Match:
        if level is None:
            return UNKNOWN
        if self.levels and level <= max(self.levels):
            return YES
        is_covered = bool(sensitive) and level <= RESTRICTED
        for code in sensitive:
            covering = SENSITIVITY_PERMITTED_BY.get(code, frozenset((code,)))
            is_covered = is_covered and not covering.isdisjoint(self.sensitivities)
        return YES if is_covered else NO

    def _denied(self, level: int | None, sensitive: frozenset[str], *, is_clear: bool) -> Match:
        if self.levels and level is not None and level >= min(self.levels):
            return YES
        for code in sensitive:
            covering = SENSITIVITY_DENIED_BY.get(code, frozenset((code,)))
            if not covering.isdisjoint(self.sensitivities):
                return YES
        is_level_unclear = level is None and bool(self.levels)
        # Restricted for a reason that no label tells: it may be the one denied.
        is_reason_unclear = bool(self.sensitivities) and not is_clear
        is_unclear = self.has_unknown or is_level_unclear or is_reason_unclear
        return UNKNOWN if is_unclear else NO

    def words(self) -> str:
        """Name the labels."""
        levels = (CONFIDENTIALITIES[level] for level in self.levels)
        return _listed((*levels, *self.sensitivities, *self.others)) or "a label that is not coded"


@dataclass(frozen=True, slots=True)
class FromTime:
    """`dataPeriod`: when the data was true of the patient.

    Who the patient is has no time: a permit of some time is no reason to keep her own Patient
    from whoever may read that time. A denial of some time may mean it all the same.

    Attributes:
        period: None when it can't be read.
    """

    element: ClassVar[str] = "dataPeriod"
    facts: ClassVar[frozenset[str]] = frozenset({"time"})
    period: Period | None
    is_denial: bool

    def match(self, request: ConsentRequest) -> Match:
        """Say whether the data is from that time."""
        time = request.resource.time
        if self.period is None:
            return UNKNOWN
        if not self.is_denial and _is_patient_herself(request):
            return YES
        if time is None:
            return UNKNOWN
        return {"inside": YES, "outside": NO, "unclear": UNKNOWN}[position(time, self.period)]

    def words(self) -> str:
        """Say which time."""
        if self.period is None:
            return "a period that can't be read"
        return _span_in_words(self.period)


def _is_patient_herself(request: ConsentRequest) -> bool:
    resource = request.resource
    return resource.type == "Patient" and resource.reference == request.patient


@dataclass(frozen=True, slots=True)
class Datum:
    """One `data`: a resource, and how the data has to stand to it."""

    meaning: str
    reference: str | None

    def match(self, resource: ResourceFacts) -> Match:
        """Say whether the data stands to the resource in this way."""
        reference = self.reference
        if reference is None:
            return UNKNOWN
        if self.meaning == "authoredby":
            return _named(reference, resource.authors)
        found = _is_it(reference, resource)
        if self.meaning == "dependents":
            found = max(found, _named(reference, resource.related))
        elif self.meaning == "related":
            refers = _named(reference, resource.related)
            found = max(found, refers, _belongs(reference, resource))
        return found


def _is_it(reference: str, resource: ResourceFacts) -> Match:
    if resource.reference is not None:
        return _named(reference, frozenset((resource.reference,)))
    return NO if resource.type not in (None, _type_of(reference)) else UNKNOWN


def _belongs(reference: str, resource: ResourceFacts) -> Match:
    """Say whether data that is not known to name a resource belongs to it all the same.

    What belongs to an encounter names it. Of anything else the data may be a part without
    knowing: then it is the other resource that refers to the data.
    """
    kind = _type_of(reference)
    if kind in ("Encounter", "EpisodeOfCare"):
        belongs = resource.encounters
        if belongs is None:
            return UNKNOWN
        is_told = not belongs or any(_type_of(each) == kind for each in belongs)
        return _named(reference, belongs) if is_told else UNKNOWN
    return _named(reference, resource.referrers)


@dataclass(frozen=True, slots=True)
class OfData:
    """`data`: the resource itself, or what stands to it in some way."""

    element: ClassVar[str] = "data"
    facts: ClassVar[frozenset[str]] = frozenset({"authors", "encounters", "related"})
    data: tuple[Datum, ...]

    def match(self, request: ConsentRequest) -> Match:
        """Say whether the resource is of the data listed."""
        return max(datum.match(request.resource) for datum in self.data)

    def words(self) -> str:
        """Name the data."""
        return _listed(f"{each.meaning} {each.reference or 'unnamed'}" for each in self.data)


#: The elements that tell one resource from another.
OF_RESOURCE = frozenset({"class", "code", "securityLabel", "dataPeriod", "data"})


def weigh(labels: frozenset[str]) -> tuple[int | None, frozenset[str], bool]:
    """Give how confidential data is, what makes it sensitive, and whether that is all told.

    Without a level of its own, sensitive data is restricted, and all other unknown.
    """
    levels: list[int | None] = []
    sensitive = set()
    for each in labels:
        system, _, code = each.rpartition("|")
        if system == CONFIDENTIALITY:
            is_level = code in CONFIDENTIALITIES
            levels.append(CONFIDENTIALITIES.index(code) if is_level else None)
        elif system == ACT_CODE and code not in OBLIGATIONS:
            sensitive.add(code)
    known = [level for level in levels if level is not None]
    level = max(known) if known and len(known) == len(levels) else None
    if not levels and sensitive:
        level = RESTRICTED
    is_told = all(code in SENSITIVITY_DENIED_BY for code in sensitive)
    is_clear = is_told and (bool(sensitive) or (level is not None and level <= NORMAL))
    return level, frozenset(sensitive), is_clear


def _names_of(actor: Actor, reference: str) -> Names:
    """Give all names of an actor that a reference could be; None when those are not known."""
    kind = _type_of(reference)
    if kind in ("Group", "CareTeam"):
        return actor.groups
    return actor.organizations if kind == "Organization" else actor.references


def _named(reference: str, names: Names) -> Match:
    """Say whether a reference is one of these.

    The same id on a server that is not known to be ours may be the same or not.
    """
    if names is None:
        return UNKNOWN
    if reference in names:
        return YES
    if reference.startswith(("#", "urn:")) or "?" in reference:
        return UNKNOWN
    tail = _tail(reference)
    return UNKNOWN if any(_tail(name) == tail for name in names) else NO


def _tail(reference: str) -> str:
    return "/".join(reference.rsplit("/", 2)[-2:])


def _type_of(reference: str) -> str:
    return _tail(reference).partition("/")[0]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _span_in_words(period: Period) -> str:
    starts = f"from {period.starts.isoformat()}" if period.starts else ""
    ends = f"until before {period.ends.isoformat()}" if period.ends else ""
    return " ".join(part for part in (starts, ends) if part)
