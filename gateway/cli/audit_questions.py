"""`nadi audit patient`, `who`, `refusals` …: the questions of a compliance officer, one verb each.

Asking is itself on record, once for each patient in the answer.
"""

from dataclasses import replace
from typing import Annotated

import typer

from gateway.api.audit_asking import QUESTIONS, ask, query_of
from gateway.api.audit_questions import NO_HOURS
from gateway.cli import audit_questions_view as view
from gateway.cli.audit_search import Since, System, Until, moment_of
from gateway.cli.context import (
    EXIT_USAGE,
    AsJson,
    DataDir,
    Opened,
    explained,
    fail,
    print_json,
)
from gateway.cli.officer import opened_by_officer
from gateway.cli.patients import patient_of, record_search
from gateway.core.audit_answers import Answer
from gateway.core.errors import ConfigurationError
from gateway.store.audit_questions import Asked, Named

Patient = Annotated[
    str, typer.Argument(metavar="PATIENT", help="The patient by the EHR's id: Patient/<id>.")
]
Limit = Annotated[int, typer.Option("--limit", min=1, help="Most lines.")]


@explained
def patient(  # noqa: PLR0913 - each is an option of the command line
    reference: Patient,
    *,
    since: Since = None,
    until: Until = None,
    system: System = None,
    limit: Limit = 500,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Everything that was done with a patient's data, in order, with consent and result."""
    asked = _asked(since, until, limit)
    with opened_by_officer(data_dir) as nadi:
        asked = replace(asked, patient_key=patient_of(nadi, reference, system).key)
        _tell("patient", _answer(nadi, "patient", asked), about=reference, as_json=as_json)


@explained
def who(
    record: Annotated[
        str, typer.Argument(metavar="RECORD", help="Patient/<id>, or a resource such as …/<id>.")
    ],
    *,
    since: Since = None,
    until: Until = None,
    system: System = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Who or what saw a patient's record, or one resource."""
    asked = _asked(since, until, 1)
    kind, _, identifier = record.partition("/")
    with opened_by_officer(data_dir) as nadi:
        if not identifier or kind == "Patient":
            asked = replace(asked, patient_key=patient_of(nadi, record, system).key)
        else:
            of = patient_of(nadi, "Patient/-", system).system
            asked = replace(asked, resource=Named(of, kind, identifier))
        _tell("who", _answer(nadi, "who", asked), about=record, as_json=as_json)


@explained
def refusals(
    *,
    since: Since = None,
    until: Until = None,
    limit: Limit = 50,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """What was refused or failed: how often for which reason, and the newest one by one."""
    asked = _asked(since, until, limit)
    with opened_by_officer(data_dir) as nadi:
        _tell("refusals", _answer(nadi, "refusals", asked), as_json=as_json)


@explained
def results(
    model: Annotated[str, typer.Argument(metavar="MODEL@VERSION", help="The model.")],
    *,
    since: Since = None,
    until: Until = None,
    limit: Limit = 200,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Every run of one version of a model, newest first, and what became of it."""
    if "@" not in model:
        fail("Name the model with its version: MODEL@VERSION.", code=EXIT_USAGE)
    asked = replace(_asked(since, until, limit), model=model)
    with opened_by_officer(data_dir) as nadi:
        _tell("results", _answer(nadi, "results", asked), about=model, as_json=as_json)


@explained
def break_glass(
    *,
    since: Since = None,
    until: Until = None,
    limit: Limit = 200,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Every use of break-glass, and the steps of its review, newest first."""
    asked = _asked(since, until, limit)
    with opened_by_officer(data_dir) as nadi:
        _tell("break-glass", _answer(nadi, "break-glass", asked), as_json=as_json)


@explained
def out_of_hours(
    *,
    since: Since = None,
    until: Until = None,
    limit: Limit = 200,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Accesses outside the working hours of the site file, newest first."""
    asked = _asked(since, until, limit)
    with opened_by_officer(data_dir) as nadi:
        hours = nadi.site().hours
        if hours is None:
            raise ConfigurationError(NO_HOURS)
        asked = replace(asked, hours=hours)
        _tell("out-of-hours", _answer(nadi, "out-of-hours", asked), as_json=as_json)


@explained
def configuration(
    *,
    since: Since = None,
    until: Until = None,
    limit: Limit = 200,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """What was changed in the configuration, by whom, and what is different since."""
    asked = _asked(since, until, limit)
    with opened_by_officer(data_dir) as nadi:
        _tell("configuration", _answer(nadi, "configuration", asked), as_json=as_json)


@explained
def disclosures(  # noqa: PLR0913 - each is an option of the command line
    reference: Patient,
    *,
    since: Since = None,
    until: Until = None,
    system: System = None,
    limit: Limit = 500,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """To whom a patient's data went: when, what and why, newest first."""
    asked = _asked(since, until, limit)
    with opened_by_officer(data_dir) as nadi:
        asked = replace(asked, patient_key=patient_of(nadi, reference, system).key)
        _tell("disclosures", _answer(nadi, "disclosures", asked), about=reference, as_json=as_json)


def _asked(since: str | None, until: str | None, limit: int) -> Asked:
    return Asked(
        since_ms=moment_of(since, "--since"), until_ms=moment_of(until, "--until"), limit=limit
    )


def _answer(nadi: Opened, name: str, asked: Asked) -> Answer:
    """Ask, and put it on record before anything is shown."""
    with nadi.store.read() as uow:
        answer = ask(uow, name, asked)
    source, query = nadi.source(), query_of(name, asked)
    with nadi.store.write() as uow:
        for key in sorted(answer.patients, key=str):
            record_search(uow, source, key, query)
    return answer


def _tell(name: str, answer: Answer, *, about: str = "", as_json: bool) -> None:
    if as_json:
        print_json({"question": name, "groups": list(answer.groups), "rows": list(answer.rows)})
    else:
        view.show(name, QUESTIONS[name].title, answer, about)
