"""`nadi restore`: a backup put back into an empty folder, proven first and told of afterwards.

1. unpacked beside and proven: every block, every file, the signature of the manifest;
2. brought to this version's schema; the audit log verified against checkpoints from outside;
3. whom the erasure file names is erased again;
4. put on record, with the gap: how much of the log, as witnesses have it, the backup lacks;
5. only then do the files appear in the folder. Whatever fails before leaves nothing behind.
"""

import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from adapters.site import Site
from gateway.cli.audit_prove import From
from gateway.cli.audit_witnesses import kept_by
from gateway.cli.backup_trial import (
    File,
    KeyFile,
    KeysFrom,
    copy_opened,
    is_only_behind,
    look_through,
    newest_of,
    notes_of,
    settings_of,
    take_keys,
)
from gateway.cli.backup_view import moment_of, telling, told
from gateway.cli.context import (
    AsJson,
    DataDir,
    Opened,
    explained,
    fail,
    operator,
    out,
    print_json,
    starting_settings,
)
from gateway.cli.patient_erase import STILL_HELD, ErasedAgain, erase_brought_back
from gateway.core import audit
from gateway.core.clock import new_id
from gateway.core.errors import ConfigurationError, GatewayError
from gateway.settings import Settings
from gateway.store.backing_up import Tell
from gateway.store.backup_key import SecretKey, read_secret
from gateway.store.backup_manifest import Manifest
from gateway.store.database_copy import SQLITE, empty_postgresql
from gateway.store.engine import migrate
from gateway.store.erasure_file import ErasureFile
from gateway.store.privileges import grant_service_role
from gateway.store.restoring import database_of, unpack
from gateway.store.verification_checkpoints import OutsideNote
from gateway.store.verification_report import Finding

_DRAFT = ".restore-"
_SHOWN = 5

app = typer.Typer(pretty_exceptions_show_locals=False)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the command was asked for.

    Attributes:
        outside: Checkpoints that left the machine.
        erasures: An erasure file that is newer than the one in the backup.
    """

    file: Path
    key: SecretKey
    keys: Path | None
    outside: Sequence[OutsideNote]
    erasures: Path | None
    offline: bool
    reason: str
    accepts_findings: bool


@dataclass(frozen=True, kw_only=True)
class Restored:
    """What was put back.

    Attributes:
        witnessed: Entries of the newest checkpoint known outside of the backup; 0 when none is.
        witness: Who keeps that.
        silent: Witnesses that could not be asked.
        findings: What did not verify, and was accepted.
    """

    manifest: Manifest
    site: Site
    size: int
    witnessed: int
    witness: str
    silent: tuple[str, ...]
    again: ErasedAgain
    findings: tuple[Finding, ...]

    @property
    def lost(self) -> int:
        """How many entries of the log are known to be lost."""
        return max(self.witnessed - self.size, 0)


@app.command()
@explained
def restore(  # noqa: PLR0913 - each is an option of the command line
    file: File,
    *,
    key: KeyFile,
    data_dir: DataDir = None,
    keys: KeysFrom = None,
    erasures: Annotated[
        Path | None,
        typer.Option("--erasures", help="Newer audit/erasures.log of the lost data folder."),
    ] = None,
    earlier: From = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Ask no witness of the site what it keeps.")
    ] = False,
    reason: Annotated[str, typer.Option("--reason", help="Why, for the record.")] = "",
    accept_findings: Annotated[
        bool, typer.Option("--accept-findings", help="Restore although its log does not verify.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Put a backup back into an empty folder (and an empty PostgreSQL database)."""
    settings = starting_settings(data_dir)
    settings = settings.model_copy(update={"data_dir": settings.data_dir.absolute()})
    wanted = Wanted(
        file=file,
        key=read_secret(key),
        keys=keys,
        outside=notes_of(earlier),
        erasures=erasures,
        offline=offline,
        reason=reason,
        accepts_findings=accept_findings,
    )
    os.umask(0o077)
    with telling(quiet=as_json) as tell:
        done = _restore(settings, wanted, tell)
    if as_json:
        print_json(_as_json(settings, done))
        return
    _show(settings, done)


