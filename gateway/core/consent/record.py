"""A consent as it is kept for deciding: read once, immutable, every rule with its conditions.

Source: FHIR R4 Consent.provision (http://hl7.org/fhir/R4/consent.html).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Literal

from gateway.core.consent.matching import Condition
from gateway.core.consent.periods import DataTime
from gateway.core.consent.terms import NO_TERMS, Terms

Scope = Literal["privacy", "other", "unclear"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One provision: permit or deny, its conditions, and its exceptions.

    Attributes:
        path: Where it stands in the Consent, for example `provision.provision[1]`.
        stated: The conditions it states itself, and the periods of all it stands in.
        conditions: All that must hold: `stated`, and of its parent's what it does not state anew.
        obligations: Codes of v3-ActCode that whoever uses the data has to fulfil.
        rules: Its exceptions.
    """

    path: str
    is_permit: bool
    stated: tuple[Condition, ...] = ()
    conditions: tuple[Condition, ...] = ()
    obligations: tuple[str, ...] = ()
    rules: tuple["Rule", ...] = ()


@dataclass(frozen=True, slots=True)
class UnderPolicy:
    """What a Consent says that leaves its base rule to policies, where these permit.

    Attributes:
        rule: Its base rule then, which permits.
        doubts: As in `ConsentRecord`.
        limiting: As in `ConsentRecord`.
    """

    rule: Rule
    doubts: tuple[str, ...]
    limiting: tuple[Rule, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentRecord:
    """A consent of any source, read once into what a decision needs.

    Attributes:
        ref: How the decision names it, for example `Consent/<id of the received event>`.
        patient: Reference of the patient it is about, as a relative `Patient/<id>`.
        scope: Whether it is about the use of data, plainly about something else, or unclear.
        only_purposes: All that its categories let it permit; None when they don't limit it.
        rule: Its base rule, with its exceptions.
        doubts: Why it can't be relied on; if there is any, it denies everything.
        silence: What it says when it states no rule at all; empty when it states one.
        limiting: The rules that speak of some data only.
        issued: When it was issued.
        performers: Who gave it.
        policies: The policies it was given under.
        under_policy: What it says where the site states that these permit; None where it states
            its base rule itself.
        is_readable: Whether it could be read at all; if not, it denies whatever is asked.
        is_of_key: Whether it was found by the keyed hash of her name alone, and so names nobody.
        refuses_ai: Whether it is a refusal of all AI, which nothing sets aside.
        terms: What holds its permits back beyond its rules.
        derived: What was worked out from it, see `once_per_record`.
    """

    ref: str
    status: str
    patient: str | None
    scope: Scope
    only_purposes: frozenset[str] | None = None
    rule: Rule
    doubts: tuple[str, ...] = ()
    silence: str = ""
    limiting: tuple[Rule, ...] = ()
    issued: DataTime | None = None
    performers: frozenset[str] = frozenset()
    policies: frozenset[str] = frozenset()
    under_policy: UnderPolicy | None = None
    is_readable: bool = True
    is_of_key: bool = False
    refuses_ai: bool = False
    terms: Terms = NO_TERMS
    derived: dict[object, "ConsentRecord"] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )


def once_per_record(
    make: Callable[[ConsentRecord], ConsentRecord],
) -> Callable[[ConsentRecord], ConsentRecord]:
    """Remember beside a consent what was made of it: it goes when the consent is forgotten."""

    @wraps(make)
    def remembered(record: ConsentRecord) -> ConsentRecord:
        found = record.derived.get(make)
        if found is None:
            found = record.derived[make] = make(record)
        return found

    return remembered


@once_per_record
def as_policies_permit(record: ConsentRecord) -> ConsentRecord:
    """Give a consent as it stands where the policies permit that its base rule is left to."""
    found = record.under_policy
    if found is None:
        return record
    return replace(
        record,
        rule=found.rule,
        doubts=found.doubts,
        limiting=found.limiting,
        silence="",
        under_policy=None,
    )


def under_policies(record: ConsentRecord, policies: Mapping[str, bool]) -> ConsentRecord:
    """Give a consent as it stands at a site that states what these policies say.

    Args:
        record: Of a policy that the site does not name, it is taken to deny.
        policies: `policy.uri` to whether it permits where a Consent under it states no rule.
    """
    if record.under_policy is None or not all(policies.get(each) for each in record.policies):
        return record
    return as_policies_permit(record)


def unreadable_consent(ref: str, *, may_refuse_ai: bool = False) -> ConsentRecord:
    """Give the record of a consent that can't be opened or read: it denies everything.

    Args:
        ref: How decisions shall name it.
        may_refuse_ai: Whether its source is one of those that refuse all AI; it then does.
    """
    return ConsentRecord(
        ref=ref,
        status="unknown",
        patient=None,
        scope="unclear",
        rule=Rule("provision", is_permit=False),
        is_readable=False,
        refuses_ai=may_refuse_ai,
    )
