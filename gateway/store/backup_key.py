"""The backup key: what is sealed with its public half opens only with the half kept elsewhere.

`nadi backup key` makes a pair. The public half stays in `keys/backup.pub`, so that a backup can be
made at night with nobody there; the secret half goes into a file that is kept off the machine. So
whoever takes the machine, or its backups, can't open a backup. There may be several public keys,
one a line; each of their holders can open a backup alone.

What is sealed under them is the key of one backup, 32 random bytes.

Source: RFC 9180 (HPKE), base mode with X25519, HKDF-SHA256 and AES-256-GCM.
"""

import base64
import binascii
import hashlib
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from gateway.core.errors import ConfigurationError
from gateway.private_file import write_private

KEY_BYTES = 32

_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_PURPOSE = b"nadi.health backup, version 1"
_SECRET_WORD, _PUBLIC_WORD = "NADI-BACKUP-KEY-1", "NADI-BACKUP-PUB-1"
_ID_DIGITS = 16
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_MAKE_ONE = "Make one with: nadi backup key --out FILE"


@dataclass(frozen=True)
class PublicKey:
    """Seals a backup."""

    value: bytes

    @property
    def id(self) -> str:
        """What backups call it."""
        return hashlib.sha256(self.value).hexdigest()[:_ID_DIGITS]

    def wrap(self, secret: bytes) -> str:
        """Seal the key of one backup."""
        sealed = _SUITE.encrypt(secret, X25519PublicKey.from_public_bytes(self.value), _PURPOSE)
        return base64.b64encode(sealed).decode()


@dataclass(frozen=True)
class SecretKey:
    """Opens the backups that were sealed with its public half. It never shows in a repr."""

    value: bytes = field(repr=False)

    @property
    def public(self) -> PublicKey:
        """Its other half."""
        private = X25519PrivateKey.from_private_bytes(self.value)
        return PublicKey(private.public_key().public_bytes_raw())

    def unwrap(self, sealed: str) -> bytes | None:
        """Open the key of one backup; None where it was altered, or sealed for another key."""
        private = X25519PrivateKey.from_private_bytes(self.value)
        try:
            return _SUITE.decrypt(base64.b64decode(sealed, validate=True), private, _PURPOSE)
        except (InvalidTag, ValueError, binascii.Error):
            return None


def public_file(data_dir: Path) -> Path:
    """Say where the public halves lie."""
    return data_dir / "keys" / "backup.pub"


def make_key(file: Path) -> SecretKey:
    """Make a key and write its secret half into a new file that only its owner may read.

    Raises:
        ConfigurationError: The file is there already or can't be written.
    """
    secret = SecretKey(os.urandom(KEY_BYTES))
    text = (
        f"# Opens the backups of Nadi that were sealed with the key {secret.public.id}.\n"
        "# Keep it off the machine, twice. Without it no backup opens; whoever has it opens all.\n"
        f"{_SECRET_WORD} {secret.value.hex()}\n"
    )
    try:
        write_private(file, text.encode("ascii"))
    except FileExistsError as error:
        raise ConfigurationError(f"{file} is there already; name a new file.") from error
    except OSError as error:
        raise ConfigurationError(f"{file} can't be written: {error.strerror}.") from error
    return secret


def keep_public(data_dir: Path, keys: Sequence[PublicKey]) -> None:
    """Put the public halves down, in the place of those that are there.

    Raises:
        ConfigurationError: The file can't be written.
    """
    file = public_file(data_dir)
    draft = file.with_suffix(".draft")
    try:
        text = "".join(f"{_PUBLIC_WORD} {key.value.hex()}\n" for key in keys)
        draft.write_text(text, encoding="ascii")
        draft.replace(file)
    except OSError as error:
        raise ConfigurationError(f"{file} can't be written: {error.strerror}.") from error


def read_secret(file: Path) -> SecretKey:
    """Read the secret half.

    Raises:
        ConfigurationError: It can't be read, is none, or is open to other users.
    """
    words = _words(file, _SECRET_WORD)
    mode = file.stat().st_mode
    if mode & _OTHERS:
        message = f"{file} is open to other users (mode {stat.S_IMODE(mode):04o})."
        raise ConfigurationError(f"{message} Mend it with: chmod 600 {file}")
    if len(words) != 1:
        raise ConfigurationError(f"{file} is not the file of a backup key. {_MAKE_ONE}")
    return SecretKey(words[0])


def read_public(data_dir: Path) -> list[PublicKey]:
    """Read the public halves.

    Raises:
        ConfigurationError: There are none, or they can't be read.
    """
    file = public_file(data_dir)
    if not file.exists():
        raise ConfigurationError(f"There is no backup key ({file}). {_MAKE_ONE}")
    found = [PublicKey(value) for value in _words(file, _PUBLIC_WORD)]
    if not found:
        raise ConfigurationError(f"{file} holds no backup key. {_MAKE_ONE}")
    return found


def _words(file: Path, word: str) -> list[bytes]:
    """Give the values that stand behind a word, one a line; other lines are remarks."""
    try:
        lines = file.read_text("ascii", errors="replace").splitlines()
    except OSError as error:
        raise ConfigurationError(f"{file} can't be read: {error.strerror}.") from error
    told = [line.split() for line in lines]
    values = [words[1] for words in told if words[:1] == [word] and len(words) > 1]
    try:
        found = [bytes.fromhex(value) for value in values]
    except ValueError:
        # Not chained: the cause would carry the content of the file.
        found = [b""]
    if any(len(value) != KEY_BYTES for value in found):
        raise ConfigurationError(f"{file} has to hold {2 * KEY_BYTES} hexadecimal digits a key.")
    return found
