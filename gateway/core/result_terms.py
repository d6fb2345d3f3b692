"""The words and marks that everything Nadi writes into a chart shares.

* `RESULT_SYSTEM` and `DIGEST_SYSTEM` are the systems of the identifiers that results and models
  are recognised by, whatever their resource type;
* the label AIAST says that an AI asserted it;
* references inside one Bundle are `urn:uuid:`, worked out from those identifiers, so that the same
  cause gives the same bytes.

Source: HL7 AI Transparency on FHIR (STU1 ballot); RFC 9562 section 5.5 (UUID version 5).
"""

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from gateway.core.feeds import FEEDS
from gateway.core.remembered import once_per_object
from models.manifest import Answer, CodeRef, Manifest, Output

CANONICAL = "https://nadi.health/fhir"
RESULT_SYSTEM = f"{CANONICAL}/sid/result"
DIGEST_SYSTEM = f"{CANONICAL}/sid/model-digest"
RUNTIME_SYSTEM = f"{CANONICAL}/sid/runtime"
TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"
UCUM = "http://unitsofmeasure.org"

_NAMESPACE = uuid5(NAMESPACE_URL, RESULT_SYSTEM)
_TRANSPARENCY = "http://hl7.org/fhir/uv/aitransparency"
AI_TYPES = f"{_TRANSPARENCY}/CodeSystem/AIdeviceTypeCS"
AI_KIND = f"{_TRANSPARENCY}/StructureDefinition/aitransparency.AIKind"
AI_CONFIDENCE = f"{_TRANSPARENCY}/StructureDefinition/AIconfidence"
AIAST = {
    "system": f"{TERMINOLOGY}/v3-ObservationValue",
    "code": "AIAST",
    "display": "Artificial Intelligence asserted",
}
AI_ROLE = {"coding": [{"system": AI_TYPES, "code": "Artificial-Intelligence"}]}
#: How a result says that an AI made it where an EHR keeps no label: as its value, in its note.
AI_VALUE = "AI, preliminary: "
AI_NOTE = ": result of an AI."
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
#: Decimals of a value: float32 carries seven digits, more would be noise.
DECIMALS = 7

Json = dict[str, Any]


def result_identifier(system: str, dedupe_key: str, route: str, model_digest: str) -> str:
    """Give the identifier of a result: the same for the same cause, on every machine.

    Args:
        system: System that the event came from.
        dedupe_key: What tells this event version from every other of that system.
        route: Name of the route.
        model_digest: Digest of the model package.
    """
    return str(uuid5(_NAMESPACE, f"{system}|{dedupe_key}|{route}|{model_digest}"))


def attachment_identifier(identifier: str, name: str) -> str:
    """Give the identifier of something that belongs to a result.

    Args:
        identifier: Of the result.
        name: What it is, for example `occlusion-map`.
    """
    return str(uuid5(_NAMESPACE, f"attachment|{identifier}|{name}"))


def result_urn(identifier: str) -> str:
    """Give the `fullUrl` by which resources of one Bundle refer to a result or attachment."""
    return f"urn:uuid:{identifier}"


@lru_cache(maxsize=64)
def device_urn(model_digest: str) -> str:
    """Give the `fullUrl` by which resources of one Bundle refer to a model's Device."""
    return f"urn:uuid:{uuid5(_NAMESPACE, f'device|{model_digest}')}"


def coding_of(code: CodeRef) -> Json:
    """Give a code of a manifest as a Coding."""
    coding = {"system": code.system, "code": code.code}
    return {**coding, "display": code.display} if code.display else coding


def code_of(manifest: Manifest, output: Output) -> Json:
    """Give what an output is called in a result list, where nothing else says that an AI made it.

    Args:
        manifest: Of the model.
        output: One of its outputs.
    """
    return _codes(manifest)[output.name]


@once_per_object
def _codes(manifest: Manifest) -> Mapping[str, Json]:
    names = {each.name: each.label or each.code.display or each.name for each in manifest.outputs}
    return {
        each.name: named_code(manifest, each.code, names[each.name]) for each in manifest.outputs
    }


def named_code(manifest: Manifest, code: CodeRef, name: str) -> Json:
    """Give a code with the name that people read, and that an AI made what stands under it."""
    maker = "AI, demonstration only" if manifest.demonstration_only else "AI"
    return {"coding": [coding_of(code)], "text": f"{name} ({maker})"}


def interpretation_of(answer: Answer) -> Json:
    """Give the interpretation of an answer; in words only where the manifest has no code."""
    if answer.interpretation is None:
        return {"text": answer.label}
    coding = {
        "system": f"{TERMINOLOGY}/v3-ObservationInterpretation",
        "code": answer.interpretation,
        "display": _INTERPRETATIONS[answer.interpretation],
    }
    return {"coding": [coding], "text": answer.label}


@once_per_object
def limits_of(manifest: Manifest) -> str:
    """Say what a model is not for."""
    if manifest.demonstration_only:
        return f"Demonstration only: not a medical device. Not for: {manifest.not_for}"
    return f"Not for: {manifest.not_for}"


@once_per_object
def cautions_of(manifest: Manifest) -> str:
    """Say in whom a model does harm; empty where its manifest names nobody."""
    told = " ".join(manifest.contraindications)
    return f"Contraindications: {told}" if told else ""


def reference_to(source: str) -> Json:
    """Refer to what was read.

    What came by a listener is named by an identifier: the EHR that the result is for does not have
    it, and an EHR may refuse a reference that leads nowhere.
    """
    if not source.startswith(FEEDS):
        return {"reference": source}
    address, _, name = source.partition("/_history/")[0].rpartition("/")
    system, _, kind = address.rpartition("/")
    return {"type": kind, "identifier": {"system": system, "value": name}}


def type_of(reference: str) -> str:
    """Give the resource type that a literal reference names; empty where it names none."""
    plain, _, _ = reference.partition("/_history/")
    return plain.rpartition("/")[0].rpartition("/")[2]


def instant(moment: datetime) -> str:
    """Write a moment as a FHIR instant."""
    return moment.isoformat(timespec="milliseconds")
