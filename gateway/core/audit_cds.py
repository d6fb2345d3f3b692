"""AuditEvents of CDS Hooks: what became of a card.

Why a card was overridden is told by our own code; what a clinician wrote is not.

Source: CDS Hooks 2.0, "Feedback"; IHE ITI BALP 1.1.
"""

from gateway.core import balp
from gateway.core.audit import AuditAgent, AuditRecord, Step
from gateway.core.audit_event import entity_details, write_record
from gateway.core.balp import AgentKind


def feedback_given(step: Step, *, client: AuditAgent, outcome: str, reason: str) -> AuditRecord:
    """Somebody told us what became of a card.

    Args:
        step: With the job that the card is of, and its patient.
        client: The EHR that told.
        outcome: accepted or overridden.
        reason: Our code of why; empty when none was given.
    """
    told = {**balp.OTHER_ENTITY, "detail": entity_details({"outcome": outcome, "why": reason})}
    process = step.source.process
    us = AuditAgent(process, process, AgentKind.SERVER, address=step.source.address)
    pattern = balp.ACTIVITIES["feedback"]
    return write_record("feedback", step, pattern, agents=[client, us], entities=[told])
