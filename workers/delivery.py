"""(6) Deliver: results of one micro-batch into the EHR, and what the EHR said into the database.

(6.1) claim what is due, as far as the circuit of each system lets it through
(6.2) event current, model not retired, consent still stands: nothing is unsealed before
(6.3) write, outside of any transaction; a last look at consent right before (`workers.last_look`)
(6.4) delivery, job, circuit and AuditEvents: one transaction

A delivery that was tried before, or forgotten by a restore (`workers.restored`), may be in the EHR
although nobody heard so: it is looked for first (`workers.result_recipient`).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from gateway import telemetry
from gateway.catching_up import longest_wait_s
from gateway.core import audit
from gateway.core.audit import AgentKind, AuditRecord, JobEvent
from gateway.core.consent import WRITE, ConsentDecision, ConsentRecord
from gateway.core.delivery import Delivery, DeliveryState, Passage
from gateway.core.errors import Erased, GatewayError
from gateway.core.jobs import Advance, BusinessStatus, Job, JobState
from gateway.core.routing import Route
from gateway.core.write_back import StoredReport
from gateway.store.deliveries import ASKED_AGAIN, Settlement
from gateway.store.events import Event
from gateway.store.models import Found
from gateway.store.unit_of_work import UnitOfWork
from gateway.withdrawal import retract_written
from workers import circuits, consents, standing
from workers.alike import told_apart
from workers.cases import consent_record, step_of
from workers.fates import NotReached, NotTaken, OnCard, OnWorklist, Withheld, Written, failed
from workers.holding import results_free
from workers.last_look import Denial, Held, LastLook, lease_ms
from workers.oru_sending import received_patient
from workers.persistence import until_written
from workers.ports import Ports, Round, new_round, system_agent
from workers.restored import may_be_from_before
from workers.told import Way, reason_of, way_of

log = telemetry.get_logger()


@dataclass(frozen=True)
class _Parcel:
    """A delivery with what its outcome needs.

    Attributes:
        decision: The consent decision that let it pass, None when it was not asked.
        report: What is to be written, None when it must not or can't be.
        asked: When consent was asked, where that was later than for its batch.
    """

    delivery: Delivery
    job: Job
    event: Event
    decision: ConsentDecision | None = None
    report: StoredReport | None = None
    asked: Round | None = None


@dataclass(frozen=True)
class _End:
    """How a parcel ends, and what its job is told.

    Attributes:
        http_status: What the EHR answered, if it did.
        way: In which form the result went, if it did.
    """

    event: JobEvent
    status: BusinessStatus
    reason: str = ""
    http_status: int | None = None
    way: Way = field(default_factory=Way)


@dataclass(frozen=True)
class _Outcome:
    """What is written about one parcel."""

    settlement: Settlement
    advance: Advance | None
    records: tuple[AuditRecord, ...]


@dataclass
class _Batch:
    """A micro-batch under way: what is known of its outcome, and how each EHR answered.

    Attributes:
        opened: The moment at which consent was asked.
        round: The present: later than that, once the EHR has answered.
        restored_ms: When the database was restored from a backup, None when never.
        patients: Reference by patient key.
    """

    opened: Round
    round: Round
    ports: Ports
    restored_ms: int | None
    outcomes: list[_Outcome] = field(default_factory=list)
    answered: set[str] = field(default_factory=set)
    away: dict[str, NotReached] = field(default_factory=dict)
    patients: dict[str, str] = field(default_factory=dict)


def deliver(delivery_ids: Sequence[str], ports: Ports) -> int:
    """Write the results that were rung for; give how many this worker got.

    Raises:
        StoreUnavailable: The database is away; the relay rings again, leases run out.
    """
    claimed = _claim(delivery_ids, ports)  # (6.1)
    if not claimed:
        return 0
    with telemetry.step("deliver", len(claimed)):
        batch, parcels = _open(claimed, ports)  # (6.2)
        for system in {parcel.delivery.system for parcel in parcels}:
            sent = [parcel for parcel in parcels if parcel.delivery.system == system]
            _send(batch, system, sent)  # (6.3)
        moved = until_written(lambda: _settle(batch))  # (6.4)
    ends = Counter((each.job.route, each.state, each.business_status) for each in moved)
    for (route, state, status), count in ends.items():
        telemetry.count_job(route, state, status, count)
    return len(claimed)


def _claim(delivery_ids: Sequence[str], ports: Ports) -> list[Delivery]:
    site = ports.site()
    # On disk before anything is sent: the attempt is what tells that it may be there already.
    with ports.store.write() as uow:
        passing: list[str] = []
        free = results_free(uow, site, delivery_ids, began_ms=ports.began_ms)
        waiting = uow.deliveries.pending_by_system(free)
        lease = lease_ms(ports, site, waiting.keys())
        for system, ids in waiting.items():
            passage = uow.deliveries.pass_through(system, lease_ms=lease)
            if passage is not Passage.NONE:
                passing += ids[:1] if passage is Passage.ONE else ids
        return uow.deliveries.claim(passing, ports.owner, lease_ms=lease)


# --- (6.2) ----------------------------------------------------------------------------------


def _open(claimed: Sequence[Delivery], ports: Ports) -> tuple[_Batch, list[_Parcel]]:
    with ports.store.read() as uow:
        opened = new_round(uow, ports)
        batch = _Batch(opened, opened, ports, uow.audit_log.restored_ms())
        jobs = uow.jobs.get_many({each.job_id for each in claimed})
        events = uow.events.get_many({job.event_id for job in jobs.values()})
        patients = {each.patient_key for each in claimed}
        on_record = uow.consents.of(patients, opened.site.abdm_policy)
        known = _Known(on_record, standing.standings(uow, jobs.values()))
        uow.patient_keys.load(patients)
        parcels = [
            _Parcel(each, jobs[each.job_id], events[jobs[each.job_id].event_id]) for each in claimed
        ]
        ready = [_open_one(uow, batch, parcel, known) for parcel in parcels]
    return batch, [parcel for parcel in ready if parcel is not None]


@dataclass(frozen=True)
class _Known:
    """What is on record for a batch.

    Attributes:
        consents: By patient key.
        standings: What the register says, by digest.
    """

    consents: Mapping[str, list[ConsentRecord]]
    standings: Mapping[str, Found]


def _open_one(uow: UnitOfWork, batch: _Batch, parcel: _Parcel, known: _Known) -> _Parcel | None:
    """Give the parcel with its report; None when it ends here."""
    job = parcel.job
    route = batch.round.site.route(job.route)
    if route is None:
        _stop(batch, parcel, _End("cancel", BusinessStatus.STOPPED, "Its route was removed."))
        return None
    if not parcel.event.is_current:
        reason = "A newer version of the resource arrived."
        _stop(batch, parcel, _End("supersede", BusinessStatus.SUPERSEDED, reason))
        return None
    verdict = standing.retired(job, known.standings.get(job.model_digest))
    if verdict is not None:
        _stop(batch, parcel, _End(verdict.event, verdict.status, verdict.reason))
        return None
    try:
        return _open_permitted(uow, batch, parcel, (route, known.consents))
    except GatewayError as error:
        _stop(batch, parcel, _unopened(error))
        return None


def _open_permitted(
    uow: UnitOfWork, batch: _Batch, parcel: _Parcel, known: tuple[Route, consents.OnRecord]
) -> _Parcel | None:
    """Open what consent permits to be written: nothing before it is foreseen that it may be."""
    route, on_record = known
    asked = consents.question_of(uow, parcel.event, route, parcel.job, (on_record, WRITE))
    decision = asked.foresee() if asked else consents.unknown_patient(route)
    if asked is None or not decision.is_permitted:
        _stop_denied(batch, parcel, decision)
        return None
    batch.patients[parcel.delivery.patient_key] = asked.request.patient
    report = _addressed(uow, batch, parcel, route)
    decision = consents.about_result(asked, report) if asked.is_limited else decision
    if not decision.is_permitted:
        _stop_denied(batch, parcel, decision)
        return None
    return replace(parcel, decision=decision, report=report)


def _addressed(uow: UnitOfWork, batch: _Batch, parcel: _Parcel, route: Route) -> StoredReport:
    """Open a report; with how it may go, and what else of this patient is known to be there."""
    delivery, system = parcel.delivery, batch.round.site.system(parcel.delivery.system)
    terms = system.terms.under(route.terms) if system else route.terms
    is_repeated = delivery.attempt > 1
    taken = uow.deliveries.places_of(delivery.patient_key) if is_repeated else frozenset()
    report = StoredReport.read(uow.deliveries.body(delivery))
    patient = received_patient(uow, batch.round.site, delivery.system, parcel.event)
    has_card = batch.round.site.cds.shows(route.name, route.source)
    stands = is_repeated and not uow.retractions.of([delivery.id])
    report = replace(report, terms=terms, taken=taken, may_stand_again=stands)
    return replace(report, patient=patient, has_card=has_card)


def _stop_denied(batch: _Batch, parcel: _Parcel, decision: ConsentDecision) -> None:
    """End a delivery that consent does not permit."""
    denied = replace(parcel, decision=decision)
    reason = " ".join(decision.reasons)
    _stop(batch, denied, _End("cancel", BusinessStatus.CONSENT_WITHDRAWN, reason))


def _unopened(error: GatewayError) -> _End:
    """Say how a delivery ends whose sealed values don't open: nothing will mend them."""
    if isinstance(error, Erased):
        return _End("cancel", BusinessStatus.ERASED, error.message)
    return _End("fail", BusinessStatus.DELIVERY_FAILED, error.message)


