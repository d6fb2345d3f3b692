"""The AuditEvents of receiving and admitting, written into the transaction they record."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from gateway.api.arrivals import Posting
from gateway.core.admission import Admission, Arrival
from gateway.core.audit import (
    AgentKind,
    AuditAgent,
    Outcome,
    Source,
    Step,
    consent_decided,
    job_changed,
    noted,
    received,
)
from gateway.core.clock import new_id
from gateway.core.errors import Issue
from gateway.core.jobs import EventId, JobState
from gateway.store.unit_of_work import UnitOfWork


class Witness:
    """Writes what happened in one unit of work.

    Attributes:
        source: Who writes the audit events.
    """

    def __init__(self, uow: UnitOfWork, site: str, process: str) -> None:
        self._uow = uow
        self.source = Source(site or "unconfigured", process)

    def received(self, arrivals: Sequence[Arrival]) -> None:
        """Record what was received."""
        self._uow.audit(
            *(
                received(
                    self._step(arrival),
                    sender=_sender(arrival.principal_id, arrival.principal_name, arrival.address),
                    resource_type=arrival.facts.resource_type,
                    sha256=arrival.sha256,
                    is_update=arrival.is_update,
                )
                for arrival in arrivals
            )
        )

    def returned(self, arrivals: Sequence[tuple[Arrival, str]]) -> None:
        """Record that bytes received before, without a version, are in force again.

        Args:
            arrivals: What arrived, each with the id of the event that holds it.
        """
        self._uow.audit(
            *(
                noted(
                    self._step(replace(arrival, id=EventId(event_id))),
                    "note",
                    agents=[_sender(arrival.principal_id, arrival.principal_name, arrival.address)],
                    details={"what": "received again, in force again"},
                )
                for arrival, event_id in arrivals
            )
        )

    def refused(self, posting: Posting, index: int, issues: Sequence[Issue]) -> None:
        """Record that an entry of a Bundle was not accepted."""
        who = posting.principal
        where = "" if posting.bundle is None else f"Entry {index} of a Bundle was refused: "
        step = Step(
            id=new_id(),
            recorded=self._uow.now,
            source=self.source,
            patient_key=None,
            request_id=posting.request_id,
            outcome=Outcome.SERIOUS_FAILURE,
            reason=f"{where}{issues[0].code}",
        )
        self._uow.audit(
            received(
                step,
                sender=_sender(who.id, who.name, posting.address),
                resource_type="",
                sha256=posting.sha256,
            )
        )

    def admitted(self, arrival: Arrival, admission: Admission) -> None:
        """Record the consent decision and the job that came of it."""
        job = admission.job
        step = self._step(arrival, job_id=job.id)
        if admission.decision:
            decided = consent_decided(
                step, admission.decision, stage="admit", user=_model(job.model)
            )
            self._uow.audit(decided)
        is_ready = job.state is JobState.READY
        self._uow.audit(
            job_changed(
                self._step(
                    arrival,
                    job_id=job.id,
                    outcome=Outcome.SUCCESS if is_ready else Outcome.MINOR_FAILURE,
                    reason=job.reason,
                ),
                "admit" if is_ready else "refuse",
                state=job.state,
                business_status=job.business_status,
                details={"route": job.route, "model": job.model},
            )
        )

    def _step(
        self,
        arrival: Arrival,
        *,
        job_id: str | None = None,
        outcome: Outcome = Outcome.SUCCESS,
        reason: str = "",
    ) -> Step:
        return Step(
            id=new_id(),
            recorded=self._uow.now,
            source=self.source,
            patient_key=arrival.patient_key,
            job_id=job_id,
            event_id=arrival.id,
            request_id=arrival.request_id,
            outcome=outcome,
            reason=reason,
        )


@lru_cache(maxsize=256)
def _sender(identifier: str, name: str, address: str | None) -> AuditAgent:
    return AuditAgent(identifier, name, AgentKind.CLIENT, role="ehr", address=address)


@lru_cache(maxsize=256)
def _model(name: str) -> AuditAgent:
    return AuditAgent(name, name, AgentKind.USER)
