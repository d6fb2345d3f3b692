"""(5) Report: what a model answered, or why it was not asked, as FHIR R4 to be written back.

The rules a report keeps:

* the result is born `preliminary` and labelled AIAST in `meta.security`: no human saw it yet;
* its identifier is derived from what caused it, so that writing it twice is recognised as one;
* it is about the patient at the time of the inputs, and made now;
* the Provenance says which model, which runtime on which kernels, and from which versions;
* `code.text` says that it is an AI's: a result list shows the code and the value, nothing else;
* the text says in one glance what was found, in whom the model does harm, by whom (a machine) it
  was found and how far to trust it;
* a RiskAssessment is accompanied by the same answer as an Observation, for an EHR without them.

The forms are in `result_observation` and `result_risk`. Same input, same report.

Source: FHIR R4 Observation, RiskAssessment, Media, Device, Provenance.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import orjson

from gateway.core.result_frame import Frame, InputUsed, ResultContext, RuntimeFacts, notes_for
from gateway.core.result_map import occlusion_map_of
from gateway.core.result_observation import absent_observation, observation_of
from gateway.core.result_origin import device_of, provenance_of_run
from gateway.core.result_risk import risk_assessment_of
from gateway.core.result_terms import (
    CANONICAL,
    DIGEST_SYSTEM,
    RESULT_SYSTEM,
    Json,
    cautions_of,
    device_urn,
    result_identifier,
    result_urn,
)
from gateway.core.result_text import basis_of, narrative_of, summary_of
from models.explained import Explained, NotExplained
from models.manifest import Manifest

__all__ = [
    "CANONICAL",
    "DIGEST_SYSTEM",
    "RESULT_SYSTEM",
    "InputUsed",
    "Json",
    "Report",
    "ResultContext",
    "RuntimeFacts",
    "device_urn",
    "refusal",
    "report",
    "result_identifier",
    "result_urn",
]


@dataclass(frozen=True)
class Report:
    """One result as the resources to be written. They refer to each other by `urn:uuid:`.

    Attributes:
        result: An Observation or a RiskAssessment.
        device: The model.
        provenance: Of the run, where the route wants one.
        attachments: Media that belong to the result.
        instead: The Observation for an EHR that has no RiskAssessment.
    """

    result: Json
    device: Json
    provenance: Json | None
    attachments: tuple[Json, ...] = ()
    instead: Json | None = None

    @property
    def identifier(self) -> str:
        """Value of the result's identifier."""
        return str(self.result["identifier"][0]["value"])

    @property
    def observation(self) -> Json:
        """The result as an Observation, whichever form it is written in."""
        return self.instead or self.result

    def to_json(self) -> bytes:
        """Give the report as bytes, to be sealed: a list of three, a fourth if there is more."""
        parts: list[object] = [self.result, self.device, self.provenance]
        if self.attachments or self.instead:
            parts.append({"attachments": self.attachments, "instead": self.instead})
        return orjson.dumps(parts)

    @classmethod
    def from_json(cls, body: bytes) -> Self:
        """Read what `to_json` wrote."""
        result, device, provenance, *more = orjson.loads(body)
        if not more:
            return cls(result, device, provenance)
        (rest,) = more
        return cls(result, device, provenance, tuple(rest["attachments"]), rest["instead"])


def report(
    manifest: Manifest,
    outputs: Sequence[float],
    *,
    inputs: Sequence[InputUsed],
    context: ResultContext,
    runtime: RuntimeFacts,
    explained: Explained | NotExplained | None = None,
) -> Report:
    """Turn a model's checked outputs into the resources to be written.

    Args:
        manifest: Of the model.
        outputs: One row of the output tensor.
        inputs: What the model was given.
        context: Whom it is about and what caused it.
        runtime: On what it ran.
        explained: What moved the answer, where the route wants to know; into narrative, note and
            rationale, and as a Media where it is a picture.

    Raises:
        ValueError: An output can't be an answer: see `models.manifest.Manifest.read`.
    """
    answers = manifest.read(outputs)
    basis = basis_of(manifest, inputs)
    why = explained.describe() if explained else ""
    frame = Frame(
        manifest=manifest,
        context=context,
        device=device_urn(runtime.model_digest),
        sources=_sources(inputs, context),
        text=narrative_of(
            manifest, summary_of(manifest, answers, inputs), cautions_of(manifest), basis, why
        ),
        notes=notes_for(manifest, why),
        rationale=f"{basis} {why}".strip(),
    )
    observation = observation_of(frame, answers)
    if manifest.result.resource == "Observation":
        made = _report(frame, runtime, observation)
    else:
        made = _report(frame, runtime, risk_assessment_of(frame, answers), instead=observation)
    if explained and explained.drawing:
        return replace(made, attachments=(occlusion_map_of(frame, explained.drawing),))
    return made


def refusal(
    manifest: Manifest,
    *,
    reason: str,
    sources: Sequence[str],
    is_outside_use: bool,
    context: ResultContext,
    runtime: RuntimeFacts,
) -> Report:
    """Say in the chart that the model was not asked, and why; always as an Observation.

    Args:
        manifest: Of the model.
        reason: One sentence for people, without any value.
        sources: References of the resources it is about.
        is_outside_use: The model was not made for such a patient.
        context: Whom it is about and what caused it.
        runtime: On what it would have run.
    """
    frame = Frame(
        manifest=manifest,
        context=context,
        device=device_urn(runtime.model_digest),
        sources=_distinct(sources, context),
        text=narrative_of(manifest, f"{manifest.title}: no result. {reason}"),
        notes=notes_for(manifest),
    )
    observation = absent_observation(frame, reason, is_outside_use=is_outside_use)
    return _report(frame, runtime, observation)


def _report(
    frame: Frame, runtime: RuntimeFacts, result: Json, *, instead: Json | None = None
) -> Report:
    wants_provenance = frame.context.with_provenance
    return Report(
        result,
        device_of(frame.manifest, runtime.model_digest),
        provenance_of_run(frame, runtime) if wants_provenance else None,
        instead=instead,
    )


def _sources(inputs: Sequence[InputUsed], context: ResultContext) -> tuple[str, ...]:
    return _distinct([source for each in inputs for source in each.sources], context)


def _distinct(sources: Sequence[str], context: ResultContext) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*sources, *([context.trigger] if context.trigger else [])]))
