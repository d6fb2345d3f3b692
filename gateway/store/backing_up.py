"""A backup while Nadi works on: everything that is needed to come back, in one sealed file.

In this order, so that what is put back fits together:

1. the checkpoint file: it never says more than the database that is copied after it; and what
   listeners accepted and have not handed over yet, so that it is in the one or the other;
2. the database, of one moment (`database_copy`);
3. who was erased, imported models, credentials, keys: what came meanwhile does no harm.

They are gathered in a private folder of the data folder, the manifest is made over them, and all is
written as a compressed tar archive into the sealed file. That has another name until it is complete
and on disk: a backup that was interrupted never looks like one.
"""

import errno
import fcntl
import gzip
import hashlib
import importlib.metadata
import io
import os
import secrets
import shutil
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from gateway.core.clock import new_id, utc_now
from gateway.core.errors import ConfigurationError, StoreUnavailable
from gateway.private_file import private_file
from gateway.settings import Settings
from gateway.store.backup_file import new_writer
from gateway.store.backup_key import PublicKey
from gateway.store.backup_manifest import FileLine, Manifest
from gateway.store.database_copy import SQLITE, NoRoom, copy_database
from gateway.store.installation import Installation

MANIFEST, NOTE = "manifest.json", "manifest.note"
DATABASE, DUMP = "nadi.db", "nadi.dump"
SECRETS = {
    "keys/master.key": "master_key_file",
    "keys/audit-signing.key": "audit_key_file",
    "keys/consent-signing.key": "consent_key_file",
}

_PUBLIC = ("keys/audit.pub", "keys/consent.pub", "keys/backup.pub")
_CHECKPOINTS, _ERASURES = "audit/checkpoints.log", "audit/erasures.log"
_FOLDERS = ("credentials", "models")
_BLOCK_BYTES = 2**20
_LEVEL = 1
#: What a disk says that is full, or whose user has had their share.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

#: Told what is being done, how much of it is done, and of how much.
Tell = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Order:
    """A backup to be made.

    Attributes:
        to: The file, which is not there yet.
        site: Name of the site, for the manifest.
        keys: Each of them opens it.
        with_keys: Whether the secret keys of the installation go into it.
        record: Puts it on record before it gets its name.
        tell: Told how far it is.
        take_waiting: Copies into a folder what was accepted and is not in the database yet.
    """

    to: Path
    site: str
    keys: Sequence[PublicKey]
    with_keys: bool
    record: Callable[[Manifest], None] = field(repr=False)
    tell: Tell = field(repr=False)
    take_waiting: Callable[[Path], object] = field(repr=False, default=lambda _folder: None)


def make_backup(settings: Settings, nadi: Installation, order: Order) -> Manifest:
    """Make a backup; nothing is left behind where it fails.

    Raises:
        ConfigurationError: There is such a file already, or another backup is being made.
        NoRoom: A disk is full.
        StoreUnavailable: The database is away, or something can't be read or written.
    """
    if order.to.exists():
        raise ConfigurationError(f"{order.to} is there already; a backup overwrites nothing.")
    with _work_folder(settings) as work:
        with _explained(work):
            manifest = _gather(settings, nadi, order, work)
        with _explained(order.to), _draft_of(order.to) as draft:
            _write(draft, manifest, nadi, order, work)
            order.record(manifest)
            _give_name(draft, order.to)
    return manifest


@contextmanager
def _explained(where: Path) -> Iterator[None]:
    """Say which disk is at fault."""
    try:
        yield
    except OSError as error:
        place = error.filename or where
        if error.errno in FULL:
            raise NoRoom(f"{place}: the disk is full. No backup was made; make room.") from error
        message = f"{place} can't be read or written: {error.strerror}. No backup was made."
        raise StoreUnavailable(message) from error


@contextmanager
def _work_folder(settings: Settings) -> Iterator[Path]:
    """Give a private folder, alone; what a backup that was killed left in it is removed."""
    run = settings.data_dir / "run"
    run.mkdir(mode=0o700, exist_ok=True)
    folder = run / "backup"
    with _alone(run / "backup.lock"):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError("Another backup is being made; wait for it.") from None
        yield


# -- gathering -----------------------------------------------------------------------------------


