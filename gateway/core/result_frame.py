"""What every form of a result has in common: whom it is about, what caused it, what it says.

The forms themselves are `result_observation` and `result_risk`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from gateway.core.remembered import once_per_object
from gateway.core.result_terms import AIAST, RESULT_SYSTEM, Json, cautions_of, limits_of
from models.manifest import Manifest


class InputUsed(Protocol):
    """One input as the model was given it: a number, an image or a text."""

    @property
    def id(self) -> str:
        """Id of the manifest's input; `image` or `text` for what is no number."""

    @property
    def value(self) -> float | None:
        """In `unit`; None where the model was told that it is not known, and for no number."""

    @property
    def unit(self) -> str:
        """UCUM code, the one the manifest declares."""

    @property
    def effective(self) -> datetime | None:
        """When it was true of the patient."""

    @property
    def sources(self) -> tuple[str, ...]:
        """References of what it was read from."""

    @property
    def status(self) -> str:
        """`present` when it was read from the record."""


@dataclass(frozen=True, kw_only=True)
class ResultContext:
    """Whom a result is about, and what caused it.

    Attributes:
        identifier: Of the result, see `result_terms.result_identifier`.
        subject: Reference of the patient as the EHR writes it.
        encounter: Reference of the encounter, when the event named one.
        effective: The `effective[x]` element of the result: the clinical time of the inputs.
        issued: When the result was made.
        trigger: Versioned reference of the resource that caused it, when it has an id.
        with_provenance: Whether the route wants a Provenance beside the result.
        labels: Security labels that the result takes over from what it was made from, as Codings.
    """

    identifier: str
    subject: str
    encounter: str | None
    effective: Mapping[str, Any]
    issued: datetime
    trigger: str | None
    with_provenance: bool = True
    labels: tuple[Json, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RuntimeFacts:
    """On what the model ran.

    Attributes:
        model_digest: SHA-256 of the model package, hexadecimal.
        runtime: Name and version of the inference runtime, for example `onnxruntime 1.32.0`.
        kernel_class: The class of CPU kernels, for example `avx2 exact-int8`.
    """

    model_digest: str
    runtime: str
    kernel_class: str

    @property
    def label(self) -> str:
        """Runtime, version and kernels in one token, findable by search."""
        return f"{self.runtime} {self.kernel_class}".replace(" ", "/")


@dataclass(frozen=True, kw_only=True)
class Frame:
    """What the forms of one result are filled with, besides the answers.

    Attributes:
        manifest: Of the model.
        context: Whom it is about and what caused it.
        device: Reference of the model's Device.
        sources: References of what it was read from.
        text: The narrative.
        notes: Sentences for `note`, the limits of the model first.
        rationale: What the answer rests on, in a sentence; empty where nothing was read.
    """

    manifest: Manifest
    context: ResultContext
    device: str
    sources: tuple[str, ...]
    text: Json
    notes: tuple[str, ...]
    rationale: str = ""


def head_of(frame: Frame, resource_type: str) -> Json:
    """Give the elements that both forms have, as far as their order goes."""
    return {
        "resourceType": resource_type,
        "meta": {"security": [AIAST, *frame.context.labels]},
        "identifier": [{"system": RESULT_SYSTEM, "value": frame.context.identifier}],
        "status": "preliminary",
    }


@once_per_object
def method_of(manifest: Manifest) -> Json:
    """Say which model computed it."""
    return {"text": f"{manifest.title} {manifest.version} (AI)"}


def notes_of(frame: Frame) -> list[Json]:
    """Give `note`: what the model is not for and in whom it does harm, and what else was said."""
    return [{"text": text} for text in frame.notes]


def notes_for(manifest: Manifest, explained: str = "") -> tuple[str, ...]:
    """Give the sentences of `note`."""
    told = (limits_of(manifest), cautions_of(manifest), explained)
    return tuple(text for text in told if text)
