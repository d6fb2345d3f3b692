"""What is on record about the consent of patients, from every source, ready to be decided on.

A source keeps what it was given in its own form, sealed; here it becomes a `ConsentRecord`. What
can't be opened or read is given as one that denies everything.

* Consent resources that a system pushed are events (`gateway.store.events`).
* Of an erased patient nothing from before counts, but that she refused all AI.
* What staff recorded or imported are acts (`gateway.store.consent_acts`), read and verified again
  at every use unless exactly the same bytes were found good before.
* Where a consent counts its uses, the use is put down in the transaction that it stands for.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import TYPE_CHECKING

import orjson
import sqlalchemy as sa

from gateway.core.consent import ConsentRecord, read_consent, unreadable_consent
from gateway.core.consent.abdm import AbdmPolicy
from gateway.core.consent.acts import consent_of, is_taken_back
from gateway.core.consent.local import kept_refusal
from gateway.core.consent.statement import StatementForged
from gateway.core.errors import Unsealable
from gateway.store.consent_acts import StoredConsent
from gateway.store.consent_tables import consent_acts, consent_uses
from gateway.store.rights_tables import erasures
from gateway.store.tables import events

if TYPE_CHECKING:
    from gateway.store.erasures import Tombstone
    from gateway.store.events import Event
    from gateway.store.unit_of_work import UnitOfWork

_REMEMBERED = 20_000

_OF_PATIENTS = sa.bindparam("patients", type_=sa.String, expanding=True)
_RECEIVED = (
    sa.select(events.c.id)
    .where(
        events.c.patient_key.in_(_OF_PATIENTS),
        events.c.resource_type == "Consent",
        events.c.is_current,
    )
    .order_by(events.c.id)
)
_EVER_RECEIVED = (
    sa.select(*(events.c[name] for name in ("id", "system", "is_current", "received_ms")))
    .add_columns(events.c.resource_key)
    .where(events.c.patient_key == sa.bindparam("patient"), events.c.resource_type == "Consent")
    .order_by(events.c.received_ms, events.c.id)
)
_EVENT, _ACT, _ERASURE = 0, 1, 2
# Which consents are in force, in which version: what most patients have is found by this alone.
_ON_RECORD = sa.union_all(
    sa.select(sa.literal_column("0"), events.c.patient_key, events.c.id).where(
        events.c.patient_key.in_(_OF_PATIENTS),
        events.c.resource_type == "Consent",
        events.c.is_current,
    ),
    sa.select(sa.literal_column("1"), consent_acts.c.patient_key, consent_acts.c.id).where(
        consent_acts.c.patient_key.in_(_OF_PATIENTS)
    ),
    sa.select(sa.literal_column("2"), erasures.c.patient_key, erasures.c.id).where(
        erasures.c.patient_key.in_(_OF_PATIENTS)
    ),
)
_PATIENTS = sa.union(
    sa.select(events.c.patient_key).where(events.c.patient_key.is_not(None)),
    sa.select(consent_acts.c.patient_key).where(consent_acts.c.patient_key.is_not(None)),
).order_by(sa.text("1"))
_USED_BY = sa.select(consent_uses.c.event_id).where(
    consent_uses.c.consent_id == sa.bindparam("consent"),
    consent_uses.c.used_ms > sa.bindparam("since"),
)
_LAST_USE = sa.select(sa.func.coalesce(sa.func.max(consent_uses.c.number), 0)).where(
    consent_uses.c.consent_id == sa.bindparam("consent")
)


@dataclass(frozen=True, kw_only=True)
class Version:
    """One version of a Consent that a system pushed.

    Attributes:
        is_current: Whether it is the newest one.
        replaced_ms: When the next version came; None where none did, or nobody can tell any more.
    """

    record: ConsentRecord
    system: str
    received_ms: int
    is_current: bool
    replaced_ms: int | None


class ConsentCache:
    """Consents already unsealed and read.

    What is found by its event never changes; what is found by the hash of all that is stored of it
    was read from exactly these bytes. So an entry never stales.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._records: dict[str, ConsentRecord] = {}

    def get(self, key: str) -> ConsentRecord | None:
        """Give a consent read before."""
        return self._records.get(key)

    def clear(self) -> None:
        """Forget all of them."""
        with self._lock:
            self._records = {}

    def put(self, key: str, record: ConsentRecord) -> None:
        """Remember a consent; the oldest make room."""
        with self._lock:
            if len(self._records) >= _REMEMBERED:
                del self._records[next(iter(self._records))]
            self._records[key] = record


