"""`nadi audit prove`: a receipt that somebody outside verifies without Nadi."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import orjson
import typer

from gateway.cli import verify_receipt
from gateway.cli.context import (
    DataDir,
    Opened,
    err,
    explained,
    fail,
    operator,
)
from gateway.cli.officer import opened_by_officer
from gateway.core import audit
from gateway.core.clock import new_id
from gateway.core.errors import ContentError, NotFound
from gateway.core.ledger import Checkpoint, read_verifier_key, verify_checkpoint
from gateway.core.notes import notes_in
from gateway.core.receipt import Continuation, ProvenEvent, receipt
from gateway.store.audit_proofs import PlacedEvent
from gateway.store.unit_of_work import UnitOfWork

From = Annotated[
    list[Path] | None,
    typer.Option("--from", help="File with checkpoints that left the machine earlier."),
]


@explained
def prove(
    event: Annotated[str, typer.Argument(help="Id of an AuditEvent, or of a job (a Task).")],
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write; standard output if absent.")
    ] = None,
    earlier: From = None,
    with_script: Annotated[
        bool, typer.Option("--with-script", help="Write verify_receipt.py beside it.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Write a receipt: the event, and the proof that it is in the signed log."""
    if with_script and out is None:
        fail("--with-script writes beside the receipt; name that with --out.", code=2)
    notes = {path: read_notes(path) for path in earlier or []}
    with opened_by_officer(data_dir) as nadi:
        with nadi.store.read() as uow:
            found = _events(uow, event)
            made = _receipt(nadi, uow, found, notes)
        _record(nadi, event, found)
    text = orjson.dumps(made, option=orjson.OPT_INDENT_2) + b"\n"
    if out is None:
        typer.echo(text.decode(), nl=False)
        return
    out.write_bytes(text)
    if with_script:
        _write_script(out.parent / "verify_receipt.py")
    err.print(
        f"[green]✓[/] {out}: {len(found)} AuditEvents. Verify it with: "
        f"python verify_receipt.py {out.name} --key audit.pub",
        soft_wrap=True,
    )


def read_notes(path: Path) -> list[str]:
    """Read the checkpoints out of a file: notes, mails, lines of a system log.

    Raises:
        ContentError: The file can't be read or has none.
    """
    try:
        notes = notes_in(path.read_text("utf-8", errors="replace"))
    except OSError as error:
        raise ContentError(f"{path} can't be read: {error.strerror}.") from error
    if not notes:
        raise ContentError(f"{path} holds no checkpoint.")
    return notes


def _events(uow: UnitOfWork, name: str) -> list[PlacedEvent]:
    found = uow.audit_proofs.events_of(name)
    if not found:
        raise NotFound(f"There is no AuditEvent and no job with the id {name}.")
    placed = [each for each in found if each.leaf_index is not None]
    waiting = len(found) - len(placed)
    if not placed:
        raise NotFound("It has no place in the log yet. The relay gives it one; try again soon.")
    if waiting:
        err.print(f"[yellow]![/] {waiting} AuditEvents have no place in the log yet; left out.")
    return placed


def _receipt(
    nadi: Opened,
    uow: UnitOfWork,
    found: Sequence[PlacedEvent],
    notes: Mapping[Path, Sequence[str]],
) -> dict[str, object]:
    newest = uow.audit_proofs.newest()
    if newest is None:
        raise NotFound("The log has no checkpoint yet.")
    size, checkpoint = newest
    proven = [
        ProvenEvent(each.body, each.leaf_index, uow.audit_proofs.inclusion(each.leaf_index, size))
        for each in found
        if each.leaf_index is not None
    ]
    verifier = nadi.keys.verifier
    chosen = {_newest_that_fits(path, kept, verifier, size) for path, kept in notes.items()}
    earlier = [Continuation(note, uow.audit_proofs.consistency(n, size)) for n, note in chosen]
    return receipt(proven, checkpoint=checkpoint, verifier_key=verifier, earlier=earlier)


def _newest_that_fits(
    path: Path, notes: Sequence[str], verifier: str, size: int
) -> tuple[int, str]:
    """Choose of a file, which may hold those of other logs too; give its size and the note.

    Raises:
        ContentError: Each commits to more than the log has.
        CheckpointInvalid: One is not of this log, or not signed by it.
    """
    name = read_verifier_key(verifier)[0]
    ours = [note for note in notes if note.partition("\n")[0] == name] or notes
    sizes = [(_opened(note, verifier).size, note) for note in ours]
    fitting = [each for each in sizes if each[0] <= size]
    largest = max(sizes)[0]
    if not fitting:
        message = f"A checkpoint commits to {largest} leaves; the log has {size}: it was cut."
        raise ContentError(message)
    if largest > size:
        says = f"{path} holds a checkpoint of {largest} leaves, and the log has {size}."
        err.print(f"[yellow]![/] {says} Run nadi audit verify --from with it.", soft_wrap=True)
    chosen = max(fitting)
    if len(sizes) > 1:
        says = f"Of {len(sizes)} checkpoints in {path} the one of {chosen[0]} entries is used."
        err.print(says, soft_wrap=True)
    return chosen


def _opened(note: str, verifier: str) -> Checkpoint:
    name, key = read_verifier_key(verifier)
    return verify_checkpoint(note, key, origin=name)


def _record(nadi: Opened, name: str, found: Sequence[PlacedEvent]) -> None:
    """Put on record that the log was read and that a copy leaves it: once per patient."""
    source = nadi.source()
    with nadi.store.write() as uow:
        for key in {each.patient_key for each in found}:
            step = audit.Step(id=new_id(), recorded=uow.now, source=source, patient_key=key)
            query = f"AuditEvent/$prove?id={name}"
            uow.audit(audit.queried(step, agents=[operator()], query=query))


def _write_script(path: Path) -> None:
    path.write_bytes(Path(verify_receipt.__file__).read_bytes())
