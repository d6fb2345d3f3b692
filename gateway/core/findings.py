"""(5) Report: what a model answered, or why it was not asked, as FHIR R4 to be written back.

The rules a report keeps:

* the Observation is born `preliminary` and labelled AIAST in `meta.security`: no human saw it yet;
* its identifier is derived from what caused it, so that writing it twice is recognised as one;
* it is about the patient at the time of the inputs (`effective`), and made now (`issued`);
* it has a value or a `dataAbsentReason`, never both (obs-6);
* `derivedFrom` names the inputs of the types that R4 allows there; the Provenance names all;
* the Provenance says which model, which runtime on which kernels, and from which versions;
* `code.text` says that it is an AI's: a result list shows the code and the value, nothing else;
* the text says in one glance what was found, by whom (a machine) and how far to trust it.

One Device stands for one model digest, whichever machine ran it. Same input, same report.

Source: FHIR R4 Observation, Device, Provenance; HL7 AI Transparency on FHIR (STU1 ballot).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from html import escape
from typing import Any, Protocol, Self
from uuid import NAMESPACE_URL, uuid5

import orjson

from gateway.core.remembered import once_per_object
from models.manifest import Answer, Input, Manifest, Output

CANONICAL = "https://nadi.health/fhir"
RESULT_SYSTEM = f"{CANONICAL}/sid/result"
DIGEST_SYSTEM = f"{CANONICAL}/sid/model-digest"
RUNTIME_SYSTEM = f"{CANONICAL}/sid/runtime"

_NAMESPACE = uuid5(NAMESPACE_URL, RESULT_SYSTEM)
_TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"
_AI_TYPES = "http://hl7.org/fhir/uv/aitransparency/CodeSystem/AIdeviceTypeCS"
_AI_KIND = "http://hl7.org/fhir/uv/aitransparency/StructureDefinition/aitransparency.AIKind"
_UCUM = "http://unitsofmeasure.org"
_XHTML = "http://www.w3.org/1999/xhtml"
_AIAST = {
    "system": f"{_TERMINOLOGY}/v3-ObservationValue",
    "code": "AIAST",
    "display": "Artificial Intelligence asserted",
}
# R4 has no category for a computed risk; `survey` is the one of assessment scores (such as Apgar).
_CATEGORY = {
    "coding": [{"system": f"{_TERMINOLOGY}/observation-category", "code": "survey"}],
    "text": "AI risk estimate",
}
_AI_ROLE = {"coding": [{"system": _AI_TYPES, "code": "Artificial-Intelligence"}]}
_DERIVED_FROM = frozenset(
    {
        "DocumentReference",
        "ImagingStudy",
        "Media",
        "MolecularSequence",
        "Observation",
        "QuestionnaireResponse",
    }
)
_INTERPRETATIONS = {
    "N": "Normal",
    "A": "Abnormal",
    "AA": "Critical abnormal",
    "L": "Low",
    "LL": "Critical low",
    "H": "High",
    "HH": "Critical high",
    "POS": "Positive",
    "NEG": "Negative",
    "IND": "Indeterminate",
}
# Decimals of a value: float32 carries seven digits, more would be noise.
_DECIMALS = 7

Json = dict[str, Any]


class InputUsed(Protocol):
    """One input as the model was given it."""

    @property
    def id(self) -> str:
        """Id of the manifest's input."""

    @property
    def value(self) -> float | None:
        """In `unit`; None where the model was told that it is not known."""

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
        identifier: Of the result, see `result_identifier`.
        subject: Reference of the patient as the EHR writes it.
        encounter: Reference of the encounter, when the event named one.
        effective: The `effective[x]` element of the result: the clinical time of the inputs.
        issued: When the result was made.
        trigger: Versioned reference of the resource that caused it, when it has an id.
        with_provenance: Whether the route wants a Provenance beside the Observation.
    """

    identifier: str
    subject: str
    encounter: str | None
    effective: Mapping[str, Any]
    issued: datetime
    trigger: str | None
    with_provenance: bool = True


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


@dataclass(frozen=True)
class Report:
    """One result as three resources. They refer to each other by `urn:uuid:`."""

    observation: Json
    device: Json
    provenance: Json | None

    @property
    def identifier(self) -> str:
        """Value of the Observation's identifier."""
        return str(self.observation["identifier"][0]["value"])

    @property
    def digest(self) -> str:
        """Digest of the model, the Device's identifier."""
        return str(self.device["identifier"][0]["value"])

    def to_json(self) -> bytes:
        """Give the report as bytes, to be sealed."""
        return orjson.dumps([self.observation, self.device, self.provenance])

    @classmethod
    def from_json(cls, body: bytes) -> Self:
        """Read what `to_json` wrote."""
        observation, device, provenance = orjson.loads(body)
        return cls(observation, device, provenance)


