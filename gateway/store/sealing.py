"""Sealing: nothing about a patient lies in the database in the clear.

* Each patient has a data key of their own, wrapped by a key derived from the master key. Without
  its wrapped key nothing of that patient can be opened again: deleting one row erases a patient.
* A sealed value is bound to its table, column, row and patient: moved anywhere else it does not
  open, so rows can't be swapped by somebody who can write to the database but has no key.
* What has to be searched is kept as a keyed hash, which nobody can guess without the master key.

Form of a sealed value and of a wrapped key: 1 byte version, 12 bytes nonce, ciphertext, 16 bytes
tag (AES-256-GCM).

Source: NIST SP 800-38D (GCM); RFC 5869 (HKDF); RFC 2104 (HMAC).
"""

import os
from dataclasses import dataclass, field
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.core.errors import ConfigurationError, Unsealable

KEY_BYTES = 32

_VERSION = b"\x01"
# Random nonces: SP 800-38D section 8.3 allows 2**32 encryptions under one key. A data key seals
# the values of one patient, the wrapping key one data key per patient: both stay far below.
_NONCE_BYTES = 12
_TAG_BYTES = 16
_OVERHEAD_BYTES = len(_VERSION) + _NONCE_BYTES + _TAG_BYTES
_AUDIT_TAG_BYTES = 16
_CACHED_CIPHERS = 4096
_CACHED_CODES = 16_384
_COLUMNS = 64
# 96 bits: enough that two codes of a hospital never meet.
_CODE_KEY_DIGITS = 24


@dataclass(frozen=True, slots=True)
class MasterKey:
    """The one key that opens everything. It never shows in a repr, and so in no traceback."""

    value: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.value) != KEY_BYTES:
            raise ConfigurationError(f"The master key has to have {KEY_BYTES} bytes.")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a sealed value lies; it opens nowhere else."""

    table: str
    column: str
    row_id: str


class Sealer:
    """Seals, opens and hashes with keys derived from one master key. Threads may share one."""

    def __init__(self, master: MasterKey) -> None:
        self._searching = HMAC(_derive(master, b"nadi keyed hash 1"), hashes.SHA256())
        self._tagging = HMAC(_derive(master, b"nadi audit tag 1"), hashes.SHA256())
        self._wrapping = AESGCM(_derive(master, b"nadi key wrapping 1"))
        self._data_cipher = lru_cache(maxsize=_CACHED_CIPHERS)(self._unwrap)
        # The same few codes come again with every event.
        self.code_key = lru_cache(maxsize=_CACHED_CODES)(self._code_key)

    def patient_key(self, system: str, reference: str) -> str:
        """Give the name by which a patient is known everywhere inside Nadi.

        Args:
            system: System of the site file that the reference comes from.
            reference: The reference to the patient, as that system writes it.

        Returns:
            64 hexadecimal digits.
        """
        return self.keyed_hash("patient", system, reference)

    def keyed_hash(self, purpose: str, *parts: str) -> str:
        """Hash what has to be found again by equality but must not be readable.

        Args:
            purpose: Keeps equal values of different columns apart.
            parts: The value; ("a", "bc") and ("ab", "c") differ.

        Returns:
            64 hexadecimal digits.
        """
        return _hashed(self._searching, _framed(purpose, *parts)).hex()

    def audit_tag(self, name: str, body: bytes) -> bytes:
        """Give what shows that whoever wrote an AuditEvent had the master key.

        Args:
            name: Its id.
            body: Its bytes.
        """
        return _hashed(self._tagging, name.encode() + body)[:_AUDIT_TAG_BYTES]

    def forget_opened(self) -> int:
        """Let go of every opened data key; give how many. They are opened again when needed."""
        count = self._data_cipher.cache_info().currsize
        self._data_cipher.cache_clear()
        return count

    def _code_key(self, code: str) -> str:
        return self.keyed_hash("code", code)[:_CODE_KEY_DIGITS]

    def new_data_key(self, patient_key: str) -> bytes:
        """Make the data key of a patient; give it wrapped, as it is stored."""
        return _encrypt(self._wrapping, os.urandom(KEY_BYTES), _framed("key", patient_key))

    def seal(self, wrapped_key: bytes, patient_key: str, place: Place, plaintext: bytes) -> bytes:
        """Seal a value for one place.

        Raises:
            Unsealable: The wrapped key is not this patient's, or was changed.
        """
        cipher = self._data_cipher(wrapped_key, patient_key)
        return _encrypt(cipher, plaintext, _binding(place, patient_key))

    def unseal(self, wrapped_key: bytes, patient_key: str, place: Place, sealed: bytes) -> bytes:
        """Open a value that was sealed for this place.

        Raises:
            Unsealable: The value or its key was changed, or it was sealed for another place.
        """
        cipher = self._data_cipher(wrapped_key, patient_key)
        return _decrypt(cipher, sealed, _binding(place, patient_key))

    def _unwrap(self, wrapped_key: bytes, patient_key: str) -> AESGCM:
        return AESGCM(_decrypt(self._wrapping, wrapped_key, _framed("key", patient_key)))


def _derive(master: MasterKey, purpose: bytes) -> bytes:
    # The master key is uniformly random, so HKDF needs no salt (RFC 5869 section 3.1).
    return HKDF(hashes.SHA256(), KEY_BYTES, salt=None, info=purpose).derive(master.value)


def _hashed(keyed: HMAC, message: bytes) -> bytes:
    """Hash under a key; a copy spares working out anew what depends on the key alone."""
    copy = keyed.copy()
    copy.update(message)
    return copy.finalize()


def _framed(*parts: str) -> bytes:
    """Join texts so that no two different lists give the same bytes."""
    return b"".join([_frame(part) for part in parts])


def _frame(part: str) -> bytes:
    encoded = part.encode()
    return len(encoded).to_bytes(4) + encoded


@lru_cache(maxsize=_COLUMNS)
def _of_column(table: str, column: str) -> bytes:
    """Give how the binding of every value of a column begins."""
    return _framed("value", table, column)


def _binding(place: Place, patient_key: str) -> bytes:
    return _of_column(place.table, place.column) + _frame(place.row_id) + _frame(patient_key)


def _encrypt(cipher: AESGCM, plaintext: bytes, binding: bytes) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    return _VERSION + nonce + cipher.encrypt(nonce, plaintext, _VERSION + binding)


def _decrypt(cipher: AESGCM, sealed: bytes, binding: bytes) -> bytes:
    if len(sealed) < _OVERHEAD_BYTES or sealed[:1] != _VERSION:
        raise Unsealable
    nonce, ciphertext = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
    try:
        return cipher.decrypt(nonce, ciphertext, _VERSION + binding)
    except InvalidTag as error:
        raise Unsealable from error
