"""The data key of each patient, wrapped by the master key.

Everything of a patient is sealed under a key of hers, so that destroying one row makes all of it
unreadable (crypto-shredding).
"""

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from gateway.core.errors import Erased, Unsealable
from gateway.store.sealing import Place
from gateway.store.tables import patient_keys

if TYPE_CHECKING:
    from gateway.store.unit_of_work import UnitOfWork

#: Key of what names no patient (a Bundle's skeleton, a Practitioner).
NOBODY = "0" * 64

# Built once: every batch asks for keys.
_WRAPPED = sa.select(patient_keys.c.patient_key, patient_keys.c.wrapped_key).where(
    patient_keys.c.patient_key.in_(sa.bindparam("keys", expanding=True))
)
_WRAPPED_HELD = _WRAPPED.with_for_update(read=True, key_share=True)
_WRAPPED_LOCKED = _WRAPPED.with_for_update()


class PatientKeys:
    """Finds, makes and uses the wrapped keys."""

    def __init__(self, uow: "UnitOfWork") -> None:
        self._uow = uow
        self._found: dict[str, bytes] = {}

    def load(self, keys: Iterable[str | None], *, create: bool = False) -> None:
        """Fetch many wrapped keys at once, so that sealing needs no query of its own.

        Args:
            keys: Patient keys; None stands for `NOBODY`.
            create: Make a key for a patient seen for the first time; needs a write transaction.

        Raises:
            Erased: A key would have to be made for a patient who was erased.
        """
        wanted = {key or NOBODY for key in keys}
        # Not `- self._found.keys()`: that walks through all keys found, once per value opened.
        wanted = {key for key in wanted if key not in self._found}
        if not wanted:
            return
        # Who is about to seal holds off whoever would destroy the key meanwhile.
        query = _WRAPPED_HELD if create else _WRAPPED
        rows = self._uow.connection.execute(query, {"keys": list(wanted)})
        self._found.update({row[0]: row[1] for row in rows})
        if create:
            self._create({key for key in wanted if key not in self._found})

    def _create(self, missing: Collection[str]) -> None:
        if not missing:
            return
        if self._uow.erasures.closed(missing):
            raise Erased
        # In one order everywhere: two processes that make the same keys can't block each other.
        made = {key: self._uow.sealer.new_data_key(key) for key in sorted(missing)}
        self._uow.connection.execute(
            _insert_ignoring(self._uow.connection),
            [
                {"patient_key": key, "wrapped_key": wrapped, "created_ms": self._uow.now_ms}
                for key, wrapped in made.items()
            ],
        )
        # Another process may have been first: what the database holds is the key.
        self.load(missing)

    def seal(self, patient_key: str | None, place: Place, plaintext: bytes) -> bytes:
        """Seal under the patient's key, bound to its place.

        Raises:
            Unsealable: The patient has no key: `load(..., create=True)` was not called.
        """
        key = patient_key or NOBODY
        return self._uow.sealer.seal(self._wrapped(key), key, place, plaintext)

    def unseal(self, patient_key: str | None, place: Place, sealed: bytes) -> bytes:
        """Open what `seal` made.

        Raises:
            Erased: It was removed, or its key was destroyed.
            Unsealable: It was changed, moved or its key is gone.
        """
        if not sealed:
            raise Erased
        key = patient_key or NOBODY
        return self._uow.sealer.unseal(self._wrapped(key), key, place, sealed)

    def _wrapped(self, key: str) -> bytes:
        if key not in self._found:
            self.load([key])
        if key in self._found:
            return self._found[key]
        if self._uow.erasures.find([key]):
            raise Erased
        raise Unsealable("The data key of this patient is not here, and no erasure is on record.")

    def lock(self, patient_key: str) -> None:
        """Fetch a key that is about to be destroyed, and hold off whoever would seal under it.

        On PostgreSQL this waits for whoever does so at the moment: what they wrote is seen by what
        follows.
        """
        rows = self._uow.connection.execute(_WRAPPED_LOCKED, {"keys": [patient_key]})
        self._found.update({row[0]: row[1] for row in rows})

    def destroy(self, patient_key: str) -> bytes | None:
        """Delete a patient's key; what is left of its bytes is `shredding`'s business.

        Returns:
            The wrapped key that was deleted; None when there was none.
        """
        statement = (
            sa.delete(patient_keys)
            .where(patient_keys.c.patient_key == patient_key)
            .returning(patient_keys.c.wrapped_key)
        )
        self._found.pop(patient_key, None)
        gone: bytes | None = self._uow.connection.execute(statement).scalar_one_or_none()
        return gone


def _insert_ignoring(connection: sa.Connection) -> sa.Insert:
    if connection.dialect.name == "sqlite":
        return sqlite.insert(patient_keys).on_conflict_do_nothing()
    return postgresql.insert(patient_keys).on_conflict_do_nothing()
