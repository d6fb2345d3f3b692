"""`nadi backup`: a sealed copy of everything that is needed to come back, while Nadi runs.

`nadi backup FILE|FOLDER` makes one, `nadi restore` puts it back (docs/recovery.md). Making one is
on record as an export.
"""

import re
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from typer.core import TyperGroup

from adapters.dicom.spool import copy_waiting, spools_folder
from gateway.cli import backup_trial
from gateway.cli.backup_view import moment_of, size, telling, told, waiting_images
from gateway.cli.context import (
    EXIT_USAGE,
    AsJson,
    DataDir,
    Opened,
    err,
    explained,
    fail,
    noun,
    opened,
    operator,
    out,
    print_json,
    starting_settings,
    table,
)
from gateway.core import audit
from gateway.core.clock import new_id, utc_now
from gateway.core.errors import ConfigurationError
from gateway.store.backing_up import Order, make_backup
from gateway.store.backup_file import BackupUnusable, Header, header_of
from gateway.store.backup_key import keep_public, make_key, public_file, read_public
from gateway.store.backup_manifest import Manifest
from gateway.store.installation import Installation

SUFFIX = ".nadibackup"

_NO_NAME = re.compile(r"[^A-Za-z0-9-]+")


class _MakeByDefault(TyperGroup):
    """`nadi backup FILE` means `nadi backup make FILE`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 (typer's signature)
        """Put the verb in front where none is said."""
        if args and args[0] not in self.commands and args[0] not in {"--help", "-h"}:
            args = ["make", *args]
        return super().parse_args(ctx, args)


app = noun("Backups: `nadi backup FILE|FOLDER` makes one while Nadi runs; see also `nadi restore`.")
app.info.cls = _MakeByDefault
app.command()(backup_trial.verify)


@app.command()
@explained
def make(
    to: Annotated[Path, typer.Argument(help="A new file, or a folder in which one is named.")],
    *,
    without_keys: Annotated[
        bool,
        typer.Option("--without-keys", help="Leave the master key and the signing keys out."),
    ] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Make a backup: database, keys, credentials, models, images on their way; sealed."""
    with opened(data_dir) as nadi, telling(quiet=as_json) as tell:
        file = _file_in(to, nadi)
        order = Order(
            to=file,
            site=nadi.site().name or "",
            keys=read_public(nadi.settings.data_dir),
            with_keys=not without_keys,
            take_waiting=partial(_take_images, spools_folder(nadi.settings.data_dir)),
            record=lambda manifest: _record(nadi, file, manifest),
            tell=tell,
        )
        manifest = make_backup(nadi.settings, Installation(nadi.keys, nadi.store), order)
    images = waiting_images(manifest)
    count = file.stat().st_size
    if as_json:
        print_json({"file": str(file), "sealed_bytes": count, **told(manifest)})
        return
    out.print(f"[green]✓[/] {escape(str(file))}, {size(count)}", soft_wrap=True)
    out.print(
        f"  log of {manifest.database.log_size} entries; opens with the backup key "
        f"{' or '.join(key.id for key in order.keys)}. Try it: nadi backup verify",
        soft_wrap=True,
    )
    if images:
        out.print(f"  with it {images} accepted image(s) that were not handed over yet")


def _take_images(spools: Path, work: Path) -> None:
    copy_waiting(spools, work / spools.name)


def _file_in(to: Path, nadi: Opened) -> Path:
    if not to.is_dir():
        return to
    site = _NO_NAME.sub("-", nadi.site().name or "site").strip("-")
    return to / f"nadi-{site}-{utc_now():%Y%m%dT%H%M%SZ}{SUFFIX}"


def _record(nadi: Opened, file: Path, manifest: Manifest) -> None:
    details = {
        "what": "backup",
        "backup": manifest.id,
        "file": file.name,
        "sha256": manifest.sha256,
        "log-size": str(manifest.database.log_size),
        "keys": "in it, sealed" if manifest.has_keys else "not in it",
    }
    with nadi.store.write() as uow:
        step = audit.Step(id=new_id(), recorded=uow.now, source=nadi.source())
        uow.audit(audit.noted(step, "export", agents=[operator()], details=details))