def result_identifier(system: str, dedupe_key: str, route: str, model_digest: str) -> str:
    """Give the identifier of a result: the same for the same cause, on every machine.

    Args:
        system: System that the event came from.
        dedupe_key: What tells this event version from every other of that system.
        route: Name of the route.
        model_digest: Digest of the model package.

    Source: RFC 9562 section 5.5 (UUID version 5).
    """
    return str(uuid5(_NAMESPACE, f"{system}|{dedupe_key}|{route}|{model_digest}"))


def observation_urn(identifier: str) -> str:
    """Give the `fullUrl` by which resources of one Bundle refer to a result."""
    return f"urn:uuid:{identifier}"


@lru_cache(maxsize=64)
def device_urn(model_digest: str) -> str:
    """Give the `fullUrl` by which resources of one Bundle refer to a model's Device."""
    return f"urn:uuid:{uuid5(_NAMESPACE, f'device|{model_digest}')}"


def report(
    manifest: Manifest,
    outputs: Sequence[float],
    *,
    inputs: Sequence[InputUsed],
    context: ResultContext,
    runtime: RuntimeFacts,
) -> Report:
    """Turn a model's checked outputs into the resources to be written.

    The first output of the manifest is the value; further ones are components.

    Args:
        manifest: Of the model.
        outputs: One row of the output tensor.
        inputs: What the model was given.
        context: Whom it is about and what caused it.
        runtime: On what it ran.

    Raises:
        ValueError: An output is outside the range its manifest declares.
    """
    first, *others = manifest.read(outputs)
    sources = _sources(inputs, context)
    summary = _summary(first, inputs)
    observation = {
        **_observation(manifest, context, sources, device_urn(runtime.model_digest)),
        **_finding(manifest, first),
        "text": _narrative(summary, _inputs_text(manifest, inputs), manifest),
    }
    if others:
        observation["component"] = [_finding(manifest, other) for other in others]
    return _report(observation, manifest, context, runtime, sources)


def refusal(
    manifest: Manifest,
    *,
    reason: str,
    sources: Sequence[str],
    is_outside_use: bool,
    context: ResultContext,
    runtime: RuntimeFacts,
) -> Report:
    """Say in the chart that the model was not asked, and why.

    Args:
        manifest: Of the model.
        reason: One sentence for people, without any value.
        sources: References of the resources it is about.
        is_outside_use: The model was not made for such a patient.
        context: Whom it is about and what caused it.
        runtime: On what it would have run.
    """
    named = tuple(dict.fromkeys([*sources, *([context.trigger] if context.trigger else [])]))
    code = "not-applicable" if is_outside_use else "not-performed"
    absent = {"coding": [{"system": f"{_TERMINOLOGY}/data-absent-reason", "code": code}]}
    observation = {
        **_observation(manifest, context, named, device_urn(runtime.model_digest)),
        "code": _code(manifest, manifest.outputs[0]),
        "dataAbsentReason": {**absent, "text": reason},
        "text": _narrative(f"{manifest.title}: no result. {reason}", "", manifest),
    }
    return _report(observation, manifest, context, runtime, named)


def _report(
    observation: Json,
    manifest: Manifest,
    context: ResultContext,
    runtime: RuntimeFacts,
    sources: Sequence[str],
) -> Report:
    provenance = _provenance(manifest, context, runtime, sources)
    return Report(
        observation,
        _device(manifest, runtime.model_digest),
        provenance if context.with_provenance else None,
    )


def _observation(
    manifest: Manifest, context: ResultContext, sources: Sequence[str], device: str
) -> Json:
    """Give what a result and a refusal have in common."""
    observation: Json = {
        "resourceType": "Observation",
        "meta": {"security": [_AIAST]},
        "identifier": [{"system": RESULT_SYSTEM, "value": context.identifier}],
        "status": "preliminary",
        "category": [_CATEGORY],
        "subject": {"reference": context.subject},
        **context.effective,
        "issued": _instant(context.issued),
        "method": {"text": f"{manifest.title} {manifest.version} (AI)"},
        "device": {"reference": device},
        "note": [{"text": _limits(manifest)}],
    }
    if context.encounter:
        observation["encounter"] = {"reference": context.encounter}
    derived = [source for source in sources if _type_of(source) in _DERIVED_FROM]
    if derived:
        observation["derivedFrom"] = [{"reference": source} for source in derived]
    return observation


def _finding(manifest: Manifest, answer: Answer) -> Json:
    output = answer.output
    return {
        "code": _code(manifest, output),
        "valueQuantity": {
            "value": round(float(answer.value), _DECIMALS),
            "unit": output.unit_text or output.unit,
            "system": _UCUM,
            "code": output.unit,
        },
        "interpretation": [_interpretation(answer)],
    }


def _interpretation(answer: Answer) -> Json:
    if answer.interpretation is None:
        return {"text": answer.label}
    coding = {
        "system": f"{_TERMINOLOGY}/v3-ObservationInterpretation",
        "code": answer.interpretation,
        "display": _INTERPRETATIONS[answer.interpretation],
    }
    return {"coding": [coding], "text": answer.label}