def _stop(batch: _Batch, parcel: _Parcel, end: _End) -> None:
    """End a delivery without sending it."""
    if parcel.delivery.attempt > 1:
        hint = "An earlier attempt may have reached the EHR all the same."
        end = replace(end, reason=f"{end.reason} {hint}")
    state = DeliveryState.FAILED if end.event == "fail" else DeliveryState.CANCELLED
    answer = parcel.delivery.last_answer
    settlement = Settlement(delivery=parcel.delivery, state=state, answer=answer)
    batch.outcomes.append(_with_job(batch, parcel, settlement, end))


# --- (6.3) ----------------------------------------------------------------------------------


def _send(batch: _Batch, system: str, parcels: Sequence[_Parcel]) -> None:
    reports = [parcel.report for parcel in parcels if parcel.report is not None]
    repeated = frozenset(
        parcel.delivery.identifier
        for parcel in parcels
        if parcel.delivery.attempt > 1 or may_be_from_before(parcel.event, batch.restored_ms)
    )
    look = LastLook(batch.ports, [Held(p.delivery, p.job, p.event) for p in parcels])
    try:
        recipient = batch.ports.ehrs.connection(system).recipient
        if any(parcel.delivery.last_answer == ASKED_AGAIN for parcel in parcels):
            recipient.look_again()
        fates = recipient.write(reports, repeated=repeated, gate=look)
    except Exception as error:  # whatever it is, the results wait for another try
        log.exception("write-back-error", system=system)
        fates = dict.fromkeys((report.identifier for report in reports), failed(error))
    fates = told_apart(fates, [parcel.delivery for parcel in parcels], batch.ports.store)
    batch.round = replace(batch.round, now=batch.ports.clock())
    for parcel in parcels:
        fate = fates[parcel.delivery.identifier]
        if isinstance(fate, Withheld):
            _withhold(batch, parcel, look.denied.get(parcel.delivery.identifier))
        else:
            _account(batch, parcel, fate)


