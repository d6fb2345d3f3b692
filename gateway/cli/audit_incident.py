"""`nadi audit incident`: everything about an incident in one folder or ZIP, with both clocks.

The bundle names no patient. The list by which they are notified is a file of its own beside it,
readable for its owner alone.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.markup import escape

from gateway.cli.audit_search import LogExport, Since, System, Until, moment_of
from gateway.cli.bundle import insist_on_new, write_bundle
from gateway.cli.context import (
    EXIT_USAGE,
    AsJson,
    DataDir,
    Opened,
    explained,
    fail,
    operator,
    out,
    print_json,
    zone_of,
)
from gateway.cli.incident_statements import STATEMENTS, read_statements, template
from gateway.cli.officer import opened_by_officer
from gateway.cli.patients import patient_of
from gateway.core.audit_answers import ACCESSES, CONFIGURING, DEEDS, row_of
from gateway.core.audit_entry import Entry, read_entry
from gateway.core.audit_export import ExportFormat
from gateway.core.canary import CANARY_PATIENT, CANARY_SYSTEM
from gateway.core.clock import from_ms, new_id, to_ms, utc_now
from gateway.core.errors import StoreUnavailable
from gateway.core.incident import (
    Incident,
    Scope,
    Statements,
    apart,
    by_kind,
    by_person,
    patients_of,
)
from gateway.core.incident_pages import Papers
from gateway.private_file import replace_private
from gateway.store.audit_search import AuditFilter, AuditRow
from gateway.store.patient_names import on_record, patients_named

#: Most steps that one incident tells of; the evidence holds every one.
MOST = 50_000
_PAGE = 2000
#: What stands in the file and not on the screen.
_LONG = frozenset({"timeline", "looks"})
_FORMAT = "nadi-incident-1"
#: What the gateway puts on record of itself; no part of what happened, unless a model is asked for.
_OWN = frozenset({"keys", "model"})
_TOLD = tuple(sorted({*DEEDS, *ACCESSES, *CONFIGURING, "erase"}))

Patients = Annotated[
    list[str] | None, typer.Option("--patient", help="Only about this patient; may be repeated.")
]
Credential = Annotated[
    str | None, typer.Option("--credential", help="Only what this one did: its id or name.")
]
Model = Annotated[str | None, typer.Option("--model", help="Only of this model: name@version.")]
Detected = Annotated[
    str,
    typer.Option("--detected-at", help="When somebody became aware: both clocks run from then."),
]
Out = Annotated[Path, typer.Option("--out", help="A new folder, or a new file ending in .zip.")]


@dataclass(frozen=True)
class _Asked:
    """What the command line asks for.

    Attributes:
        keys: Patients; empty for any.
        stated: The file of statements as it was given; empty when none was.
    """

    wanted: AuditFilter
    keys: tuple[str, ...]
    about: str
    stated: str = ""


@explained
def incident(  # noqa: PLR0913 - each is an option of the command line
    *,
    since: Since,
    until: Until = None,
    detected_at: Detected,
    to: Out,
    patients: Patients = None,
    credential: Credential = None,
    model: Model = None,
    statements: Annotated[
        Path | None, typer.Option("--statements", help="What people state; see statements.yaml.")
    ] = None,
    system: System = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Gather an incident: DPDP Rule 7 headings, affected patients, timeline, signed evidence."""
    insist_on_new(to)
    stated = read_statements(statements) if statements else None
    scope = _scope(since, until, detected_at)
    with opened_by_officer(data_dir) as nadi:
        asked = _asked(nadi, scope, patients or [], (credential, model), system)
        asked = replace(asked, stated=statements.read_text("utf-8") if statements else "")
        found, is_cut = _entries(nadi, asked)
        # Who is looked into may be the one who draws this up: then each look is what it is about.
        officer = "" if credential else operator().identifier
        entries, looks = apart([each for each in found if model or each.event not in _OWN], officer)
        affected = patients_of(entries)
        with nadi.store.read() as uow:
            # Who was only asked for, and never was here, is not affected.
            known = on_record(uow, list(affected))
        made = Incident(
            id=stated.incident if stated else new_id(),
            made_at=utc_now(),
            site=nadi.site().name or "site",
            scope=replace(scope, about=asked.about),
            statements=stated.statements() if stated else Statements(),
            privacy=nadi.site().privacy,
            entries=entries,
            looks=looks,
            is_cut=is_cut,
            patients={key: count for key, count in affected.items() if key in known},
        )
        names = _write(nadi, made, asked, to)
    _tell(made, to, names, as_json=as_json)


def _scope(since: str | None, until: str | None, detected_at: str) -> Scope:
    now_ms = to_ms(utc_now())
    start, noticed = moment_of(since, "--since"), moment_of(detected_at, "--detected-at")
    if start is None or noticed is None:
        fail("--since and --detected-at are needed.", code=EXIT_USAGE)
    end = moment_of(until, "--until") or now_ms
    if start >= end or noticed > now_ms:
        fail("--since has to be before --until, and --detected-at not to come.", code=EXIT_USAGE)
    return Scope(since=from_ms(start), until=from_ms(end), detected_at=from_ms(noticed))


def _asked(
    nadi: Opened,
    scope: Scope,
    patients: Sequence[str],
    who: tuple[str | None, str | None],
    system: str | None,
) -> _Asked:
    credential, model = who
    keys = tuple(patient_of(nadi, each, system).key for each in patients)
    about = [f"{len(keys)} patients"] if keys else []
    about += [f"credential {credential}"] if credential else []
    about += [f"model {model}"] if model else []
    wanted = AuditFilter(
        since_ms=to_ms(scope.since),
        until_ms=to_ms(scope.until),
        agent=credential,
        terms=(f"model:{model}",) if model else (),
        events=() if about else _TOLD,
        is_ascending=True,
        limit=_PAGE,
    )
    return _Asked(wanted, keys, ", ".join(about))


