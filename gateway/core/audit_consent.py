"""AuditEvents about consents themselves: recorded, imported, taken back.

They name a consent by our opaque id and its patient by a keyed hash, and hold the SHA-256 of the
signed statement, so that one that is missing or another shows against the log.

Source: FHIR R4 AuditEvent; type and subtype are DICOM's and our own, since BALP has none for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.core import balp
from gateway.core.audit import AuditAgent, AuditRecord, Step
from gateway.core.audit_event import SID, entity_details, write_record
from gateway.core.balp import AgentKind

CONSENT_ACT_SYSTEM = f"{SID}/consent-act"
EVENTS = {"record": "consent-record", "import": "consent-import", "revoke": "consent-revoke"}


@dataclass(frozen=True, kw_only=True)
class ConsentAct:
    """What was done, as its event names it.

    Attributes:
        kind: record, import or revoke.
        id: Of the act.
        consent_id: Of the consent.
        sha256: Of its signed statement, hexadecimal.
    """

    kind: str
    id: str
    consent_id: str
    sha256: str


def consent_changed(
    step: Step, act: ConsentAct, *, by: AuditAgent, details: Mapping[str, str]
) -> AuditRecord:
    """A consent was recorded, imported or taken back; the step's reason says why it was.

    Args:
        step: When, where and of which patient.
        act: What was done.
        by: Who did it.
        details: Further facts: form, decision, notice, signer; never a patient value.
    """
    event = EVENTS[act.kind]
    consent = {
        **balp.CONSENT_ENTITY,
        "what": {
            "reference": f"Consent/{act.consent_id}",
            "identifier": {"system": CONSENT_ACT_SYSTEM, "value": act.id},
        },
        "detail": entity_details({"sha256": act.sha256, **details}),
    }
    process = step.source.process
    us = AuditAgent(process, process, AgentKind.SERVER, address=step.source.address)
    pattern = balp.ACTIVITIES[event]
    return write_record(event, step, pattern, agents=[by, us], entities=[consent])