def _withhold(batch: _Batch, parcel: _Parcel, denial: Denial | None) -> None:
    """End what consent no longer permits; what could not be asked about waits."""
    if denial is None:
        unasked = NotReached(Withheld.__name__, is_of_system=False)
        batch.outcomes.append(_unreached(batch, parcel, unasked))
        return
    stopped = replace(parcel, decision=denial.decision, report=None, asked=denial.asked)
    reason = " ".join(denial.decision.reasons)
    _stop(batch, stopped, _End("cancel", BusinessStatus.CONSENT_WITHDRAWN, reason))


def _account(
    batch: _Batch, parcel: _Parcel, fate: Written | OnWorklist | OnCard | NotTaken | NotReached
) -> None:
    """Work out what the fate of a result means for its delivery and its job."""
    system = parcel.delivery.system
    if isinstance(fate, NotReached) and fate.is_of_system:
        batch.away[system] = fate
    elif not isinstance(fate, OnWorklist | OnCard):
        batch.answered.add(system)
    if isinstance(fate, Written):
        batch.outcomes.append(_delivered(batch, parcel, fate))
    elif isinstance(fate, OnWorklist | OnCard):
        batch.outcomes.append(_kept_here(batch, parcel, fate))
    elif isinstance(fate, NotTaken):
        reason = fate.why or f"The EHR refused the result: HTTP {fate.status}."
        batch.outcomes.append(_given_up(batch, parcel, fate.said, reason))
    else:
        batch.outcomes.append(_unreached(batch, parcel, fate))


