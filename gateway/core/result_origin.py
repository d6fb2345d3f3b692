"""(5) Where a result comes from: the Device that is the model, and the Provenance of one run.

One Device stands for one model digest, whichever machine ran it; the Provenance says which runtime
on which kernels, and from which versions of which resources.

Source: FHIR R4 Device, Provenance; HL7 AI Transparency on FHIR (STU1 ballot).
"""

from gateway.core.result_frame import Frame, RuntimeFacts
from gateway.core.result_terms import (
    AI_KIND,
    AI_ROLE,
    AI_TYPES,
    AIAST,
    DIGEST_SYSTEM,
    RESULT_SYSTEM,
    RUNTIME_SYSTEM,
    TERMINOLOGY,
    Json,
    cautions_of,
    instant,
    limits_of,
    reference_to,
    result_urn,
)
from models.manifest import Manifest


def device_of(manifest: Manifest, digest: str) -> Json:
    """Write the model as a Device.

    Args:
        manifest: Of the model.
        digest: Of its package.
    """
    kind = {"coding": [{"system": AI_TYPES, "code": "Machine-Learning-Models"}]}
    cautions = cautions_of(manifest)
    return {
        "resourceType": "Device",
        "extension": [{"url": AI_KIND, "valueCodeableConcept": kind}],
        "identifier": [{"system": DIGEST_SYSTEM, "value": digest}],
        "status": "active",
        "manufacturer": manifest.manufacturer,
        "deviceName": [{"name": manifest.title, "type": "user-friendly-name"}],
        "modelNumber": manifest.name,
        "type": AI_ROLE,
        "version": [{"value": manifest.version}],
        "note": [{"text": f"{manifest.intended_use} {limits_of(manifest)} {cautions}".strip()}],
    }


def provenance_of_run(frame: Frame, runtime: RuntimeFacts) -> Json:
    """Write which run of which model on what made a result.

    Args:
        frame: Of the result.
        runtime: On what the model ran.
    """
    context = frame.context
    model = f"{frame.manifest.name} {frame.manifest.version}"
    entities = [{"role": "source", "what": reference_to(source)} for source in frame.sources]
    entities.append({"role": "derivation", "what": _named(DIGEST_SYSTEM, runtime.model_digest)})
    labels = {"security": list(context.labels)} if context.labels else {}
    return {
        "resourceType": "Provenance",
        # R4 gives a Provenance no identifier: the tag is what a repeat is recognised by.
        "meta": {**labels, "tag": [{"system": RESULT_SYSTEM, "code": context.identifier}]},
        "target": [{"reference": result_urn(context.identifier)}],
        "occurredDateTime": instant(context.issued),
        "recorded": instant(context.issued),
        "reason": [{"coding": [AIAST]}],
        "activity": {
            "coding": [{"system": f"{TERMINOLOGY}/v3-DataOperation", "code": "CREATE"}],
            "text": f"Inference by {model}",
        },
        "agent": [
            _agent("author", {"reference": frame.device, "display": model}),
            # The runtime on its kernels: int8 results differ between them within a tolerance.
            _agent("assembler", _named(RUNTIME_SYSTEM, runtime.label)),
        ],
        "entity": entities,
    }


def _agent(participation: str, who: Json) -> Json:
    coding = {"system": f"{TERMINOLOGY}/provenance-participant-type", "code": participation}
    agent: Json = {"type": {"coding": [coding]}, "who": who}
    if participation == "author":
        agent["role"] = [AI_ROLE]
    return agent


def _named(system: str, value: str) -> Json:
    return {"type": "Device", "identifier": {"system": system, "value": value}, "display": value}
