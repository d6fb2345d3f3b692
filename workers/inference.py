"""(4) Infer: a micro-batch of jobs, from ids to results waiting for delivery.

(4.1) claim: READY becomes IN_PROGRESS, or another worker has it
(4.2) the event is still current and consent still stands: nothing is unsealed before
(4.3) payload unsealed, what is missing asked of the EHR, features encoded
(4.4) session run once per model, outputs checked against the manifest
(4.5) report: outputs, or the refusal, as FHIR with Provenance
(4.6) delivery, job and AuditEvents: one transaction

One bad job never sinks its batch: what goes wrong with a case ends that case. The EHR is asked
outside of any transaction. A worker that lost its lease meanwhile writes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import groupby

from gateway import telemetry
from gateway.core import audit
from gateway.core.audit import AgentKind, Outcome
from gateway.core.delivery import NewDelivery
from gateway.core.errors import ProcessingError, TransientError
from gateway.core.findings import Report, refusal, report
from gateway.core.jobs import Advance, BusinessStatus, Job, JobState
from models.manifest import Manifest
from models.tensors import stack
from workers import circuits
from workers.cases import (
    Case,
    Ending,
    consent_record,
    context_of,
    ended,
    failed,
    model_agent,
    postponed,
    step_of,
)
from workers.chart import Gap, described, search_chart
from workers.features import Features, Record, Refusal, read_record
from workers.opening import Batch, open_cases
from workers.persistence import until_written
from workers.ports import Ports, audited, system_agent

log = telemetry.get_logger()


def infer(job_ids: Sequence[str], ports: Ports) -> int:
    """Run the jobs that were rung for; give how many this worker got.

    Raises:
        StoreUnavailable: The database is away; the relay rings again, leases run out.
    """
    claimed = _claim(job_ids, ports)  # (4.1)
    if not claimed:
        return 0
    with telemetry.step("infer", len(claimed)):
        batch, cases = open_cases(claimed, ports)  # (4.2)
        encoded = _encode(batch, cases)  # (4.3)
        _predict(batch, encoded)  # (4.4) (4.5)
        moved = until_written(lambda: _finish(batch))  # (4.6)
    for change in moved:
        telemetry.count_job(change.job.route, change.state, change.business_status)
        if change.state is JobState.REJECTED:
            telemetry.count_refusal(change.business_status)
    return len(claimed)


def _claim(job_ids: Sequence[str], ports: Ports) -> list[Job]:
    # A claim lost with the machine's power is a job that is ready: it need not wait for the disk.
    with ports.store.write(is_durable=False) as uow:
        return uow.jobs.claim(job_ids, ports.owner, lease_ms=ports.lease_ms)


# --- (4.3) ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Asking:
    """A case whose EHR has to be asked, and what can be said if it adds nothing."""

    case: Case
    gap: Gap
    read: Features | Refusal


def _encode(batch: Batch, cases: Sequence[Case]) -> list[tuple[Case, Features]]:
    """Turn each patient's record into the model's inputs, or end the case with a refusal."""
    first = batch.each(cases, lambda case: case.job, lambda case: (case, _first(batch, case)))
    encoded = [(case, read) for case, read in first if not isinstance(read, _Asking)]
    gaps = [read for _, read in first if isinstance(read, _Asking)]
    known = {asking.case.job.id: asking.read for asking in gaps}
    for system, group in groupby(sorted(gaps, key=_system), key=_system):
        asked = _ask_chart(batch, system, list(group))
        encoded += batch.each(
            asked,
            lambda case: case.job,
            lambda case: (case, _again(batch, case, known[case.job.id])),
        )
    refused = [(case, read) for case, read in encoded if isinstance(read, Refusal)]
    batch.endings += batch.each(
        refused, lambda pair: pair[0].job, lambda pair: _refuse(batch, pair)
    )
    return [(case, read) for case, read in encoded if isinstance(read, Features)]


def _system(asking: _Asking) -> str:
    return asking.case.event.system


def _first(batch: Batch, case: Case) -> Features | Refusal | _Asking:
    """Read what was received; where something is missing, say what the EHR has to be asked for."""
    record = _record(batch, case)
    read = record.features(case.at)
    if isinstance(read, Features) and _is_complete(case.model.manifest, read):
        return read
    gap = _gap(case, record)
    return _Asking(case, gap, read) if gap else read


def _again(batch: Batch, case: Case, known: Features | Refusal) -> Features | Refusal:
    """Read once more, if the EHR had anything to add."""
    return _record(batch, case).features(case.at) if case.chart else known


def _is_complete(manifest: Manifest, read: Features) -> bool:
    """Say whether the EHR can't add anything: all is here, and only the latest values count."""
    is_latest = all(each.aggregation == "latest" for each in manifest.inputs)
    return is_latest and all(each.status == "present" for each in read.inputs)