class Consents:
    """The consents of patients."""

    def __init__(self, uow: "UnitOfWork") -> None:
        self._uow = uow

    def of(
        self, patient_keys: Collection[str], policy: AbdmPolicy | None = None
    ) -> dict[str, list[ConsentRecord]]:
        """Give everything on record about the consent of these patients, by patient key.

        Args:
            patient_keys: The patients.
            policy: How the site takes ABDM artefacts; without it they permit nothing.
        """
        by_patient: dict[str, list[ConsentRecord]] = {key: [] for key in patient_keys}
        rows = self._uow.connection.execute(_ON_RECORD, {"patients": list(by_patient)}).all()
        received = sorted((row_id, key) for kind, key, row_id in rows if kind == _EVENT)
        records = self._received([event_id for event_id, _ in received])
        for event_id, key in received:
            by_patient[key].append(records[event_id])
        acting, erased = ({key for k, key, _ in rows if k == kind} for kind in (_ACT, _ERASURE))
        if acting or erased:
            self._add_acts(by_patient, acting, erased, policy)
        return by_patient

    def _add_acts(
        self,
        by_patient: Mapping[str, list[ConsentRecord]],
        acting: Collection[str],
        erased: Collection[str],
        policy: AbdmPolicy | None,
    ) -> None:
        """Add what was recorded or imported, and what erasures left over.

        Args:
            by_patient: To be added to.
            acting: Patients of whom something was recorded or imported.
            erased: Those who were erased at some time.
            policy: As in `of`.
        """
        tombstones = self._uow.erasures.find(erased) if erased else {}
        acts = self._uow.consent_acts.of(acting) if acting else []
        self._load_keys(acts, policy)
        for consent in acts:
            key = str(consent.patient_key)
            if key in by_patient and _is_hers(consent, tombstones.get(key)):
                by_patient[key].append(self.record_of(consent, policy))
        for key, tombstone in tombstones.items():
            by_patient[key] += self._left(tombstone, acts)

    def _left(
        self, tombstone: "Tombstone | None", acts: Sequence[StoredConsent]
    ) -> list[ConsentRecord]:
        """Give the refusal that a patient's erasure left over, and whether it was taken back."""
        if tombstone is None or not tombstone.refused_ai:
            return []
        about_it = next((each for each in acts if each.id == tombstone.id), None)
        try:
            found = self._uow.consent_acts.open(about_it) if about_it else []
        except (Unsealable, StatementForged):
            found = []  # it says nothing that could be relied on: the refusal holds
        ref = f"Consent/{tombstone.id}"
        return [kept_refusal(ref, is_taken_back=is_taken_back(found))]

    def received(self, patient_key: str) -> list["Event"]:
        """Give the Consents of a patient that a system pushed and that are its newest versions."""
        found = self._uow.connection.scalars(_RECEIVED, {"patients": [patient_key]}).all()
        events = self._uow.events.get_many(found)
        return [events[event_id] for event_id in found]

    def versions(self, patient_key: str) -> list[Version]:
        """Give every version of every Consent that a system ever pushed of her, oldest first."""
        rows = self._uow.connection.execute(_EVER_RECEIVED, {"patient": patient_key}).all()
        records = self._received([row.id for row in rows])
        next_ms: dict[str, int] = {}
        found = []
        for row in reversed(rows):
            replaced_ms = None if row.is_current else next_ms.get(row.resource_key)
            if row.resource_key:
                next_ms[row.resource_key] = row.received_ms
            found.append(
                Version(
                    record=records[row.id],
                    system=row.system,
                    received_ms=row.received_ms,
                    is_current=row.is_current,
                    replaced_ms=replaced_ms,
                )
            )
        return found[::-1]

    def recorded(self, patient_key: str) -> tuple[list[StoredConsent], list[ConsentRecord]]:
        """Give what was recorded or imported of a patient, and what an erasure left over.

        Nothing from before an erasure is hers any more, but a refusal of all AI.
        """
        tombstone = self._uow.erasures.find([patient_key]).get(patient_key)
        acts = self._uow.consent_acts.of([patient_key])
        return [each for each in acts if _is_hers(each, tombstone)], self._left(tombstone, acts)

    def patients(self) -> list[str]:
        """Give the keys of all patients of whom anything was received or said."""
        return list(self._uow.connection.scalars(_PATIENTS))

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

    # -- what was recorded or imported here --------------------------------------------------

    def record_of(self, consent: StoredConsent, policy: AbdmPolicy | None) -> ConsentRecord:
        """Read a consent into what decisions are made from; it fails by denying."""
        key = _cached_under(consent, policy)
        record = self._uow.consent_cache.get(key)
        if record is None:
            ref = f"Consent/{consent.id}"
            try:
                record = consent_of(self._uow.consent_acts.open(consent), ref, policy)
            except (Unsealable, StatementForged):
                return unreadable_consent(ref, may_refuse_ai=consent.form == "local")
            self._uow.consent_cache.put(key, record)
        return self._counted(consent.id, record)

    def _load_keys(self, consents: Sequence[StoredConsent], policy: AbdmPolicy | None) -> None:
        """Fetch at once the keys of what was never read here."""
        cache = self._uow.consent_cache
        unread = (each for each in consents if cache.get(_cached_under(each, policy)) is None)
        keys = {row.patient_key for each in unread for row in each.rows}
        if keys:
            self._uow.patient_keys.load(keys)

    def _counted(self, consent_id: str, record: ConsentRecord) -> ConsentRecord:
        """Add the uses that are on record, where a consent counts them."""
        if record.terms.most is None:
            return record
        since_ms = self._uow.now_ms - record.terms.per_s * 1000
        values = {"consent": consent_id, "since": since_ms}
        used_by = frozenset(self._uow.connection.scalars(_USED_BY, values))
        return replace(record, terms=record.terms.with_uses(used_by))

    def use(
        self, records: Sequence[ConsentRecord], refs: Collection[str], event_id: str
    ) -> list[ConsentRecord]:
        """Put down that an event was used on the ground of consents; give these as they now stand.

        Args:
            records: The consents of the patient.
            refs: The ones that the decision rests on.
            event_id: Of the event; it counts once, however often it is used.

        Raises:
            StoreConflict: Another transaction counted the same consent at the same moment.
        """
        return [
            self._used(record, event_id) if record.ref in refs else record for record in records
        ]

    def _used(self, record: ConsentRecord, event_id: str) -> ConsentRecord:
        terms = record.terms
        if terms.most is None or event_id in terms.used_by:
            return record
        consent_id = record.ref.removeprefix("Consent/")
        number = self._uow.connection.scalars(_LAST_USE, {"consent": consent_id}).one()
        row = {
            "consent_id": consent_id,
            "number": number + 1,
            "event_id": event_id,
            "used_ms": self._uow.now_ms,
        }
        self._uow.connection.execute(sa.insert(consent_uses), row)
        return replace(record, terms=terms.with_uses(terms.used_by | {event_id}))


def _is_hers(consent: StoredConsent, tombstone: "Tombstone | None") -> bool:
    """Say whether a consent counts: nothing does that was recorded before she was erased.

    An act under the id of her erasure is about the refusal that it left over.
    """
    if tombstone is None:
        return True
    return consent.recorded_ms > tombstone.erased_ms and consent.id != tombstone.id


def _cached_under(consent: StoredConsent, policy: AbdmPolicy | None) -> str:
    return f"{consent.seal} {policy.fingerprint if policy else ''}"
