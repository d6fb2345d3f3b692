"""`nadi rights`: the register of what patients ask for, each with the day it is due."""

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.markup import escape

from gateway.cli.audit_search import moment_of
from gateway.cli.context import (
    EXIT_NOT_SO,
    EXIT_USAGE,
    AsJson,
    DataDir,
    explained,
    fail,
    iso,
    noun,
    one_of,
    operator,
    out,
    print_json,
    stated,
    table,
    words_of,
)
from gateway.cli.officer import opened_for_rights
from gateway.cli.patient_erase import Reference, System
from gateway.cli.patients import patient_of, tell_of
from gateway.core.audit import Step
from gateway.core.audit_rights import changed
from gateway.core.clock import from_ms, new_id, to_ms, utc_now
from gateway.core.rights import TERMS, RequestKind, RightsRequest, due_ms
from gateway.store.patient_names import patients_named
from gateway.store.registering import Actor
from gateway.store.rights_answers import answer

app = noun("What patients ask for: access, correction, erasure, grievances; with due dates.")

_NEXT = {
    RequestKind.ACCESS: "nadi patient export {who} --out copy.zip",
    RequestKind.CORRECTION: "nadi patient rectify {who} --resource TYPE/ID --reason … --law …",
    RequestKind.ERASURE: "nadi patient erase {who} --reason … --law …",
}


@app.command()
@explained
def add(
    reference: Reference,
    *,
    kind: Annotated[
        RequestKind,
        typer.Option("--kind", parser=one_of(RequestKind), metavar=words_of(RequestKind)),
    ],
    received: Annotated[
        str | None, typer.Option("--received", help="When she asked; now when absent.")
    ] = None,
    system: System = None,
    data_dir: DataDir = None,
) -> None:
    """Put a request on the register; it says until when it has to be answered."""
    with opened_for_rights(data_dir) as nadi:
        patient, source = patient_of(nadi, reference, system), nadi.source()
        tell_of(nadi, patient)
        with nadi.store.write() as uow:
            asked_ms = moment_of(received, "--received") or uow.now_ms
            if asked_ms > uow.now_ms:
                says = "--received is in the future; name the day on which she asked."
                fail(says, code=EXIT_USAGE)
            request = RightsRequest(
                id=new_id(),
                kind=kind,
                patient_key=patient.key,
                received_ms=asked_ms,
                due_ms=due_ms(kind, asked_ms),
                added_by=operator().identifier,
            )
            uow.rights_requests.add(request)
            step = Step(id=new_id(), recorded=uow.now, source=source, patient_key=patient.key)
            details = {
                "what": "received",
                "kind": kind.value,
                "due": iso(request.due_ms),
                # to the millisecond, as the row has them
                "received-ms": str(request.received_ms),
                "due-ms": str(request.due_ms),
            }
            uow.audit(changed(step, "request", by=operator(), about=request.id, details=details))
    out.print(
        f"[green]✓[/] {request.id}: {kind.value}, due on {_day(request.due_ms)} "
        f"({TERMS[kind].source}).",
        soft_wrap=True,
    )
    _tell_what_is_next(request, reference)


def _tell_what_is_next(request: RightsRequest, reference: str) -> None:
    kind = request.kind
    if kind in _NEXT:
        out.print(f"  Do it: {escape(_NEXT[kind].format(who=reference))}", soft_wrap=True)
    # An erasure closes what asked for it; of everything else a person knows when it is done.
    if kind is not RequestKind.ERASURE:
        out.print(f"  Then close it: nadi rights close {request.id} --outcome …", soft_wrap=True)


@app.command()
@explained
def close(
    request_id: Annotated[str, typer.Argument(metavar="ID")],
    *,
    outcome: Annotated[
        str,
        typer.Option(
            "--outcome", callback=stated, help="How she was answered; never name her in it."
        ),
    ],
    data_dir: DataDir = None,
) -> None:
    """Close a request with its outcome."""
    with opened_for_rights(data_dir) as nadi:
        actor = Actor(nadi.source(), operator(), operator().identifier)
        with nadi.store.write() as uow:
            request = answer(uow, request_id, outcome, actor)
    out.print(f"[green]✓[/] {request.id} is closed.")


@app.command(name="list")
@explained
def list_requests(
    *,
    every: Annotated[bool, typer.Option("--all", help="Closed ones too.")] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List the open requests, the one that is due first on top; ends with 1 if one is overdue."""
    now_ms = to_ms(utc_now())
    with opened_for_rights(data_dir) as nadi, nadi.store.read() as uow:
        found = uow.rights_requests.list(only_open=not every)
        names = patients_named(uow, [each.patient_key for each in found])
    if as_json:
        print_json([_as_json(each, names, now_ms) for each in found])
    else:
        listing = table("ID", "KIND", "PATIENT", "RECEIVED", "DUE", "STATE")
        for each in found:
            who = names.get(each.patient_key, each.patient_key[:16])
            days = (_day(each.received_ms), _day(each.due_ms))
            listing.add_row(each.id, each.kind.value, escape(who), *days, _state(each, now_ms))
        out.print(listing if found else "  no request is open")
    if any(each.is_overdue(now_ms) for each in found):
        raise typer.Exit(EXIT_NOT_SO)


def _state(each: RightsRequest, now_ms: int) -> str:
    if each.closed_ms is not None:
        return f"closed {_day(each.closed_ms)}: {escape(each.outcome)}"
    return "[red]overdue[/]" if each.is_overdue(now_ms) else "[green]open[/]"


def _day(at_ms: int) -> str:
    at: datetime = from_ms(at_ms).astimezone(UTC)
    return at.date().isoformat()


def _as_json(each: RightsRequest, names: dict[str, str], now_ms: int) -> dict[str, object]:
    return {
        "id": each.id,
        "kind": each.kind.value,
        "patient": names.get(each.patient_key),
        "patient_key": each.patient_key,
        "received": iso(each.received_ms),
        "due": iso(each.due_ms),
        "is_overdue": each.is_overdue(now_ms),
        "closed": iso(each.closed_ms) if each.closed_ms is not None else None,
        "outcome": each.outcome or None,
    }