def _delivered(batch: _Batch, parcel: _Parcel, written: Written) -> _Outcome:
    delivery, way = parcel.delivery, way_of(written)
    if written.is_repeated:
        log.error("result-repeated", delivery_id=delivery.id, system=delivery.system)
    repeated = ("repeated",) if written.is_repeated else ()
    settlement = Settlement(
        delivery=delivery,
        state=DeliveryState.DELIVERED,
        answer=" ".join((written.said, *repeated, ", ".join(written.changed))).rstrip(),
        location=written.location,
        delivered_ms=batch.round.now_ms,
        rung=way.rung or "",
        lost=", ".join(way.lost),
    )
    telemetry.count_delivery_attempt(delivery.system, "delivered")
    lag_s = (batch.round.now_ms - parcel.event.received_ms) / 1000
    telemetry.observe_delivery_lag(delivery.system, lag_s)
    http_status = written.status or None
    end = _End("complete", BusinessStatus.DELIVERED, http_status=http_status, way=way)
    return _with_job(batch, parcel, settlement, end)


def _kept_here(batch: _Batch, parcel: _Parcel, fate: OnWorklist | OnCard) -> _Outcome:
    """Leave a result here, on the worklist or for a card: it is done; nothing waits for the EHR."""
    way = way_of(fate)
    is_card = isinstance(fate, OnCard)
    answer = "card" if is_card else "worklist"
    settlement = Settlement(
        delivery=parcel.delivery,
        state=DeliveryState.DELIVERED,
        answer=answer,
        delivered_ms=batch.round.now_ms,
        rung=way.rung or "",
    )
    telemetry.count_delivery_attempt(parcel.delivery.system, answer)
    status = BusinessStatus.ON_CARD if is_card else BusinessStatus.ON_WORKLIST
    end = _End("complete", status, reason_of(fate), way=way)
    return _with_job(batch, parcel, settlement, end)


def _unreached(batch: _Batch, parcel: _Parcel, fate: NotReached) -> _Outcome:
    """Plan the next attempt, unless the result has grown too old."""
    delivery, backoff = parcel.delivery, batch.ports.backoff
    # A person who retries a job gives its result the whole budget anew.
    age_s = (batch.round.now_ms - max(delivery.created_ms, parcel.job.updated_ms)) / 1000
    if backoff.is_spent(age_s - longest_wait_s(batch.round.site, parcel.event.system)):
        reason = f"Given up after {delivery.attempt} attempts; the last: {fate.said}"
        return _given_up(batch, parcel, fate.error, reason)
    delay_s = backoff.delay_s(
        delivery.attempt,
        retry_after_s=fate.retry_after_s,
        random=batch.ports.random,
        is_of_system=fate.is_of_system,
    )
    settlement = Settlement(
        delivery=delivery,
        state=DeliveryState.PENDING,
        answer=fate.error,
        next_attempt_ms=batch.round.now_ms + int(delay_s * 1000),
    )
    telemetry.count_delivery_attempt(delivery.system, "retry")
    end = _End("fail", BusinessStatus.DELIVERY_PENDING, f"The EHR did not take it: {fate.said}")
    records = (_consent(batch, parcel), _sent(batch, parcel, end))
    return _Outcome(settlement, None, tuple(r for r in records if r is not None))


