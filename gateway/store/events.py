"""What was received: every version of every resource, sealed, and which version is current."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import msgspec
import orjson
import sqlalchemy as sa

from gateway.core.admission import Arrival
from gateway.core.clock import to_ms
from gateway.core.errors import NotFound, Unsealable
from gateway.core.event import VersionMark
from gateway.core.lanes import Lane
from gateway.store.engine import insert_all
from gateway.store.identity import code_keys
from gateway.store.sealing import Place
from gateway.store.tables import CURRENT_CONSENT, events, submissions
from gateway.store.written_tables import written_results

if TYPE_CHECKING:
    from gateway.store.unit_of_work import UnitOfWork

_THE_BEGINNING_MS = -(2**62)


@dataclass(frozen=True, kw_only=True)
class Event:
    """One received version of one resource; its content stays sealed.

    Attributes:
        codes: Keyed hashes of `system|code` of its codings.
        payload: The sealed bytes; `Events.content` opens them.
    """

    id: str
    dedupe_key: str
    submission_id: str | None
    entry_index: int | None
    system: str
    principal_id: str
    resource_type: str
    version_id: str | None
    last_updated_ms: int | None
    patient_key: str | None
    patient_ref: bytes | None
    codes: tuple[str, ...]
    effective_ms: int | None
    is_current: bool
    sha256: str
    payload: bytes
    received_ms: int

    @property
    def is_erased(self) -> bool:
        """Whether its content was removed; the row stays, for the log to be verified."""
        return not self.payload


@dataclass(frozen=True, slots=True)
class KeptResource:
    """A resource of a patient's record as it is kept: as much of its event as opening it needs."""

    id: str
    patient_key: str
    payload: bytes


