"""What stands first in a backup: which Nadi made it, what is in it, and the SHA-256 of every file.

It is signed with the key of the audit log, so that nobody who only has the public half of the
backup key can pass a backup of their own off as this installation's.
"""

import base64
import hashlib
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.core.ledger import CheckpointInvalid, read_verifier_key, sign_note
from gateway.store.backup_file import BackupAltered, BackupUnusable
from gateway.store.database_copy import DatabaseFacts
from gateway.store.engine import known_schemas, newest_schema

FORMAT = 1
_KIND = "nadi-backup-1"
# A signature in a note begins with the id of its key.
_KEY_ID_BYTES = 4


class BackupTooNew(BackupUnusable):
    """The backup was made by a newer version of Nadi."""


@dataclass(frozen=True)
class FileLine:
    """One file of a backup.

    Attributes:
        path: Where it lies in the data folder.
    """

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a backup says of itself.

    Attributes:
        id: Of the backup.
        made_at: When the database was copied, ISO 8601, UTC.
        nadi: Version of Nadi.
        site: Name of the site.
        origin: Name of the audit log.
        verifier: The line of `audit.pub`.
        has_keys: Whether the secret keys of the installation are in it.
        database: What the database holds.
        files: Everything else, and the database too.
    """

    id: str
    made_at: str
    nadi: str
    site: str
    origin: str
    verifier: str
    has_keys: bool
    database: DatabaseFacts
    files: tuple[FileLine, ...]

    def to_bytes(self) -> bytes:
        """As it stands in the backup."""
        told = {"format": FORMAT, **asdict(self)}
        return orjson.dumps(told, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n"

    @property
    def sha256(self) -> str:
        """SHA-256 of it, which stands in the audit log."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @property
    def _text(self) -> str:
        return f"{_KIND}\n{len(self.files)}\n{self.sha256}\n"

    def signed(self, key: Ed25519PrivateKey) -> str:
        """Sign it with the key of the audit log; the note may go out of the house."""
        return sign_note(key, self.origin, self._text)

    def insist_on(self, note: str) -> None:
        """Insist that the key of the log that it names has signed it.

        Raises:
            BackupAltered: It has not.
        """
        try:
            name, key = read_verifier_key(self.verifier)
            signature = base64.b64decode(note.rsplit(maxsplit=1)[-1])[_KEY_ID_BYTES:]
            key.verify(signature, self._text.encode())
        except (CheckpointInvalid, InvalidSignature, ValueError, IndexError):
            name = ""
        if name != self.origin:
            raise BackupAltered(
                "The backup's manifest is not signed by the audit log that it names: it was not "
                "made by that installation. Take another backup."
            )


def read_manifest(content: bytes) -> Manifest:
    """Read a manifest.

    Raises:
        BackupTooNew: A newer Nadi made the backup.
        BackupAltered: It is none.
    """
    try:
        told: dict[str, Any] = orjson.loads(content)
        _insist_on_known(told)
        facts = DatabaseFacts(**told["database"])
        lines = tuple(FileLine(**line) for line in told["files"])
        told = {name: value for name, value in told.items() if name != "format"}
        manifest = Manifest(**{**told, "database": facts, "files": lines})
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
        raise BackupAltered("The manifest of the backup is none.") from None
    if not all(_is_inside(line.path) for line in lines) or manifest.to_bytes() != content:
        raise BackupAltered("The manifest of the backup is not as Nadi writes it.")
    return manifest


def _insist_on_known(told: dict[str, Any]) -> None:
    schema = str(told["database"]["schema"])
    if told["format"] != FORMAT or schema not in known_schemas():
        raise BackupTooNew(
            f"This backup was made by Nadi {told['nadi']}: format {told['format']}, schema "
            f"{schema}. This Nadi knows format {FORMAT} and schemas up to {newest_schema()}. "
            f"Install Nadi {told['nadi']} or a newer one, then try again; nothing was changed."
        )


def _is_inside(path: str) -> bool:
    """Say whether a path stays in the folder, whatever is put before it."""
    parts = PurePosixPath(path).parts
    return "/".join(parts) == path and ".." not in parts and parts[:1] != (".",)