@app.command()
@explained
def key(
    to: Annotated[Path, typer.Option("--out", help="New file for the secret half.")],
    *,
    add: Annotated[
        bool, typer.Option("--add", help="One more: from now on each of them opens a backup.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="In place of those that are there.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Make the backup key; its secret half is for a place off this machine."""
    settings = starting_settings(data_dir)
    there = read_public(settings.data_dir) if public_file(settings.data_dir).exists() else []
    if there and not (add or replace):
        known = ", ".join(each.id for each in there)
        fail(f"There is a backup key already ({known}). Say --add or --replace.", code=EXIT_USAGE)
    if to.absolute().is_relative_to(settings.data_dir.absolute()):
        fail("The secret half must not lie in the data folder; name a file elsewhere.", code=2)
    with opened(data_dir) as nadi:
        made = make_key(to)
        keep_public(nadi.settings.data_dir, [*(there if add else []), made.public])
        with nadi.store.write() as uow:
            step = audit.Step(id=new_id(), recorded=uow.now, source=nadi.source())
            told = {"what": "backup key made", "key": made.public.id}
            uow.audit(audit.noted(step, "keys", agents=[operator()], details=told))
    out.print(f"[green]✓[/] Backup key {made.public.id}: {escape(str(to))}", soft_wrap=True)
    err.print(
        "[yellow]![/] Take that file off this machine now, to two places, and delete it here. "
        "Without it no backup opens; whoever has it and a backup has everything.",
        soft_wrap=True,
    )


@app.command(name="list")
@explained
def list_backups(
    folder: Annotated[Path, typer.Argument(help="Where backups lie.")], as_json: AsJson = False
) -> None:
    """List the backups of a folder, newest first; no key is needed, and nothing is proven."""
    found = [_described(file) for file in _backups(folder)]
    found.sort(key=lambda each: str(each["made_at"]), reverse=True)
    if as_json:
        print_json(found)
        return
    listing = table("FILE", "MADE", "SIZE", "NADI", "KEY", "STATE")
    for each in found:
        made = moment_of(str(each["made_at"])) if each["made_at"] else ""
        cells = (made, size(float(str(each["bytes"]))), each["nadi"], each["key"], each["state"])
        listing.add_row(escape(str(each["file"])), *(escape(str(cell)) for cell in cells))
    out.print(listing)


@app.command()
@explained
def prune(
    folder: Annotated[Path, typer.Argument(help="Where backups lie.")],
    *,
    keep: Annotated[int, typer.Option("--keep", min=1, help="How many of the newest stay.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; for scripts.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Delete the oldest whole backups of this installation; others' and odd files stay."""
    with opened(data_dir) as nadi:
        mine = sorted(_of(nadi.keys.origin, folder), reverse=True)
        old = [file for _, file in mine[keep:]]
        if old and not yes:
            typer.confirm(f"Delete {len(old)} of {len(mine)} backups?", abort=True)
        for file in old:
            file.unlink()
        if old:
            _record_pruned(nadi, old, kept=len(mine) - len(old))
    out.print(f"[green]✓[/] {len(old)} deleted, {len(mine) - len(old)} kept.")


def _record_pruned(nadi: Opened, files: list[Path], *, kept: int) -> None:
    names = ", ".join(file.name for file in files)
    details = {"what": "backups deleted", "files": names, "kept": str(kept)}
    with nadi.store.write() as uow:
        step = audit.Step(id=new_id(), recorded=uow.now, source=nadi.source())
        uow.audit(audit.noted(step, "note", agents=[operator()], details=details))


def _backups(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise ConfigurationError(f"{folder} is no folder.")
    return sorted(path for path in folder.glob(f"*{SUFFIX}") if path.is_file())


def _of(origin: str, folder: Path) -> list[tuple[datetime, Path]]:
    found = []
    for file in _backups(folder):
        header = _header(file)
        if isinstance(header, Header) and header.origin == origin:
            found.append((datetime.fromisoformat(header.made_at), file))
    return found


def _header(file: Path) -> Header | str:
    try:
        return header_of(file)
    except BackupUnusable as error:
        return error.message


def _described(file: Path) -> dict[str, object]:
    header = _header(file)
    known = isinstance(header, Header)
    return {
        "file": file.name,
        "bytes": file.stat().st_size,
        "made_at": header.made_at if isinstance(header, Header) else "",
        "nadi": header.nadi if isinstance(header, Header) else "",
        "key": ", ".join(header.wrapped) if isinstance(header, Header) else "",
        "log": header.origin if isinstance(header, Header) else "",
        "state": "whole" if known else header,
    }
