"""Images between their arrival and the hand-over of their study: one sealed file each.

    <folder>/<study>/key               the study's own key, wrapped: without it nothing here opens
    <folder>/<study>/<instance>        a sealed image
    <folder>/<study>/handed.json       which images the last version of the study has, and which
                                       were let go

* Names are keyed hashes; no file holds anything of a patient in the clear.
* A file appears by a rename after it was flushed to disk, and its folder is flushed too: what was
  acknowledged is there after a power cut.
* `handed.json` is written before a hand-over and again after it. What was being handed over when
  all ended is handed over once more as the same version, which the gateway knows for a repeat.
* An image that came before is not kept again, for as long as its study is remembered.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Protocol

import orjson

_KEY, _HANDED, _UNFINISHED, _GONE = "key", "handed.json", ".part", ".gone-"
_MINE_ALONE = 0o700
_SPOOLS = "dicom"
_DIGITS = 32
#: How coarse the times of files may be.
_TICK_MS = 2000
#: So long it is remembered which images came.
REMEMBERED_MS = 30 * 86_400_000


class Seals(Protocol):
    """Seals what lies in the spool."""

    def new_key(self, study: str) -> bytes:
        """Make the key of a study, wrapped."""

    def seal(self, key: bytes, study: str, instance: str, content: bytes) -> bytes:
        """Seal an image for its place."""

    def unseal(self, key: bytes, study: str, instance: str, sealed: bytes) -> bytes:
        """Open a sealed image.

        Raises:
            Unsealable: It was changed or moved, or its key was.
        """


@dataclass(frozen=True)
class Handed:
    """Which images a version of a study has.

    Attributes:
        at_ms: When it was put together.
        instances: Their names.
        is_done: Whether it was handed over.
        patient: Key of its patient, by which an erasure is recognised.
        let_go: Names of images of earlier versions that are not here any more.
    """

    at_ms: int
    instances: tuple[str, ...]
    is_done: bool
    patient: str = ""
    let_go: tuple[str, ...] = ()

    @property
    def known(self) -> frozenset[str]:
        """Names of the images that are no news."""
        return frozenset((*self.instances, *self.let_go))

    @property
    def version(self) -> str:
        """Name the version by its images: the same whenever and wherever they are put together.

        So a study that is sent again after a restore is known for the one that it was.
        """
        digest = sha256("\n".join(sorted(self.known)).encode()).hexdigest()
        return f"{len(self.known)}-{digest[:_DIGITS]}"


_NEVER = Handed(0, (), is_done=True)


class Spool:
    """The spool of one feed. Threads may share one."""

    def __init__(self, folder: Path, seals: Seals) -> None:
        """Take where it is, and make the folder.

        Args:
            folder: Of the feed alone.
            seals: Seals its files.
        """
        self.folder = folder
        self._seals = seals
        # Studies without news, by the time at which something was last put into them.
        self._settled: dict[str, int] = {}
        folder.mkdir(mode=_MINE_ALONE, parents=True, exist_ok=True)

    def keep(self, study: str, instance: str, content: bytes) -> bool:
        """Keep an image; it is durable when this is done.

        Args:
            study: Name of its study.
            instance: Its own name.
            content: Its file.

        Returns:
            False where it came before.

        Raises:
            OSError: There is no room, or the folder can't be written.
        """
        folder = self.folder / study
        if (folder / instance).exists() or instance in _handed(folder).let_go:
            return False
        if not folder.exists():
            folder.mkdir(mode=_MINE_ALONE, exist_ok=True)
            _flush(self.folder)
        sealed = self._seals.seal(self._key(folder), study, instance, content)
        _write(folder / instance, sealed)
        return True

    def due(self, quiet_ms: int, now_ms: int) -> list[str]:
        """Give the studies to hand over: those that began to be, and quiet ones with new images."""
        return [each.name for each in self._studies() if self._is_due(each, quiet_ms, now_ms)]

    def begin(self, study: str, now_ms: int) -> Handed:
        """Put a version together, or give the one that was begun if nothing came since."""
        folder = self.folder / study
        before = _handed(folder)
        names = tuple(sorted(_images(folder) - set(before.let_go)))
        if not before.is_done and before.instances == names:
            return before
        # Later than the one before even where the clock was set back.
        at_ms = max(now_ms, before.at_ms + 1)
        begun = replace(before, at_ms=at_ms, instances=names, is_done=False)
        _note(folder, begun)
        return begun

    def end(self, study: str, handed: Handed, patient: str) -> None:
        """Note that a version was handed over, and whose it is."""
        _note(self.folder / study, replace(handed, is_done=True, patient=patient))

    def open(self, study: str, instance: str) -> bytes:
        """Give an image.

        Raises:
            OSError: It can't be read.
            Unsealable: It was changed.
        """
        folder = self.folder / study
        sealed = (folder / instance).read_bytes()
        return self._seals.unseal(self._key(folder), study, instance, sealed)

    def let_go(self, keep_ms: int, now_ms: int, is_erased: Callable[[str], bool]) -> None:
        """Let go of what was handed over long ago, and of all of a patient who was erased."""
        for folder in self._studies():
            handed = _handed(folder)
            if not handed.is_done or _images(folder) - handed.known:
                continue
            if is_erased(handed.patient) or handed.at_ms < now_ms - REMEMBERED_MS:
                # An image that arrives meanwhile finds no folder, and is sent again.
                folder.rename(folder.with_name(f"{_GONE}{folder.name}"))
            elif handed.instances and handed.at_ms < now_ms - keep_ms:
                _empty(folder, handed)
        for folder in self.folder.glob(f"{_GONE}*"):
            _remove(folder)

    def _studies(self) -> Iterator[Path]:
        with os.scandir(self.folder) as found:
            names = sorted(each.name for each in found if not each.name.startswith("."))
        return (self.folder / name for name in names)

    def _is_due(self, folder: Path, quiet_ms: int, now_ms: int) -> bool:
        changed_ns = folder.stat().st_mtime_ns
        if self._settled.get(folder.name) == changed_ns:
            return False
        handed, names = _handed(folder), _images(folder)
        if not handed.is_done and set(handed.instances) == names - set(handed.let_go):
            return True
        if names - handed.known:
            return _newest_ms(folder) <= now_ms - quiet_ms
        # What is put there within the same tick of the clock must not be overlooked.
        if changed_ns < (now_ms - _TICK_MS) * 1_000_000:
            self._settled[folder.name] = changed_ns
        return False

    def _key(self, folder: Path) -> bytes:
        path = folder / _KEY
        with suppress(FileExistsError):
            if not path.exists():
                _write(path, self._seals.new_key(folder.name), is_first=True)
        return path.read_bytes()


def spools_folder(data_dir: Path) -> Path:
    """Give where the spools of all feeds lie, by the systems' names."""
    return data_dir.absolute() / _SPOOLS


