"""From a sealed backup to the files of a data folder: proven block by block, file by file.

Nothing is used that was not proven: a block before it is opened further, a file by its SHA-256 in
the manifest, the manifest by the key of the audit log, the end of the stream by being the end.
"""

import gzip
import hashlib
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

from gateway.core.errors import StoreUnavailable
from gateway.private_file import private_file
from gateway.store.backing_up import DATABASE, DUMP, FULL, MANIFEST, NOTE, Tell
from gateway.store.backup_file import BackupAltered, SealedReader
from gateway.store.backup_key import SecretKey
from gateway.store.backup_manifest import Manifest, read_manifest
from gateway.store.database_copy import (
    SQLITE,
    CopyFailed,
    DatabaseFacts,
    NoRoom,
    facts_of_file,
    facts_of_url,
    insist_on_room,
    put_back_postgresql,
)

_BLOCK_BYTES = 2**20
_LARGEST_MANIFEST = 64 * 2**20


def unpack(file: Path, key: SecretKey, into: Path, tell: Tell) -> Manifest:
    """Write the files of a backup into a folder, every byte proven.

    Args:
        file: The backup.
        key: Opens it.
        into: An empty folder; where this fails, its content means nothing.
        tell: Told how far it is.

    Returns:
        The manifest, which all of it fits.

    Raises:
        BackupUnusable: It is no backup, was cut or altered, is of a newer Nadi, or of another key.
        NoRoom: The disk is full.
        StoreUnavailable: The folder can't be written.
    """
    try:
        with SealedReader(file, key) as sealed, gzip.GzipFile(fileobj=sealed) as packed:
            with tarfile.open(fileobj=packed, mode="r|", bufsize=_BLOCK_BYTES) as archive:
                manifest = _manifest(archive)
                total = sum(line.bytes for line in manifest.files)
                insist_on_room(into, total)
                _take_files(archive, manifest, into, lambda done: tell("opening", done, total))
            # The end is proven by reading up to it.
            while packed.read(_BLOCK_BYTES):
                pass
            if sealed.read(1):
                raise BackupAltered(f"{file} goes on behind its end.")
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        message = f"{file} is sealed with the right key, but is not as Nadi writes a backup."
        raise BackupAltered(message) from error
    except OSError as error:
        place = error.filename or into
        if error.errno in FULL:
            raise NoRoom(f"{place}: the disk is full. Nothing was restored; make room.") from error
        message = f"{place} can't be read or written: {error.strerror}. Nothing was restored."
        raise StoreUnavailable(message) from error
    return manifest


def _manifest(archive: tarfile.TarFile) -> Manifest:
    content, note = (_small(archive, name) for name in (MANIFEST, NOTE))
    manifest = read_manifest(content)
    manifest.insist_on(note.decode("utf-8", errors="replace"))
    return manifest


def _small(archive: tarfile.TarFile, name: str) -> bytes:
    member = archive.next()
    stream = archive.extractfile(member) if member is not None else None
    if member is None or stream is None or member.name != name:
        raise BackupAltered(f"The backup has no {name} where it belongs.")
    if member.size > _LARGEST_MANIFEST:
        raise BackupAltered(f"The {name} of the backup is too large.")
    return stream.read()


def _take_files(
    archive: tarfile.TarFile, manifest: Manifest, into: Path, tell: Callable[[int], None]
) -> None:
    done = 0
    for line in manifest.files:
        member = archive.next()
        if member is None or not member.isreg() or member.name != line.path:
            raise BackupAltered(f"The backup has no {line.path} where its manifest names it.")
        if member.size != line.bytes or _take(archive, member, into) != line.sha256:
            raise BackupAltered(f"{line.path} in the backup is not what its manifest says.")
        done += line.bytes
        tell(done)
    if archive.next() is not None:
        raise BackupAltered("The backup holds more than its manifest names.")


def _take(archive: tarfile.TarFile, member: tarfile.TarInfo, into: Path) -> str:
    """Write one file, durably; give its SHA-256."""
    stream, to = archive.extractfile(member), into / member.name
    to.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with private_file(to) as file:
        while stream is not None and (block := stream.read(_BLOCK_BYTES)):
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def database_of(folder: Path, manifest: Manifest, url: str | None, tell: Tell) -> DatabaseFacts:
    """Bring the database of an unpacked backup to where it can be opened; give what it holds.

    Args:
        folder: Where the backup was unpacked.
        manifest: Of the backup.
        url: Of an empty PostgreSQL database, for a backup of one.
        tell: Told how far it is.

    Raises:
        CopyFailed: It does not hold what the manifest says, or could not be put back.
        ConfigurationError: The PostgreSQL database is not empty, or a program is missing.
        StoreUnavailable: It can't be read.
    """
    if manifest.database.kind == SQLITE:
        facts = facts_of_file(folder / DATABASE)
    else:
        dump = folder / DUMP
        put_back_postgresql(dump, url or "", lambda done, of: tell("database", done, of))
        dump.unlink()
        facts = facts_of_url(url or "")
    if facts != manifest.database:
        raise CopyFailed(
            "The database in the backup does not hold what its manifest says "
            f"({_difference(facts, manifest.database)}). Take another backup."
        )
    return facts


def _difference(found: DatabaseFacts, told: DatabaseFacts) -> str:
    if found.counts != told.counts:
        names = sorted(found.counts.keys() | told.counts.keys())
        name = next(each for each in names if found.counts.get(each) != told.counts.get(each))
        return f"{name}: {found.counts.get(name, 0)} rows, not {told.counts.get(name, 0)}"
    return f"schema {found.schema}, log of {found.log_size} entries"