@dataclass(frozen=True)
class KnownEvent:
    """An event that was here before, as much of it as the answer to its repeat needs."""

    id: str
    is_current: bool
    sha256: str
    received_ms: int


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A Bundle as received.

    Attributes:
        skeleton: Its bytes, with the id of an event wherever its payload stood.
    """

    id: str
    dedupe_key: str
    system: str
    bundle_type: str
    sha256: str
    skeleton: Sequence[bytes | str]


_NAMES = tuple(Event.__dataclass_fields__)
_COLUMNS = [events.c[name] for name in _NAMES]
# Statements are built once: putting one together costs more than to execute it.
_KNOWN = sa.select(
    *(events.c[name] for name in ("dedupe_key", "id", "is_current", "sha256", "received_ms"))
).where(events.c.dedupe_key.in_(sa.bindparam("keys", expanding=True)))
_KNOWN_SUBMISSIONS = sa.select(submissions.c.dedupe_key).where(
    submissions.c.dedupe_key.in_(sa.bindparam("keys", expanding=True))
)
_CURRENT_OF = (
    events.c.resource_key.in_(sa.bindparam("resource_keys", expanding=True)),
    events.c.is_current,
)
_NEWEST = sa.select(events.c.resource_key, events.c.version_id, events.c.last_updated_ms).where(
    *_CURRENT_OF
)
_RETIRE = sa.update(events).where(*_CURRENT_OF).values(is_current=False)
_REINSTATE = (
    sa.update(events)
    .where(events.c.id.in_(sa.bindparam("ids", expanding=True)))
    .values(is_current=True)
)
_GET_MANY = sa.select(*_COLUMNS).where(events.c.id.in_(sa.bindparam("ids", expanding=True)))
_GET_CURRENT = sa.select(events.c.resource_key, *_COLUMNS).where(*_CURRENT_OF)
_LANES = sa.select(events.c.resource_key, events.c.lane).where(
    *_CURRENT_OF, events.c.lane.is_not(None)
)
# Not in order: a sorter would copy every payload.
_RECORDS = sa.select(*(events.c[name] for name in ("id", "patient_key", "payload", "codes"))).where(
    events.c.patient_key.in_(sa.bindparam("patients", expanding=True)),
    events.c.resource_type.in_(sa.bindparam("types", expanding=True)),
    events.c.is_current,
    sa.or_(events.c.effective_ms >= sa.bindparam("since"), events.c.effective_ms.is_(None)),
    # What Nadi itself wrote is no reading, whatever label the EHR has left of it.
    ~sa.exists().where(written_results.c.resource_key == events.c.resource_key),
)


class Events:
    """The received resources."""

    def __init__(self, uow: "UnitOfWork") -> None:
        self._uow = uow

    # -- receiving ---------------------------------------------------------------------------

    def known(self, dedupe_keys: Collection[str]) -> dict[str, KnownEvent]:
        """Give the events that were received before, by their dedupe key."""
        rows = self._uow.connection.execute(_KNOWN, {"keys": list(dedupe_keys)})
        return {row[0]: KnownEvent(*row[1:]) for row in rows}

    def known_submissions(self, dedupe_keys: Collection[str]) -> set[str]:
        """Say which Bundles were received before, by their dedupe key."""
        values = {"keys": list(dedupe_keys)}
        return set(self._uow.connection.scalars(_KNOWN_SUBMISSIONS, values))

    def newest(self, resource_keys: Collection[str]) -> dict[str, VersionMark]:
        """Give the current version of each of these resources."""
        rows = self._uow.connection.execute(_NEWEST, {"resource_keys": list(resource_keys)})
        return {row[0]: VersionMark(row[1], row[2]) for row in rows}

    def add(self, arrivals: Sequence[tuple[Arrival, bool]]) -> None:
        """Store arrivals, each with whether it is now the current version of its resource."""
        self._uow.patient_keys.load((a.patient_key for a, _ in arrivals), create=True)
        self._retire({a.resource_key for a, current in arrivals if current and a.resource_key})
        rows = [self._row(arrival, is_current) for arrival, is_current in arrivals]
        insert_all(self._uow.connection, events, rows)

    def reinstate(self, returned: Mapping[str, str]) -> None:
        """Make events that were here before current again.

        Args:
            returned: Resource key to the id of the event that came again.
        """
        self._retire(returned.keys())
        if returned:
            self._uow.connection.execute(_REINSTATE, {"ids": list(returned.values())})

    def _retire(self, resource_keys: Collection[str]) -> None:
        if resource_keys:
            self._uow.connection.execute(_RETIRE, {"resource_keys": list(resource_keys)})

    def add_submission(self, submission: Submission) -> None:
        """Store the skeleton of a Bundle.

        The entries' resources lie under their patients' keys, the rest under nobody's.
        """
        self._uow.patient_keys.load([None], create=True)
        place = Place("submissions", "skeleton", submission.id)
        skeleton = msgspec.msgpack.encode(submission.skeleton)
        self._uow.connection.execute(
            sa.insert(submissions),
            {
                "id": submission.id,
                "dedupe_key": submission.dedupe_key,
                "system": submission.system,
                "bundle_type": submission.bundle_type,
                "sha256": submission.sha256,
                "skeleton": self._uow.patient_keys.seal(None, place, skeleton),
                "received_ms": self._uow.now_ms,
            },
        )

    def _row(self, arrival: Arrival, is_current: bool) -> dict[str, object]:
        facts, seal = arrival.facts, self._uow.patient_keys.seal
        reference = facts.patient and seal(
            arrival.patient_key, Place("events", "patient_ref", arrival.id), facts.patient.encode()
        )
        return {
            "id": arrival.id,
            "dedupe_key": arrival.dedupe_key,
            "submission_id": arrival.submission_id,
            "entry_index": arrival.entry_index,
            "system": arrival.system,
            "principal_id": arrival.principal_id,
            "request_id": arrival.request_id,
            "resource_type": facts.resource_type,
            "resource_key": arrival.resource_key,
            "version_id": facts.version_id,
            "last_updated_ms": to_ms(facts.last_updated) if facts.last_updated else None,
            "patient_key": arrival.patient_key,
            "patient_ref": reference,
            "codes": "\n".join(code_keys(self._uow.sealer, facts.codes)),
            "effective_ms": to_ms(facts.effective) if facts.effective else None,
            "lane": facts.lane,
            "is_current": is_current,
            "sha256": arrival.sha256,
            "payload": seal(
                arrival.patient_key, Place("events", "payload", arrival.id), arrival.raw
            ),
            "received_ms": self._uow.now_ms,
        }

    # -- reading -----------------------------------------------------------------------------

    def get(self, event_id: str) -> Event | None:
        """Give one event, None when there is none."""
        return self.get_many([event_id]).get(event_id)

    def get_many(self, event_ids: Collection[str]) -> dict[str, Event]:
        """Give events by their ids."""
        rows = self._uow.connection.execute(_GET_MANY, {"ids": list(event_ids)})
        return {row.id: _event(row) for row in rows}

    def current(self, resource_keys: Collection[str]) -> dict[str, Event]:
        """Give the current version of each of these resources, by resource key."""
        values = {"resource_keys": list(resource_keys)}
        rows = self._uow.connection.execute(_GET_CURRENT, values)
        return {row.resource_key: _event(row[1:]) for row in rows}

    def lanes(self, resource_keys: Collection[str]) -> dict[str, Lane]:
        """Say how urgent the current versions of these resources say they are."""
        rows = self._uow.connection.execute(_LANES, {"resource_keys": list(resource_keys)})
        return {row[0]: Lane(row[1]) for row in rows}

    def recent(
        self, *, principal_id: str | None, limit: int, before: str | None = None
    ) -> list[Event]:
        """Give the newest events, newest first; with a principal, those it pushed."""
        criteria = []
        if principal_id:
            criteria.append(events.c.principal_id == principal_id)
        if before:
            criteria.append(events.c.id < before)
        return self._select(*criteria, order=[events.c.id.desc()], limit=limit)

    def current_of(
        self, system: str, resource_type: str | None, *, after: str, limit: int
    ) -> list[Event]:
        """Give the current versions that a system sent, oldest first, a part at a time.

        Args:
            system: Whose they are.
            resource_type: Of which type; None for every type.
            after: Id of the last one of the part before; empty for the first.
            limit: How many at most.
        """
        criteria = [events.c.system == system, events.c.is_current, events.c.id > after]
        if resource_type == "Consent":
            # Written out, since SQLite takes the index of them for nothing else.
            criteria.append(sa.literal_column(CURRENT_CONSENT, sa.Boolean()))
        elif resource_type:
            criteria.append(events.c.resource_type == resource_type)
        return self._select(*criteria, order=[events.c.id.asc()], limit=limit)

    def count_current(self, system: str, resource_type: str | None) -> int:
        """Count what `current_of` gives."""
        query = sa.select(sa.func.count()).where(events.c.system == system, events.c.is_current)
        if resource_type:
            query = query.where(events.c.resource_type == resource_type)
        return self._uow.connection.scalar(query) or 0

    def of_patient(self, patient_key: str) -> list[Event]:
        """Give every version of everything that was received for a patient, oldest first."""
        return self._select(events.c.patient_key == patient_key, order=[events.c.id.asc()])

    def record(
        self,
        patient_key: str,
        resource_types: Collection[str],
        *,
        since_ms: int | None = None,
        codes: Collection[str] | None = None,
    ) -> list[KeptResource]:
        """Give what was received for one patient, see `records`."""
        found = self.records([patient_key], resource_types, since_ms=since_ms, codes=codes)
        return found[patient_key]

    def records(
        self,
        patient_keys: Collection[str],
        resource_types: Collection[str],
        *,
        since_ms: int | None = None,
        codes: Collection[str] | None = None,
    ) -> dict[str, list[KeptResource]]:
        """Give the current versions of what was received for patients, oldest first.

        Args:
            patient_keys: The patients.
            resource_types: FHIR types wanted.
            since_ms: Leaves out what was true before; what has no time is always given.
            codes: Keeps only resources with one of these `system|code`, and those without codes.
        """
        found: dict[str, list[KeptResource]] = {key: [] for key in patient_keys}
        wanted = None if codes is None else frozenset(code_keys(self._uow.sealer, codes))
        since_ms = _THE_BEGINNING_MS if since_ms is None else since_ms
        values = {"patients": list(found), "types": list(resource_types), "since": since_ms}
        rows = self._uow.connection.execute(_RECORDS, values).all()
        for key, patient, payload, own in sorted(rows, key=itemgetter(0)):
            is_wanted = wanted is None or not own or not wanted.isdisjoint(own.split("\n"))
            if payload and is_wanted:
                found[patient].append(KeptResource(key, patient, payload))
        return found

    def newest_of_patient(
        self, patient_key: str, system: str, resource_type: str | None, *, limit: int = 200
    ) -> list[Event]:
        """Give the current versions of what a system sent of a patient, newest first.

        Of those of the same time what was received last comes first.
        """
        criteria = [events.c.patient_key == patient_key, events.c.system == system]
        criteria.append(events.c.is_current)
        if resource_type:
            criteria.append(events.c.resource_type == resource_type)
        at = sa.func.coalesce(events.c.effective_ms, events.c.received_ms)
        found = self._select(*criteria, order=[at.desc(), events.c.id.desc()], limit=limit)
        return [each for each in found if not each.is_erased]

    def content(self, event: Event | KeptResource) -> bytes:
        """Open the payload: the bytes as received.

        Raises:
            Erased: It was removed.
            Unsealable: The row was changed or the patient's key is gone.
        """
        place = Place("events", "payload", event.id)
        return self._uow.patient_keys.unseal(event.patient_key, place, event.payload)

    def patient(self, event: Event) -> str | None:
        """Give `Patient/<id>` as the EHR names the patient.

        Raises:
            Unsealable: The row was changed or the patient's key is gone.
        """
        if event.patient_ref is None:
            return None
        place = Place("events", "patient_ref", event.id)
        return self._uow.patient_keys.unseal(event.patient_key, place, event.patient_ref).decode()

    def submission_bytes(self, submission_id: str) -> bytes:
        """Put a Bundle together again, byte for byte as it was received.

        Raises:
            Unsealable: A row was changed or a key is gone.
            NotFound: No such Bundle was received.
        """
        parts = self._skeleton(submission_id)
        wanted = {part for part in parts if isinstance(part, str)}
        found = self.get_many(wanted)
        if wanted - found.keys():
            raise Unsealable("An event of this Bundle is gone.")
        return b"".join(
            self.content(found[part]) if isinstance(part, str) else part for part in parts
        )

    def _skeleton(self, submission_id: str) -> list[bytes | str]:
        row = self._uow.connection.execute(
            sa.select(submissions.c.skeleton).where(submissions.c.id == submission_id)
        ).one_or_none()
        if row is None:
            raise NotFound("No such Bundle was received.")
        return self.skeleton(submission_id, row.skeleton)

    def skeleton(self, submission_id: str, sealed: bytes) -> list[bytes | str]:
        """Open what surrounds the resources of a Bundle: bytes, and ids of events between them.

        Raises:
            Erased: It was removed.
            Unsealable: It was changed or its key is gone.
        """
        place = Place("submissions", "skeleton", submission_id)
        opened = self._uow.patient_keys.unseal(None, place, sealed)
        parts: list[bytes | str] = msgspec.msgpack.decode(opened)
        return parts

    def ids_of_entries(self, submission_id: str) -> dict[str, str]:
        """Give the ids of what came in one Bundle by the `fullUrl` of its entry.

        Raises:
            Unsealable: The skeleton was changed or its key is gone.
            NotFound: No such Bundle was received.
        """
        parts = self._skeleton(submission_id)
        bundle = orjson.loads(
            b"".join(orjson.dumps(part) if isinstance(part, str) else part for part in parts)
        )
        return {
            str(entry["fullUrl"]): entry["resource"]
            for entry in bundle.get("entry") or ()
            if "fullUrl" in entry and isinstance(entry.get("resource"), str)
        }

    def _select(
        self,
        *criteria: sa.ColumnElement[bool],
        order: Sequence[sa.ColumnElement[Any]],
        limit: int | None = None,
    ) -> list[Event]:
        query = sa.select(*_COLUMNS).where(*criteria).order_by(*order).limit(limit)
        return [_event(row) for row in self._uow.connection.execute(query)]


def _event(row: Sequence[Any]) -> Event:
    values = dict(zip(_NAMES, row, strict=True))
    codes = values["codes"]
    values["codes"] = tuple(codes.split("\n")) if codes else ()
    return Event(**values)


def cut_bundle(raw: bytes, resources: Iterable[tuple[bytes, str]]) -> list[bytes | str]:
    """Put the ids of events into a Bundle where their payloads stand.

    Args:
        raw: The Bundle.
        resources: Payload and event id, in the order in which they stand in the Bundle.
    """
    parts: list[bytes | str] = []
    position = 0
    for resource, event_id in resources:
        start = raw.index(resource, position)
        parts += [raw[position:start], event_id]
        position = start + len(resource)
    return [*parts, raw[position:]]
