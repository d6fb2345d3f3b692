"""The items `poll`, `subscription` and `atom` of a system's `receive`: how changes are followed.

`poll` asks what changed since the last time. `subscription` keeps Subscriptions in the EHR, counts
what they send and asks for what is missing. `atom` reads the feeds of OpenMRS and Bahmni.
"""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, ValidationInfo, field_validator

from adapters.site_address import Address
from adapters.site_silence import SilentEntry

Followed = Annotated[
    str,
    StringConstraints(
        pattern=r"^[A-Z][A-Za-z]{1,63}(\?[A-Za-z_][^\s?#]{0,400})?$",
    ),
]


#: Feeds of Bahmni's that tell which tests, panels and drugs there are.
_CATALOGUES = ("lab", "drug")


class ProbedEntry(SilentEntry):
    """When a feed is told to be silent, and how often it is proved that changes arrive."""

    probe_every_s: float | None = Field(
        None,
        ge=10,
        le=86_400,
        strict=False,
        description="How often a probe about the system's test_patient is written and waited for; "
        "absent: only by nadi doctor.",
    )


class FollowEntry(ProbedEntry):
    """What is followed, and how far back it is looked for."""

    types: list[Followed] = Field(
        min_length=1,
        description="Resource types, each perhaps with search parameters, such as "
        "Observation?category=laboratory.",
    )
    overlap_s: float = Field(
        60,
        ge=1,
        le=86_400,
        strict=False,
        description="How far before the newest change seen each question begins, in seconds: "
        "more than an EHR takes to make a change visible.",
    )
    lookback_s: float = Field(
        0,
        ge=0,
        le=31 * 86_400,
        strict=False,
        description="How far back the first question goes, in seconds; earlier: nadi backfill.",
    )
    deletions_every_s: float = Field(
        300,
        ge=10,
        le=86_400,
        strict=False,
        description="How often it is asked what the EHR deleted, in seconds: by the history where "
        "it has one, else by asking for every Consent that Nadi holds of it.",
    )
    consents_wait_s: float = Field(
        60,
        ge=0,
        le=31 * 86_400,
        strict=False,
        description="How long what was received waits, after Nadi or the EHR was away, until it is "
        "known what changed of Consents, in seconds; then those that are here count. 0: not at "
        "all. Matters where types has Consent.",
    )
    page: int = Field(200, ge=1, le=1000, description="Resources of a page.")
    include: list[
        Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Za-z]+:[A-Za-z_][A-Za-z0-9_-]*$")]
    ] = Field([], description="What is to come with each, such as Observation:subject.")


class PollEntry(FollowEntry):
    """Ask at an interval what changed."""

    every_s: float = Field(
        30, ge=1, le=86_400, strict=False, description="Between two questions, in seconds."
    )


class SubscriptionEntry(FollowEntry):
    """Keep a Subscription in the EHR for each of `types`, and see to it that nothing is lost."""

    endpoint: Address = Field(
        description="Nadi's FHIR base as the EHR reaches it, such as https://nadi.local/fhir."
    )
    topic: str | None = Field(
        None,
        pattern=r"^https?://[^\s]+$",
        description="Canonical URL of a topic (Subscriptions R5 Backport); absent: the criteria of "
        "plain R4.",
    )
    content: Literal["full-resource", "id-only", "empty"] = Field(
        "full-resource", description="What a notification is to bring."
    )
    heartbeat_s: int | None = Field(
        60, ge=1, le=86_400, description="Longest silence of a topic-based Subscription."
    )
    grace_s: float = Field(
        5, ge=0, le=3600, strict=False, description="How late a missing event may be."
    )
    catch_up_s: float = Field(
        300,
        ge=1,
        le=86_400,
        strict=False,
        description="How often it is asked what changed all the same, in seconds.",
    )

    @field_validator("content")
    @classmethod
    def _needs_topic(cls, content: str, info: ValidationInfo) -> str:
        if content == "id-only" and info.data.get("topic") is None:
            raise ValueError("id-only needs a topic: plain R4 sends the whole resource or nothing")
        return content


class AtomEntry(ProbedEntry):
    """Read the Atom feeds of OpenMRS or Bahmni, and fetch by FHIR what they point at."""

    base_url: Address = Field(
        description="Where the feeds are, such as https://emr.local/openmrs/ws/atomfeed."
    )
    feeds: list[Literal["patient", "encounter"]] = Field(
        min_length=1, description="Which feeds are read."
    )
    every_s: float = Field(
        10, ge=1, le=86_400, strict=False, description="Between two looks, in seconds."
    )
    from_beginning: bool = Field(
        False, description="Whether a feed that is new here is read from its first page."
    )

    @field_validator("feeds", mode="before")
    @classmethod
    def _is_about_patients(cls, feeds: object) -> object:
        named = [each for each in _CATALOGUES if isinstance(feeds, list) and each in feeds]
        if named:
            raise ValueError(
                f"the feed {named[0]} tells of the catalogue, and of no patient: orders and "
                "results come by encounter"
            )
        return feeds

    @field_validator("feeds")
    @classmethod
    def _probe_needs_patients(cls, feeds: list[str], info: ValidationInfo) -> list[str]:
        if info.data.get("probe_every_s") is not None and "patient" not in feeds:
            raise ValueError("a probe arrives by the feed patient: name it, or leave the probe out")
        return feeds
