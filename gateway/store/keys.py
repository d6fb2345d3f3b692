"""The three key files of an installation, made on first start.

* `master.key` opens everything that is sealed; without it the data is lost: back it up, apart
  from the database.
* `audit-signing.key` (Ed25519) signs the checkpoints of the audit log.
* `audit.pub` is the public half, for auditors: one line, a C2SP signed-note verifier key.
* `consent-signing.key` (Ed25519) signs what staff record and import about consents.
* `consent.pub` is the public half, as another site lists it to take what this one exports.

The secrets are 32 random bytes, written as 64 hexadecimal digits (`openssl rand -hex 32` makes
one). Key files lie in `keys/` of the data folder and only their owner may read them. A file that
is named explicitly may be readable for others, since container engines mount secrets so, but not
writable.

Several processes may start at once on an empty folder: all end up with the same keys.
"""

import hashlib
import os
import secrets
import stat
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.core.errors import ConfigurationError
from gateway.core.ledger import CheckpointInvalid, read_verifier_key, verifier_key
from gateway.private_file import write_private
from gateway.store.sealing import KEY_BYTES, MasterKey
from models.signature import written_key

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_ORIGIN_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of an installation.

    Attributes:
        master: Opens what is sealed.
        signing: Signs checkpoints of the audit log.
        origin: Name of the audit log, unique to this installation.
        verifier: The public key as auditors get it.
        consents: Signs what is recorded about consents.
    """

    master: MasterKey
    signing: Ed25519PrivateKey = field(repr=False)
    origin: str
    verifier: str
    consents: Ed25519PrivateKey = field(repr=False)


def load_or_create(
    data_dir: Path,
    *,
    master_key_file: Path | None = None,
    audit_key_file: Path | None = None,
    consent_key_file: Path | None = None,
) -> Keys:
    """Read the keys of this installation, making them first where there are none.

    Args:
        data_dir: The data folder; keys lie in its `keys/`.
        master_key_file: A file to read the master key from instead.
        audit_key_file: A file to read the signing key from instead.
        consent_key_file: A file to read the key that signs consents from instead.

    Raises:
        ConfigurationError: A key file is unreadable, malformed, missing from a folder that once
            had it, or open to other users.
    """
    folder = data_dir / "keys"
    _make_folder(folder)
    public = folder / "audit.pub"
    # The public key is written last: where it stands, the secrets have been there.
    is_new = not public.exists()
    master = _load(master_key_file, folder / "master.key", is_new=is_new)
    seed = _load(audit_key_file, folder / "audit-signing.key", is_new=is_new)
    signing = Ed25519PrivateKey.from_private_bytes(seed)
    raw = signing.public_key().public_bytes_raw()
    name = f"nadi.health/audit/{hashlib.sha256(raw).hexdigest()[:_ORIGIN_DIGITS]}"
    _create(public, verifier_key(name, signing.public_key()) + "\n")
    origin, verifier = _read_public(public, signing)
    consents = _consent_key(folder, consent_key_file)
    return Keys(MasterKey(master), signing, origin, verifier, consents)


def _consent_key(folder: Path, explicit: Path | None) -> Ed25519PrivateKey:
    """Load the key that signs consents; an installation of before it had one gets it now."""
    public = folder / "consent.pub"
    seed = _load(explicit, folder / "consent-signing.key", is_new=not public.exists())
    key = Ed25519PrivateKey.from_private_bytes(seed)
    line = written_key(key.public_key())
    _create(public, line + "\n")
    if public.read_text(encoding="ascii", errors="replace").strip() != line:
        message = f"{public} belongs to another key than the one in use."
        raise ConfigurationError(f"{message} Put the right key back, or move {public.name} away.")
    return key


def _load(explicit: Path | None, standard: Path, *, is_new: bool) -> bytes:
    if explicit is not None:
        return _read_secret(explicit, forbidden=_OTHERS_WRITE, mend="go-w")
    if is_new:
        _create(standard, secrets.token_hex(KEY_BYTES) + "\n")
    return _read_secret(standard, forbidden=_OTHERS, mend="600")


def _make_folder(folder: Path) -> None:
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        mode = folder.stat().st_mode
    except OSError as error:
        raise ConfigurationError(f"{folder} can't be made: {error.strerror}.") from error
    _refuse_others(folder, mode, forbidden=_OTHERS, mend="700")


def _create(path: Path, text: str) -> None:
    """Write a new file as a whole, unless somebody else is first.

    The file appears under its name only when it is complete and on disk: a link fails where the
    name is taken, and nobody ever reads half a key.
    """
    if path.exists():
        return
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        write_private(draft, text.encode("ascii"))
        try:
            _link(draft, path)
        finally:
            draft.unlink()
    except OSError as error:
        raise ConfigurationError(f"{path} can't be written: {error.strerror}.") from error


def _link(draft: Path, path: Path) -> None:
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _read_secret(path: Path, *, forbidden: int, mend: str) -> bytes:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(4 * KEY_BYTES)
    except FileNotFoundError as error:
        message = f"{path} is missing. Put it back from the backup; a new key would not fit."
        raise ConfigurationError(message) from error
    except OSError as error:
        raise ConfigurationError(f"{path} can't be read: {error.strerror}.") from error
    _refuse_others(path, mode, forbidden=forbidden, mend=mend)
    try:
        secret = bytes.fromhex(content.decode("ascii"))
    except ValueError:
        # Not chained: the cause would carry the content of the file.
        secret = b""
    if len(secret) != KEY_BYTES:
        raise ConfigurationError(f"{path} has to hold {2 * KEY_BYTES} hexadecimal digits.")
    return secret


def _refuse_others(path: Path, mode: int, *, forbidden: int, mend: str) -> None:
    if mode & forbidden:
        message = f"{path} is open to other users (mode {stat.S_IMODE(mode):04o})."
        raise ConfigurationError(f"{message} Mend it with: chmod {mend} {path}")


def _read_public(path: Path, signing: Ed25519PrivateKey) -> tuple[str, str]:
    """Read the public key back, and with it the name the log was given when it began."""
    try:
        text = path.read_text(encoding="ascii").strip()
        name, public_key = read_verifier_key(text)
    except (OSError, ValueError, CheckpointInvalid) as error:
        raise ConfigurationError(f"{path} can't be read as a verifier key.") from error
    if public_key != signing.public_key():
        message = f"{path} belongs to another signing key than the one in use."
        raise ConfigurationError(f"{message} Put the right key back, or move {path.name} away.")
    return name, text