def _given_up(batch: _Batch, parcel: _Parcel, answer: str, reason: str) -> _Outcome:
    settlement = Settlement(delivery=parcel.delivery, state=DeliveryState.FAILED, answer=answer)
    telemetry.count_delivery_attempt(parcel.delivery.system, "given-up")
    http_status = int(answer) if answer.isdecimal() else None
    end = _End("fail", BusinessStatus.DELIVERY_FAILED, reason, http_status)
    return _with_job(batch, parcel, settlement, end)


_STATES: dict[JobEvent, JobState] = {
    "complete": JobState.COMPLETED,
    "cancel": JobState.CANCELLED,
    "supersede": JobState.CANCELLED,
    "fail": JobState.FAILED,
}


def _with_job(batch: _Batch, parcel: _Parcel, settlement: Settlement, end: _End) -> _Outcome:
    """Settle a delivery and its job; a refused job stays refused, whatever its delivery does."""
    job, advance = parcel.job, None
    records = [_consent(batch, parcel), _sent(batch, parcel, end)]
    if job.state is JobState.IN_PROGRESS:
        advance = _advance(batch, parcel, end)
        frame = step_of(job, batch.round, end.reason)
        records.append(
            audit.job_changed(frame, end.event, state=advance.state, business_status=end.status)
        )
    return _Outcome(settlement, advance, tuple(r for r in records if r is not None))


def _advance(batch: _Batch, parcel: _Parcel, end: _End) -> Advance:
    decision = parcel.decision
    return Advance(
        job=parcel.job,
        state=_STATES[end.event],
        business_status=end.status,
        reason=end.reason,
        decisions=(decision.as_json("deliver", _asked(batch, parcel).now),) if decision else (),
    )


def _consent(batch: _Batch, parcel: _Parcel) -> AuditRecord | None:
    if parcel.decision is None:
        return None
    user = system_agent(parcel.delivery.system, AgentKind.USER)
    asked = _asked(batch, parcel)
    return consent_record(parcel.job, asked, parcel.decision, "deliver", user)


def _asked(batch: _Batch, parcel: _Parcel) -> Round:
    return parcel.asked or batch.opened


def _sent(batch: _Batch, parcel: _Parcel, end: _End) -> AuditRecord | None:
    if parcel.report is None:
        return None
    return audit.delivered(
        step_of(parcel.job, batch.round, end.reason),
        ehr=system_agent(parcel.delivery.system, AgentKind.SERVER),
        result=end.way.result(parcel.report),
        http_status=end.http_status,
        attempt=parcel.delivery.attempt,
    )


# --- (6.4) ----------------------------------------------------------------------------------


def _settle(batch: _Batch) -> list[Advance]:
    """Write the whole batch in one transaction; give how its jobs moved.

    Raises:
        StoreUnavailable: The database is away; nothing was written, the leases run out.
    """
    ports = batch.ports
    retracts = batch.round.site.retracts
    with ports.store.write() as uow:
        if retracts:
            uow.lock_patients(batch.patients)
        held = {d.id for d in uow.deliveries.still_held([_delivery(o) for o in batch.outcomes])}
        outcomes = [each for each in batch.outcomes if _delivery(each).id in held]
        moving = [each.advance for each in outcomes if each.advance is not None]
        movable = {job.id for job in uow.jobs.still_held([change.job for change in moving])}
        uow.deliveries.settle([each.settlement for each in outcomes])
        moved = [change for change in moving if change.job.id in movable]
        uow.jobs.advance(moved)
        if retracts:
            retract_written(uow, batch.round.site, batch.patients)
        uow.audit(*(record for each in outcomes for record in each.records))
        circuits.keep(uow, ports, batch.round, answered=batch.answered, away=batch.away)
        claimed = {_delivery(outcome).system for outcome in batch.outcomes}
        circuits.give_back(uow, batch.round, claimed - batch.answered - batch.away.keys())
    return moved


def _delivery(outcome: _Outcome) -> Delivery:
    return outcome.settlement.delivery