def _restore(settings: Settings, wanted: Wanted, tell: Tell) -> Restored:
    url = settings.resolved_database_owner_url or settings.resolved_database_url
    with _draft_in(settings.data_dir) as draft, ExitStack() as undo:
        manifest = unpack(wanted.file, wanted.key, draft, tell)
        _insist_on_kind(settings, manifest)
        _insist_on_keys(settings, manifest, wanted)
        take_keys(draft, wanted.keys)
        database_of(draft, manifest, url, tell)
        if manifest.database.kind != SQLITE:
            undo.callback(empty_postgresql, url)
        opening = settings_of(draft, manifest, url)
        migrate(opening.resolved_database_url)
        if manifest.database.kind != SQLITE and settings.database_owner_url is not None:
            # A dump holds no rights: without them the processes' role could read nothing.
            grant_service_role(url, settings.resolved_database_url)
        with copy_opened(opening, manifest) as (nadi, _):
            done = _put_right(nadi, manifest, wanted, tell)
        _move_in(draft, settings.data_dir)
        undo.pop_all()
    return done


@contextmanager
def _draft_in(folder: Path) -> Iterator[Path]:
    """Give a folder within an empty one; at the end it is gone, and what was made for it too."""
    was_there = folder.exists()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _insist_on_empty(folder)
        draft = folder / f"{_DRAFT}{secrets.token_hex(4)}"
        draft.mkdir(mode=0o700)
    except OSError as error:
        raise ConfigurationError(f"{folder} can't be used: {error.strerror}.") from error
    try:
        yield draft
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        if not was_there:
            folder.rmdir()
        raise


def _insist_on_empty(folder: Path) -> None:
    """Insist that nothing is there but what a restore left that was killed, which is removed."""
    there = list(folder.iterdir())
    others = [path.name for path in there if not path.name.startswith(_DRAFT)]
    if others:
        more = ", …" if len(others) > _SHOWN else ""
        fail(
            f"{folder} is not empty ({', '.join(sorted(others)[:_SHOWN])}{more}). A backup is put "
            "into an empty folder only: name a new one by --data-dir."
        )
    for path in there:
        shutil.rmtree(path)


def _insist_on_kind(settings: Settings, manifest: Manifest) -> None:
    kind, url = manifest.database.kind, settings.database_url
    if kind == SQLITE and url is not None:
        raise ConfigurationError(
            "This backup holds a SQLite database, which is put into the data folder; unset "
            "NADI_DATABASE_URL. Nothing was restored."
        )
    if kind != SQLITE and (url is None or url.startswith("sqlite")):
        raise ConfigurationError(
            "This backup holds a PostgreSQL database: name an empty one by NADI_DATABASE_URL. "
            "Nothing was restored."
        )


def _insist_on_keys(settings: Settings, manifest: Manifest, wanted: Wanted) -> None:
    if not (manifest.has_keys or wanted.keys or settings.master_key_file):
        raise ConfigurationError(
            "This backup was made without the keys of the installation. Name the folder with "
            "master.key, audit-signing.key and consent-signing.key by --keys. Nothing was restored."
        )


def _put_right(nadi: Opened, manifest: Manifest, wanted: Wanted, tell: Tell) -> Restored:
    """Verify the log, erase again, and put it on record."""
    site = nadi.site()
    kept, silent = _asked(nadi, site) if not wanted.offline else ([], ())
    outside = [*wanted.outside, *kept]
    report = look_through(nadi, outside, tell)
    findings = () if is_only_behind(report) else tuple(report.findings)
    if findings and not wanted.accepts_findings:
        _refuse(findings)
    if wanted.erasures is not None:
        ErasureFile(nadi.settings.data_dir).take_from(wanted.erasures)
    witnessed, witness = newest_of(outside, nadi.keys.verifier)
    done = Restored(
        manifest=manifest,
        site=site,
        size=report.size,
        witnessed=witnessed,
        witness=witness,
        silent=silent,
        again=erase_brought_back(nadi),
        findings=findings,
    )
    _record(nadi, done, wanted.reason)
    return done


def _asked(nadi: Opened, site: Site) -> tuple[list[OutsideNote], tuple[str, ...]]:
    """Ask every witness of the site; give what they keep, and who gave nothing."""
    notes: list[OutsideNote] = []
    silent = []
    for name in site.witnesses:
        try:
            notes += kept_by(nadi, [name])
        except GatewayError:
            silent.append(name)
    return notes, tuple(silent)


def _refuse(findings: Sequence[Finding]) -> None:
    shown = "; ".join(f"{each.table} {each.row}: {each.what}" for each in findings[:_SHOWN])
    more = f"; {len(findings) - _SHOWN} more" if len(findings) > _SHOWN else ""
    fail(
        f"The log in this backup does not verify: {shown}{more}. Take an earlier backup, or look "
        "with `nadi backup verify`; --accept-findings restores it all the same, on record. "
        "Nothing was restored."
    )


