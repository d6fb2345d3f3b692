"""Every step leaves an AuditEvent: one function per kind of step, pure.

Each gives an `AuditRecord`, to be stored in the same transaction as what it tells of. No patient
value gets into one, provided the caller keeps two promises: resources and queries are passed as
keyed hashes or opaque ids of our own, and reasons name no value.

The agents of an event besides this process are the caller's to name; our own part (client or
server) is the one that they leave.

Source: IHE ITI BALP 1.1 (https://profiles.ihe.net/ITI/BALP); tables in `balp`.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from gateway.core import balp
from gateway.core.audit_event import (
    CREDENTIAL_SYSTEM,
    EVENT_SYSTEM,
    MODEL_SYSTEM,
    PAYLOAD_SYSTEM,
    RESOURCE_SYSTEM,
    RESULT_SYSTEM,
    SITE_SYSTEM,
    AuditAgent,
    AuditEventMalformed,
    AuditRecord,
    Outcome,
    Source,
    Step,
    entity_details,
    identified,
    job_step,
    read_record,
    write_record,
)
from gateway.core.audit_result import DeliveredResult
from gateway.core.balp import AgentKind
from gateway.core.consent import ConsentDecision

__all__ = [
    "AgentKind",
    "AuditAgent",
    "AuditEventMalformed",
    "AuditRecord",
    "AuditedModel",
    "DeliveredResult",
    "JobEvent",
    "OtherEvent",
    "Outcome",
    "Source",
    "Step",
    "configured",
    "consent_decided",
    "credential_changed",
    "delivered",
    "fetched",
    "forbidden",
    "inferred",
    "job_changed",
    "job_step",
    "model_changed",
    "noted",
    "queried",
    "read_record",
    "received",
    "retracted",
    "sign_in_failed",
    "was_read",
]

# A process has a few sources, users and purposes, which come again with every event.
_CACHED = 1024

JobEvent = Literal[
    "admit",
    "refuse",
    "supersede",
    "cancel",
    "fail",
    "complete",
    "retry",
    "rescue",
    "sign-off",
]
OtherEvent = Literal[
    "start",
    "stop",
    "keys",
    "break-glass",
    "break-glass-review",
    "canary",
    "export",
    "restore",
    "verify",
    "note",
]


@dataclass(frozen=True)
class AuditedModel:
    """The model of an inference, as its event names it.

    Attributes:
        name: `name@version`.
        digest: SHA-256 of the package, hexadecimal.
        runtime: Name and version of the inference runtime.
        kernel_class: Which CPU kernels computed it.
    """

    name: str
    digest: str
    runtime: str
    kernel_class: str


def received(
    step: Step, *, sender: AuditAgent, resource_type: str, sha256: str, is_update: bool = False
) -> AuditRecord:
    """(1) A system pushed a resource or a Bundle to us.

    Args:
        step: With `event_id` when it was accepted; with outcome and reason when it was not.
        sender: The client that pushed.
        resource_type: FHIR type of the content; empty when it could not be read.
        sha256: SHA-256 of the bytes as received, hexadecimal.
        is_update: Whether it came as an update (PUT).
    """
    if step.event_id is None:
        what = identified(PAYLOAD_SYSTEM, sha256, resource_type)
    else:
        what = identified(EVENT_SYSTEM, step.event_id, resource_type)
    data = {**balp.DATA_ENTITY, "what": what, "detail": entity_details({"sha256": sha256})}
    pattern = balp.REST["update" if is_update else "create"]
    return write_record("receive", step, pattern, agents=_beside_us(step, sender), entities=[data])


def consent_decided(
    step: Step, decision: ConsentDecision, *, stage: str, user: AuditAgent
) -> AuditRecord:
    """(2, 4, 6) It was decided whether the patient permits a use.

    Args:
        step: When and about what; outcome and reason are those of the decision.
        decision: The decision with its reasons.
        stage: The verb that asked: admit, infer or deliver.
        user: Who would get the data: the model, or the system that the result goes to.
    """
    outcome = Outcome.SUCCESS if decision.is_permitted else Outcome.SERIOUS_FAILURE
    decided = replace(step, outcome=outcome, reason=" ".join(decision.reasons))
    agents = _deciders(step.source, user, decision.purpose)
    consents = [{**balp.CONSENT_ENTITY, "what": {"reference": ref}} for ref in decision.consents]
    facts = {"stage": stage, **decision.facts()}
    return write_record(
        "consent",
        decided,
        balp.CONSENT_DECISION,
        agents=agents,
        entities=consents,
        facts=facts,
    )


def job_changed(
    step: Step,
    event: JobEvent,
    *,
    state: str,
    business_status: str,
    details: Mapping[str, str] | None = None,
    by: AuditAgent | None = None,
) -> AuditRecord:
    """(2, 3, 6) A job came into being or changed its state.

    Args:
        step: With `job_id`.
        event: What happened.
        state: The state it is in now; a verifier compares it with the jobs table.
        business_status: What explains that state.
        details: Further facts, for example route, model and attempt.
        by: The person who asked for it, where one did.
    """
    agents = _beside_us(step, *([by] if by else []))
    facts = {"state": state, "business-status": business_status, **(details or {})}
    return write_record(
        event, step, balp.ACTIVITIES[event], agents=agents, entities=[], facts=facts
    )


def inferred(
    step: Step, *, model: AuditedModel, inputs: Sequence[str], result: str | None = None
) -> AuditRecord:
    """(4) A model read data of a patient.

    Args:
        step: With outcome and reason when the model refused or failed.
        model: What computed it.
        inputs: Keyed hashes of the resource versions that were read.
        result: Identifier of the result; None when there is none.
    """
    device = {
        **balp.DEVICE_ENTITY,
        "what": identified(MODEL_SYSTEM, model.name, "Device"),
        "detail": entity_details(
            {
                "sha256": model.digest,
                "runtime": model.runtime,
                "kernel-class": model.kernel_class,
            }
        ),
    }
    read = {
        **balp.DATA_ENTITY,
        "detail": [{"type": "input", "valueString": version} for version in inputs],
    }
    agents = [_us(step, AgentKind.CLIENT)]
    return write_record(
        "infer",
        step,
        balp.ACTIVITIES["infer"],
        agents=agents,
        entities=[device, read] if inputs else [device],
        facts={"result": result},
    )


def delivered(
    step: Step,
    *,
    ehr: AuditAgent,
    result: DeliveredResult,
    http_status: int | None,
    attempt: int,
) -> AuditRecord:
    """(6) We wrote a result into an EHR, or tried to.

    Args:
        step: With outcome and reason when the EHR did not take it.
        ehr: The server that was written to.
        result: What was written.
        http_status: What the EHR answered; None when it did not.
        attempt: How many times it has been tried.
    """
    data = {**balp.DATA_ENTITY, **result.entity(attempt, http_status)}
    agents = _beside_us(step, ehr)
    return write_record("deliver", step, balp.REST["create"], agents=agents, entities=[data])


def retracted(step: Step, *, ehr: AuditAgent, result: DeliveredResult, attempt: int) -> AuditRecord:
    """(6) We marked a result in an EHR as entered in error, since consent was withdrawn.

    Args:
        step: Its reason is why.
        ehr: The server that was written to.
        result: What was marked; `changed` says how much of it.
        attempt: How many times it has been tried.
    """
    data = {
        **balp.DATA_ENTITY,
        "what": identified(RESULT_SYSTEM, result.identifier, result.resource_type),
        "detail": entity_details({"attempt": str(attempt), "changed": result.changed}),
    }
    agents = _beside_us(step, ehr)
    return write_record("retract", step, balp.REST["update"], agents=agents, entities=[data])


def was_read(
    step: Step, *, agents: Sequence[AuditAgent], resource_type: str, resource: str
) -> AuditRecord:
    """Somebody read one resource here.

    Args:
        step: With `patient_key` when it is about a patient.
        agents: The client that asked and, where known, the person behind it.
        resource_type: FHIR type of the resource.
        resource: Our own opaque id of it, or a keyed hash.
    """
    data = {**balp.DATA_ENTITY, "what": identified(RESOURCE_SYSTEM, resource, resource_type)}
    everyone = _beside_us(step, *agents)
    return write_record("read", step, balp.REST["read"], agents=everyone, entities=[data])


def queried(step: Step, *, agents: Sequence[AuditAgent], query: str) -> AuditRecord:
    """Somebody searched here; BALP asks for one such event per patient in the answer.

    Args:
        step: With the one `patient_key`.
        agents: The client that asked and, where known, the person behind it. Of a person alone,
            who runs a command at this machine, that command is the client.
        query: The request line, patient values replaced by keyed hashes.
    """
    is_client_there = any(agent.kind == AgentKind.CLIENT for agent in agents)
    asking = agents if is_client_there else (*agents, _us(step, AgentKind.CLIENT))
    return _searched("query", step, _beside_us(step, *asking), query)


def fetched(step: Step, *, ehr: AuditAgent, query: str) -> AuditRecord:
    """(4) We searched an EHR for data of a patient.

    Args:
        step: With outcome and reason when the EHR did not answer.
        ehr: The server that was asked.
        query: The request line, patient values replaced by keyed hashes.
    """
    return _searched("fetch", step, _beside_us(step, ehr), query)


def sign_in_failed(step: Step, *, client: AuditAgent) -> AuditRecord:
    """Somebody came without a valid credential; the step's reason says what was wrong."""
    failed = _failed(step, Outcome.MINOR_FAILURE, "There was no valid credential.")
    pattern, agents = balp.ACTIVITIES["sign-in-failure"], _beside_us(step, client)
    return write_record("sign-in-failure", failed, pattern, agents=agents, entities=[])


