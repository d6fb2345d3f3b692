"""A backup opened somewhere beside: what `nadi backup verify` proves, and `nadi restore` first.

Every block is authentic, every file is what the manifest says, the manifest is signed by the key of
the log, the database opens and holds what the manifest says, and its audit log verifies against the
checkpoints that are in the backup and those from outside.
"""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from rich.markup import escape

from gateway.cli.audit_prove import From, read_notes
from gateway.cli.audit_witnesses import kept_by
from gateway.cli.backup_view import moment_of, telling, told
from gateway.cli.context import (
    EXIT_NOT_SO,
    AsJson,
    Opened,
    explained,
    out,
    print_json,
    starting_settings,
)
from gateway.core.errors import ConfigurationError
from gateway.core.ledger import CheckpointInvalid, read_verifier_key, verify_checkpoint
from gateway.private_file import replace_private
from gateway.settings import Settings
from gateway.store.backing_up import DUMP, SECRETS, Tell
from gateway.store.backup_key import read_secret
from gateway.store.backup_manifest import Manifest
from gateway.store.checkpoint_file import CheckpointFile
from gateway.store.database_copy import SQLITE, empty_postgresql, insist_on_dump
from gateway.store.engine import migrate
from gateway.store.keys import Keys, load_or_create
from gateway.store.restoring import database_of, unpack
from gateway.store.sealing import KEY_BYTES, MasterKey, Sealer
from gateway.store.unit_of_work import Store
from gateway.store.verification import verify as verify_log
from gateway.store.verification_checkpoints import OutsideNote
from gateway.store.verification_report import Kind, Verification

File = Annotated[Path, typer.Argument(help="The backup.")]
KeyFile = Annotated[
    Path, typer.Option("--key", help="File of the backup key, as `nadi backup key` wrote it.")
]
KeysFrom = Annotated[
    Path | None,
    typer.Option(
        "--keys", help="Folder with the keys of the installation, if they are not in the backup."
    ),
]


_NO_KEYS = "The installation's keys are not at hand (--keys): only the log itself was verified."


@dataclass(frozen=True)
class Trial:
    """What came of opening a backup.

    Attributes:
        manifest: Of the backup.
        report: Of the audit log; None where the database was not opened.
        notes: What was not looked at, and why.
    """

    manifest: Manifest
    report: Verification | None
    notes: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether nothing was found wrong."""
        return self.report is None or self.report.holds


@explained
def verify(  # noqa: PLR0913 - each is an option of the command line
    file: File,
    *,
    key: KeyFile,
    keys: KeysFrom = None,
    earlier: From = None,
    witness: Annotated[
        list[str] | None,
        typer.Option("--witness", help="Compare with what this witness of the site keeps."),
    ] = None,
    database_url: Annotated[
        str | None,
        typer.Option(help="An empty PostgreSQL database to try one in; it is emptied again."),
    ] = None,
    work: Annotated[
        Path | None, typer.Option("--work", help="Folder with room for it; the system's if absent.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Prove that a backup can be restored, without restoring it: open it elsewhere, look at all."""
    outside = notes_of(earlier)
    with (
        tempfile.TemporaryDirectory(prefix="nadi-verify-", dir=work) as name,
        telling(quiet=as_json) as tell,
    ):
        folder = Path(name)
        manifest = unpack(file, read_secret(key), folder, tell)
        take_keys(folder, keys)
        trial = _tried(folder, manifest, database_url, outside, witness or [], tell)
    _show(file, trial, as_json=as_json)
    if not trial.holds:
        raise typer.Exit(EXIT_NOT_SO)


def notes_of(files: Sequence[Path] | None) -> list[OutsideNote]:
    """Read checkpoints out of files.

    Raises:
        ContentError: One can't be read or has none.
    """
    return [
        OutsideNote(str(path), f"note {number}", note)
        for path in files or []
        for number, note in enumerate(read_notes(path), start=1)
    ]


def take_keys(folder: Path, source: Path | None) -> None:
    """Put keys that were kept apart to an unpacked backup.

    Raises:
        ConfigurationError: One is not there.
    """
    for path in SECRETS if source else ():
        found, to = Path(str(source)) / Path(path).name, folder / path
        try:
            to.parent.mkdir(mode=0o700, exist_ok=True)
            replace_private(to, found.read_bytes())
        except OSError as error:
            raise ConfigurationError(f"{found} can't be read: {error.strerror}.") from error


def _tried(
    folder: Path,
    manifest: Manifest,
    url: str | None,
    outside: list[OutsideNote],
    witnesses: Sequence[str],
    tell: Tell,
) -> Trial:
    if manifest.database.kind != SQLITE and url is None:
        insist_on_dump(folder / DUMP, manifest.database)
        says = (
            "The PostgreSQL dump has all its tables, but was not put into a database: name an "
            "empty one by --database-url, and the audit log in it is verified too."
        )
        return Trial(manifest, None, (says,))
    database_of(folder, manifest, url, tell)
    with _emptied_again(url if manifest.database.kind != SQLITE else None):
        settings = settings_of(folder, manifest, url)
        migrate(settings.resolved_database_url)
        with copy_opened(settings, manifest) as (nadi, has_keys):
            outside = [*outside, *kept_by(nadi, witnesses)]
            report = look_through(nadi, outside, tell, is_log_only=not has_keys)
    return Trial(manifest, report, () if has_keys else (_NO_KEYS,))


