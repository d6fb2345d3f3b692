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
#: What an erasure says of a patient who refused all AI.
REFUSED_AI = "refused-ai"
#: What is counted where something is removed; also the tables of the rows that are emptied.
REMOVED = ("events", "submissions", "deliveries")

#: By what an act names what it is about, and what kind of thing that is.
_ABOUT = {
    "hold": (HOLD_SYSTEM, balp.DATA_ENTITY),
    "rectify": (RESOURCE_SYSTEM, balp.DATA_ENTITY),
    "request": (REQUEST_SYSTEM, balp.OTHER_ENTITY),
}
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


def changed(
    step: Step,
    event: Literal["hold", "rectify", "request"],
    *,
    by: AuditAgent,
    about: str,
    details: Mapping[str, str],
) -> AuditRecord:
    """Somebody acted for a patient, or for the law, on what is held of her.

    A legal hold was placed or lifted (`hold`), what came of wrong data was dealt with (`rectify`),
    or she asked for something or was answered (`request`).

    Args:
        step: When and where, and of which patient.
        event: What kind of act.
        by: Who did it.
        about: Opaque id of the hold or request; keyed hash of the resource that was wrong.
        details: Which act, counts, dates, reason, law; never a patient's value.
    """
    system, entity = _ABOUT[event]
    data = {**entity, "what": identified(system, about), "detail": entity_details(details)}
    pattern = balp.ACTIVITIES[event]
    return write_record(event, step, pattern, agents=_with_us(step, by), entities=[data])


def _with_us(step: Step, by: AuditAgent | None) -> list[AuditAgent]:
    process = step.source.process
    us = AuditAgent(process, process, AgentKind.SERVER, address=step.source.address)
    return [us] if by is None else [by, us]
