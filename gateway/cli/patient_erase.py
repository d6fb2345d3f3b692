"""`nadi patient erase`: destroy a patient's key and everything sealed under it.

It shows first what will go, what stays and why, and wants the number of rows typed back; scripts
say `--yes`. Looking (`nadi patient held`) is itself on record.
"""

import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.markup import escape

from gateway.cli.context import (
    EXIT_NOT_SO,
    EXIT_USAGE,
    AsJson,
    DataDir,
    Opened,
    err,
    explained,
    fail,
    iso,
    moment,
    operator,
    out,
    print_json,
    stated,
    table,
)
from gateway.cli.officer import opened_for_rights
from gateway.cli.patients import KnownPatient, patient_of, record_search
from gateway.core.clock import from_ms, to_ms, utc_now
from gateway.core.errors import Erased as WasErased
from gateway.core.errors import OnHold
from gateway.core.retention import DAY_MS
from gateway.core.rights import RequestKind
from gateway.store.engine import open_engine
from gateway.store.erasing import Erased, Order, needles_of
from gateway.store.erasing import erase as erase_patient
from gateway.store.erasure_file import ErasedLine, ErasureFile, brought_back
from gateway.store.erasures import LegalHold, Tombstone
from gateway.store.patient_names import patients_named
from gateway.store.registering import Actor
from gateway.store.shredding import Shredding, Trace, shred
from gateway.store.shredding import compact as compact_file

Reference = Annotated[str, typer.Argument(metavar="PATIENT", help="Patient/<id>, as the EHR says.")]
System = Annotated[
    str | None, typer.Option("--system", help="Whose patient it is, if that is not clear.")
]
Reason = Annotated[
    str,
    typer.Option(
        "--reason", callback=stated, help="Why, for the record; never name the patient in it."
    ),
]
Law = Annotated[str, typer.Option("--law", callback=stated, help="The provision it rests on.")]

_LOOK_EVERY_S = 0.05
_STAYS = (
    ("audit log", "every AuditEvent: who did what and when; patients as keyed hashes, no value"),
    ("rows", "ids, SHA-256 and times of what was received, so that the log can be verified"),
    (
        "recorded consents",
        "their statements: rows that are never changed, sealed under the destroyed key",
    ),
    ("jobs", "which model ran, how it ended, and the consent decisions that let it"),
    (
        "tombstone",
        "that this patient was erased, when, by whom, on which ground; if she refused AI",
    ),
    ("the EHR", "results that were delivered: they are the hospital's record and are kept there"),
)


@dataclass(frozen=True)
class Held:
    """What is held of a patient.

    Attributes:
        rows: How many, by table; `submissions` are the Bundles that hold something of her, and
            `consents` those that staff recorded or imported.
        types: Received resources by FHIR type.
        bundles: Ids of those Bundles.
        copies_asked: Ids of her open requests for a copy.
    """

    rows: dict[str, int]
    types: dict[str, int]
    bundles: frozenset[str]
    tombstone: Tombstone | None
    hold: LegalHold | None
    looked_ms: int
    copies_asked: tuple[str, ...] = ()


@dataclass(frozen=True)
class ErasedAgain:
    """What came of erasing those whom a backup brought back.

    Attributes:
        kept: How many could not be erased.
        says: What became of their keys' bytes.
    """

    erased: int
    kept: int
    says: tuple[str, ...]


STILL_HELD = (
    "were not, since a legal hold, a result still to be marked or a break-glass still to be "
    "reviewed keeps them: settle that, then run `nadi patient erase-restored`."
)


@explained
def held(
    reference: Reference, system: System = None, data_dir: DataDir = None, as_json: AsJson = False
) -> None:
    """Count what is held of a patient, and say whether she was erased or is on hold."""
    with opened_for_rights(data_dir) as nadi:
        patient = patient_of(nadi, reference, system)
        found = look(nadi, patient, reference)
        with nadi.store.write() as uow:
            record_search(uow, nadi.source(), patient.key, "held-of-patient")
    if as_json:
        print_json(_as_json(patient, found))
        return
    _show(reference, found)


