"""`nadi consent`: what patients permit, and why a use of data was permitted or not."""

from collections.abc import Iterable, Mapping
from typing import Annotated

import typer
from rich.markup import escape

from gateway.cli.consent_import import export, import_file, sign_file
from gateway.cli.consent_record import record, revoke
from gateway.cli.consent_view import due, list_consents, show_coverage
from gateway.cli.context import (
    EXIT_USAGE,
    AsJson,
    DataDir,
    Opened,
    explained,
    fail,
    noun,
    out,
    print_json,
)
from gateway.cli.jobs import coloured
from gateway.cli.officer import opened_by_officer
from gateway.cli.patients import patient_of, record_search, tell_of
from gateway.core.consent import READ
from gateway.core.consent.vocabulary import ACTIONS, PURPOSES
from gateway.core.errors import NotFound
from gateway.core.jobs import Job
from gateway.core.principal import Permission
from gateway.deciding import Answer, Wanted, answered
from gateway.deciding import as_json as answer_as_json
from gateway.store.unit_of_work import UnitOfWork

app = noun("The patients' consent: recorded, imported, taken back; what was decided, and why.")

_STAGES = {
    "admit": "on arrival",
    "fetch": "before data was fetched",
    "infer": "before inference",
    "show": "before it was shown",
    "deliver": "before write-back",
}


app.command(name="list")(explained(list_consents))
app.command()(explained(record))
app.command()(explained(revoke))
app.command(name="import")(explained(import_file))
app.command()(explained(export))
app.command(name="sign")(explained(sign_file))
app.command(name="coverage")(explained(show_coverage))
app.command()(explained(due))


@app.command()
@explained
def explain(  # noqa: PLR0913, PLR0917 - each is an option of the command line
    task_or_job: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Id of a Task or of a job.")
    ] = None,
    patient: Annotated[
        str | None, typer.Option("--patient", help="Decide now for this patient: Patient/<id>.")
    ] = None,
    purpose: Annotated[
        str | None,
        typer.Option("--purpose", help="With --patient: v3-ActReason code; the route's, or TREAT."),
    ] = None,
    route: Annotated[
        str | None, typer.Option("--route", help="With --patient: ask as this route does.")
    ] = None,
    action: Annotated[
        list[str] | None,
        typer.Option("--action", help="With --patient: what would be done; access and use."),
    ] = None,
    system: Annotated[
        str | None, typer.Option("--system", help="With --patient: whose patient, if not clear.")
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show the decisions kept with a Task or job, or decide now for a patient."""
    if (task_or_job is None) == (patient is None):
        fail("Give either the id of a Task or job, or --patient.", code=EXIT_USAGE)
    if purpose is not None and purpose not in PURPOSES:
        fail(f"'{purpose}' is not a purpose of use of v3-ActReason.", code=EXIT_USAGE)
    actions = frozenset(action or ()) or READ
    if not actions <= ACTIONS:
        fail(f"Known actions: {', '.join(sorted(ACTIONS))}.", code=EXIT_USAGE)
    with opened_by_officer(data_dir, Permission.READ_CONSENT) as nadi:
        if patient is not None:
            known = patient_of(nadi, patient, system)
            tell_of(nadi, known)
            wanted = Wanted(
                key=known.key,
                patient=f"Patient/{patient.removeprefix('Patient/')}",
                route=route,
                purpose=purpose if route or purpose else "TREAT",
                actions=actions,
            )
            _show_now(_answer(nadi, wanted), patient, as_json=as_json)
        else:
            with nadi.store.read() as uow:
                jobs = _jobs(uow, str(task_or_job))
            _show_kept(jobs, as_json=as_json)


def _answer(nadi: Opened, wanted: Wanted) -> Answer:
    """Decide now, and put on record that somebody looked."""
    with nadi.store.write() as uow:
        answer = answered(uow, nadi.site(), wanted)
        record_search(uow, nadi.source(), wanted.key, f"Consent?patient={wanted.key}")
    return answer


def _jobs(uow: UnitOfWork, task_or_job: str) -> list[Job]:
    """Find one job, or those of an event's Task."""
    task_id = task_or_job.removeprefix("Task/")
    job = uow.jobs.get(task_id)
    if job is not None:
        return [job]
    if uow.events.get(task_id) is None:
        raise NotFound(f"There is neither a Task nor a job {task_id}.")
    return [job for jobs in uow.jobs.of_events([task_id]).values() for job in jobs]


def _show_now(answer: Answer, patient: str, *, as_json: bool) -> None:
    if as_json:
        print_json(answer_as_json(answer))
        return
    decision, rules = answer.decision, answer.explanation.rules
    verdict = "[green]permitted[/]" if decision.is_permitted else "[red]not permitted[/]"
    out.print(f"{escape(decision.purpose)} for {escape(patient)} is {verdict} now:")
    if answer.foreseen.is_permitted and not decision.is_permitted:
        out.print("Some data may be used all the same: each resource is asked for by itself.")
    basis = f" Basis: {decision.basis}." if decision.basis else ""
    out.print(f"Without a consent the answer would be: {answer.asks.default}.{escape(basis)}")
    _show_list(decision.reasons)
    _show_titled(
        "What comes with it:",
        (f"{each.code} ({each.consent} {each.path})" for each in decision.obligations),
    )
    _show_titled(
        "Each rule on record, with its exceptions:",
        (f"{each.rule}: {each.verdict}. {each.why}" for each in rules),
    )
    _show_titled("What would change it:", answer.explanation.changes)


def _show_titled(title: str, lines: Iterable[str]) -> None:
    found = list(lines)
    if found:
        out.print(title)
        _show_list(found)


def _show_list(lines: Iterable[str]) -> None:
    for line in lines:
        out.print(f"  • {escape(line)}", soft_wrap=True)


def _show_kept(jobs: list[Job], *, as_json: bool) -> None:
    if as_json:
        print_json(
            [{"job": job.id, "route": job.route, "decisions": list(job.decisions)} for job in jobs]
        )
        return
    if not jobs:
        out.print("This event matched no route: nothing was asked of the patient's consent.")
    for job in jobs:
        out.print(f"[bold]{job.id}[/]  {escape(job.route)}  {coloured(job)}")
        for decision in job.decisions:
            _show_decision(decision)
        if not job.decisions:
            out.print(f"  Consent was not asked: {escape(job.reason or job.business_status)}")


def _show_decision(decision: Mapping[str, object]) -> None:
    permitted = decision.get("decision") == "permit"
    verdict = "[green]permit[/]" if permitted else "[red]deny[/]"
    stage = _STAGES.get(str(decision.get("stage")), str(decision.get("stage")))
    head = f"{verdict} {escape(str(decision.get('purpose')))}"
    out.print(f"  {head}  [dim]{stage}, {escape(str(decision.get('at')))}[/]")
    reasons = decision.get("reasons")
    for reason in reasons if isinstance(reasons, list) else []:
        out.print(f"    • {escape(str(reason))}", soft_wrap=True)
