"""What is known of a kind of EHR beforehand: one YAML file of facts each, in `adapters/profiles`.

A profile is chosen by `systems.<name>.profile` of the site file, or recognised from the address and
the CapabilityStatement. It says what an EHR's own statement leaves out or has wrong: what is
dropped in silence, which conditions and searches are ignored. What it leaves open, the statement
and the EHR's answers tell.

`software.name` alone is not enough: OpenMRS answers with that of the HAPI library it is built on.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field
from ruamel.yaml import YAML

from adapters.fhir_rest.answers import EhrCapabilities
from adapters.site_words import Name, Part
from gateway.core.errors import ConfigurationError
from gateway.core.ladder import IfLabelLost

GENERIC = "generic"
_FOLDER = Path(__file__).parent / "profiles"


class Recognised(Part):
    """By what an EHR is recognised; everything that is named has to fit."""

    path: str = Field("", description="What the path of its FHIR base holds.")
    software: str = Field("", description="`software.name` of its CapabilityStatement.")
    transaction: bool | None = Field(None, description="Whether it states transactions.")

    def fits(self, base_url: str, said: EhrCapabilities | None) -> bool:
        """Say whether an EHR is one of these."""
        if self.path and self.path not in f"{urlsplit(base_url).path}/":
            return False
        if self.software and (said is None or said.software.lower() != self.software.lower()):
            return False
        is_stated = said is not None and said.transaction
        return self.transaction is None or self.transaction == is_stated


class Profile(Part):
    """What is known of a kind of EHR."""

    profile: Name
    title: str
    recognised_by: Recognised | None = Field(None, description="Absent: only by its name.")
    takes: dict[str, bool] = Field(
        {}, description="Resource types that it lets be created, or not."
    )
    lets_only: list[str] = Field([], description="It lets nothing else be created than these.")
    transactions: bool | None = Field(None, description="Whether it takes transaction Bundles.")
    reads_back: Literal["sometimes", "always"] = Field(
        "sometimes", description="Whether each result is read again, or one in a while."
    )
    finds_by: Literal["identifier", "patient-code-time"] = Field(
        "identifier", description="How a result that may be there already is looked for."
    )
    needs_codes: bool = Field(False, description="It takes an Observation only under own codes.")
    only_date_time: bool = Field(False, description="effectivePeriod and Instant are not kept.")
    ai_note: bool = Field(
        False, description="It keeps notes and no label: a note says that an AI made it."
    )
    keeps_preliminary: bool = Field(True, description="A result may be preliminary there.")
    refuses_form_with: list[int] = Field(
        [], description="Statuses that say that this form does not suit it, another may."
    )
    if_label_lost: IfLabelLost = Field(
        IfLabelLost.WORDS, strict=False, description="Where the site does not say."
    )
    drops: dict[str, list[str]] = Field({}, description="Elements lost in silence, by type.")
    quirks: list[str] = Field([], description="What an engineer has to know.")
    sources: list[str] = Field(min_length=1, description="Where this was read.")

    def why_not(self, resource_type: str) -> str | None:
        """Say why it does not let a resource be created; None where the profile says nothing."""
        is_let = not self.lets_only or resource_type in self.lets_only
        if self.takes.get(resource_type, is_let):
            return None
        return f"{self.title} lets no {resource_type} be created."


@cache
def profiles() -> Mapping[str, Profile]:
    """Give all profiles by name."""
    found = [_read(path) for path in sorted(_FOLDER.glob("*.yaml"))]
    return {each.profile: each for each in found}


def profile(name: str) -> Profile:
    """Give a profile by its name.

    Raises:
        ConfigurationError: There is none of this name.
    """
    found = profiles().get(name)
    if found is None:
        known = ", ".join(profiles())
        raise ConfigurationError(f"There is no profile '{name}' of an EHR; known: {known}.")
    return found


def recognised(base_url: str, said: EhrCapabilities | None) -> Profile:
    """Give the profile of an EHR that nobody named; `generic` where none fits.

    Args:
        base_url: Its FHIR base.
        said: Its CapabilityStatement; None where it gives none.
    """
    fitting = (
        each
        for each in profiles().values()
        if each.recognised_by and each.recognised_by.fits(base_url, said)
    )
    return next(fitting, profiles()[GENERIC])


def _check_name(name: str) -> str:
    if name not in profiles():
        raise ValueError(f"unknown profile '{name}'")
    return name


def _read(path: Path) -> Profile:
    return Profile.model_validate(YAML(typ="safe", pure=True).load(path.read_text("utf-8")))


ProfileName = Annotated[
    str, AfterValidator(_check_name), Field(json_schema_extra={"enum": sorted(profiles())})
]
