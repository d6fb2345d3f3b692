"""What is on record about the consent of patients, from every source, ready to be decided on.

A source keeps what it was given in its own form, sealed; here it becomes a `ConsentRecord`. What
can't be opened or read is given as one that denies everything.
"""

from collections.abc import Collection
from threading import Lock
from typing import TYPE_CHECKING

import orjson
import sqlalchemy as sa

from gateway.core.consent import ConsentRecord, read_consent, unreadable_consent
from gateway.core.errors import Unsealable
from gateway.store.tables import events

if TYPE_CHECKING:
    from gateway.store.events import Event
    from gateway.store.unit_of_work import UnitOfWork

_REMEMBERED = 20_000

_RECEIVED = (
    sa.select(events.c.id, events.c.patient_key)
    .where(
        events.c.patient_key.in_(sa.bindparam("patients", expanding=True)),
        events.c.resource_type == "Consent",
        events.c.is_current,
    )
    .order_by(events.c.id)
)


class ConsentCache:
    """Consents already unsealed and read; an event never changes, so an entry never stales."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._records: dict[str, ConsentRecord] = {}

    def get(self, event_id: str) -> ConsentRecord | None:
        """Give a consent read before."""
        return self._records.get(event_id)

    def put(self, event_id: str, record: ConsentRecord) -> None:
        """Remember a consent; the oldest make room."""
        with self._lock:
            if len(self._records) >= _REMEMBERED:
                del self._records[next(iter(self._records))]
            self._records[event_id] = record


class Consents:
    """The consents of patients."""

    def __init__(self, uow: "UnitOfWork") -> None:
        self._uow = uow

    def of(self, patient_keys: Collection[str]) -> dict[str, list[ConsentRecord]]:
        """Give everything on record about the consent of these patients, by patient key."""
        by_patient: dict[str, list[ConsentRecord]] = {key: [] for key in patient_keys}
        found = self._uow.connection.execute(_RECEIVED, {"patients": list(by_patient)}).all()
        records = self._received([event_id for event_id, _ in found])
        for event_id, patient_key in found:
            by_patient[patient_key].append(records[event_id])
        return by_patient

    # -- Consent resources that a system pushed ----------------------------------------------

    def _received(self, event_ids: Collection[str]) -> dict[str, ConsentRecord]:
        """Give consents by the ids of their events; only what was never read here is fetched."""
        cache = self._uow.consent_cache
        records = {each: record for each in event_ids if (record := cache.get(each)) is not None}
        missing = [each for each in event_ids if each not in records]
        if missing:
            fetched = self._uow.events.get_many(missing)
            self._uow.patient_keys.load(event.patient_key for event in fetched.values())
            records.update({key: self._of_event(event) for key, event in fetched.items()})
        return records

    def _of_event(self, event: "Event") -> ConsentRecord:
        ref = f"Consent/{event.id}"
        try:
            content = orjson.loads(self._uow.events.content(event))
            record = read_consent(content, ref, patient=self._uow.events.patient(event))
        except Unsealable:
            return unreadable_consent(ref)
        self._uow.consent_cache.put(event.id, record)
        return record