def _device(manifest: Manifest, digest: str) -> Json:
    return {
        "resourceType": "Device",
        "extension": [
            {
                "url": _AI_KIND,
                "valueCodeableConcept": {
                    "coding": [{"system": _AI_TYPES, "code": "Machine-Learning-Models"}]
                },
            }
        ],
        "identifier": [{"system": DIGEST_SYSTEM, "value": digest}],
        "status": "active",
        "manufacturer": manifest.manufacturer,
        "deviceName": [{"name": manifest.title, "type": "user-friendly-name"}],
        "modelNumber": manifest.name,
        "type": _AI_ROLE,
        "version": [{"value": manifest.version}],
        "note": [{"text": f"{manifest.intended_use} {_limits(manifest)}"}],
    }


def _provenance(
    manifest: Manifest, context: ResultContext, runtime: RuntimeFacts, sources: Sequence[str]
) -> Json:
    model = f"{manifest.name} {manifest.version}"
    entities = [{"role": "source", "what": {"reference": source}} for source in sources]
    entities.append({"role": "derivation", "what": _named(DIGEST_SYSTEM, runtime.model_digest)})
    return {
        "resourceType": "Provenance",
        # R4 gives a Provenance no identifier: the tag is what a repeat is recognised by.
        "meta": {"tag": [{"system": RESULT_SYSTEM, "code": context.identifier}]},
        "target": [{"reference": observation_urn(context.identifier)}],
        "occurredDateTime": _instant(context.issued),
        "recorded": _instant(context.issued),
        "reason": [{"coding": [_AIAST]}],
        "activity": {
            "coding": [{"system": f"{_TERMINOLOGY}/v3-DataOperation", "code": "CREATE"}],
            "text": f"Inference by {model}",
        },
        "agent": [
            _agent("author", {"reference": device_urn(runtime.model_digest), "display": model}),
            # The runtime on its kernels: int8 results differ between them within a tolerance.
            _agent("assembler", _named(RUNTIME_SYSTEM, runtime.label)),
        ],
        "entity": entities,
    }


def _agent(participation: str, who: Json) -> Json:
    coding = {"system": f"{_TERMINOLOGY}/provenance-participant-type", "code": participation}
    agent: Json = {"type": {"coding": [coding]}, "who": who}
    if participation == "author":
        agent["role"] = [_AI_ROLE]
    return agent


def _named(system: str, value: str) -> Json:
    return {"type": "Device", "identifier": {"system": system, "value": value}, "display": value}


def _code(manifest: Manifest, output: Output) -> Json:
    coding = {"system": output.code.system, "code": output.code.code}
    if output.code.display:
        coding["display"] = output.code.display
    maker = "AI, demonstration only" if manifest.demonstration_only else "AI"
    name = output.label or output.code.display or output.name
    return {"coding": [coding], "text": f"{name} ({maker})"}


def _sources(inputs: Sequence[InputUsed], context: ResultContext) -> tuple[str, ...]:
    named = [source for each in inputs for source in each.sources]
    return tuple(dict.fromkeys([*named, *([context.trigger] if context.trigger else [])]))


def _type_of(reference: str) -> str:
    plain, _, _ = reference.partition("/_history/")
    return plain.rpartition("/")[0].rpartition("/")[2]


def _limits(manifest: Manifest) -> str:
    if manifest.demonstration_only:
        return f"Demonstration only: not a medical device. Not for: {manifest.not_for}"
    return f"Not for: {manifest.not_for}"


def _summary(answer: Answer, inputs: Sequence[InputUsed]) -> str:
    used = sum(each.status == "present" for each in inputs)
    return answer.describe(used=used, total=len(inputs))


def _inputs_text(manifest: Manifest, inputs: Sequence[InputUsed]) -> str:
    declared = _declared(manifest)
    shown = (_input_text(declared[each.id], each) for each in inputs)
    return ", ".join(text for text in shown if text)


def _input_text(declared: Input, used: InputUsed) -> str:
    if used.status != "present" or used.value is None:
        return ""
    on = f" ({used.effective.date().isoformat()})" if used.effective else ""
    unit = declared.unit_text or used.unit
    return f"{declared.label} {used.value:.4g} {unit}{on}"


def _narrative(summary: str, basis: str, manifest: Manifest) -> Json:
    basis_of = f"<p>{_xml(f'Based on: {basis}.')}</p>" if basis else ""
    text = f"<p><b>{_xml(summary)}</b></p>{basis_of}{_fine_print(manifest)}"
    return {"status": "generated", "div": f'<div xmlns="{_XHTML}">{text}</div>'}


@once_per_object
def _fine_print(manifest: Manifest) -> str:
    by = f"Made by AI ({manifest.title} {manifest.version}); not yet reviewed by a clinician."
    return f"<p>{_xml(by)}</p><p>{_xml(_limits(manifest))}</p>"


@once_per_object
def _declared(manifest: Manifest) -> Mapping[str, Input]:
    return {each.id: each for each in manifest.inputs}


def _xml(text: str) -> str:
    return escape(text, quote=False)


def _instant(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")
