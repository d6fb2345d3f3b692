"""The shape of `consent` in a site file: how the site's routes ask the patients' consents.

Source: DPDP Act 2023, section 7; FHIR R4 Reference and Identifier; v3-ActReason.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from adapters.site_words import Purpose
from gateway.core.consent import Actor, ConsentTerms, Implicit
from gateway.core.consent.use import Basis
from gateway.core.consent.vocabulary import BREAK_GLASS

#: Purposes of an emergency: section 7 (f) is about no other.
_EMERGENCIES = frozenset({"ETREAT", "ERTREAT", BREAK_GLASS})


DeviceName = Annotated[str, StringConstraints(pattern=r"^(https?://\S+/)?Device/[A-Za-z0-9.-]+$")]
GroupName = Annotated[
    str, StringConstraints(pattern=r"^(https?://\S+/)?(Group|CareTeam)/[A-Za-z0-9.-]+$")
]
PolicyUri = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9+.-]*:\S+$")]
OrganizationName = Annotated[
    str, StringConstraints(pattern=r"^(https?://\S+/)?Organization/[A-Za-z0-9.-]+$")
]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class IdentifierEntry(_Part):
    """A business identifier."""

    system: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    value: Annotated[str, StringConstraints(min_length=1, max_length=255)]


class ActorEntry(_Part):
    """What the site's models are known as: all of it, as the EHR writes it in Consents."""

    devices: list[DeviceName] = Field([], description="Device resources that stand for Nadi.")
    identifiers: list[IdentifierEntry] = Field([], description="Identifiers of Nadi.")
    organizations: list[OrganizationName] = Field(
        [], description="The hospital's Organizations, and those they are part of."
    )
    groups: list[GroupName] = Field([], description="Groups and CareTeams that Nadi is in.")

    def actor(self) -> Actor:
        """Give it as decisions take it."""
        return Actor(
            references=frozenset(self.devices),
            identifiers=frozenset(f"{each.system}|{each.value}" for each in self.identifiers),
            groups=frozenset(self.groups),
            organizations=frozenset(self.organizations),
        )


class ImplicitEntry(_Part):
    """What holds for a purpose where a patient has said nothing."""

    decision: Literal["permit", "deny"] = Field(description="What holds then.")
    basis: Basis | None = Field(None, description="The ground that a permit rests on.")
    evidence: Annotated[str, StringConstraints(min_length=1, max_length=500)] | None = Field(
        None, description="Where it is written that this ground is there: an order, a document."
    )

    @model_validator(mode="after")
    def _is_grounded(self) -> Self:
        if self.decision == "permit" and self.basis is None:
            raise ValueError("a permit needs a `basis`")
        if self.decision == "permit" and self.basis != "consent" and self.evidence is None:
            raise ValueError(f"the basis {self.basis} needs `evidence`: where it is written")
        if self.decision == "deny" and (self.basis or self.evidence):
            raise ValueError("a denial needs neither `basis` nor `evidence`")
        return self

    def implicit(self) -> Implicit:
        """Give it as decisions take it."""
        return Implicit(self.decision, self.basis or "", self.evidence or "")


class ConsentEntry(_Part):
    """How the routes of a site ask the patients' consents."""

    actor: ActorEntry | None = Field(
        None, description="What the models are known as; absent: they may be known as anything."
    )
    unlabelled_is_normal: bool = Field(
        False, description="The site labels all its sensitive data: the rest is normal."
    )
    newer_supersedes: bool = Field(
        False, description="A newer consent of the same performers and policies sets older aside."
    )
    implicit: dict[Purpose, ImplicitEntry] = Field(
        {}, description="By purpose: what holds where no consent on record applies."
    )
    policies: dict[PolicyUri, Literal["permit", "deny"]] = Field(
        {}, description="By `policy.uri`: what it says where a Consent under it states no rule."
    )

    @model_validator(mode="after")
    def _emergencies_only(self) -> Self:
        for purpose, entry in self.implicit.items():
            if entry.basis == "dpdp-7-emergency" and purpose not in _EMERGENCIES:
                known = ", ".join(sorted(_EMERGENCIES))
                raise ValueError(f"dpdp-7-emergency is for {known} only, not for {purpose}")
        return self

    def terms(self) -> ConsentTerms:
        """Give it as decisions take it."""
        more = {"actor": self.actor.actor()} if self.actor else {}
        return ConsentTerms(
            newer_supersedes=self.newer_supersedes,
            unlabelled_is_normal=self.unlabelled_is_normal,
            implicit={purpose: entry.implicit() for purpose, entry in self.implicit.items()},
            policies={uri: rule == "permit" for uri, rule in self.policies.items()},
            **more,
        )


def contradictions(
    routes: Mapping[str, object], implicit: Mapping[str, object]
) -> list[tuple[str, str]]:
    """Give the routes whose own `consent.default` differs from what is stated for their purpose.

    Args:
        routes: As written in the file.
        implicit: As written in the file.

    Returns:
        Names of routes, each with what is wrong.
    """
    found = []
    for name, route in routes.items():
        rule = route.get("consent") if isinstance(route, Mapping) else None
        rule = rule if isinstance(rule, Mapping) else {}
        stated = implicit.get(str(rule.get("purpose")))
        decision = stated.get("decision") if isinstance(stated, Mapping) else None
        if decision and "default" in rule and rule["default"] != decision:
            purpose = rule["purpose"]
            words = f"contradicts consent.implicit.{purpose}, which is to {decision}; leave it out"
            found.append((name, words))
    return found
