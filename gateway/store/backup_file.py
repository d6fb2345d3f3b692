"""The sealed file of a backup: a stream of any length, in the memory of one block.

    nadi-backup 1
    {"made_at": …, "nadi": …, "origin": …, "wrapped": {key id: sealed key of this backup}}
    block, block, …, last block
    nadi-backup end

A block is 1 MiB of content, the last one less, sealed with AES-256-GCM under the key of the backup.
Its nonce is its number and whether it is the last; the first two lines are authenticated with each
block. So no block can be changed, left out, repeated or moved, and none put behind the last. The
last line tells a file that was cut, or is still being copied, from one that was altered.

Source: the STREAM construction (Hoang, Reyhanitabar, Rogaway and Vizár, CRYPTO 2015), as age uses
it (C2SP age); NIST SP 800-38D (GCM).
"""

import hashlib
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.core.errors import ContentError
from gateway.store.backup_key import KEY_BYTES, PublicKey, SecretKey

BLOCK_BYTES = 2**20

_FIRST_LINE = b"nadi-backup 1\n"
_LAST_LINE = b"\nnadi-backup end\n"
_LONGEST_HEADER = 64 * 1024
_TAG_BYTES = 16
_COUNTER_BYTES = 11
_SEALED_BLOCK_BYTES = BLOCK_BYTES + _TAG_BYTES


class BackupUnusable(ContentError):
    """The file is not a backup that can be used."""


class NoBackup(BackupUnusable):
    """The file is no backup of Nadi."""


class BackupCut(BackupUnusable):
    """The backup ends too early."""


class BackupAltered(BackupUnusable):
    """The backup is not as it was written."""


class WrongBackupKey(BackupUnusable):
    """The backup was sealed for another key."""


@dataclass(frozen=True)
class Header:
    """What stands in front, for everybody to read.

    Attributes:
        made_at: When, ISO 8601, UTC.
        nadi: Version of Nadi.
        origin: Name of the audit log.
        wrapped: Key of this backup, sealed for each backup key, by the id of that.
    """

    made_at: str
    nadi: str
    origin: str
    wrapped: Mapping[str, str]


class SealedWriter(io.RawIOBase):
    """Takes the content of a backup and writes it sealed; `close` writes the end."""

    def __init__(self, stream: BinaryIO, header: Header, secret: bytes) -> None:
        super().__init__()
        self._stream = stream
        lines = _FIRST_LINE + orjson.dumps(vars(header), option=orjson.OPT_SORT_KEYS) + b"\n"
        stream.write(lines)
        self._cipher, self._bound = AESGCM(secret), hashlib.sha256(lines).digest()
        self._rest = bytearray()
        self._number = 0

    def writable(self) -> bool:
        """Say that it can be written."""
        return True

    def write(self, content: bytes | bytearray | memoryview, /) -> int:  # type: ignore[override]
        """Take some content."""
        self._rest += content
        # One byte more is awaited: the last block is sealed as the last.
        while len(self._rest) > BLOCK_BYTES:
            self._seal(bytes(self._rest[:BLOCK_BYTES]), is_last=False)
            del self._rest[:BLOCK_BYTES]
        return len(content)

    def finish(self) -> None:
        """Write the last block and the end."""
        self._seal(bytes(self._rest), is_last=True)
        self._stream.write(_LAST_LINE)
        self._rest.clear()

    def _seal(self, block: bytes, *, is_last: bool) -> None:
        nonce = _nonce(self._number, is_last=is_last)
        self._stream.write(self._cipher.encrypt(nonce, block, self._bound))
        self._number += 1


