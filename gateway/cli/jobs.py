"""`nadi jobs`: the queue as it is, and the two things a person may do to it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.markup import escape

from gateway.bell import Bell
from gateway.catching_up import WAITS, lag
from gateway.cli.context import (
    EXIT_NOT_SO,
    AsJson,
    DataDir,
    Opened,
    age,
    err,
    explained,
    iso,
    moment,
    noun,
    one_of,
    opened,
    operator,
    out,
    print_json,
    table,
    words_of,
)
from gateway.cli.patients import record_search
from gateway.cli.site_plan import stopped_routes
from gateway.core import audit
from gateway.core.clock import utc_now
from gateway.core.delivery import Circuit, Delivery, DeliveryState
from gateway.core.errors import (
    ConfigurationError,
    GatewayError,
    InvalidTransition,
    NotFound,
)
from gateway.core.jobs import Advance, BusinessStatus, Job, JobState
from gateway.store.audit_log import AuditFilter, AuditRow
from gateway.store.deliveries import Settlement
from gateway.store.jobs import JobFilter
from gateway.store.unit_of_work import UnitOfWork

app = noun("The jobs: one route applied to one version of one resource.")

#: Columns of a terminal that holds every column of the listing.
_WIDE = 120
_WHERE = "`nadi jobs list` shows them"
_RETRIED = "An operator asked for another try."

Ids = Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of jobs.")]

_Change = Callable[[UnitOfWork, str, audit.Source], None]
#: By the id of each job why it could not be changed, None where it was.
WhyNot = dict[str, str | None]

COLOURS = {
    JobState.REQUESTED: "cyan",
    JobState.READY: "cyan",
    JobState.IN_PROGRESS: "blue",
    JobState.COMPLETED: "green",
    JobState.REJECTED: "yellow",
    JobState.CANCELLED: "yellow",
    JobState.FAILED: "red",
}


@app.command(name="list")
@explained
def list_jobs(
    state: Annotated[
        JobState | None,
        typer.Option(
            "--state", parser=one_of(JobState), metavar=words_of(JobState), help="Only these."
        ),
    ] = None,
    route: Annotated[str | None, typer.Option("--route", help="Only this route's.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Most jobs.")] = 100,
    canary: Annotated[bool, typer.Option("--canary", help="The canary's too.")] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first."""
    wanted = JobFilter(state=state, route=route, with_canary=canary, limit=limit)
    with opened(data_dir) as nadi, nadi.store.read() as uow:
        found = uow.jobs.find(wanted)
        total = sum(uow.jobs.counts().values())
        waits = _waits(nadi, found)
        stopped = _stopped(nadi, uow)
    if as_json:
        print_json([{**job_json(job), "waits_for": waits.get(job.id, "")} for job in found])
        return
    # A narrow terminal shows what tells jobs apart; all the rest is in `show` and --json.
    wide = ("MODEL", "PATIENT") if out.width >= _WIDE else ()
    listing = table("ID", "AGE", "STATE", "BECAUSE", "ROUTE", *wide)
    for job in found:
        listing.add_row(*_row(job, is_off_peak=job.id in waits)[: len(listing.columns)])
    out.print(listing)
    for words in sorted(set(waits.values())):
        out.print(f"[dim]off-peak: waits for {escape(words)}; stat jobs don't.[/]")
    for words in stopped:
        err.print(f"[red]✗[/] {escape(words)}", soft_wrap=True)
    if len(found) == limit < total:
        out.print(f"[dim]{limit} of {total}; --limit shows more.[/]")


