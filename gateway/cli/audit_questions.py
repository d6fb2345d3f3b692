"""`nadi audit patient`, `who`, `refusals` …: the questions of a compliance officer, one verb each.

Asking is itself on record, once for each patient in the answer.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

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

#: What only the installation can say of a question: whom a reference names, when it is open.
_Known = Callable[[Opened], Mapping[str, Any]]


def _of_patient(question: str, title: str) -> Callable[..., None]:
    """Make the verb of a question about one patient."""

    def verb(  # noqa: PLR0913 - each is an option of the command line
        reference: Patient,
        *,
        since: Since = None,
        until: Until = None,
        system: System = None,
        limit: Limit = 500,
        data_dir: DataDir = None,
        as_json: AsJson = False,
    ) -> None:
        def known(nadi: Opened) -> Mapping[str, Any]:
            return {"patient_key": patient_of(nadi, reference, system).key}

        asked = _asked(since, until, limit)
        _put(question, asked, known, data_dir, about=reference, as_json=as_json)

    verb.__doc__ = title
    return explained(verb)


def _of_the_site(
    question: str, title: str, known: _Known = lambda _nadi: {}
) -> Callable[..., None]:
    """Make the verb of a question about everything that happened."""

    def verb(
        *,
        since: Since = None,
        until: Until = None,
        limit: Limit = 200,
        data_dir: DataDir = None,
        as_json: AsJson = False,
    ) -> None:
        _put(question, _asked(since, until, limit), known, data_dir, as_json=as_json)

    verb.__doc__ = title
    return explained(verb)


def _hours(nadi: Opened) -> Mapping[str, Any]:
    hours = nadi.site().hours
    if hours is None:
        raise ConfigurationError(NO_HOURS)
    return {"hours": hours}


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
    kind, _, identifier = record.partition("/")

    def known(nadi: Opened) -> Mapping[str, Any]:
        if not identifier or kind == "Patient":
            return {"patient_key": patient_of(nadi, record, system).key}
        of = patient_of(nadi, "Patient/-", system).system
        return {"resource": Named(of, kind, identifier)}

    _put("who", _asked(since, until, 1), known, data_dir, about=record, as_json=as_json)


@explained
def refusals(
    *,
    since: Since = None,
    until: Until = None,
    limit: Limit = 50,
    canary: Annotated[
        bool, typer.Option("--canary", help="Tell those of the canary one by one too.")
    ] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """What was refused or failed: how often for which reason, and the newest one by one."""
    asked = replace(_asked(since, until, limit), with_canary=canary)
    _put("refusals", asked, lambda _nadi: {}, data_dir, as_json=as_json)


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
    _put("results", asked, lambda _nadi: {}, data_dir, about=model, as_json=as_json)


#: Every question by the name of its verb, in the order of the help page.
VERBS: Mapping[str, Callable[..., None]] = {
    "patient": _of_patient(
        "patient",
        "All that was done with a patient's data, in order, with consent and result.",
    ),
    "who": who,
    "refusals": refusals,
    "results": results,
    "break-glass": _of_the_site(
        "break-glass", "Every use of break-glass, and the steps of its review, newest first."
    ),
    "out-of-hours": _of_the_site(
        "out-of-hours", "Accesses outside the working hours of the site file, newest first.", _hours
    ),
    "configuration": _of_the_site(
        "configuration",
        "What was changed in the configuration, by whom, and what is different since.",
    ),
    "disclosures": _of_patient(
        "disclosures", "To whom a patient's data went: when, what and why, newest first."
    ),
}


def _asked(since: str | None, until: str | None, limit: int) -> Asked:
    return Asked(
        since_ms=moment_of(since, "--since"), until_ms=moment_of(until, "--until"), limit=limit
    )


def _put(
    question: str,
    asked: Asked,
    known: _Known,
    data_dir: Path | None,
    *,
    about: str = "",
    as_json: bool,
) -> None:
    """Put a question as the officer whose credential is shown, and tell the answer."""
    with opened_by_officer(data_dir) as nadi:
        answer = _answer(nadi, question, replace(asked, **known(nadi)))
    if as_json:
        print_json({"question": question, "groups": list(answer.groups), "rows": list(answer.rows)})
    else:
        view.show(question, QUESTIONS[question].title, answer, about)


def _answer(nadi: Opened, name: str, asked: Asked) -> Answer:
    """Ask, and put it on record before anything is shown."""
    with nadi.store.read() as uow:
        answer = ask(uow, name, asked)
    source, query = nadi.source(), query_of(name, asked)
    with nadi.store.write() as uow:
        for key in sorted(answer.patients, key=str):
            record_search(uow, source, key, query)
    return answer