def _record(nadi: Opened, done: Restored, reason: str) -> None:
    manifest = done.manifest
    details = {
        "backup": manifest.id,
        "made-at": manifest.made_at,
        "sha256": manifest.sha256,
        "log-size": str(done.size),
        "lost-entries": str(done.lost),
        "witnessed-size": str(done.witnessed),
        "witness": done.witness,
        "erased-again": str(done.again.erased),
        "findings-accepted": str(len(done.findings)),
        "why": reason,
    }
    with nadi.store.write() as uow:
        step = audit.Step(id=new_id(), recorded=uow.now, source=nadi.source())
        known = {name: value for name, value in details.items() if value}
        uow.audit(audit.noted(step, "restore", agents=[operator()], details=known))


def _move_in(draft: Path, folder: Path) -> None:
    """Let everything appear in the folder; the keys first, since nobody starts without them."""
    try:
        for path in sorted(draft.iterdir(), key=lambda each: each.name != "keys"):
            path.rename(folder / path.name)
        draft.rmdir()
    except OSError as error:
        message = f"{error.filename} can't be moved: {error.strerror}. Empty the folder, try again."
        raise ConfigurationError(message) from error


# -- telling -------------------------------------------------------------------------------------


def _gap(done: Restored) -> str:
    if done.lost:
        first, last = done.size, done.witnessed - 1
        return (
            f"The log goes on behind this backup: {done.witness} has {done.witnessed} entries, "
            f"the backup {done.size}. Entries {first} to {last} ({done.lost}) are lost with what "
            "they recorded; witnesses that have them will say that the log no longer continues."
        )
    if done.witnessed:
        return f"No entry is known to be lost: {done.witness} has {done.witnessed}."
    return "Nobody outside could be asked how long the log was; what is lost is not known."


def _next_steps(settings: Settings, done: Restored) -> list[str]:
    since, folder = done.manifest.made_at, settings.data_dir
    named = ", ".join(_secrets(done.site)) or "none"
    resend = f"Have the EHR send everything since {since} again, in the order of time"
    by_people = "erasures, consents recorded here, holds, credentials, models, site files"
    steps = [
        "Make sure that the old Nadi never starts again.",
        f"Put back the secrets that the site file names: {named}.",
        f"Start it: nadi up --data-dir {folder}",
        f"Look: nadi doctor --data-dir {folder}",
        f"{resend}; what it sent before does no harm, since no result is written twice.",
        f"Do again what people changed since {since}: {by_people}.",
    ]
    if done.again.kept:
        steps.insert(3, f"{done.again.kept} patients who were erased {STILL_HELD}")
    if done.lost:
        steps.append("Tell the keepers of the witnesses, and begin anew with them (docs/audit.md).")
    return steps


def _secrets(site: Site) -> list[str]:
    found = {each.reference for system in site.systems.values() if (each := system.login.secret)}
    return sorted(found)


def _show(settings: Settings, done: Restored) -> None:
    manifest = done.manifest
    out.print(
        f"[green]✓[/] Restored into {escape(str(settings.data_dir))}: as of "
        f"{moment_of(manifest.made_at)}, log of {done.size} entries, verified.",
        soft_wrap=True,
    )
    sign = "[green]✓[/]" if done.witnessed and not done.lost else "[yellow]![/]"
    out.print(f"{sign} {escape(_gap(done))}", soft_wrap=True)
    if done.silent:
        out.print(f"[yellow]![/] Not asked: {escape(', '.join(done.silent))}", soft_wrap=True)
    if done.findings:
        out.print(f"[red]![/] {len(done.findings)} findings were accepted: nadi audit verify")
    out.print(f"[green]✓[/] {done.again.erased} patients who were erased later are erased again.")
    out.print("Now:")
    for number, step in enumerate(_next_steps(settings, done), start=1):
        out.print(f"  {number}. {escape(step)}", soft_wrap=True)


def _as_json(settings: Settings, done: Restored) -> dict[str, object]:
    return {
        "data_dir": str(settings.data_dir),
        "backup": told(done.manifest),
        "log_size": done.size,
        "witnessed_size": done.witnessed,
        "witness": done.witness,
        "witnesses_not_asked": list(done.silent),
        "lost_entries": done.lost,
        "erased_again": done.again.erased,
        "not_erased": done.again.kept,
        "findings": [vars(each) for each in done.findings],
        "says": _gap(done),
        "next": _next_steps(settings, done),
    }