class SealedReader(io.RawIOBase):
    """Gives the content of a backup, every block of it proven before it is given."""

    def __init__(self, file: Path, key: SecretKey) -> None:
        """Open it.

        Raises:
            BackupUnusable: It is no backup, was cut or altered, or is sealed for another key.
        """
        super().__init__()
        self._file = file
        self._stream = _opened(file)
        try:
            header, lines = _read_header(self._stream, file)
            self.header = header
            self._left = _length_of_blocks(self._stream, file, len(lines))
            self.blocks = -(-self._left // _SEALED_BLOCK_BYTES)
            self._cipher = AESGCM(_unwrapped(header, key, file))
        except BaseException:
            self._stream.close()
            raise
        self._bound = hashlib.sha256(lines).digest()
        self._rest = b""
        self.number = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
        super().close()

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        """Give the next content; 0 at the end, which has been proven then.

        Raises:
            BackupAltered: The next block is not as it was written.
        """
        while not self._rest:
            if not self._left:
                return 0
            self._rest = self._next_block()
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count

    def _next_block(self) -> bytes:
        length = min(self._left, _SEALED_BLOCK_BYTES)
        at = self._stream.tell()
        sealed = self._stream.read(length)
        self._left -= length
        nonce = _nonce(self.number, is_last=not self._left)
        self.number += 1
        try:
            return self._cipher.decrypt(nonce, sealed, self._bound)
        except (InvalidTag, ValueError):
            raise BackupAltered(
                f"{self._file} is not as it was written: block {self.number} of {self.blocks} "
                f"(bytes {at} to {at + length}), or its first lines, were changed. Take another "
                "copy, or another backup."
            ) from None


def new_writer(
    stream: BinaryIO, keys: Sequence[PublicKey], *, made_at: str, nadi: str, origin: str
) -> SealedWriter:
    """Begin a backup that each of these keys opens."""
    secret = os.urandom(KEY_BYTES)
    wrapped = {key.id: key.wrap(secret) for key in keys}
    return SealedWriter(stream, Header(made_at, nadi, origin, wrapped), secret)


def header_of(file: Path) -> Header:
    """Read what stands in front of a backup, unproven, and look whether it has its end.

    Raises:
        NoBackup: It is none.
        BackupCut: It has no end.
    """
    with _opened(file) as stream:
        header, lines = _read_header(stream, file)
        _length_of_blocks(stream, file, len(lines))
        return header


def _opened(file: Path) -> BinaryIO:
    try:
        return file.open("rb")
    except OSError as error:
        raise NoBackup(f"{file} can't be read: {error.strerror}.") from error


def _read_header(stream: BinaryIO, file: Path) -> tuple[Header, bytes]:
    first, second = stream.readline(len(_FIRST_LINE)), stream.readline(_LONGEST_HEADER)
    if first != _FIRST_LINE or not second.endswith(b"\n"):
        raise NoBackup(f"{file} is no backup of Nadi, or of a later version of it.")
    try:
        told = orjson.loads(second)
        header = Header(told["made_at"], told["nadi"], told["origin"], dict(told["wrapped"]))
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        raise BackupAltered(f"{file} is not as it was written: its second line.") from None
    return header, first + second


def _length_of_blocks(stream: BinaryIO, file: Path, header_bytes: int) -> int:
    """Give the bytes between header and end; the stream is left behind the header."""
    size = stream.seek(0, os.SEEK_END)
    length = size - header_bytes - len(_LAST_LINE)
    stream.seek(max(size - len(_LAST_LINE), 0))
    has_end = stream.read() == _LAST_LINE
    stream.seek(header_bytes)
    is_odd = 0 < length % _SEALED_BLOCK_BYTES < _TAG_BYTES
    if not has_end or length < _TAG_BYTES or is_odd:
        raise BackupCut(
            f"{file} has no end after {size} bytes: it was cut, or is still being copied. "
            "Copy it again, or take another backup."
        )
    return length


def _unwrapped(header: Header, key: SecretKey, file: Path) -> bytes:
    sealed = header.wrapped.get(key.public.id)
    if sealed is None:
        wanted = " or ".join(header.wrapped)
        raise WrongBackupKey(
            f"{file} was sealed for the backup key {wanted}; this is {key.public.id}. "
            "Take the key file that names that one."
        )
    secret = key.unwrap(sealed)
    if secret is None or len(secret) != KEY_BYTES:
        raise BackupAltered(f"{file} is not as it was written: its second line was changed.")
    return secret


def _nonce(number: int, *, is_last: bool) -> bytes:
    return number.to_bytes(_COUNTER_BYTES, "big") + (b"\x01" if is_last else b"\x00")