def _gap(case: Case, record: Record) -> Gap | None:
    """Say what the EHR has to be asked for; None when everything is here."""
    manifest = record.manifest
    codes = record.still_missing(case.at)
    reads_patient = any(each.source != "observation" for each in manifest.inputs)
    needs_patient = reads_patient and record.patient is None
    if not codes and not needs_patient:
        return None
    return Gap(case.patient, codes, case.at - timedelta(hours=manifest.look_back_h), needs_patient)


def _ask_chart(batch: Batch, system: str, asking: Sequence[_Asking]) -> list[Case]:
    """Add what the EHR knows; cases of an EHR that is away are put back."""
    if not batch.round.lets_through(system):
        batch.endings += [_wait(batch, each.case, system) for each in asking]
        return []
    try:
        client = batch.ports.ehrs.connection(system).client
        found = search_chart(client, [each.gap for each in asking])
    except TransientError as error:
        batch.away[system] = error
        for each in asking:
            ending = failed(each.case.job, batch.round, error, batch.ports)
            record = _fetched(batch, each, f"The EHR did not answer: {type(error).__name__}.")
            batch.endings.append(replace(ending, records=(record, *ending.records)))
        return []
    except ProcessingError as error:
        # An EHR that refuses such a search will go on doing so: what was received has to do.
        log.warning("chart-refused", system=system, error=type(error).__name__)
        return [each.case for each in asking]
    except Exception as error:  # noqa: BLE001 - an answer that nobody expected
        for each in asking:
            batch.fail(each.case.job, error)
        return []
    batch.answered.add(system)
    return [
        each.case.with_chart(found[each.gap.patient], _fetched(batch, each, "")) for each in asking
    ]


def _wait(batch: Batch, case: Case, system: str) -> Ending:
    open_until_ms = batch.round.circuits[system].open_until_ms
    delay_s = (open_until_ms - batch.round.now_ms) / 1000 + batch.ports.random()
    return postponed(case.job, batch.round, delay_s, "The EHR is away; the chart is asked later.")


def _fetched(batch: Batch, asking: _Asking, reason: str) -> audit.AuditRecord:
    case = asking.case
    return audit.fetched(
        step_of(case.job, batch.round, reason),
        ehr=system_agent(case.event.system, AgentKind.SERVER),
        query=described(asking.gap, case.job.patient_key or ""),
    )


def _record(batch: Batch, case: Case) -> Record:
    return read_record(
        case.model.manifest,
        case.resources,
        patient=case.patient_resource,
        local_codes=batch.round.site.local_codes,
    )


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
            is_outside_use=refused.reason == "outside-intended-use",
            context=context_of(case, batch.round.now),
            runtime=case.model.facts,
        )
    inferred = _inferred(batch, case, refused.sources, refused.text)
    records = (*_opening_records(batch, case), inferred, *ending.records)
    return Ending(_with_decision(batch, case, ending.change), records, _delivery(case, told))


# --- (4.4) (4.5) ----------------------------------------------------------------------------


def _predict(batch: Batch, encoded: Sequence[tuple[Case, Features]]) -> None:
    """Ask each model once for all its cases, and word the answers."""
    in_order = sorted(encoded, key=_digest)
    for _, group in groupby(in_order, key=_digest):
        asked = list(group)
        try:
            answers = _answers(asked)
        except Exception:  # noqa: BLE001 - find out which case it is
            alone = batch.each(
                asked, lambda pair: pair[0].job, lambda pair: (pair, _answers([pair])[0])
            )
            asked, answers = [pair for pair, _ in alone], [answer for _, answer in alone]
        answered = list(zip(asked, answers, strict=True))
        with telemetry.step("report", len(answered)):
            batch.endings += batch.each(
                answered,
                lambda each: each[0][0].job,
                lambda each: _report(batch, *each[0], each[1]),
            )


def _digest(pair: tuple[Case, Features]) -> str:
    return pair[0].job.model_digest


def _answers(asked: Sequence[tuple[Case, Features]]) -> list[list[float]]:
    model = asked[0][0].model
    outputs = model.predict(stack([features.tensors for _, features in asked]))
    found: list[list[float]] = outputs.tolist()
    return found


def _report(batch: Batch, case: Case, features: Features, outputs: Sequence[float]) -> Ending:
    """Word one answer; an answer that the manifest rules out is a fault and no result."""
    try:
        made = report(
            case.model.manifest,
            outputs,
            inputs=features.inputs,
            context=context_of(case, batch.round.now),
            runtime=case.model.facts,
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
    return NewDelivery(
        job_id=case.job.id,
        system=case.route.sink,
        patient_key=case.job.patient_key or "",
        identifier=made.identifier,
        body=made.to_json(),
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
        uow.deliveries.add([e.delivery for e in endings if e.delivery is not None])
        uow.jobs.advance([ending.change for ending in endings])
        uow.audit(*(record for ending in endings for record in ending.records))
        away = {system: error.retry_after_s for system, error in batch.away.items()}
        circuits.keep(uow, batch.ports, batch.round, answered=batch.answered, away=away)
    return [ending.change for ending in endings]