def copy_waiting(spools: Path, to: Path) -> int:
    """Copy what a backup has to hold of all spools; give how many images that are.

    Of a study that has news all images go along, of any other only what is known of it, so that a
    repeat is known for one. To be called before the database is copied: what is handed over between
    the two is then handed over once more, and not lost.

    Args:
        spools: The folder of all spools.
        to: A folder of the backup; it is made where there is something.

    Raises:
        OSError: Something can't be read or written.
    """
    count = 0
    for folder in sorted(spools.glob("*/[!.]*")):
        target = to / folder.relative_to(spools)
        try:
            count += _copy_study(folder, target)
        except FileNotFoundError:  # it is let go of at this moment
            shutil.rmtree(target, ignore_errors=True)
    return count


def is_image_of_spool(path: str) -> bool:
    """Say whether a file of a backup, by its path there, is an image of a spool."""
    parts = path.split("/")
    return parts[0] == _SPOOLS and _is_image(parts[-1])


def _copy_study(folder: Path, to: Path) -> int:
    handed, names = _handed(folder), _images(folder)
    waiting = names if not handed.is_done or names - handed.known else set()
    to.mkdir(mode=_MINE_ALONE, parents=True)
    for name in (_KEY, *sorted(waiting)):
        _copy(folder / name, to / name)
    if not waiting:
        handed = replace(handed, instances=(), let_go=tuple(sorted(handed.known)))
    if handed != _NEVER:
        (to / _HANDED).write_bytes(orjson.dumps(handed))
    return len(waiting)


def _copy(path: Path, to: Path) -> None:
    """Give a file a second name, or copy it: no file here is ever changed in its place."""
    try:
        to.hardlink_to(path)
    except FileNotFoundError:
        raise
    except OSError:  # another disk, or one without second names
        shutil.copyfile(path, to)


def _note(folder: Path, handed: Handed) -> None:
    _write(folder / _HANDED, orjson.dumps(handed))


def _handed(folder: Path) -> Handed:
    """Give what was handed over of a study; nothing of one that is not here."""
    try:
        told = orjson.loads((folder / _HANDED).read_bytes())
    except FileNotFoundError:
        return _NEVER
    lists = {name: tuple(told[name]) for name in ("instances", "let_go")}
    return Handed(**{**told, **lists})


def _empty(folder: Path, handed: Handed) -> None:
    """Let go of the images of a study; their names are noted before, so that none is news."""
    let_go = (*handed.let_go, *handed.instances)
    _note(folder, replace(handed, instances=(), let_go=let_go))
    # The key stays: an image that arrives at this moment may be sealed with it.
    for name in handed.instances:
        (folder / name).unlink(missing_ok=True)


def _images(folder: Path) -> set[str]:
    """Give the names of the images that are here."""
    with os.scandir(folder) as found:
        return {each.name for each in found if _is_image(each.name)}


def _is_image(name: str) -> bool:
    return name not in (_KEY, _HANDED) and not name.startswith(_UNFINISHED)


def _newest_ms(folder: Path) -> int:
    with os.scandir(folder) as found:
        times = [each.stat().st_mtime_ns for each in found if _is_image(each.name)]
    return max(times, default=0) // 1_000_000


def _write(path: Path, content: bytes, *, is_first: bool = False) -> None:
    """Write a file that is whole and durable when it appears; `is_first` never replaces one."""
    part = path.with_name(f"{_UNFINISHED}{os.urandom(8).hex()}")
    try:
        with part.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if is_first:
            path.hardlink_to(part)
        else:
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    _flush(path.parent)


def _flush(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(folder: Path) -> None:
    """Remove a study; its key first, so that nothing that is left can be opened."""
    (folder / _KEY).unlink(missing_ok=True)
    for path in list(folder.iterdir()):
        path.unlink(missing_ok=True)
    folder.rmdir()
