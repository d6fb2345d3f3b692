"""The shape of `notices`, `consent_signers` and `abdm` in a site file.

They say which notices patients are given, whose consent documents may be imported, and how ABDM
artefacts are taken.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from adapters.site_words import PublicKey, Purpose
from gateway.core.consent.abdm import AbdmPolicy, PurposeRule, default_purposes

Version = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$")]
Language = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$")]
SignerName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,63}$")]
FacilityId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
AbdmCode = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]{0,31}$")]
AccessMode = Literal["VIEW", "STORE", "QUERY", "STREAM"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class NoticeEntry(_Part):
    """One version of the notice that patients are given before they consent."""

    languages: list[Language] = Field(
        min_length=1, description="Languages it is in force in, as BCP 47 writes them: en, hi, ta."
    )


class PurposeEntry(_Part):
    """What a purpose of ABDM means here."""

    stands_for: list[Purpose] = Field(
        min_length=1, description="Codes of v3-ActReason that an artefact for it speaks of."
    )
    inference: Literal["allow", "deny"] = Field(
        description="Whether a model may read data for it at all."
    )


class AbdmEntry(_Part):
    """How ABDM consent artefacts are taken."""

    consent_manager: FacilityId = Field(description="The consent manager's id: abdm, or sbx.")
    facilities: list[FacilityId] = Field(
        min_length=1, description="This hospital's own ids in the Health Facility Registry."
    )
    purposes: dict[AbdmCode, PurposeEntry] = Field(
        {}, description="Policy per purpose, in place of the line of the same name in Nadi's own."
    )
    access_modes: list[AccessMode] = Field(
        ["VIEW", "STORE", "QUERY", "STREAM"],
        min_length=1,
        description="Access modes under which a model may read the data.",
    )
    address_systems: list[Annotated[str, StringConstraints(min_length=1, max_length=255)]] = Field(
        ["https://healthid.ndhm.gov.in", "https://healthid.abdm.gov.in"],
        description="Systems of the Patient identifiers that hold an ABHA address.",
    )

    def policy(self) -> AbdmPolicy:
        """Give it as decisions take it."""
        own = {
            code: PurposeRule(frozenset(entry.stands_for), entry.inference == "allow")
            for code, entry in self.purposes.items()
        }
        return AbdmPolicy(
            consent_manager=self.consent_manager,
            facilities=frozenset(self.facilities),
            purposes={**default_purposes(), **own},
            access_modes=frozenset(self.access_modes),
        )


Notices = dict[Version, NoticeEntry]
ConsentSigners = dict[SignerName, PublicKey]


def languages(notices: Mapping[str, NoticeEntry]) -> dict[str, frozenset[str]]:
    """Give the languages of each notice in force, by its version."""
    return {version: frozenset(entry.languages) for version, entry in notices.items()}