def _gather(settings: Settings, nadi: Installation, order: Order, work: Path) -> Manifest:
    data = settings.data_dir
    _copy(data / _CHECKPOINTS, work / _CHECKPOINTS)
    order.take_waiting(work)
    engine = nadi.store.engine
    name = DATABASE if engine.dialect.name == SQLITE else DUMP
    made_at = utc_now()
    facts = copy_database(engine, work / name, lambda done, of: order.tell("database", done, of))
    for path in (_ERASURES, *_PUBLIC):
        _copy(data / path, work / path)
    for folder in _FOLDERS:
        _copy_folder(data / folder, work / folder)
    if order.with_keys:
        for path, setting in SECRETS.items():
            _copy(getattr(settings, setting) or data / path, work / path)
    files = tuple(_lines(work, order.tell))
    return Manifest(
        id=new_id(),
        made_at=made_at.isoformat(timespec="seconds").replace("+00:00", "Z"),
        nadi=importlib.metadata.version("nadi"),
        site=order.site,
        origin=nadi.keys.origin,
        verifier=nadi.keys.verifier,
        has_keys=order.with_keys,
        database=facts,
        files=files,
    )


def _copy(source: Path, to: Path) -> None:
    """Copy a small file; what is not there is not in the backup."""
    with suppress(FileNotFoundError):
        content = source.read_bytes()
        to.parent.mkdir(mode=0o700, exist_ok=True)
        to.write_bytes(content)


def _copy_folder(source: Path, to: Path) -> None:
    """Take a folder's files: as second names of the same bytes, where the disk can."""
    for path in sorted(source.rglob("*")):
        if not path.is_file() or path.is_symlink():
            continue
        target = to / path.relative_to(source)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            target.hardlink_to(path)
        except OSError:
            shutil.copyfile(path, target)


def _lines(work: Path, tell: Tell) -> Iterator[FileLine]:
    found = sorted(path for path in work.rglob("*") if path.is_file())
    total = sum(path.stat().st_size for path in found)
    done = 0
    for path in found:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = path.stat().st_size
        done += size
        tell("digests", done, total)
        yield FileLine(path.relative_to(work).as_posix(), size, digest)


# -- writing -------------------------------------------------------------------------------------


@contextmanager
def _draft_of(to: Path) -> Iterator[Path]:
    """Give a name beside the right one; nothing is left there at the end."""
    to.parent.mkdir(parents=True, exist_ok=True)
    draft = to.with_name(f".{to.name}.{secrets.token_hex(4)}.partial")
    try:
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def _write(draft: Path, manifest: Manifest, nadi: Installation, order: Order, work: Path) -> None:
    with private_file(draft) as stream:
        sealed = new_writer(
            stream,
            order.keys,
            made_at=manifest.made_at,
            nadi=manifest.nadi,
            origin=manifest.origin,
        )
        with (
            gzip.GzipFile(fileobj=sealed, mode="wb", compresslevel=_LEVEL, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w|", bufsize=_BLOCK_BYTES) as archive,
        ):
            _add(archive, MANIFEST, manifest.to_bytes())
            _add(archive, NOTE, manifest.signed(nadi.keys.signing).encode())
            _add_files(archive, manifest, work, order.tell)
        sealed.finish()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o600
    archive.addfile(member, io.BytesIO(content))


def _add_files(archive: tarfile.TarFile, manifest: Manifest, work: Path, tell: Tell) -> None:
    total, done = sum(line.bytes for line in manifest.files), 0
    for line in manifest.files:
        member = tarfile.TarInfo(line.path)
        member.size, member.mode = line.bytes, 0o600
        with _Watched(work / line.path, lambda count: tell("sealing", count, total), done) as file:
            archive.addfile(member, file)
        done += line.bytes


class _Watched(io.FileIO):
    """A file that tells how far it was read."""

    def __init__(self, path: Path, tell: Callable[[int], None], before: int) -> None:
        super().__init__(path, "r")
        self._tell, self._done = tell, before

    def read(self, size: int | None = -1, /) -> bytes:
        """Read and tell."""
        content: bytes = super().read(-1 if size is None else size)
        self._done += len(content)
        self._tell(self._done)
        return content


def _give_name(draft: Path, to: Path) -> None:
    """Let the file appear under its name, whole and on disk; another is never replaced."""
    try:
        to.hardlink_to(draft)
    except FileExistsError:
        raise ConfigurationError(f"{to} is there already; a backup overwrites nothing.") from None
    except OSError:
        # Some network and USB file systems have no second names.
        draft.rename(to)
    with suppress(OSError):
        folder = os.open(to.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