def forbidden(step: Step, *, client: AuditAgent, permission: str) -> AuditRecord:
    """Somebody with a credential asked for what their role does not permit."""
    why = f"Role '{client.role}' does not permit '{permission}'."
    failed = _failed(step, Outcome.SERIOUS_FAILURE, why)
    function = {
        **balp.SECURITY_ENTITY,
        "what": identified(CREDENTIAL_SYSTEM, client.identifier),
        "detail": entity_details({"permission": permission, "role": client.role}),
    }
    pattern, agents = balp.ACTIVITIES["forbid"], _beside_us(step, client)
    return write_record("forbid", failed, pattern, agents=agents, entities=[function])


def configured(step: Step, *, by: AuditAgent, version: int, sha256: str) -> AuditRecord:
    """A site file was applied.

    Args:
        step: When and where.
        by: Who applied it.
        version: Its number in this installation.
        sha256: SHA-256 of the file, hexadecimal.
    """
    site = {
        **balp.SYSTEM_ENTITY,
        "what": identified(SITE_SYSTEM, step.source.site),
        "detail": entity_details({"version": str(version), "sha256": sha256}),
    }
    agents = _beside_us(step, by)
    return write_record(
        "configure", step, balp.ACTIVITIES["configure"], agents=agents, entities=[site]
    )


