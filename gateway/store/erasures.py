"""Who was erased: the tombstones, the legal holds, and what removing does to the rows.

A row is never deleted: its sealed values are emptied and so are the keyed hashes that still say
something of her record, while what the audit log speaks of (ids, SHA-256, times) stays, so that
the log can be verified.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from gateway.core.delivery import DeliveryState
from gateway.core.errors import Unsealable
from gateway.store.consent_tables import consent_acts
from gateway.store.rights_tables import erasures, legal_holds, retention_marks
from gateway.store.tables import (
    break_glass_uses,
    deliveries,
    events,
    jobs,
    retractions,
    submissions,
)

if TYPE_CHECKING:
    from gateway.store.unit_of_work import UnitOfWork

#: What a removed value leaves in its column.
EMPTY = b""

_FOUND = sa.select(erasures).where(erasures.c.patient_key.in_(sa.bindparam("keys", expanding=True)))
_BY_ID = sa.select(erasures).where(erasures.c.id == sa.bindparam("id"))
_HOLDS = sa.select(legal_holds).where(
    legal_holds.c.patient_key.in_(sa.bindparam("keys", expanding=True)),
    legal_holds.c.lifted_ms.is_(None),
)
_BUNDLES = (
    sa.select(submissions.c.id, submissions.c.skeleton)
    .where(submissions.c.received_ms >= sa.bindparam("since"), submissions.c.skeleton != EMPTY)
    .execution_options(yield_per=500)
)
_MARK = sa.select(sa.func.count(), sa.func.max(erasures.c.erased_ms))


@dataclass(frozen=True, kw_only=True)
class Tombstone:
    """What is left of a patient who was erased.

    Attributes:
        reopened_ms: When she began anew; None while she has not.
        refused_ai: Whether she refused all AI, see `gateway.core.consent.local.kept_refusal`.
    """

    patient_key: str
    id: str
    erased_ms: int
    erased_by: str
    reason: str
    law: str
    reopened_ms: int | None = None
    refused_ai: bool = False


@dataclass(frozen=True, kw_only=True)
class LegalHold:
    """Why what is held of a patient must not be removed."""

    id: str
    patient_key: str
    placed_ms: int
    placed_by: str
    reason: str
    law: str
    lifted_ms: int | None = None
    lifted_by: str | None = None


class Erasures:
    """Tombstones and holds within one unit of work."""

    def __init__(self, uow: "UnitOfWork") -> None:
        self._uow = uow

    # -- tombstones --------------------------------------------------------------------------

    def find(self, patient_keys: Collection[str]) -> dict[str, Tombstone]:
        """Give the tombstones of those of these patients who were erased."""
        rows = self._uow.connection.execute(_FOUND, {"keys": list(patient_keys)})
        return {row.patient_key: Tombstone(**row._mapping) for row in rows}  # noqa: SLF001 - its public name

    def closed(self, patient_keys: Collection[str]) -> dict[str, Tombstone]:
        """Give those who were erased and have not begun anew."""
        found = self.find(patient_keys)
        return {key: each for key, each in found.items() if each.reopened_ms is None}

    def get(self, erasure_id: str) -> Tombstone | None:
        """Give a tombstone by its own id; None when there is none, or a later one of her."""
        row = self._uow.connection.execute(_BY_ID, {"id": erasure_id}).one_or_none()
        return None if row is None else Tombstone(**row._mapping)  # noqa: SLF001 - its public name

    def bury(self, tombstone: Tombstone) -> None:
        """Keep a tombstone; one from an earlier time is replaced."""
        connection = self._uow.connection
        insert = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(erasures)
        row = vars(tombstone)
        changed = {name: insert.excluded[name] for name in row if name != "patient_key"}
        connection.execute(
            insert.on_conflict_do_update(index_elements=["patient_key"], set_=changed), row
        )

    def reopen(self, patient_keys: Collection[str]) -> list[Tombstone]:
        """Let erased patients begin anew; give the tombstones of those who had not yet."""
        closed = list(self.closed(patient_keys).values())
        if closed:
            self._uow.connection.execute(
                sa.update(erasures)
                .where(erasures.c.patient_key.in_([each.patient_key for each in closed]))
                .values(reopened_ms=self._uow.now_ms)
            )
        return closed

    def mark(self) -> tuple[int, int | None]:
        """Give what changes whenever somebody is erased."""
        count, newest = self._uow.connection.execute(_MARK).one()
        return count, newest

    # -- holds -------------------------------------------------------------------------------

    def holds(self, patient_keys: Collection[str]) -> dict[str, LegalHold]:
        """Give the holds in force on these patients."""
        rows = self._uow.connection.execute(_HOLDS, {"keys": list(patient_keys)})
        return {row.patient_key: LegalHold(**row._mapping) for row in rows}  # noqa: SLF001

    def in_force(self) -> list[LegalHold]:
        """Give every hold in force, the oldest first."""
        query = sa.select(legal_holds).where(legal_holds.c.lifted_ms.is_(None))
        rows = self._uow.connection.execute(query.order_by(legal_holds.c.id))
        return [LegalHold(**row._mapping) for row in rows]  # noqa: SLF001

    def held_keys(self) -> "sa.Select[tuple[str]]":
        """Give the query for everybody on hold."""
        return sa.select(legal_holds.c.patient_key).where(legal_holds.c.lifted_ms.is_(None))

    def place(self, hold: LegalHold) -> None:
        """Put a hold into force."""
        self._uow.connection.execute(sa.insert(legal_holds), vars(hold))

    def lift(self, hold_id: str, by: str) -> None:
        """End a hold."""
        self._uow.connection.execute(
            sa.update(legal_holds)
            .where(legal_holds.c.id == hold_id)
            .values(lifted_ms=self._uow.now_ms, lifted_by=by)
        )
        # Retention has passed what the hold kept.
        self._uow.connection.execute(sa.delete(retention_marks))

    def has_pending_retractions(self, patient_key: str) -> bool:
        """Say whether results of a patient are still to be marked in an EHR."""
        query = sa.select(sa.func.count()).where(
            retractions.c.patient_key == patient_key, retractions.c.state == "pending"
        )
        return self._uow.connection.execute(query).scalar_one() > 0

    def has_open_reviews(self, patient_key: str) -> bool:
        """Say whether uses of break-glass on a patient's data are still to be reviewed."""
        columns = break_glass_uses.c
        query = sa.select(sa.func.count()).where(
            columns.patient_key == patient_key, columns.reviewed_ms.is_(None)
        )
        return self._uow.connection.execute(query).scalar_one() > 0

    # -- what is held ------------------------------------------------------------------------

    def held(self, patient_key: str) -> dict[str, int]:
        """Count what is held of a patient in sealed form, by table, and her jobs.

        `consents` are those that staff recorded or imported here.
        """
        of_hers = sa.select(jobs.c.id).where(jobs.c.patient_key == patient_key)
        return {
            "events": self._count(
                events, events.c.patient_key == patient_key, events.c.payload != EMPTY
            ),
            "deliveries": self._count(
                deliveries, deliveries.c.job_id.in_(of_hers), deliveries.c.body != EMPTY
            ),
            "consents": self._consents(patient_key),
            "jobs": self._count(jobs, jobs.c.patient_key == patient_key),
        }

    def _consents(self, patient_key: str) -> int:
        """Count consents recorded here; what was before an erasure nobody can open any more."""
        columns = consent_acts.c
        closed = sa.exists().where(
            erasures.c.patient_key == patient_key, erasures.c.erased_ms >= columns.recorded_ms
        )
        query = sa.select(sa.func.count(sa.distinct(columns.consent_id))).where(
            columns.patient_key == patient_key, ~closed
        )
        return self._uow.connection.execute(query).scalar_one()

    def by_type(self, patient_key: str) -> dict[str, int]:
        """Count what was received and is still held, by FHIR type."""
        query = (
            sa.select(events.c.resource_type, sa.func.count())
            .where(events.c.patient_key == patient_key, events.c.payload != EMPTY)
            .group_by(events.c.resource_type)
            .order_by(events.c.resource_type)
        )
        return {row[0]: row[1] for row in self._uow.connection.execute(query)}

    def _count(self, table: sa.Table, *criteria: sa.ColumnElement[bool]) -> int:
        query = sa.select(sa.func.count()).select_from(table).where(*criteria)
        return self._uow.connection.execute(query).scalar_one()

    def bundles_with(
        self, patient_key: str, needles: Collection[bytes], *, since_ms: int = 0
    ) -> set[str]:
        """Find the Bundles that hold something of a patient, around her resources too.

        A Bundle's address of an entry, or an entry that was refused, may name her; these bytes lie
        under nobody's key. So every Bundle is opened and looked through.

        Args:
            patient_key: The patient.
            needles: What names her.
            since_ms: Looks only at what was received since.
        """
        hers = set(
            self._uow.connection.scalars(
                sa.select(events.c.id).where(events.c.patient_key == patient_key)
            )
        )
        found = set(self._submissions_of(patient_key))
        for name, parts in self._skeletons(since_ms):
            if any(
                part in hers if isinstance(part, str) else _has(part, needles) for part in parts
            ):
                found.add(name)
        return found

    def _submissions_of(self, patient_key: str) -> Iterator[str]:
        query = sa.select(events.c.submission_id).where(
            events.c.patient_key == patient_key, events.c.submission_id.is_not(None)
        )
        yield from self._uow.connection.scalars(query.distinct())

    def _skeletons(self, since_ms: int) -> Iterator[tuple[str, list[bytes | str]]]:
        for row in self._uow.connection.execute(_BUNDLES, {"since": since_ms}):
            try:
                yield row.id, self._uow.events.skeleton(row.id, row.skeleton)
            except Unsealable:
                continue  # `nadi audit verify` tells

    # -- removing ----------------------------------------------------------------------------

    def empty(self, patient_key: str, bundles: Collection[str]) -> dict[str, int]:
        """Remove everything sealed of a patient, and what is keyed to its content; count it.

        Results that wait for an EHR are cancelled, whoever holds them.
        """
        mine = break_glass_uses.c.patient_key == patient_key
        words = {"reason": EMPTY, "comment": EMPTY}
        self._uow.connection.execute(sa.update(break_glass_uses).where(mine).values(words))
        self._uow.cds.forget(patient_key)
        return {
            "events": self._empty_events(patient_key),
            "submissions": self.empty_bundles(bundles),
            "deliveries": self._empty_deliveries(patient_key),
        }

    def _empty_events(self, patient_key: str) -> int:
        mine = events.c.patient_key == patient_key
        query = sa.select(events.c.id, events.c.payload != EMPTY).where(mine)
        found = self._uow.connection.execute(query).all()
        rows = [{"row": row.id, "dedupe": self.unnamed("events", row.id)} for row in found]
        if rows:
            self._uow.connection.execute(_FORGET_EVENT, rows)
        return sum(bool(row[1]) for row in found)

    def _empty_deliveries(self, patient_key: str) -> int:
        # There is an index on whose jobs are, and none on whose deliveries.
        query = sa.select(deliveries.c.id, deliveries.c.body != EMPTY).where(
            deliveries.c.job_id.in_(sa.select(jobs.c.id).where(jobs.c.patient_key == patient_key))
        )
        found = self._uow.connection.execute(query).all()
        rows = [{"row": row.id, "name": self.unnamed("deliveries", row.id)} for row in found]
        if rows:
            self._uow.connection.execute(_FORGET_DELIVERY, rows)
        return sum(bool(row[1]) for row in found)

    def empty_bundles(self, bundles: Collection[str]) -> int:
        """Remove what surrounds the resources of these Bundles; count those that still had it."""
        emptied = 0
        wanted = sorted(bundles)
        for start in range(0, len(wanted), _AT_ONCE):
            statement = (
                sa.update(submissions)
                .where(
                    submissions.c.id.in_(wanted[start : start + _AT_ONCE]),
                    submissions.c.skeleton != EMPTY,
                )
                .values(skeleton=EMPTY)
            )
            emptied += self._uow.connection.execute(statement).rowcount
        return emptied

    def unnamed(self, table: str, row_id: str) -> str:
        """Give what an erased row has where it had a keyed hash of its content."""
        return self._uow.sealer.keyed_hash("erased", table, row_id)