@app.command()
@explained
def show(
    job_id: Annotated[str, typer.Argument(metavar="ID", help="Id of a job.")],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show everything about one job but the patient; that its steps were read is on record."""
    with opened(data_dir) as nadi, nadi.store.write() as uow:
        job = uow.jobs.get(job_id)
        if job is None:
            raise NotFound(f"There is no job {job_id}; {_WHERE}.")
        delivery = uow.deliveries.of_jobs([job_id]).get(job.id)
        waits = _waits_for_consents(nadi, uow, job, delivery)
        trail = uow.audit_log.search(AuditFilter(job_id=job_id))
        record_search(uow, nadi.source(), job.patient_key, f"AuditEvent?job={job_id}")
    trail.reverse()
    if as_json:
        told = {**_details(job, delivery), "waits_for": waits}
        print_json({**job_json(job), **told, "steps": [*map(_step, trail)]})
        return
    _show(job, delivery, trail)
    if waits:
        out.print(f"[yellow]![/] {escape(waits)}", soft_wrap=True)


@app.command()
@explained
def retry(ids: Ids, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Let failed jobs run again, and results that could not be written be written."""
    report(change_each(ids, data_dir, put_back), "is tried again", as_json=as_json)


@app.command()
@explained
def cancel(ids: Ids, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Stop jobs that are not finished; what is already in the EHR stays there."""
    report(change_each(ids, data_dir, _cancel), "is cancelled", as_json=as_json)


def change_each(ids: Sequence[str], data_dir: Path | None, change: _Change) -> WhyNot:
    """Change each job of an installation, and wake the workers."""
    with opened(data_dir) as nadi:
        return changed(nadi, ids, change)


def changed(nadi: Opened, ids: Sequence[str], change: _Change) -> WhyNot:
    """Change each job in a transaction of its own, and wake the workers."""
    why: WhyNot = {}
    source = nadi.source()
    for job_id in dict.fromkeys(ids):
        try:
            with nadi.store.write() as uow:
                change(uow, job_id, source)
        except GatewayError as error:
            why[job_id] = error.message
        else:
            why[job_id] = None
    Bell(nadi.settings.resolved_broker_url).knock()
    return why


def report(why: WhyNot, done: str, *, as_json: bool) -> None:
    """Say of each job whether it was changed; end with 1 where one was not."""
    if as_json:
        print_json([{"id": each, "done": not no, "why_not": no} for each, no in why.items()])
    else:
        for job_id, no in why.items():
            if no:
                err.print(f"[red]✗[/] {escape(job_id)}: {escape(no)}")
            else:
                out.print(f"[green]✓[/] {escape(job_id)} {done}.")
    if any(why.values()):
        raise typer.Exit(EXIT_NOT_SO)


def put_back(uow: UnitOfWork, job_id: str, source: audit.Source) -> None:
    """Put a failed job back: to the workers, or, when its result exists, to its delivery."""
    job = _existing(uow, job_id)
    if job.state is not JobState.FAILED:
        raise InvalidTransition(f"Only a failed job can be tried again; this one is {job.state}.")
    delivery = uow.deliveries.of_jobs([job_id]).get(job.id)
    ready = Advance(
        job=job, state=JobState.READY, business_status=BusinessStatus.QUEUED, reason=_RETRIED
    )
    _move(uow, ready)
    if delivery is None:
        _audit(uow, ready, "retry", source)
        return
    waiting = Advance(
        job=replace(job, state=JobState.READY),
        state=JobState.IN_PROGRESS,
        business_status=BusinessStatus.DELIVERY_PENDING,
        reason=_RETRIED,
    )
    _move(uow, waiting)
    _settle(uow, delivery, DeliveryState.PENDING)
    _audit(uow, waiting, "retry", source)


def _cancel(uow: UnitOfWork, job_id: str, source: audit.Source) -> None:
    job = _existing(uow, job_id)
    if job.state.is_final or job.state is JobState.FAILED:
        raise InvalidTransition(f"It is {job.state} already.")
    stopped = Advance(
        job=job,
        state=JobState.CANCELLED,
        business_status=BusinessStatus.STOPPED,
        reason="Stopped by an operator.",
    )
    _move(uow, stopped)
    delivery = uow.deliveries.of_jobs([job_id]).get(job.id)
    if delivery and delivery.state in (DeliveryState.PENDING, DeliveryState.IN_FLIGHT):
        _settle(uow, delivery, DeliveryState.CANCELLED)
    _audit(uow, stopped, "cancel", source)


def _waits_for_consents(nadi: Opened, uow: UnitOfWork, job: Job, delivery: Delivery | None) -> str:
    """Say why a result is not sent yet, where that is for consents; a job itself says it."""
    site = nadi.site()
    route = site.route(job.route)
    if route is None or delivery is None or delivery.state is not DeliveryState.PENDING:
        return ""
    behind = lag(uow, site, began_ms=0)
    event = uow.events.get_many([job.event_id])[job.event_id]
    # What was never tried and is due later was put off by a worker, which began later than this.
    is_put_off = delivery.attempt == 0 and delivery.next_attempt_ms > uow.now_ms
    circuit = uow.deliveries.circuits().get(delivery.system, Circuit())
    away_ms = circuit.open_until_ms if circuit.open_until_ms <= uow.now_ms else 0
    again_ms = behind.look_again_ms(event, route, away_ms=away_ms)
    is_held = again_ms is not None or is_put_off
    return WAITS if is_held and route.source in behind.waits_ms else ""


def _existing(uow: UnitOfWork, job_id: str) -> Job:
    job = uow.jobs.get(job_id)
    if job is None:
        raise NotFound(f"There is no such job; {_WHERE}.")
    return job


def _move(uow: UnitOfWork, change: Advance) -> None:
    if uow.jobs.advance([change]) != 1:
        raise InvalidTransition("A worker moved it at this very moment; look at it again.")


def _settle(uow: UnitOfWork, delivery: Delivery, state: DeliveryState) -> None:
    due = uow.now_ms if state is DeliveryState.PENDING else 0
    answer = delivery.last_answer
    change = Settlement(delivery=delivery, state=state, answer=answer, next_attempt_ms=due)
    if uow.deliveries.settle([change]) != 1:
        raise InvalidTransition("A worker moved its result at this very moment; look again.")


def _audit(uow: UnitOfWork, change: Advance, event: audit.JobEvent, source: audit.Source) -> None:
    step = audit.job_step(change.job, uow.now, source, reason=change.reason)
    uow.audit(
        audit.job_changed(
            step,
            event,
            state=change.state.value,
            business_status=change.business_status.value,
            by=operator(),
        )
    )


def job_json(job: Job) -> dict[str, object]:
    """Give a job as scripts read it."""
    return {
        "id": job.id,
        "state": job.state.value,
        "business_status": job.business_status.value,
        "reason": job.reason,
        "route": job.route,
        "model": job.model,
        "model_digest": job.model_digest,
        "patient_key": job.patient_key,
        "event_id": job.event_id,
        "attempt": job.attempt,
        "priority": job.lane.code,
        "created_at": iso(job.created_ms),
        "updated_at": iso(job.updated_ms),
    }


def _details(job: Job, delivery: Delivery | None) -> dict[str, object]:
    return {
        "decisions": list(job.decisions),
        "delivery": None
        if delivery is None
        else {
            "id": delivery.id,
            "system": delivery.system,
            "state": delivery.state.value,
            "attempt": delivery.attempt,
            "last_answer": delivery.last_answer,
            "rung": delivery.rung,
            "lost": delivery.lost,
            "next_try_at": _next_try(delivery, iso),
            "identifier": delivery.identifier,
        },
    }


def _step(row: AuditRow) -> dict[str, object]:
    return {
        "at": iso(row.recorded_ms),
        "event": row.event,
        "outcome": row.outcome,
        "why": _why(row),
    }


def _why(row: AuditRow) -> str:
    """Give the reason on record for a step; empty where there is none."""
    return str(orjson.loads(row.body).get("outcomeDesc", ""))


def _next_try(delivery: Delivery, shown: Callable[[int], str]) -> str | None:
    """Say when a result that waits is tried next; None when it does not wait."""
    is_waiting = delivery.state is DeliveryState.PENDING and delivery.next_attempt_ms > 0
    return shown(delivery.next_attempt_ms) if is_waiting else None


def coloured(job: Job) -> str:
    """Show a job's state in its colour."""
    return f"[{COLOURS[job.state]}]{job.state.value}[/]"


def _stopped(nadi: Opened, uow: UnitOfWork) -> list[str]:
    """Say which routes in force have no model any more, so that no job of theirs will come."""
    try:
        return stopped_routes(nadi.site(), uow.models.lines(), utc_now().date())
    except ConfigurationError:  # no site is in force, or it can't be read
        return []


def _waits(nadi: Opened, jobs: Sequence[Job]) -> dict[str, str]:
    """Say for which hours ready jobs wait, of those that wait for some."""
    ready = [job for job in jobs if job.state is JobState.READY]
    try:
        site = nadi.site() if ready else None
    except ConfigurationError:  # what can't be read lets nothing wait
        return {}
    windows = {job.id: route.window for job in ready if site and (route := site.route(job.route))}
    now = utc_now()
    return {
        job.id: f"{job.route}'s hours, {window.words}"
        for job in ready
        if (window := windows.get(job.id)) and not window.lets(job.lane, now)
    }


def _row(job: Job, *, is_off_peak: bool) -> tuple[str, ...]:
    because, patient = job.business_status.value, (job.patient_key or "")[:12]
    because = "off-peak" if is_off_peak else because
    return job.id, age(job.created_ms), coloured(job), because, job.route, job.model, patient


def _show(job: Job, delivery: Delivery | None, trail: Sequence[AuditRow]) -> None:
    out.print(f"[bold]{job.id}[/]  {coloured(job)} ({job.business_status.value})")
    if job.reason:
        out.print(f"  {escape(job.reason)}")
    facts = table("", "")
    facts.show_header = False
    for name, value in facts_of(job, delivery):
        facts.add_row(f"[dim]{name}[/]", escape(value))
    out.print(facts)
    listing = table("WHEN", "STEP", "OUTCOME", "WHY")
    for row in trail:
        outcome = outcome_word(row.outcome)
        listing.add_row(moment(row.recorded_ms), row.event, outcome, escape(_why(row)))
    out.print("\n[bold]What happened[/]", listing, sep="\n")
    out.print(f"\n[dim]Why it was permitted or not: nadi consent explain {job.id}[/]")


def facts_of(job: Job, delivery: Delivery | None) -> list[tuple[str, str]]:
    """Say in names and values what a job is, and where its result is."""
    found = [
        ("route", job.route),
        ("model", f"{job.model}  {job.model_digest[:16]}"),
        ("patient", (job.patient_key or "")[:16]),
        ("event", job.event_id),
        ("priority", job.lane.code),
        ("attempts", str(job.attempt)),
        ("created", moment(job.created_ms)),
        ("changed", moment(job.updated_ms)),
    ]
    if delivery is None:
        return found
    answer = f", last answer {delivery.last_answer}" if delivery.last_answer else ""
    state = f"{delivery.state.value} to {delivery.system}, attempt {delivery.attempt}{answer}"
    found.append(("delivery", state))
    told = (("form there", delivery.rung), ("not kept there", delivery.lost))
    found += [(name, value) for name, value in told if value]
    next_try = _next_try(delivery, moment)
    if next_try is None:
        return found
    from gateway.cli.doctor_remedies import of_answer  # noqa: PLC0415 - for what is held up only

    remedy = of_answer(delivery.last_answer)
    return [*found, ("next try", next_try), *([("what to do", remedy)] if remedy else [])]


def outcome_word(outcome: str) -> str:
    """Say how an audited step ended."""
    return "[green]done[/]" if outcome == "0" else "[yellow]refused or failed[/]"
