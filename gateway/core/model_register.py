"""The register of models: what was registered, by whom it was signed, and whether it may run.

* A model is one digest. It is registered once and, at most once, retired; nothing makes a retired
  digest run again.
* A name with its version means one content: another digest under the same name and version is
  refused. Only a model that came with Nadi is replaced by the one that comes with a newer Nadi.
* It may run from the first to the last day of its validity (UTC), both included.
"""

import hashlib
from dataclasses import asdict, dataclass
from datetime import date
from enum import StrEnum

import orjson

from gateway.core.errors import ProcessingError
from models.manifest import Manifest

BUILT_IN = "built-in"
"""Signer of the models that come with Nadi, or lie in the folder that its administrator named."""


class ModelConflict(ProcessingError):
    """Another content is registered under this name and version."""

    issue_type = "conflict"


class ModelRetired(ProcessingError):
    """The model was retired; it never runs again."""

    issue_type = "conflict"


class ModelState(StrEnum):
    """What was done with a model."""

    ACTIVE = "active"
    RETIRED = "retired"


class Standing(StrEnum):
    """Whether a model may run on a day."""

    ACTIVE = "active"
    RETIRED = "retired"
    EXPIRED = "expired"
    NOT_YET = "not-yet-valid"


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a model is and for whom, as its manifest says; never changed once it is registered.

    Attributes:
        digest: SHA-256 over its files.
        contraindications: Patients or situations in which it does harm.
        device_class: Class of the Medical Devices Rules, or `none`; None where nothing is said.
        change_protocol: Identifier of the algorithm change protocol.
        not_before: First day on which it may run; None for any.
        not_after: Last day.
        signer: Whom the site knows the signing key as; `built-in` for what came with Nadi.
        signer_key: The public key; empty for what came with Nadi.
    """

    digest: str
    name: str
    version: str
    title: str
    intended_use: str
    not_for: str
    contraindications: tuple[str, ...]
    demonstration_only: bool
    manufacturer: str
    jurisdiction: str | None
    device_class: str | None
    licence_number: str | None
    change_protocol: str | None
    not_before: date | None
    not_after: date | None
    signer: str
    signer_key: str

    @property
    def reference(self) -> str:
        """Name and version, as a person writes it."""
        return f"{self.name}@{self.version}"

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all of it, for the audit log."""
        return hashlib.sha256(orjson.dumps(asdict(self))).hexdigest()


@dataclass(frozen=True, kw_only=True)
class RegisteredModel:
    """A line of the register.

    Attributes:
        reason: Why it was retired; empty while it was not.
    """

    card: Card
    state: ModelState
    registered_ms: int
    registered_by: str
    retired_ms: int | None = None
    retired_by: str | None = None
    reason: str = ""

    def standing(self, day: date) -> Standing:
        """Whether it may run on a day."""
        return standing(self.state, self.card.not_before, self.card.not_after, day)


def standing(state: str, not_before: date | None, not_after: date | None, day: date) -> Standing:
    """Whether a model may run on a day."""
    if state == ModelState.RETIRED:
        return Standing.RETIRED
    if not_before and day < not_before:
        return Standing.NOT_YET
    if not_after and day > not_after:
        return Standing.EXPIRED
    return Standing.ACTIVE


def card_of(manifest: Manifest, digest: str, *, signer: str, signer_key: str) -> Card:
    """What the register keeps of a manifest."""
    authority = manifest.regulatory
    return Card(
        digest=digest,
        name=manifest.name,
        version=manifest.version,
        title=manifest.title,
        intended_use=manifest.intended_use,
        not_for=manifest.not_for,
        contraindications=manifest.contraindications,
        demonstration_only=manifest.demonstration_only,
        manufacturer=manifest.manufacturer,
        jurisdiction=authority.jurisdiction if authority else None,
        device_class=authority.device_class if authority else None,
        licence_number=authority.licence_number if authority else None,
        change_protocol=authority.change_protocol if authority else None,
        not_before=manifest.validity.not_before,
        not_after=manifest.validity.not_after,
        signer=signer,
        signer_key=signer_key,
    )
