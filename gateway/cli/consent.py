"""`nadi consent`: what patients permit, and why a use of data was permitted or not."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape

from adapters.site_model import PURPOSES
from gateway.cli.consent_import import export, import_file, sign_file
from gateway.cli.consent_record import record, revoke
from gateway.cli.consent_view import due, list_consents, show_coverage
from gateway.cli.context import (
    EXIT_USAGE,
    AsJson,
    DataDir,
    explained,
    fail,
    noun,
    opened,
    out,
    print_json,
)
from gateway.cli.jobs import coloured
from gateway.cli.patients import patient_of, record_search
from gateway.core.consent import ConsentRequest, Explanation
from gateway.core.consent import explain as explain_decision
from gateway.core.consent.abdm import AbdmPolicy
from gateway.core.errors import NotFound
from gateway.core.jobs import Job
from gateway.store.unit_of_work import UnitOfWork

app = noun("The patients' consent: recorded, imported, taken back; what was decided, and why.")

_STAGES = {"admit": "on arrival", "infer": "before inference", "deliver": "before write-back"}


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
def explain(
    task_or_job: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Id of a Task or of a job.")
    ] = None,
    patient: Annotated[
        str | None, typer.Option("--patient", help="Decide now for this patient: Patient/<id>.")
    ] = None,
    purpose: Annotated[
        str, typer.Option("--purpose", help="With --patient: v3-ActReason code.")
    ] = "TREAT",
    system: Annotated[
        str | None, typer.Option("--system", help="With --patient: whose patient, if not clear.")
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show the decisions kept with a Task or job, or decide now for a patient."""
    if (task_or_job is None) == (patient is None):
        fail("Give either the id of a Task or job, or --patient.", code=EXIT_USAGE)
    if purpose not in PURPOSES:
        fail(f"'{purpose}' is not a purpose of use of v3-ActReason.", code=EXIT_USAGE)
    with opened(data_dir) as nadi:
        if patient is not None:
            known = patient_of(nadi, patient, system)
            policy = nadi.site().abdm_policy
            with nadi.store.write() as uow:
                explanation = _explain_now(uow, known.key, patient, purpose, policy)
                record_search(uow, nadi.source(), known.key, f"Consent?patient={known.key}")
            _show_now(explanation, patient, as_json=as_json)
        else:
            with nadi.store.read() as uow:
                jobs = _jobs(uow, str(task_or_job))
            _show_kept(jobs, as_json=as_json)


def _jobs(uow: UnitOfWork, task_or_job: str) -> list[Job]:
    """Find one job, or those of an event's Task."""
    task_id = task_or_job.removeprefix("Task/")
    job = uow.jobs.get(task_id)
    if job is not None:
        return [job]
    if uow.events.get(task_id) is None:
        raise NotFound(f"There is neither a Task nor a job {task_id}.")
    return [job for jobs in uow.jobs.of_events([task_id]).values() for job in jobs]


def _explain_now(
    uow: UnitOfWork, key: str, patient: str, purpose: str, policy: AbdmPolicy | None
) -> Explanation:
    records = uow.consents.of([key], policy)[key]
    return explain_decision(ConsentRequest(patient, purpose, uow.now), records)


def _show_now(explanation: Explanation, patient: str, *, as_json: bool) -> None:
    decision = explanation.decision
    if as_json:
        word = "permit" if decision.is_permitted else "deny"
        print_json(
            {
                "decision": word,
                "purpose": decision.purpose,
                "reasons": list(decision.reasons),
                "consents": list(decision.consents),
                "rules": [asdict(rule) for rule in explanation.rules],
                "changes": list(explanation.changes),
            }
        )
        return
    verdict = "[green]permitted[/]" if decision.is_permitted else "[red]not permitted[/]"
    out.print(f"{escape(decision.purpose)} for {escape(patient)} is {verdict} now:")
    _show_list(decision.reasons)
    if explanation.rules:
        out.print("Each rule on record, with its exceptions:")
        _show_list(f"{each.rule}: {each.verdict}. {each.why}" for each in explanation.rules)
    if explanation.changes:
        out.print("What would change it:")
        _show_list(explanation.changes)


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
