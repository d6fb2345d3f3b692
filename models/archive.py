"""The file format of a model package: a zip archive of one exact form.

* Files are stored, never compressed: nothing is inflated, so nothing can blow up, and the same
  content gives the same bytes with every version of every library.
* Names are flat; times, modes and order are fixed; there is no comment, no gap, no extra field.
* What is claimed is checked before it is read: sizes, numbers, names.
* An archive of another form is first looked at for a reason that helps; in the end every byte
  of its headers has to be the byte that `write` would have put there.

Source: PKWARE .ZIP File Format Specification (APPNOTE), sections 4.3 and 4.4.
"""

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from models.manifest_terms import FILE_NAME
from models.refusals import (
    ArchiveTruncated,
    CompressedFile,
    DuplicateName,
    EncryptedFile,
    FileDamaged,
    FileMissing,
    HeadersDisagree,
    NotAnArchive,
    SpecialFile,
    TooLarge,
    TooManyFiles,
    TrailingData,
    UnsafeName,
)

MOST_FILES = 24
MOST_BYTES_OF_A_FILE = 512 * 2**20
MOST_BYTES = 2**30
MOST_BYTES_OF_A_NAME = 100

_MIB = 2**20
_VERSION = 20
_UNIX = 3
_PLAIN_FILE = (stat.S_IFREG | 0o644) << 16
_MIDNIGHT, _1980_01_01 = 0, 1 << 5 | 1
_ENCRYPTED = 0x1 | 0x40
_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_LOCAL_MAGIC, _CENTRAL_MAGIC, _END_MAGIC = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"


@dataclass(frozen=True)
class Entry:
    """A file of an archive.

    Attributes:
        size: In bytes.
        crc: CRC-32 of its content.
    """

    name: str
    size: int
    crc: int

    @property
    def local_header(self) -> bytes:
        """What stands before its content."""
        facts = (self.crc, self.size, self.size, len(self.name), 0)
        head = (_LOCAL_MAGIC, _VERSION, 0, 0, _MIDNIGHT, _1980_01_01)
        return _LOCAL.pack(*head, *facts) + self.name.encode("ascii")

    def central_header(self, offset: int) -> bytes:
        """What stands in the directory at the end; its local header begins at `offset`."""
        facts = (self.crc, self.size, self.size, len(self.name), 0, 0, 0, 0, _PLAIN_FILE, offset)
        made_by = _UNIX << 8 | _VERSION
        head = (_CENTRAL_MAGIC, made_by, _VERSION, 0, 0, _MIDNIGHT, _1980_01_01)
        return _CENTRAL.pack(*head, *facts) + self.name.encode("ascii")

    @property
    def whole_size(self) -> int:
        """Bytes of header and content."""
        return len(self.local_header) + self.size


def write(target: BinaryIO, files: Iterable[tuple[str, bytes]]) -> None:
    """Write an archive; the same files in the same order give the same bytes.

    Raises:
        PackageRefused: It would be one that `opened` refuses.
    """
    entries: list[Entry] = []
    for name, content in files:
        entries.append(Entry(name, len(content), zlib.crc32(content)))
        _insist_on_names(entries)
        _insist_on_sizes(entries)
        target.write(entries[-1].local_header)
        target.write(content)
    target.write(_directory(entries))


class Archive:
    """An open archive whose form is in order; its contents are read one by one."""

    def __init__(self, file: BinaryIO, entries: Sequence[Entry]) -> None:
        self._file = file
        self._places = dict(zip((each.name for each in entries), _offsets(entries), strict=False))
        self._entries = {each.name: each for each in entries}

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each file, by name."""
        return {name: each.size for name, each in self._entries.items()}

    def read(self, name: str, *, most: int = MOST_BYTES_OF_A_FILE) -> bytes:
        """The content of one file.

        Raises:
            FileMissing: There is no such file.
            TooLarge: It has more bytes than `most`; nothing was read.
            FileDamaged: Its bytes are not those that were put in.
        """
        entry = self._entries.get(name)
        if entry is None:
            raise FileMissing(f"{name} is not in the package")
        if entry.size > most:
            raise TooLarge(f"{name} has {_mib(entry.size)}, at most {_mib(most)} are allowed")
        self._file.seek(self._places[name] + len(entry.local_header))
        content = self._file.read(entry.size)
        if len(content) != entry.size or zlib.crc32(content) != entry.crc:
            raise FileDamaged(f"{name} was damaged on its way here; fetch the package again")
        return content


@contextmanager
def opened(path: Path) -> Iterator[Archive]:
    """Open an archive, insisting on its form; no content is read.

    Raises:
        PackageRefused: It is not of the form that `write` gives; the class says why.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise NotAnArchive(f"{path} can't be read: {error.strerror}") from error
    with file:
        yield Archive(file, _entries(file, path.stat().st_size))


def _entries(file: BinaryIO, size: int) -> tuple[Entry, ...]:
    """Check the form from the outside in, the cheapest first."""
    _insist_on_an_end(file, size)
    infos = _listed(file)
    if not infos:
        raise NotAnArchive("this is no model package: nothing is in it")
    for info in infos:
        _insist_on_a_plain_file(info)
    entries = tuple(Entry(i.orig_filename, i.file_size, i.CRC) for i in infos)
    _insist_on_names(entries)
    _insist_on_sizes(entries)
    _insist_on_every_byte(file, size, entries)
    return entries


