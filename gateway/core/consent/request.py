"""What is asked of the consents: may this be done with that, by whom, for what, now?

Each fact that is not known is None, which is not the same as "none": an actor in no group has
`groups=frozenset()`. What is not known never lets a permit apply and never lets a denial be
avoided.

Codes are written `system|code`, references `Type/id` as the EHR writes them.
"""

from dataclasses import dataclass, field
from datetime import datetime

from gateway.core.consent.periods import DataTime

Names = frozenset[str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who would use the data.

    Attributes:
        references: All by which it is known: Practitioner, PractitionerRole, Device and others.
        identifiers: `system|value`.
        groups: The Groups and CareTeams it is a member of.
        organizations: The Organizations it works for, and those they are part of.
        roles: Its security roles.
        may_have_others: Whether it may have other identifiers than these.
    """

    references: Names = None
    identifiers: Names = None
    groups: Names = None
    organizations: Names = None
    roles: Names = None
    may_have_others: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceFacts:
    """What is known of the data that would be used, see `gateway.core.consent.resource`.

    Attributes:
        type: FHIR resource type.
        reference: Of the resource itself.
        profiles: That it claims to conform to.
        codes: What it is about: the codings of its one code, which mean the same.
        all_codes: Every coding anywhere in it.
        labels: Its security labels; empty when nobody has labelled it.
        time: When it was true of the patient.
        authors: Who made or vouches for it.
        encounters: The Encounters and EpisodesOfCare it belongs to.
        related: Every resource it refers to.
        referrers: Every resource that refers to it.
    """

    type: str | None = None
    reference: str | None = None
    profiles: Names = None
    codes: Names = None
    all_codes: Names = None
    labels: Names = None
    time: DataTime | None = None
    authors: Names = None
    encounters: Names = None
    related: Names = None
    referrers: Names = None


SOMEBODY = Actor()
SOMETHING = ResourceFacts()


@dataclass(frozen=True, slots=True)
class ConsentRequest:
    """What is asked.

    Attributes:
        patient: Whose data it is: `Patient/<id>`.
        purpose: A code of v3-ActReason, or `system|code` of another vocabulary.
        actions: All that would be done, codes of consentaction.
        use: What this use counts as where a consent counts them: the received event. Asking again
            for the same one counts once.
    """

    patient: str
    purpose: str
    now: datetime
    actor: Actor = field(default=SOMEBODY, kw_only=True)
    actions: Names = field(default=None, kw_only=True)
    resource: ResourceFacts = field(default=SOMETHING, kw_only=True)
    use: str | None = field(default=None, kw_only=True)
