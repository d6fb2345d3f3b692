"""(4) Infer: a micro-batch of jobs, from ids to results waiting for delivery.

(4.1) claim: READY becomes IN_PROGRESS, unless another worker has it, or it waits for consents
(4.2) event current, model in service, consent still stands: nothing is unsealed before
(4.3) payload unsealed, what is missing asked of the EHR, features encoded
(4.4) session run once per model, outputs checked against the manifest
(4.5) report: outputs, or the refusal, as FHIR with Provenance
(4.6) delivery, job and AuditEvents: one transaction, unless the model was retired meanwhile

One bad job never sinks its batch: what goes wrong with a case ends that case. The EHR is asked
outside of any transaction. A worker that lost its lease meanwhile writes nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from gateway import telemetry
from gateway.core import audit
from gateway.core.audit import Outcome
from gateway.core.clock import to_ms
from gateway.core.delivery import NewDelivery
from gateway.core.emergency import as_emergency
from gateway.core.errors import TransientError
from gateway.core.findings import Report, refusal, report
from gateway.core.jobs import Advance, BusinessStatus, Job, JobState
from models.tensors import stack
from workers import circuits
from workers.cases import (
    Case,
    Ending,
    consent_record,
    context_of,
    ended,
    model_agent,
    postponed,
    step_of,
)
from workers.documents import DocumentKind, kind_of
from workers.encoding import encode
from workers.explaining import Answered, answer_and_explain_all
from workers.fates import not_reached
from workers.features import Features, Refusal
from workers.holding import jobs_free
from workers.masking import labels_for
from workers.opening import Batch, open_cases
from workers.persistence import until_written
from workers.ports import Ports, audited, new_round
from workers.reasons import OUTSIDE_USE
from workers.standing import without_retired

log = telemetry.get_logger()

#: Images and notes of one part of a batch; an image may take a hundred megabytes while it is read.
_MOST_AT_ONCE: Mapping[DocumentKind | None, int] = {"image": 4, "text": 32}


class NoTimeLeft(TransientError):
    """Other cases took too long for this one to be asked in the same round."""


def infer(job_ids: Sequence[str], ports: Ports) -> int:
    """Run the jobs that were rung for; give how many this worker got.

    Raises:
        StoreUnavailable: The database is away; the relay rings again, leases run out.
    """
    claimed = _claim(job_ids, ports)  # (4.1)
    late_ms = to_ms(ports.clock()) + ports.lease_ms // 2
    for part in _parts(claimed, ports):
        is_late = to_ms(ports.clock()) > late_ms
        moved = _put_back(part, ports) if is_late else _infer(part, ports, late_ms)
        for change in moved:
            telemetry.count_job(change.job.route, change.state, change.business_status)
            if change.state is JobState.REJECTED:
                telemetry.count_refusal(change.business_status)
    return len(claimed)


def _infer(claimed: Sequence[Job], ports: Ports, late_ms: int) -> list[Advance]:
    with telemetry.step("infer", len(claimed)):
        batch, cases = open_cases(claimed, ports)  # (4.2)
        encoded = _encode(batch, cases)  # (4.3)
        _predict(batch, encoded, late_ms)  # (4.4) (4.5)
        return until_written(lambda: _finish(batch))  # (4.6)


def _parts(claimed: Sequence[Job], ports: Ports) -> Iterator[Sequence[Job]]:
    """Cut a batch so that only a few images are in memory at once; numbers go all together."""
    by_size: dict[int, list[Job]] = {}
    for job in claimed:
        by_size.setdefault(_MOST_AT_ONCE.get(_kind(job, ports), len(claimed)), []).append(job)
    for size, jobs in by_size.items():
        for start in range(0, len(jobs), size):
            yield jobs[start : start + size]


def _kind(job: Job, ports: Ports) -> DocumentKind | None:
    try:
        return kind_of(ports.models.get(job.model_digest).manifest)
    except Exception:  # noqa: BLE001 - opening the case says what is wrong with its model
        return None


def _put_back(claimed: Sequence[Job], ports: Ports) -> list[Advance]:
    """Leave to another batch what would not be done before its lease runs out."""
    with ports.store.read() as uow:
        batch = Batch(new_round(uow, ports), ports)
    reason = "What was before it in its batch took long."
    batch.endings = [postponed(job, batch.round, 0, reason) for job in claimed]
    return until_written(lambda: _finish(batch))


def _claim(job_ids: Sequence[str], ports: Ports) -> list[Job]:
    site = ports.site()
    # A claim lost with the machine's power is a job that is ready: it need not wait for the disk.
    with ports.store.write(is_durable=False) as uow:
        free = jobs_free(uow, site, job_ids, began_ms=ports.began_ms)
        return uow.jobs.claim(free, ports.owner, lease_ms=ports.lease_ms)


# --- (4.3) ----------------------------------------------------------------------------------


def _encode(batch: Batch, cases: Sequence[Case]) -> list[tuple[Case, Features]]:
    """Give each case what its model reads; those that it must not be asked about end here."""
    encoded = encode(batch, cases)
    refused = [(case, read) for case, read in encoded if isinstance(read, Refusal)]
    batch.endings += batch.each(
        refused, lambda pair: pair[0].job, lambda pair: _refuse(batch, pair)
    )
    return [(case, read) for case, read in encoded if isinstance(read, Features)]


def _refuse(batch: Batch, pair: tuple[Case, Refusal]) -> Ending:
    """End a case that the model must not be asked about."""
    case, refused = pair
    status = BusinessStatus(refused.reason)
    ending = ended(case.job, batch.round, "refuse", status, refused.text)
    told = None
    if case.route.report_refusals:
        told = refusal(
            case.model.manifest,
            reason=refused.text,
            sources=refused.sources,
            is_outside_use=refused.reason in OUTSIDE_USE,
            context=context_of(case, batch.round.now, labels_for(case, refused.sources)),
            runtime=case.model.facts,
        )
    inferred = _inferred(batch, case, refused.sources, refused.text)
    records = (*_opening_records(batch, case), inferred, *ending.records)
    return Ending(_with_decision(batch, case, ending.change), records, _delivery(case, told))


# --- (4.4) (4.5) ----------------------------------------------------------------------------


def _predict(batch: Batch, encoded: Sequence[tuple[Case, Features]], late_ms: int) -> None:
    """Ask each model once for all its cases, and word the answers."""
    in_order = sorted(encoded, key=_kind_of_run)
    for _, group in groupby(in_order, key=_kind_of_run):
        asked = list(group)
        try:
            answers = _answers(batch, asked)
        except Exception:  # noqa: BLE001 - find out which case it is
            alone = _ask_alone(batch, asked, late_ms)
            asked, answers = [pair for pair, _ in alone], [answer for _, answer in alone]
        answered = list(zip(asked, answers, strict=True))
        with telemetry.step("report", len(answered)):
            batch.endings += batch.each(
                answered,
                lambda each: each[0][0].job,
                lambda each: _report(batch, *each[0], each[1]),
            )


def _ask_alone(
    batch: Batch, asked: Sequence[tuple[Case, Features]], late_ms: int
) -> list[tuple[tuple[Case, Features], Answered]]:
    """Ask for each case alone; whom the lease leaves no time for is put back.

    A case that takes too long ends, so that each round gets further than the one before.
    """

    def ask(pair: tuple[Case, Features]) -> tuple[tuple[Case, Features], Answered]:
        if to_ms(batch.ports.clock()) > late_ms:
            raise NoTimeLeft
        return pair, _answers(batch, [pair])[0]

    return batch.each(asked, lambda pair: pair[0].job, ask)


def _kind_of_run(pair: tuple[Case, Features]) -> tuple[str, bool]:
    return pair[0].job.model_digest, pair[0].route.explain


def _answers(batch: Batch, asked: Sequence[tuple[Case, Features]]) -> list[Answered]:
    case, _ = asked[0]
    tensors = [features.tensors for _, features in asked]
    if case.route.explain:
        return answer_and_explain_all(case.model, tensors, within_s=batch.ports.lease_ms / 1000)
    return [Answered(row) for row in case.model.predict(stack(tensors)).tolist()]


def _report(batch: Batch, case: Case, features: Features, answered: Answered) -> Ending:
    """Word one answer; an answer that the manifest rules out is a fault and no result."""
    try:
        made = report(
            case.model.manifest,
            answered.row,
            inputs=features.used,
            context=context_of(case, batch.round.now, labels_for(case, features.sources)),
            runtime=case.model.facts,
            explained=answered.explained,
        )
    except ValueError:
        reason = "The model's answer is outside the range that its manifest declares."
        return _faulty(batch, case, features, reason)
    change = Advance(
        job=case.job,
        state=JobState.IN_PROGRESS,
        business_status=BusinessStatus.DELIVERY_PENDING,
        reason="",
    )
    inferred = _inferred(batch, case, features.sources, "", made.identifier)
    records = (*_opening_records(batch, case), inferred)
    return Ending(_with_decision(batch, case, change), records, _delivery(case, made))


def _faulty(batch: Batch, case: Case, features: Features, reason: str) -> Ending:
    status = BusinessStatus.INFERENCE_FAILED
    ending = ended(case.job, batch.round, "fail", status, reason)
    inferred = _inferred(batch, case, features.sources, reason)
    records = (*_opening_records(batch, case), inferred, *ending.records)
    return Ending(_with_decision(batch, case, ending.change), records)


def _opening_records(batch: Batch, case: Case) -> tuple[audit.AuditRecord, ...]:
    asked = consent_record(case.job, batch.round, case.decision, "infer", model_agent(case.job))
    return (asked, *case.fetches)


def _inferred(
    batch: Batch, case: Case, sources: Sequence[str], reason: str, result: str | None = None
) -> audit.AuditRecord:
    hashed = batch.ports.store.sealer.keyed_hash
    return audit.inferred(
        step_of(case.job, batch.round, reason, Outcome.MINOR_FAILURE if reason else None),
        model=audited(case.model.facts, case.job.model),
        inputs=[hashed("resource-version", case.event.system, source) for source in sources],
        result=result,
    )


def _with_decision(batch: Batch, case: Case, change: Advance) -> Advance:
    return replace(change, decisions=(case.decision.as_json("infer", batch.round.now),))


def _delivery(case: Case, made: Report | None) -> NewDelivery | None:
    if made is None:
        return None
    if case.route.breaks_glass:
        made = as_emergency(made)
    return NewDelivery(
        job_id=case.job.id,
        system=case.route.sink,
        patient_key=case.job.patient_key or "",
        identifier=made.identifier,
        body=made.to_json(),
        source=case.route.source,
        lane=case.job.lane,
    )


# --- (4.6) ----------------------------------------------------------------------------------


def _finish(batch: Batch) -> list[Advance]:
    """Write the whole batch in one transaction; give what changed.

    Raises:
        StoreUnavailable: The database is away; nothing was written, the leases run out.
    """
    with batch.ports.store.write() as uow:
        held = {job.id for job in uow.jobs.still_held([e.change.job for e in batch.endings])}
        endings = [ending for ending in batch.endings if ending.change.job.id in held]
        endings = without_retired(uow, endings, batch.round)
        uow.deliveries.add([e.delivery for e in endings if e.delivery is not None])
        uow.jobs.advance([ending.change for ending in endings])
        uow.audit(*(record for ending in endings for record in ending.records))
        away = {system: not_reached(error) for system, error in batch.away.items()}
        circuits.keep(uow, batch.ports, batch.round, answered=batch.answered, away=away)
    return [ending.change for ending in endings]