def _entries(nadi: Opened, asked: _Asked) -> tuple[list[Entry], bool]:
    """Read what is on record, oldest first, and say whether there is more than is told."""
    with nadi.store.read() as uow:
        rows: list[AuditRow] = []
        hers = uow.sealer.patient_key(CANARY_SYSTEM, CANARY_PATIENT)
        for key in asked.keys or (None,):
            wanted = replace(asked.wanted, patient_key=key, not_patient=hers)
            while page := uow.audit_log.search(wanted):
                rows += page
                if len(page) < _PAGE or len(rows) > MOST:
                    break
                wanted = replace(wanted, before_seq=page[-1].seq)
    rows.sort(key=lambda row: (row.recorded_ms, row.seq))
    found = [read_entry(row.seq, row.event, row.body) for row in rows[:MOST]]
    return found, len(rows) > MOST


def _write(nadi: Opened, made: Incident, asked: _Asked, to: Path) -> dict[str, str]:
    """Write the bundle, and the list of patients beside it; give how the EHR names them."""
    with nadi.store.read() as uow:
        names = patients_named(uow, list(made.patients))
    write_bundle(nadi, to, _FORMAT, lambda folder: _fill(nadi, made, asked, folder))
    path = to.with_name(f"{to.stem}.patients.csv")
    try:
        _write_list(path, made, names)
    except OSError as error:
        raise StoreUnavailable(f"{path} can't be written: {error.strerror}.") from error
    return names


def _fill(nadi: Opened, made: Incident, asked: _Asked, folder: Path) -> None:
    from gateway.api.page_pdf import as_pdf  # noqa: PLC0415 - it brings fonts along

    foot = f"Incident {made.id}"
    for name, text in Papers(made, zone_of(nadi)).all().items():
        path = folder / name
        path.write_text(text, encoding="utf-8")
        path.with_suffix(".pdf").write_bytes(as_pdf(text, made_at=made.made_at, foot=foot))
    (folder / "incident.json").write_bytes(orjson.dumps(_as_json(made), option=orjson.OPT_INDENT_2))
    (folder / STATEMENTS).write_text(asked.stated or template(made.id), encoding="utf-8")
    wanted = replace(asked.wanted, is_ascending=False)
    if len(asked.keys) == 1:
        wanted = replace(wanted, patient_key=asked.keys[0])
    LogExport(nadi, wanted, folder / "evidence.ndjson", ExportFormat.NDJSON).run()


def _write_list(path: Path, made: Incident, names: dict[str, str]) -> None:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(("patient", "patient_key", "steps", "note"))
    for key, count in made.patients.items():
        note = "" if key in names else "erased, or never named here"
        writer.writerow((names.get(key, ""), key, count, note))
    replace_private(path, text.getvalue().encode())


def _as_json(made: Incident) -> dict[str, object]:
    stated = {name: value for name, value in vars(made.statements).items() if value}
    return {
        "format": _FORMAT,
        "incident": made.id,
        "drawn_up": made.made_at,
        "site": made.site,
        "since": made.scope.since,
        "until": made.scope.until,
        "detected_at": made.scope.detected_at,
        "about": made.scope.about or None,
        "deadlines": [
            {"to": each.to_whom, "law": each.law, "at": each.at, "left": each.left(made.made_at)}
            for each in made.deadlines
        ],
        "stated": stated,
        "patients": made.patients,
        "steps": [
            {"event": event, "ended": ended, "times": count}
            for event, ended, count in by_kind(made.entries)
        ],
        "who": [
            {"name": name, "id": identifier, "steps": count, "patients": patients}
            for name, identifier, count, patients in by_person(made.entries)
        ],
        "is_cut": made.is_cut,
        "doubt": made.doubt or None,
        "timeline": [row_of(each, patient_key=each.patient_key) for each in made.entries],
        "looks": [row_of(each, patient_key=each.patient_key) for each in made.looks],
    }


def _tell(made: Incident, to: Path, names: dict[str, str], *, as_json: bool) -> None:
    patients = to.with_name(f"{to.stem}.patients.csv")
    if as_json:
        told = {name: value for name, value in _as_json(made).items() if name not in _LONG}
        print_json({**told, "bundle": str(to), "patient_list": str(patients)})
        return
    out.print(
        f"[green]✓[/] {escape(str(to))}: incident {made.id}, {len(made.patients)} patients, "
        f"{len(made.entries)} steps on record.",
        soft_wrap=True,
    )
    for each in made.deadlines:
        colour = "red" if each.is_over(made.made_at) else "green"
        out.print(f"  [{colour}]{each.left(made.made_at)}[/] for {each.to_whom} ({each.law})")
    if made.doubt:
        out.print(f"[yellow]![/] {made.doubt} (--detected-at, --since)", soft_wrap=True)
    unnamed = len(made.patients) - len(names)
    more = f"; {unnamed} of them can't be named any more" if unnamed else ""
    out.print(f"  To notify them: {escape(str(patients))}, which stays here{more}.", soft_wrap=True)
    if made.privacy is None:
        out.print("[yellow]![/] The site file has no `privacy`: the papers name no contact.")
    not_yet = [name for name, value in vars(made.statements).items() if not value]
    if not_yet:
        out.print(
            f"  Still to be stated: {', '.join(not_yet)}. Fill in statements.yaml in it and "
            "run it again with --statements.",
            soft_wrap=True,
        )
