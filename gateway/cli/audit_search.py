"""`nadi audit search` and `list`: read the log; `nadi audit export`: hand a signed copy of it out.

Both are themselves on record, once for each patient whose events were read.
"""

import hashlib
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.markup import escape

from gateway.cli.audit_view import progress_bar
from gateway.cli.context import (
    EXIT_USAGE,
    AsJson,
    DataDir,
    Opened,
    explained,
    fail,
    moment,
    one_of,
    operator,
    out,
    print_json,
    table,
    words_of,
)
from gateway.cli.officer import opened_by_officer
from gateway.cli.patients import patient_of, record_search
from gateway.core import audit
from gateway.core.audit import read_record
from gateway.core.audit_event import MODEL_SYSTEM
from gateway.core.audit_export import ExportFormat, note_text
from gateway.core.audit_export import export as written
from gateway.core.clock import new_id, to_ms
from gateway.core.errors import NotFound, StoreUnavailable
from gateway.core.ledger import sign_note
from gateway.core.receipt import ProvenEvent
from gateway.core.step_words import STEPS
from gateway.private_file import private_file
from gateway.store.audit_log import AuditFilter, AuditRow
from gateway.store.evidence import read_claim
from gateway.store.unit_of_work import UnitOfWork

_OUTCOMES = ("0", "4", "8", "12")
#: Steps that somebody outside asked for.
_CALLED = frozenset(
    {"receive", "read", "query", "configure", "credential", "model", "sign-in-failure", "forbid"}
)
_TOLD = (
    "route",
    "model",
    "stage",
    "purpose",
    "state",
    "business-status",
    "http-status",
    "kernel-class",
)
_EVERY = 500

Patient = Annotated[
    str | None, typer.Option("--patient", help="Only about this patient: Patient/<id>.")
]
Since = Annotated[
    str | None, typer.Option("--since", help="From this time on, such as 2026-11-23.")
]
Until = Annotated[str | None, typer.Option("--until", help="Before this time.")]
Outcome = Annotated[
    str | None, typer.Option("--outcome", help="0 done, 4 or 8 refused, 12 failed.")
]
Kind = Annotated[
    str | None, typer.Option("--kind", help="Only this step: consent, infer, deliver, read …")
]
Agent = Annotated[
    str | None, typer.Option("--agent", help="Only where this one took part: its id or name.")
]
System = Annotated[
    str | None, typer.Option("--system", help="Whose patient it is, if that is not clear.")
]