_AT_ONCE = 500
_WAITING = (DeliveryState.PENDING, DeliveryState.IN_FLIGHT)
# What comes again is then met as new, and refused or begun anew as the site says.
_FORGET_EVENT = (
    sa.update(events)
    .where(events.c.id == sa.bindparam("row"))
    .values(
        payload=EMPTY,
        patient_ref=None,
        codes="",
        effective_ms=None,
        resource_key=None,
        is_current=False,
        dedupe_key=sa.bindparam("dedupe"),
    )
)
_FORGET_DELIVERY = (
    sa.update(deliveries)
    .where(deliveries.c.id == sa.bindparam("row"))
    .values(
        body=EMPTY,
        location=None,
        identifier=sa.bindparam("name"),
        # An IN can't be executed for several rows at once.
        state=sa.case(
            *((deliveries.c.state == each, DeliveryState.CANCELLED) for each in _WAITING),
            else_=deliveries.c.state,
        ),
        lease_owner=None,
        lease_until_ms=None,
    )
)


def _has(part: bytes, needles: Collection[bytes]) -> bool:
    return any(needle in part for needle in needles)


def counted(removed: Mapping[str, int]) -> dict[str, str]:
    """Give counts as an AuditEvent tells them."""
    return {name: str(number) for name, number in removed.items()}