@contextmanager
def _emptied_again(url: str | None) -> Iterator[None]:
    try:
        yield
    finally:
        if url is not None:
            empty_postgresql(url)


def settings_of(folder: Path, manifest: Manifest, url: str | None) -> Settings:
    """Give the settings under which an unpacked backup is opened."""
    settings = starting_settings(folder)
    kind = manifest.database.kind
    chosen = {"database_url": None if kind == SQLITE else url, "database_password_file": None}
    return settings.model_copy(update={"data_dir": folder, **chosen})


@contextmanager
def copy_opened(settings: Settings, manifest: Manifest) -> Iterator[tuple[Opened, bool]]:
    """Open an unpacked backup, and say whether its keys are there.

    Without them only what is not sealed can be read.

    Raises:
        GatewayError: The keys do not fit, or it can't be opened.
    """
    named = (settings.master_key_file, settings.audit_key_file, settings.consent_key_file)
    has_keys = all(
        (settings.data_dir / path).exists() or file
        for path, file in zip(SECRETS, named, strict=True)
    )
    keys = _keys(settings) if has_keys else _no_keys(manifest)
    url = settings.resolved_database_url
    store = Store(url, Sealer(keys.master), consents=keys.consents)
    try:
        if has_keys:
            store.check_key()
        yield Opened(settings, keys, store), has_keys
    finally:
        store.close()


def _keys(settings: Settings) -> Keys:
    return load_or_create(
        settings.data_dir,
        master_key_file=settings.master_key_file,
        audit_key_file=settings.audit_key_file,
        consent_key_file=settings.consent_key_file,
    )


def _no_keys(manifest: Manifest) -> Keys:
    """Give keys that open nothing and sign nothing that counts, for reading the log alone."""
    return Keys(
        MasterKey(os.urandom(KEY_BYTES)),
        Ed25519PrivateKey.generate(),
        manifest.origin,
        manifest.verifier,
        Ed25519PrivateKey.generate(),
    )


def look_through(
    nadi: Opened, outside: Sequence[OutsideNote], tell: Tell, *, is_log_only: bool = False
) -> Verification:
    """Verify everything in a database that was put back, against checkpoints from outside too."""
    inside = CheckpointFile(nadi.settings.data_dir).notes()
    with nadi.store.read() as uow:
        return verify_log(
            uow,
            nadi.keys.verifier,
            outside=inside,
            witnessed=outside,
            progress=tell,
            is_log_only=is_log_only,
        )


def newest_of(notes: Sequence[OutsideNote], verifier: str) -> tuple[int, str]:
    """Give the newest size that any of these checkpoints commits to, and who keeps it."""
    name, key = read_verifier_key(verifier)
    newest = (0, "")
    for each in notes:
        with suppress(CheckpointInvalid):
            signed = verify_checkpoint(each.note, key, origin=name)
            newest = max(newest, (signed.size, each.place))
    return newest


def is_only_behind(report: Verification) -> bool:
    """Say whether all that is wrong is that checkpoints outside are newer than the backup."""
    return all(each.kind is Kind.ROLLED_BACK for each in report.findings)


def _show(file: Path, trial: Trial, *, as_json: bool) -> None:
    report, manifest = trial.report, trial.manifest
    notes = [*trial.notes, *(report.notes if report else ())]
    if as_json:
        findings = [vars(each) for each in report.findings] if report else []
        more = {"holds": trial.holds, "is_log_verified": report is not None}
        print_json({**more, "findings": findings, "notes": notes, "backup": told(manifest)})
        return
    when = moment_of(manifest.made_at)
    out.print(f"Made {when} by Nadi {manifest.nadi}, site '{escape(manifest.site)}'")
    out.print(f"Log {manifest.verifier}", soft_wrap=True)
    for finding in report.findings if report else ():
        place = f"[bold]{escape(finding.table)}[/] {escape(finding.row)}"
        out.print(f"[red]✗[/] {place}: {escape(finding.what)} ({finding.kind})", soft_wrap=True)
    for note in notes:
        out.print(f"[yellow]![/] {escape(note)}", soft_wrap=True)
    if not trial.holds:
        out.print(f"[red]✗ {escape(str(file))} is whole, but its log does not verify.[/]")
    elif report is None:
        out.print(f"[green]✓[/] {escape(str(file))} is whole.", soft_wrap=True)
    else:
        says = f"is whole and can be restored; its log holds: {report.size} leaves"
        out.print(f"[green]✓[/] {escape(str(file))} {says}", soft_wrap=True)
