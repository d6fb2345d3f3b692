"""AuditEvents about what is held of a patient: erased, kept for the law, expired, begun anew.

They count and name laws and reasons; a patient is a keyed hash in them, as everywhere. What is
removed is told in numbers that `nadi audit verify` adds up and compares with the rows.

Source: FHIR R4 AuditEvent; the life cycle codes are DICOM's (15: permanent erasure).
"""

from collections.abc import Mapping
from typing import Literal

from gateway.core import balp
from gateway.core.audit import AuditAgent, AuditRecord, Step
from gateway.core.audit_event import RESOURCE_SYSTEM, SID, entity_details, identified, write_record
from gateway.core.balp import AgentKind

ERASURE_SYSTEM = f"{SID}/erasure"
REQUEST_SYSTEM = f"{SID}/rights-request"
HOLD_SYSTEM = f"{SID}/legal-hold"
#: What is counted where something is removed; also the tables of the rows that are emptied.
REMOVED = ("events", "submissions", "deliveries")

_LIFECYCLE = "http://terminology.hl7.org/CodeSystem/dicom-audit-lifecycle"
_ERASURE = balp.coding(_LIFECYCLE, "15", "Permanent erasure / Physical destruction")


def removed(
    step: Step,
    event: Literal["erase", "expire"],
    *,
    by: AuditAgent | None,
    erasure_id: str,
    details: Mapping[str, str],
) -> AuditRecord:
    """What was held of a patient was removed: at her wish, or since its time was over.

    Args:
        step: When and where, and of which patient.
        event: `erase` or `expire`.
        by: Who ordered it; None where the retention of the site did.
        erasure_id: What several records of one removal have in common.
        details: How many rows of each table of `REMOVED`; reason, law; never a patient's value.
    """
    data = {
        **balp.DATA_ENTITY,
        "what": identified(ERASURE_SYSTEM, erasure_id),
        "lifecycle": _ERASURE,
        "detail": entity_details(details),
    }
    return write_record(
        event, step, balp.ACTIVITIES[event], agents=_with_us(step, by), entities=[data]
    )


def reopened(step: Step, *, erasure_id: str) -> AuditRecord:
    """Something of an erased patient arrived, and the site begins anew with her."""
    data = {**balp.DATA_ENTITY, "what": identified(ERASURE_SYSTEM, erasure_id)}
    pattern = balp.ACTIVITIES["reopen"]
    return write_record("reopen", step, pattern, agents=_with_us(step, None), entities=[data])


def rectified(
    step: Step, *, by: AuditAgent, resource: str, details: Mapping[str, str]
) -> AuditRecord:
    """Data of a patient was wrong, and what was computed from it is dealt with.

    Args:
        step: When and where, and of which patient.
        by: Who ordered it.
        resource: Keyed hash of the resource that was wrong.
        details: How many results and jobs; reason, law; never a patient's value.
    """
    data = {
        **balp.DATA_ENTITY,
        "what": identified(RESOURCE_SYSTEM, resource),
        "detail": entity_details(details),
    }
    pattern = balp.ACTIVITIES["rectify"]
    return write_record("rectify", step, pattern, agents=_with_us(step, by), entities=[data])


def request_changed(
    step: Step, *, by: AuditAgent, request: str, details: Mapping[str, str]
) -> AuditRecord:
    """A patient asked for something, or was answered.

    Args:
        step: When and where, and of which patient.
        by: Who put it on the register, or closed it.
        request: Opaque id of the request.
        details: `what` (received or closed), kind, due date or outcome; never a patient's value.
    """
    data = {
        **balp.OTHER_ENTITY,
        "what": identified(REQUEST_SYSTEM, request),
        "detail": entity_details(details),
    }
    pattern = balp.ACTIVITIES["request"]
    return write_record("request", step, pattern, agents=_with_us(step, by), entities=[data])


def hold_changed(
    step: Step, *, by: AuditAgent, hold_id: str, details: Mapping[str, str]
) -> AuditRecord:
    """A legal hold was placed on what is held of a patient, or lifted.

    Args:
        step: When and where, and of which patient.
        by: Who did it.
        hold_id: Opaque id of the hold.
        details: `what` (placed or lifted), reason, law; never a patient's value.
    """
    data = {
        **balp.DATA_ENTITY,
        "what": identified(HOLD_SYSTEM, hold_id),
        "detail": entity_details(details),
    }
    pattern = balp.ACTIVITIES["hold"]
    return write_record("hold", step, pattern, agents=_with_us(step, by), entities=[data])


def _with_us(step: Step, by: AuditAgent | None) -> list[AuditAgent]:
    process = step.source.process
    us = AuditAgent(process, process, AgentKind.SERVER, address=step.source.address)
    return [us] if by is None else [by, us]