def _insist_on_an_end(file: BinaryIO, size: int) -> None:
    """Look at the first and the last bytes: is it a zip, is it whole, is nothing behind it."""
    if size > MOST_BYTES:
        raise TooLarge(f"the package has {_mib(size)}, at most {_mib(MOST_BYTES)} are allowed")
    if file.read(len(_LOCAL_MAGIC)) != _LOCAL_MAGIC:
        raise NotAnArchive("this is no model package: it does not begin as a zip archive does")
    file.seek(max(0, size - _END.size))
    end = file.read()
    if len(end) == _END.size and end.startswith(_END_MAGIC) and end.endswith(b"\0\0"):
        _insist_on_few(_END.unpack(end))
    elif zipfile.is_zipfile(file):
        raise TrailingData("something follows the end of the package, or a comment is in it")
    else:
        raise ArchiveTruncated("the package ends too early; fetch it again")


def _insist_on_few(end: tuple[int, ...]) -> None:
    """Look at how much directory is claimed before it is read."""
    count, directory_size = end[4], end[5]
    if count > MOST_FILES or directory_size > MOST_FILES * (
        _CENTRAL.size + 2 * MOST_BYTES_OF_A_NAME
    ):
        raise TooManyFiles(f"the package claims {count} files, at most {MOST_FILES} are allowed")


def _listed(file: BinaryIO) -> list[zipfile.ZipInfo]:
    # What zipfile raises for broken headers is not one class.
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.infolist()
    except (zipfile.BadZipFile, RuntimeError, ValueError, EOFError, struct.error) as error:
        raise HeadersDisagree("the directory of the package can't be read") from error


def _insist_on_a_plain_file(info: zipfile.ZipInfo) -> None:
    name = ascii(info.orig_filename)
    mode = info.external_attr >> 16
    if info.flag_bits & _ENCRYPTED:
        raise EncryptedFile(f"{name} is encrypted; a package is signed, never secret")
    if stat.S_IFMT(mode) not in {0, stat.S_IFREG, stat.S_IFDIR}:
        kind = "a symbolic link" if stat.S_ISLNK(mode) else "no plain file"
        raise SpecialFile(f"{name} is {kind}; a package holds plain files only")
    if info.file_size > MOST_BYTES_OF_A_FILE:
        most = _mib(MOST_BYTES_OF_A_FILE)
        raise TooLarge(f"{name} claims {_mib(info.file_size)}, at most {most} are allowed")
    if info.compress_type != zipfile.ZIP_STORED:
        raise CompressedFile(f"{name} is compressed; `nadi models pack` stores files as they are")


def _insist_on_names(entries: Sequence[Entry]) -> None:
    if len(entries) > MOST_FILES:
        raise TooManyFiles(f"the package has more than {MOST_FILES} files")
    seen: dict[str, str] = {}
    for each in entries:
        if why := _unsafe(each.name):
            raise UnsafeName(f"the file name {each.name!a} {why}")
        if each.name.casefold() in seen:
            both = f"{seen[each.name.casefold()]} and {each.name}"
            raise DuplicateName(f"two files have the same name, case apart: {both}")
        seen[each.name.casefold()] = each.name


def _unsafe(name: str) -> str | None:
    """Say what is wrong with a name; None when it is a plain one."""
    reasons = (
        ("\0" in name, "holds a NUL byte"),
        (".." in name.replace("\\", "/").split("/"), "leads out of the folder (`..`)"),
        (name.startswith(("/", "\\")), "is absolute"),
        (name[1:2] == ":", "names a drive"),
        ("\\" in name, "holds a backslash"),
        ("/" in name, "lies in a folder; a package is flat"),
        (len(name) > MOST_BYTES_OF_A_NAME, "is too long"),
        (FILE_NAME.fullmatch(name) is None, "has other characters than letters, digits and ._-"),
    )
    return next((why for holds, why in reasons if holds), None)


def _insist_on_sizes(entries: Sequence[Entry]) -> None:
    largest = max(entries, key=lambda each: each.size)
    if largest.size > MOST_BYTES_OF_A_FILE:
        most = _mib(MOST_BYTES_OF_A_FILE)
        raise TooLarge(f"{largest.name} has {_mib(largest.size)}, at most {most} are allowed")
    total = sum(each.size for each in entries)
    if total > MOST_BYTES:
        raise TooLarge(f"its files claim {_mib(total)}, at most {_mib(MOST_BYTES)} are allowed")


def _insist_on_every_byte(file: BinaryIO, size: int, entries: Sequence[Entry]) -> None:
    """Compare every header with what `write` would have put there."""
    directory = _directory(entries)
    *places, end = _offsets(entries)
    if end + len(directory) != size:
        raise HeadersDisagree("the sizes in the package's headers are not those of its content")
    for each, place in zip(entries, places, strict=True):
        file.seek(place)
        if file.read(len(each.local_header)) != each.local_header:
            raise HeadersDisagree(f"the headers of {each.name} contradict each other")
    file.seek(end)
    if file.read() != directory:
        raise HeadersDisagree("the directory of the package is not as `nadi models pack` writes it")


def _directory(entries: Sequence[Entry]) -> bytes:
    *places, end = _offsets(entries)
    headers = b"".join(
        each.central_header(place) for each, place in zip(entries, places, strict=True)
    )
    count = len(entries)
    return headers + _END.pack(_END_MAGIC, 0, 0, count, count, len(headers), end, 0)


def _offsets(entries: Sequence[Entry]) -> list[int]:
    """Where each file begins, and where the directory does."""
    places = [0]
    for each in entries:
        places.append(places[-1] + each.whole_size)
    return places


def _mib(size: int) -> str:
    return f"{size:,} bytes" if size < _MIB else f"{size / _MIB:,.0f} MiB"