def credential_changed(
    step: Step,
    *,
    by: AuditAgent,
    credential_id: str,
    role: str,
    is_added: bool,
    fingerprint: str = "",
) -> AuditRecord:
    """A credential was added, or revoked.

    Args:
        step: When and where.
        by: Who did it.
        credential_id: Id of the credential.
        role: What it may do.
        is_added: Whether it was added rather than revoked.
        fingerprint: SHA-256 over everything that is kept of it, so that a change is seen.
    """
    credential = {
        **balp.SECURITY_ENTITY,
        "what": identified(CREDENTIAL_SYSTEM, credential_id),
        "detail": entity_details({"role": role, "fingerprint": fingerprint}),
    }
    pattern = balp.ACTIVITIES["credential-add" if is_added else "credential-revoke"]
    agents = _beside_us(step, by)
    return write_record("credential", step, pattern, agents=agents, entities=[credential])


def model_changed(
    step: Step,
    *,
    by: AuditAgent,
    model: str,
    details: Mapping[str, str],
    is_added: bool,
) -> AuditRecord:
    """A model was put on the register, or retired; the step's reason says why it was retired.

    Args:
        step: When and where.
        by: Who did it.
        model: `name@version`.
        details: Digest, signer, and a fingerprint over everything that the register keeps of it.
        is_added: Whether it was registered rather than retired.
    """
    device = {
        **balp.DEVICE_ENTITY,
        "what": identified(MODEL_SYSTEM, model, "Device"),
        "detail": entity_details(details),
    }
    pattern = balp.ACTIVITIES["model-register" if is_added else "model-retire"]
    return write_record("model", step, pattern, agents=_beside_us(step, by), entities=[device])


def noted(
    step: Step,
    event: OtherEvent,
    *,
    agents: Sequence[AuditAgent] = (),
    details: Mapping[str, str] | None = None,
) -> AuditRecord:
    """Something else happened that has to be on record.

    Args:
        step: When, where and about what.
        event: What happened.
        agents: Everybody but this process.
        details: Further facts; never a patient value.
    """
    told = entity_details(details or {})
    return write_record(
        event,
        step,
        balp.ACTIVITIES[event],
        agents=_beside_us(step, *agents),
        entities=[{**balp.OTHER_ENTITY, "detail": told}] if told else [],
    )


def _searched(event: str, step: Step, agents: list[AuditAgent], query: str) -> AuditRecord:
    encoded = base64.b64encode(query.encode()).decode()
    asked = {**balp.QUERY_ENTITY, "query": encoded}
    return write_record(event, step, balp.REST["search"], agents=agents, entities=[asked])


@lru_cache(maxsize=_CACHED)
def _deciders(source: Source, user: AuditAgent, purpose: str) -> tuple[AuditAgent, ...]:
    """Give everybody that has a part in a consent decision."""
    asker = replace(user, kind=AgentKind.USER, address=None, purpose=purpose)
    site = AuditAgent(source.site, source.site, AgentKind.ORGANIZATION)
    return (_part(source, AgentKind.CLIENT), asker, site, _part(source, AgentKind.AUTHORIZER))


def _us(step: Step, kind: AgentKind) -> AuditAgent:
    return _part(step.source, kind)


@lru_cache(maxsize=_CACHED)
def _part(source: Source, kind: AgentKind) -> AuditAgent:
    return AuditAgent(source.process, source.process, kind, address=source.address)


def _beside_us(step: Step, *others: AuditAgent) -> list[AuditAgent]:
    """Add ourselves in the part that the others leave: we serve a client, and call a server."""
    is_called = any(other.kind == AgentKind.SERVER for other in others)
    return [*others, _us(step, AgentKind.CLIENT if is_called else AgentKind.SERVER)]


def _failed(step: Step, outcome: Outcome, reason: str) -> Step:
    """Give a step that failed; what it says of that itself goes before."""
    outcome = outcome if step.outcome == Outcome.SUCCESS else step.outcome
    return replace(step, outcome=outcome, reason=step.reason or reason)