@explained
def erase(  # noqa: PLR0913 - each is an option of the command line
    reference: Reference,
    *,
    reason: Reason,
    law: Law,
    system: System = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; for scripts.")] = False,
    again: Annotated[
        bool, typer.Option("--again", help="She was erased before: do it to what is left.")
    ] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Destroy the patient's key and everything sealed under it, in one transaction."""
    with opened_for_rights(data_dir) as nadi:
        patient = patient_of(nadi, reference, system)
        found = look(nadi, patient, reference)
        if found.tombstone is not None and found.tombstone.reopened_ms is None and not again:
            raise WasErased(f"She was erased already, on {moment(found.tombstone.erased_ms)}.")
        if not as_json:
            _show(reference, found)
        _warn_of_copies(found, reference)
        _confirm(found, is_sure=yes)
        _wait_for_what_flies(nadi, patient.key)
        done = _erase(nadi, patient, reference, found, (reason, law))
        shredded = shred(nadi.store.engine, done.wrapped_key) if done.wrapped_key else None
        backups_ms = done.tombstone.erased_ms + nadi.site().retention.backup_days * DAY_MS
    _tell(done, shredded, backups_ms, as_json=as_json)
    if shredded is not None and shredded.trace is Trace.FOUND:
        raise typer.Exit(EXIT_NOT_SO)


@explained
def erase_restored(
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; for scripts.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Erase again whom a backup that was put back brought back."""
    with opened_for_rights(data_dir) as nadi:
        with nadi.store.read() as uow:
            back = brought_back(uow, ErasureFile(nadi.settings.data_dir))
        if back and not yes:
            typer.confirm(f"{len(back)} patients are back. Erase them again?", abort=True)
        again = erase_brought_back(nadi)
    for says in again.says:
        out.print(escape(says), soft_wrap=True)
    out.print(f"[green]✓[/] {again.erased} patients were erased again.")
    if again.kept:
        fail(f"{again.kept} of them {STILL_HELD}")


def erase_brought_back(nadi: Opened) -> ErasedAgain:
    """Erase everybody of the erasure file whom the database knows nothing of as erased."""
    with nadi.store.read() as uow:
        back = brought_back(uow, ErasureFile(nadi.settings.data_dir))
        names = patients_named(uow, [each.patient_key for each in back])
    erased, says = 0, dict[str, None]()
    for each in back:
        with suppress(OnHold):
            says |= dict.fromkeys(_erase_again(nadi, each, names.get(each.patient_key)))
            erased += 1
    return ErasedAgain(erased, len(back) - erased, tuple(says))


def _erase_again(nadi: Opened, line: ErasedLine, reference: str | None) -> list[str]:
    reason = f"A backup that was put back had brought back what erasure {line.id} erased."
    ground = (reason, "that of the first erasure")
    patient = KnownPatient("", line.patient_key)
    found = look(nadi, patient, reference or line.patient_key)
    done = _erase(nadi, patient, reference or line.patient_key, found, ground, line=line)
    return [shred(nadi.store.engine, done.wrapped_key).says] if done.wrapped_key else []


@explained
def compact(data_dir: DataDir = None) -> None:
    """Write the database's file anew, so that no byte of a destroyed key is left in it."""
    with opened_for_rights(data_dir) as nadi:
        if not _compacted(nadi):
            fail(
                "A process reads or writes without pause: stop Nadi, then try again. On PostgreSQL "
                "the tables' owner has to do it (NADI_DATABASE_OWNER_URL)."
            )
    out.print("[green]✓[/] It was written anew; what was deleted is no longer in it.")


def _compacted(nadi: Opened) -> bool:
    owner = nadi.settings.resolved_database_owner_url
    if owner is None:
        return compact_file(nadi.store.engine)
    engine = open_engine(owner)
    try:
        return compact_file(engine)
    finally:
        engine.dispose()


def look(nadi: Opened, patient: KnownPatient, reference: str) -> Held:
    """Find everything that is held of a patient; Bundles are opened one by one."""
    now_ms = to_ms(utc_now())
    with nadi.store.read() as uow:
        rows = uow.erasures.held(patient.key)
        bundles = uow.erasures.bundles_with(patient.key, _needles(reference))
        return Held(
            rows={**rows, "submissions": len(bundles)},
            types=uow.erasures.by_type(patient.key),
            bundles=frozenset(bundles),
            tombstone=uow.erasures.find([patient.key]).get(patient.key),
            hold=uow.erasures.holds([patient.key]).get(patient.key),
            looked_ms=now_ms,
            copies_asked=tuple(
                each.id for each in uow.rights_requests.open_of(patient.key, RequestKind.ACCESS)
            ),
        )


def _needles(reference: str) -> tuple[bytes, ...]:
    return needles_of([f"Patient/{reference.rpartition('/')[2]}"])


def _erase(
    nadi: Opened,
    patient: KnownPatient,
    reference: str,
    found: Held,
    ground: tuple[str, str],
    *,
    line: ErasedLine | None = None,
) -> Erased:
    reason, law = ground
    actor = Actor(nadi.source(), operator(), operator().identifier)
    needles = _needles(reference)
    order = Order(
        patient_key=patient.key,
        reason=reason,
        law=law,
        is_repeat=line is not None,
        refused_ai=line is not None and line.refused_ai,
    )
    with nadi.store.write() as uow:
        # What came while the other Bundles were looked through.
        newer = uow.erasures.bundles_with(patient.key, needles, since_ms=found.looked_ms)
        done = erase_patient(uow, order, found.bundles | newer, actor)
    ErasureFile(nadi.settings.data_dir).append(done.tombstone)
    return done


def _wait_for_what_flies(nadi: Opened, key: str) -> None:
    """Let a result that is being written arrive first; nothing could be said of it afterwards.

    An EHR that does not answer holds nobody up for ever: the job then says that it may be there.
    """
    until = time.monotonic() + nadi.settings.revocation_wait_s
    while time.monotonic() < until:
        with nadi.store.read() as uow:
            if not uow.deliveries.in_flight([key]):
                return
        time.sleep(_LOOK_EVERY_S)


def _warn_of_copies(found: Held, reference: str) -> None:
    for request in found.copies_asked:
        err.print(
            f"[yellow]![/] She asked for a copy, and that request ({request}) is open: give it to "
            f"her first, since of what is erased none can be made. "
            f"nadi patient export {escape(reference)} --out copy.zip",
            soft_wrap=True,
        )


def _confirm(found: Held, *, is_sure: bool) -> None:
    if is_sure:
        return
    if not sys.stdin.isatty():
        fail("Nobody can be asked here; say --yes if it is meant.", code=EXIT_USAGE)
    count = str(sum(found.rows.values()))
    typed = typer.prompt(f"This can't be undone. Type {count} to erase these rows")
    if typed.strip() != count:
        fail("Nothing was erased.")


def _show(reference: str, found: Held) -> None:
    types = ", ".join(f"{count} {name}" for name, count in found.types.items())
    listing = table("WHAT", "ROWS", "", title=f"Held of {escape(reference)}")
    listing.add_row("received", str(found.rows["events"]), escape(types))
    listing.add_row("Bundles", str(found.rows["submissions"]), "what surrounds her resources")
    listing.add_row("results", str(found.rows["deliveries"]), "written, waiting or given up")
    listing.add_row("consents", str(found.rows["consents"]), "recorded by staff, or imported")
    listing.add_row("jobs", str(found.rows["jobs"]), "these stay, without any value")
    out.print(listing)
    if found.hold is not None:
        out.print(
            f"[yellow]![/] On hold since {moment(found.hold.placed_ms)}: "
            f"{escape(found.hold.reason)} ({escape(found.hold.law)})"
        )
    if found.tombstone is not None:
        out.print(f"[yellow]![/] Erased on {moment(found.tombstone.erased_ms)}.")
    stays = table("STAYS", "WHY", title="What an erasure leaves")
    for what, why in _STAYS:
        stays.add_row(what, why)
    out.print(stays)


def _tell(done: Erased, shredded: Shredding | None, backups_ms: int, *, as_json: bool) -> None:
    day = from_ms(backups_ms).date().isoformat()
    if as_json:
        print_json(
            {
                "erasure": done.tombstone.id,
                "erased_at": iso(done.tombstone.erased_ms),
                "removed": done.removed,
                "consents_closed": done.consents,
                "jobs_stopped": done.stopped,
                "requests_closed": list(done.answered),
                "key_trace": shredded.trace.value if shredded else "no-key",
                "file_rewritten": bool(shredded and shredded.was_rewritten),
                "backups_expire_on": day,
            }
        )
        return
    counts = ", ".join(f"{count} {name}" for name, count in done.removed.items())
    out.print(f"[green]✓[/] Erased ({done.tombstone.id}): {counts}; {done.stopped} jobs stopped.")
    if done.consents:
        out.print(f"[green]✓[/] Consents recorded here that nobody opens again: {done.consents}.")
    for each in done.answered:
        out.print(f"[green]✓[/] Her request {each} is closed; tell her so.")
    if shredded is not None:
        sign = "[green]✓[/]" if shredded.is_done else _LEFT_TO_DO[shredded.trace]
        out.print(f"{sign} {escape(shredded.says)}", soft_wrap=True)
    out.print(
        f"[yellow]![/] Backups from before today still hold the key; the site keeps them until "
        f"{day}.",
        soft_wrap=True,
    )


_LEFT_TO_DO = {Trace.FOUND: "[red]✗[/]", Trace.UNKNOWN: "[yellow]![/]"}


def _as_json(patient: KnownPatient, found: Held) -> dict[str, object]:
    return {
        "patient_key": patient.key,
        "system": patient.system,
        "rows": found.rows,
        "types": found.types,
        "erased_at": iso(found.tombstone.erased_ms) if found.tombstone else None,
        "on_hold_since": iso(found.hold.placed_ms) if found.hold else None,
    }