@explained
def search(  # noqa: PLR0913 - each is an option of the command line
    *,
    patient: Patient = None,
    since: Since = None,
    until: Until = None,
    outcome: Outcome = None,
    kind: Kind = None,
    agent: Agent = None,
    system: System = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Most events.")] = 200,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show the trail, oldest first; looking is itself put on record."""
    wanted = replace(_wanted(since, until, outcome, kind, agent), limit=limit)
    with opened_by_officer(data_dir) as nadi:
        key = patient_of(nadi, patient, system).key if patient else None
        wanted = replace(wanted, patient_key=key)
        with nadi.store.read() as uow:
            found = uow.audit_log.search(wanted)
            total = uow.audit_log.count(wanted)
        with nadi.store.write() as uow:
            for each in {row.patient_key for row in found} or {key}:
                record_search(uow, nadi.source(), each, _query(wanted))
    found.reverse()
    if as_json:
        print_json([orjson.loads(row.body) for row in found])
        return
    _show_trail(found, patient)
    if total > len(found):
        out.print(f"[dim]The newest {len(found)} of {total}; --limit shows more.[/]")


@explained
def export(  # noqa: PLR0913 - each is an option of the command line
    *,
    to: Annotated[Path, typer.Option("--out", help="File to write; FILE.note gets its signature.")],
    form: Annotated[
        ExportFormat,
        typer.Option("--format", parser=one_of(ExportFormat), metavar=words_of(ExportFormat)),
    ] = ExportFormat.NDJSON,
    patient: Patient = None,
    since: Since = None,
    until: Until = None,
    outcome: Outcome = None,
    kind: Kind = None,
    agent: Agent = None,
    system: System = None,
    data_dir: DataDir = None,
) -> None:
    """Write a signed copy of the log, or of a part of it, with the proof of every entry."""
    wanted = _wanted(since, until, outcome, kind, agent)
    with opened_by_officer(data_dir) as nadi:
        key = patient_of(nadi, patient, system).key if patient else None
        count = LogExport(nadi, replace(wanted, patient_key=key), to, form).run()
    out.print(
        f"[green]✓[/] {to}: {count} AuditEvents, signed in {to.name}.note. Verify it with: "
        f"python verify_receipt.py {to.name} --key audit.pub",
        soft_wrap=True,
    )


def _wanted(
    since: str | None,
    until: str | None,
    outcome: str | None,
    kind: str | None,
    agent: str | None,
) -> AuditFilter:
    """Read what is asked for; what can find nothing is refused, since it would look like a no."""
    begins, ends = moment_of(since, "--since"), moment_of(until, "--until")
    if begins is not None and ends is not None and begins >= ends:
        fail("--since has to be before --until.", code=EXIT_USAGE)
    if kind is not None and kind not in STEPS:
        fail(f"There is no step '{kind}'; known: {', '.join(sorted(STEPS))}.", code=EXIT_USAGE)
    return AuditFilter(
        since_ms=begins, until_ms=ends, outcome=_outcome(outcome), event=kind, agent=agent
    )


class LogExport:
    """One export: the file, its note, and its place in the audit log."""

    def __init__(self, nadi: Opened, wanted: AuditFilter, to: Path, form: ExportFormat) -> None:
        self._nadi, self._wanted, self._to, self._form = nadi, wanted, to, form
        self._patients: set[str | None] = set()
        self._count = 0

    def run(self) -> int:
        """Write both files and put it on record; give the number of events.

        The record is written before the files get their names: nothing leaves without it.
        """
        draft = self._to.with_name(f".{self._to.name}.{secrets.token_hex(4)}.draft")
        try:
            digest = self._write(draft)
            self._record(digest)
            note = sign_note(
                self._nadi.keys.signing, self._nadi.keys.origin, note_text(self._count, digest)
            )
            self._to.with_name(f"{self._to.name}.note").write_text(note, encoding="utf-8")
            draft.replace(self._to)
        except OSError as error:
            raise StoreUnavailable(f"{self._to} can't be written: {error.strerror}.") from error
        finally:
            draft.unlink(missing_ok=True)
        return self._count

    def _write(self, draft: Path) -> str:
        digest, keys = hashlib.sha256(), self._nadi.keys
        bar = progress_bar(Console(stderr=True))
        with bar, self._nadi.store.read() as uow, private_file(draft) as file:
            newest = uow.audit_proofs.newest()
            if newest is None:
                raise NotFound("The log has no checkpoint yet.")
            size, checkpoint = newest
            task = bar.add_task("audit events", total=uow.audit_log.count(self._wanted))
            for piece in written(
                self._form,
                self._proven(uow, size, lambda done: bar.update(task, completed=done)),
                checkpoint=checkpoint,
                verifier_key=keys.verifier,
            ):
                digest.update(piece)
                file.write(piece)
        return digest.hexdigest()

    def _proven(self, uow: UnitOfWork, size: int, tell: Any) -> Iterator[ProvenEvent]:  # noqa: ANN401
        for row in uow.audit_log.placed(self._wanted, size=size):
            self._patients.add(row.patient_key)
            self._count += 1
            if self._count % _EVERY == 0:
                tell(self._count)
            index = row.leaf_index or 0
            yield ProvenEvent(row.body, index, uow.audit_proofs.inclusion(index, size))

    def _record(self, digest: str) -> None:
        source = self._nadi.source()
        details = {
            "format": self._form.value,
            "count": str(self._count),
            "sha256": digest,
            "query": _query(self._wanted),
        }
        with self._nadi.store.write() as uow:
            for key in self._patients or {self._wanted.patient_key}:
                step = audit.Step(id=new_id(), recorded=uow.now, source=source, patient_key=key)
                uow.audit(audit.noted(step, "export", agents=[operator()], details=details))


def _query(wanted: AuditFilter) -> str:
    """Write the search down with the patient as a keyed hash."""
    named = {
        "patient": wanted.patient_key,
        "since": wanted.since_ms,
        "until": wanted.until_ms,
        "outcome": wanted.outcome,
        "subtype": wanted.event,
        "agent": wanted.agent,
    }
    given = [f"{name}={value}" for name, value in named.items() if value is not None]
    return "AuditEvent" + ("?" + "&".join(given) if given else "")


def _show_trail(found: Sequence[AuditRow], patient: str | None) -> None:
    listing = table("WHEN", "STEP", "OUTCOME", "WHO", "WHY")
    for row in found:
        listing.add_row(*_trail_row(row))
    if patient:
        out.print(f"What happened to data of [bold]{escape(patient)}[/]:")
    out.print(listing if found else "  nothing is on record")


def _trail_row(row: AuditRow) -> tuple[str, ...]:
    body = orjson.loads(row.body)
    colour = "green" if row.outcome == "0" else "yellow"
    word = {"0": "done", "4": "refused", "8": "refused"}.get(row.outcome, "failed")
    who = _who(row, body)
    why = body.get("outcomeDesc") or _about(row)
    step = f"[bold]{row.event}[/]"
    return moment(row.recorded_ms), step, f"[{colour}]{word}[/]", escape(who), escape(why)


def _who(row: AuditRow, body: dict[str, Any]) -> str:
    """Name who set the step going: a caller where there was one, else the process of ours."""
    if row.event in _CALLED:
        return str(body["agent"][0]["who"].get("display", ""))
    return str(body["source"]["observer"].get("display", ""))


def _about(row: AuditRow) -> str:
    """Say in a few words what a step that needed no reason was about."""
    claim = read_claim(row.seq, read_record(row.body))
    named = [f"{name} {claim.facts[name]}" for name in _TOLD if name in claim.facts]
    if row.event == "receive":
        return claim.resource_type
    if row.event in ("deliver", "fetch"):
        named.insert(0, f"{'to' if row.event == 'deliver' else 'from'} {claim.agents[0]}")
    if row.event in ("infer", "model"):
        named.insert(0, f"model {claim.names.get(MODEL_SYSTEM, '')}")
    return ", ".join(named)


def _outcome(text: str | None) -> str | None:
    if text is not None and text not in _OUTCOMES:
        fail(f"--outcome is one of {', '.join(_OUTCOMES)}.", code=EXIT_USAGE)
    return text


def moment_of(text: str | None, option: str) -> int | None:
    """Read the time of an option, in milliseconds; it ends here when it is none."""
    if text is None:
        return None
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        fail(f"{option} wants a date or time of ISO 8601, such as 2026-11-23.", code=EXIT_USAGE)
    return to_ms(read if read.tzinfo else read.astimezone(UTC))
