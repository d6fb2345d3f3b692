"""From the keys by which Nadi knows patients back to how their EHR names them."""

from collections.abc import Collection
from typing import TYPE_CHECKING

import sqlalchemy as sa

from gateway.core.consent.acts import patient_of
from gateway.core.consent.statement import StatementForged
from gateway.core.errors import Unsealable
from gateway.store.consent_tables import consent_acts
from gateway.store.sealing import Place
from gateway.store.tables import events

if TYPE_CHECKING:
    from gateway.store.unit_of_work import UnitOfWork

_MOST_ASKED = 500
_ONE = (
    sa.select(events.c.id, events.c.patient_ref)
    .where(events.c.patient_key == sa.bindparam("key"), events.c.patient_ref.is_not(None))
    .limit(1)
)


def on_record(uow: "UnitOfWork", keys: Collection[str]) -> set[str]:
    """Give those of whom anything was ever received or recorded, the erased included."""
    found = set(uow.erasures.find(keys))
    found |= received(uow, set(keys) - found)
    return found | _in(uow, consent_acts, set(keys) - found)


def received(uow: "UnitOfWork", keys: Collection[str]) -> set[str]:
    """Give those of whom a system ever sent anything that is still here."""
    return _in(uow, events, keys)


def _in(uow: "UnitOfWork", table: sa.Table, keys: Collection[str]) -> set[str]:
    found: set[str] = set()
    wanted = sorted(keys)
    for start in range(0, len(wanted), _MOST_ASKED):
        part = wanted[start : start + _MOST_ASKED]
        asked = sa.select(table.c.patient_key).where(table.c.patient_key.in_(part)).distinct()
        found |= set(uow.connection.scalars(asked))
    return found


def patients_named(uow: "UnitOfWork", keys: Collection[str | None]) -> dict[str, str]:
    """Give `Patient/<id>` for each key that can still be opened; an erased patient has none.

    Of whom nothing was received, a consent that staff recorded or imported tells the name.
    """
    known = {key for key in keys if key is not None}
    uow.patient_keys.load(known)
    named = {key: name for key in known if (name := _name(uow, key) or _stated(uow, key))}
    return dict(sorted(named.items()))


def _name(uow: "UnitOfWork", key: str) -> str | None:
    row = uow.connection.execute(_ONE, {"key": key}).first()
    if row is None:
        return None
    try:
        place = Place("events", "patient_ref", row.id)
        return uow.patient_keys.unseal(key, place, row.patient_ref).decode()
    except Unsealable:
        return None


def _stated(uow: "UnitOfWork", key: str) -> str | None:
    for consent in uow.consent_acts.of([key]):
        try:
            name = patient_of(uow.consent_acts.open(consent))
        except (Unsealable, StatementForged):
            continue
        if name is not None:
            return name
    return None
