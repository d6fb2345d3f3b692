"""What the audit log says that the other tables have to hold.

Each AuditEvent is a claim about rows: this event was received with this SHA-256, this job is in
this state. `JobEvidence` and `Evidence` gather claims; `gateway.store.verification_rows` compares.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from gateway.core.audit import AuditRecord
from gateway.core.audit_event import CREDENTIAL_SYSTEM
from gateway.core.audit_rights import HOLD_SYSTEM, REMOVED
from gateway.core.clock import to_ms
from gateway.core.consent.decision import NO_BASIS
from gateway.core.ladder import Rung
from gateway.store.verification_acts import ActEvidence
from gateway.store.verification_consents import RecordedAct, recorded_act

#: Events about what a site has, or people did, even where they name a job.
_OF_SITE = frozenset({"configure", "credential", "model", "break-glass", "break-glass-review"})

_OF_REMOVALS = frozenset({"erase", "expire", "hold", "reopen"})
_KEPT_HERE = frozenset({Rung.WORKLIST.value, Rung.CDS_CARD.value})
#: What a record says of a legal hold that was put into force.
PLACED = "placed"

#: What a record calls the checkpoint of another log that is kept here.
WITNESSED = "checkpoint of another log"

#: Outcome, stage, purpose, reasons, consents and moment of a consent decision; its basis,
#: obligations and whether all AI is refused, or None in a record older than those.
DecisionKey = tuple[
    str, str, str, str, tuple[str, ...], int, tuple[str | None, str | None, str | None] | None
]
#: What a decision that is kept with a job may hold.
_OF_DECISION = frozenset(
    {"stage", "at", "decision", "purpose", "reasons", "consents"}
    | {"obligations", "basis", "ai_refused"}
)


@dataclass(frozen=True)
class Claim:
    """One AuditEvent, taken apart.

    Attributes:
        seq: Its number in `audit_events`.
        facts: `entity.detail` of all its entities, by name.
        names: `entity.what.identifier` values, by system.
        agents: Identifiers of its agents.
        agent_names: Names of its agents, as far as they have one.
        reason: `outcomeDesc`.
        resource_type: FHIR type of the data that the step was about, empty when it names none.
        references: What it refers to by name: the consents of a decision.
    """

    seq: int
    record: AuditRecord
    facts: Mapping[str, str]
    names: Mapping[str, str]
    agents: tuple[str, ...]
    request_id: str | None
    reason: str
    resource_type: str = ""
    references: tuple[str, ...] = ()
    agent_names: tuple[str, ...] = ()

    @property
    def recorded_ms(self) -> int:
        """When it was recorded, in milliseconds."""
        return to_ms(self.record.recorded)


@dataclass
class JobEvidence:
    """Everything on record about one job."""

    first: Claim
    last: Claim
    decisions: set[DecisionKey] = field(default_factory=set)
    delivered: Claim | None = None
    digests: set[str] = field(default_factory=set)
    facts: dict[str, str] = field(default_factory=dict)

    def add(self, claim: Claim) -> None:
        """Take one claim into account; claims come in the order of the log, the first too."""
        if "state" in claim.facts:
            if "state" not in self.last.facts or claim.seq > self.last.seq:
                self.last = claim
            self.facts.update(claim.facts)
        if claim.record.event == "consent":
            self.decisions.add(_decision(claim))
        elif claim.record.event == "infer" and "sha256" in claim.facts:
            self.digests.add(claim.facts["sha256"])
        elif claim.record.event == "deliver" and _has_its_place(claim):
            self.delivered = claim
        elif claim.record.event == "retry":
            self.delivered = None  # off our worklist, on its way again

    def knows(self, decision: Mapping[str, Any]) -> bool:
        """Say whether a decision that is kept with the job is on record as it stands there."""
        whole = _decision_key(decision)
        is_known = whole in self.decisions or (*whole[:-1], None) in self.decisions
        return is_known and _OF_DECISION.issuperset(decision)


def _has_its_place(claim: Claim) -> bool:
    """Say whether a result is in an EHR, or kept here: that is no success of a delivery."""
    return claim.record.outcome == "0" or claim.facts.get("rung") in _KEPT_HERE


@dataclass
class RemovalEvidence:
    """What the log says of what was removed, of whom and how much.

    Attributes:
        erased: The last erasure of each patient who was erased.
        reopened: When erased patients began anew, the last time.
        removed: How many rows of each table were emptied in all.
        before_ms: Of each table, rows up to which time their retention may have emptied.
        holds: Legal holds placed, by id.
        lifted: Legal holds lifted, by id.
    """

    erased: dict[str, Claim] = field(default_factory=dict)
    reopened: dict[str, Claim] = field(default_factory=dict)
    removed: Counter[str] = field(default_factory=Counter)
    before_ms: dict[str, int] = field(default_factory=dict)
    holds: dict[str, Claim] = field(default_factory=dict)
    lifted: dict[str, Claim] = field(default_factory=dict)

    def add(self, claim: Claim) -> None:
        """Take one claim into account; claims come in the order of the log."""
        event, patient = claim.record.event, claim.record.patient_key or ""
        if event == "hold":
            is_placed = claim.facts.get("what") == PLACED
            (self.holds if is_placed else self.lifted)[claim.names[HOLD_SYSTEM]] = claim
            return
        if event == "reopen":
            self.reopened[patient] = claim
            return
        for table in REMOVED:
            self.removed[table] += int(claim.facts.get(table, "0"))
            until = int(claim.facts.get(f"{table}-before-ms", "0"))
            self.before_ms[table] = max(self.before_ms.get(table, 0), until)
        if event == "erase":
            self.erased[patient] = claim
            self.reopened.pop(patient, None)


@dataclass
class Evidence:
    """What the log says of the few things that a site has: site files, credentials, models.

    What it says of events and jobs does not fit into memory; see `evidence_streams`.
    """

    sites: dict[str, Claim] = field(default_factory=dict)
    credentials: dict[str, Claim] = field(default_factory=dict)
    revoked: dict[str, Claim] = field(default_factory=dict)
    models: dict[str, Claim] = field(default_factory=dict)
    retired: dict[str, Claim] = field(default_factory=dict)
    witnessed: dict[str, Claim] = field(default_factory=dict)
    consent_acts: dict[str, RecordedAct] = field(default_factory=dict)
    removals: RemovalEvidence = field(default_factory=RemovalEvidence)
    acts: ActEvidence = field(default_factory=ActEvidence)

    def add(self, claim: Claim) -> None:
        """Take one claim into account; claims come in the order of the log."""
        record = claim.record
        told = recorded_act(claim)
        if told is not None:
            self.consent_acts[told[0]] = told[1]
        elif record.event == "configure":
            self.sites[claim.facts.get("version", "")] = claim
        elif record.event == "credential":
            kept = self.revoked if record.action == "D" else self.credentials
            kept[claim.names[CREDENTIAL_SYSTEM]] = claim
        elif record.event == "model":
            of_models = self.retired if record.action == "D" else self.models
            of_models[claim.facts.get("sha256", "")] = claim
        elif record.event in _OF_REMOVALS:
            self.removals.add(claim)
        elif self.acts.add(claim):
            pass
        elif claim.facts.get("what") == WITNESSED and record.outcome == "0":
            self.witnessed[claim.facts["origin"]] = claim


def is_reception(record: AuditRecord) -> bool:
    """Say whether a record is that of an event that was accepted."""
    return record.event == "receive" and record.outcome == "0" and record.event_id is not None


def is_of_job(record: AuditRecord) -> bool:
    """Say whether a record tells of a job."""
    return record.job_id is not None and not is_reception(record) and record.event not in _OF_SITE


def read_claim(seq: int, record: AuditRecord) -> Claim:
    """Take an AuditEvent apart; its body was read as a record before."""
    body: dict[str, Any] = orjson.loads(record.body)
    entities = body.get("entity", [])
    identifiers = [entity.get("what", {}).get("identifier", {}) for entity in entities]
    return Claim(
        seq=seq,
        record=record,
        facts=dict(_facts(entities)),
        names={each["system"]: each["value"] for each in identifiers if "system" in each},
        agents=tuple(agent["who"]["identifier"]["value"] for agent in body["agent"]),
        request_id=next(
            (each["value"] for each in identifiers if "system" not in each and each), None
        ),
        reason=body.get("outcomeDesc", ""),
        resource_type=_resource_type(entities),
        references=tuple(
            entity["what"]["reference"]
            for entity in entities
            if "reference" in entity.get("what", {})
        ),
        agent_names=tuple(agent["name"] for agent in body["agent"] if "name" in agent),
    )


def _decision_key(decision: Mapping[str, Any]) -> DecisionKey:
    """Give what a decision kept with a job has in common with its AuditEvent."""
    obligations = (f"{each['code']} {each['rule']}" for each in decision.get("obligations", ()))
    is_refused = decision.get("ai_refused", False)
    return (
        {"permit": "0", "deny": "8"}[decision["decision"]],
        decision["stage"],
        decision["purpose"],
        " ".join(decision["reasons"]),
        tuple(decision["consents"]),
        to_ms(datetime.fromisoformat(decision["at"])),
        (
            decision.get("basis", NO_BASIS),
            "; ".join(obligations) or None,
            "true" if is_refused else None,
        ),
    )


def _decision(claim: Claim) -> DecisionKey:
    told = claim.facts
    more = (told.get("basis"), told.get("obligations"), told.get("ai-refused"))
    return (
        claim.record.outcome,
        told.get("stage", ""),
        told.get("purpose", ""),
        claim.reason,
        claim.references,
        claim.recorded_ms,
        more if "basis" in told else None,
    )


def _resource_type(entities: list[dict[str, Any]]) -> str:
    """Read the type out of the entity that is data: neither the patient, nor our own Task."""
    types = [str(entity.get("what", {}).get("type", "")) for entity in entities]
    return next((found for found in reversed(types) if found), "")


def _facts(entities: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for entity in entities:
        for detail in entity.get("detail", ()):
            yield detail["type"], detail["valueString"]
