"""Who made a model: Ed25519 keys, the signature of a package, and whom a site trusts.

* A key is written `ed25519:` and its 32 bytes in base64; its id is the beginning of that text's
  SHA-256.
* Signed is the digest of the package with a line before it that says what is signed, so that a
  signature for something else never fits.
* Trusted is a whole key, never a name or an id. The key in a signature only tells a forgery from a
  signer that nobody has listed.

Source: RFC 8032 (Ed25519); RFC 7468 and RFC 8410 (the file of a private key).
"""

import base64
import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from pydantic import BaseModel, ConfigDict, ValidationError

from models.ceilings import Ceilings
from models.refusals import SignatureBad, SignatureMissing, SignerUnknown

SIGNATURE_FILE = "SIGNATURE"

_CONTEXT = "nadi.health model package, version 1"
_PREFIX = "ed25519:"
_ID_DIGITS = 16
_MOST_KEY_FILE_BYTES = 4096
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class KeyUnusable(ValueError):
    """A key can't be read or written: the message says which, and how to mend it."""


@dataclass(frozen=True)
class Trust:
    """Whose packages a site takes, and what they may contain.

    Attributes:
        signers: Key, as it is written, → name of the signer.
        operator_domains: Domains of operators beyond the runtime's own that are allowed.
        ceilings: The most that the gate of a model may allow.
    """

    signers: Mapping[str, str] = field(default_factory=dict)
    operator_domains: frozenset[str] = frozenset()
    ceilings: Ceilings = field(default_factory=Ceilings)


class Signature(BaseModel):
    """What stands in `SIGNATURE`.

    Attributes:
        key: The public key, as it is written.
        key_id: Its id.
        signature: Over the digest, base64.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    key: str
    key_id: str
    signature: str

    def to_bytes(self) -> bytes:
        """As it is written into a package."""
        return (json.dumps(self.model_dump(), indent=1) + "\n").encode("ascii")

    def insist_on(self, digest: str) -> None:
        """Insist that it was made with its key, for this digest.

        Raises:
            SignatureBad: It was not.
        """
        try:
            public_key(self.key).verify(_decoded(self.signature), _signed(digest))
        except (KeyUnusable, ValueError, InvalidSignature) as error:
            raise SignatureBad(
                f"the signature of key {self.key_id} is not one of this content; "
                "fetch the package again from its maker"
            ) from error

    def signer(self, trust: Trust) -> str:
        """The name of the signer, as the site knows it.

        Raises:
            SignerUnknown: The site does not trust this key.
        """
        name = trust.signers.get(self.key)
        if name is None:
            raise SignerUnknown(
                f"key {self.key_id} ({self.key}) is not on the list of signers. If you trust its "
                "owner, compare it with the key that the owner tells you, and add that to "
                "`models.signers` of the site file"
            )
        return name


def read_signature(content: bytes) -> Signature:
    """Read what stands in `SIGNATURE`.

    Raises:
        SignatureMissing: It is empty.
        SignatureBad: It is not exactly what `Signature.to_bytes` writes.
    """
    if not content:
        raise SignatureMissing("the package is not signed; `nadi models pack --key FILE` signs it")
    try:
        found = Signature.model_validate_json(content)
    except ValidationError as error:
        raise SignatureBad(f"{SIGNATURE_FILE} is not a signature that Nadi wrote") from error
    if found.to_bytes() != content or found.key_id != _id_of(found.key):
        raise SignatureBad(f"{SIGNATURE_FILE} is not a signature that Nadi wrote")
    return found


def sign(digest: str, key: Ed25519PrivateKey) -> Signature:
    """Sign the digest of a package."""
    written = written_key(key.public_key())
    signature = base64.b64encode(key.sign(_signed(digest))).decode("ascii")
    return Signature(key=written, key_id=_id_of(written), signature=signature)


def written_key(key: Ed25519PublicKey) -> str:
    """A public key as site files and signatures write it."""
    return _PREFIX + base64.b64encode(key.public_bytes_raw()).decode("ascii")


def public_key(written: str) -> Ed25519PublicKey:
    """Read a public key.

    Raises:
        KeyUnusable: It is not written as `written_key` writes one.
    """
    try:
        key = Ed25519PublicKey.from_public_bytes(_decoded(written.removeprefix(_PREFIX)))
    except ValueError as error:
        raise KeyUnusable(f"not a public key: {_PREFIX} and 44 characters are expected") from error
    if written_key(key) != written:
        raise KeyUnusable(f"not a public key: {_PREFIX} and 44 characters are expected")
    return key


def key_id(key: Ed25519PublicKey) -> str:
    """Sixteen hexadecimal digits by which people tell keys apart."""
    return _id_of(written_key(key))


def new_key(path: Path) -> Ed25519PrivateKey:
    """Make a private key in a new file (PEM, PKCS #8) that only its owner may read.

    Raises:
        KeyUnusable: The file is there already, or can't be written.
    """
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(descriptor)
    except OSError as error:
        raise KeyUnusable(f"{path} can't be written: {error.strerror}") from error
    return key


def read_key(path: Path) -> Ed25519PrivateKey:
    """Read a private key.

    Raises:
        KeyUnusable: It is open to other users, or no Ed25519 key in PEM.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(_MOST_KEY_FILE_BYTES)
    except OSError as error:
        raise KeyUnusable(f"{path} can't be read: {error.strerror}") from error
    if os.name == "posix" and mode & _OTHERS:
        raise KeyUnusable(f"{path} is open to other users. Mend it with: chmod 600 {path}")
    try:
        key = load_pem_private_key(content, None)
    except (ValueError, TypeError):
        # Not chained: the cause may quote the content of the file.
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyUnusable(f"{path} holds no Ed25519 key; `nadi models key new FILE` makes one")
    return key


def _decoded(written: str) -> bytes:
    """Read base64 in its one canonical form: the last character may hide bits that say nothing.

    Raises:
        ValueError: It is not in this form.
    """
    raw = base64.b64decode(written, validate=True)
    if base64.b64encode(raw).decode("ascii") != written:
        raise ValueError("not canonical base64")
    return raw


def _signed(digest: str) -> bytes:
    return f"{_CONTEXT}\n{digest}\n".encode("ascii")


def _id_of(written: str) -> str:
    return hashlib.sha256(written.encode("utf-8")).hexdigest()[:_ID_DIGITS]
