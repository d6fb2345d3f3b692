"""What had its time is removed, some rows at a time, each batch with its AuditEvents.

* A batch is one short transaction, so that what arrives meanwhile waits for no more than one.
* Rows are walked in the order in which they came; how far is remembered for each class, so that a
  run does not look again at what earlier runs removed. A row that a job still needs is looked at
  again by every run, one that a legal hold keeps when the hold is lifted.
* One AuditEvent for each patient in a batch says of which class, how many rows and up to which
  time; `nadi audit verify` adds them up. A row keeps its ids, SHA-256 and times.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from gateway.core.audit import AuditAgent, Source, Step
from gateway.core.audit_rights import removed
from gateway.core.clock import new_id
from gateway.core.delivery import DeliveryState
from gateway.core.jobs import JobState
from gateway.core.retention import Retention, RetentionClass
from gateway.store.erasures import EMPTY
from gateway.store.rights_tables import retention_marks
from gateway.store.tables import REPLACED_CONSENT, deliveries, events, jobs, retractions
from gateway.store.unit_of_work import Store, UnitOfWork

#: Rows that one transaction looks at.
AT_ONCE = 200
#: What retention removes, in this order; the audit log is not among it.
REMOVABLE = (
    RetentionClass.PAYLOADS,
    RetentionClass.CONSENTS,
    RetentionClass.RESULTS,
    RetentionClass.UNDELIVERED,
)

_RENAME = (
    sa.update(events)
    .where(events.c.id == sa.bindparam("row"))
    .values(dedupe_key=sa.bindparam("dedupe"))
)
_OPEN = (JobState.REQUESTED, JobState.READY, JobState.IN_PROGRESS)
_WAITING = (DeliveryState.PENDING, DeliveryState.IN_FLIGHT)
_GIVEN_UP = (DeliveryState.FAILED, DeliveryState.CANCELLED)


@dataclass(frozen=True, kw_only=True)
class _Kept:
    """Where a class lies.

    Attributes:
        belongs: Which rows of the table are of this class.
        may_yet: Which rows may come to belong to it later.
        sealed: What is emptied.
        at: When a row came to be.
        is_walked: Whether its rows are walked in the order of time; else an index finds them.
    """

    table: sa.Table
    belongs: sa.ColumnElement[bool]
    may_yet: sa.ColumnElement[bool]
    sealed: sa.ColumnElement[Any]
    at: sa.ColumnElement[int]
    is_walked: bool = True


def _received(belongs: sa.ColumnElement[bool], *, is_walked: bool = True) -> _Kept:
    return _Kept(
        table=events,
        belongs=belongs,
        may_yet=sa.false(),
        sealed=events.c.payload,
        at=events.c.received_ms,
        is_walked=is_walked,
    )


def _results(belonging: Sequence[DeliveryState], may_yet: Sequence[DeliveryState]) -> _Kept:
    return _Kept(
        table=deliveries,
        belongs=deliveries.c.state.in_(belonging),
        may_yet=deliveries.c.state.in_(may_yet),
        sealed=deliveries.c.body,
        at=deliveries.c.created_ms,
    )


_CLASSES = {
    RetentionClass.PAYLOADS: _received(events.c.resource_type != "Consent"),
    # A consent may be replaced years after it came. Both databases use the partial index only where
    # its condition stands literally.
    RetentionClass.CONSENTS: _received(
        sa.literal_column(REPLACED_CONSENT, sa.Boolean()), is_walked=False
    ),
    RetentionClass.RESULTS: _results((DeliveryState.DELIVERED,), (*_WAITING, DeliveryState.FAILED)),
    RetentionClass.UNDELIVERED: _results(_GIVEN_UP, _WAITING),
}


@dataclass(frozen=True, kw_only=True)
class Due:
    """What of a class has had its time.

    Attributes:
        before_ms: What came before had its time.
        count: How many rows are still held of that.
        on_hold: How many of these a legal hold keeps.
        oldest_ms: When the oldest of them came; None when there is none.
    """

    name: RetentionClass
    before_ms: int
    count: int
    on_hold: int
    oldest_ms: int | None


@dataclass(frozen=True)
class Run:
    """One run of retention.

    Attributes:
        by: Who ordered it; None when the relay did.
        id: What its AuditEvents have in common.
    """

    source: Source
    by: AuditAgent | None
    id: str


def due(uow: UnitOfWork, retention: Retention) -> list[Due]:
    """Count what has had its time, class by class."""
    return [_due(uow, name, retention.before_ms(name, uow.now_ms)) for name in REMOVABLE]


def _due(uow: UnitOfWork, name: RetentionClass, before_ms: int) -> Due:
    kept = _CLASSES[name]
    held = uow.erasures.held_keys()
    query = sa.select(
        sa.func.count(),
        sa.func.coalesce(sa.func.sum(sa.case((kept.table.c.patient_key.in_(held), 1), else_=0)), 0),
        sa.func.min(kept.at),
    ).where(kept.belongs, kept.at < before_ms, sa.func.length(kept.sealed) > 0)
    count, on_hold, oldest_ms = uow.connection.execute(query).one()
    return Due(name=name, before_ms=before_ms, count=count, on_hold=on_hold, oldest_ms=oldest_ms)


def expire(
    store: Store,
    retention: Retention,
    run: Run,
    *,
    has_to_stop: Callable[[], bool] = lambda: False,
) -> dict[RetentionClass, int]:
    """Remove what has had its time; give how many rows of each class.

    Args:
        store: The database.
        retention: What the site says.
        run: Who, for the record.
        has_to_stop: Called between transactions: lets others in for a moment, and says whether to
            leave the rest to another run.

    Raises:
        StoreUnavailable: The database is away; what was committed stays so.
    """
    done: Counter[RetentionClass] = Counter()
    for name in REMOVABLE:
        for count in _batches(store, name, retention, run):
            done[name] += count
            if has_to_stop():
                return dict(done)
    return dict(done)


def _batches(store: Store, name: RetentionClass, retention: Retention, run: Run) -> Iterator[int]:
    has_more, walked = True, ""
    while has_more:
        with store.write() as uow:
            batch = _Batch(uow, name, retention, run)
            walked, has_more = batch.walk(walked)
        yield batch.count


class _Batch:
    """One transaction's worth of one class."""

    def __init__(
        self, uow: UnitOfWork, name: RetentionClass, retention: Retention, run: Run
    ) -> None:
        self._uow = uow
        self._name = name
        self._kept = _CLASSES[name]
        self._law = retention.rules[name].law
        self._before_ms = retention.before_ms(name, uow.now_ms)
        self._run = run
        self.count = 0

    def walk(self, walked: str) -> tuple[str, bool]:
        """Remove what is due among the next rows.

        Args:
            walked: The last row that this run looked at; empty at its beginning.

        Returns:
            The last row looked at, and whether there may be more.
        """
        is_walked = self._kept.is_walked
        rows = self._rows(max(walked, self._mark()) if is_walked else walked)
        if not rows:
            return walked, False
        going, busy = self._sorted([row for row in rows if row.is_due])
        self._remove(going)
        if is_walked:
            self._remember_walk(rows, busy)
        is_young = rows[-1].at_ms >= self._before_ms
        return rows[-1].id, len(rows) == AT_ONCE and not is_young

    def _remember_walk(self, rows: Sequence[Any], busy: Sequence[Any]) -> None:
        """Keep how far nothing has to be looked at again.

        Ids are in the order of time, so nothing behind what is too young can be due. What a hold
        keeps is passed: lifting it begins the walk anew.
        """
        staying = {row.id for row in busy}
        staying |= {row.id for row in rows if row.at_ms >= self._before_ms or row.may_yet}
        first = min(staying, default=None)
        seen = [row.id for row in rows if first is None or row.id < first]
        if seen:
            self._remember(seen[-1])

    def _rows(self, after: str) -> list[Any]:
        kept, table = self._kept, self._kept.table
        is_due = sa.and_(kept.belongs, sa.func.length(kept.sealed) > 0, kept.at < self._before_ms)
        more = table.c.submission_id if table is events else table.c.job_id
        query = sa.select(
            table.c.id,
            table.c.patient_key,
            kept.at.label("at_ms"),
            is_due.label("is_due"),
            kept.may_yet.label("may_yet"),
            more.label("belongs_to"),
        ).where(table.c.id > after)
        if not kept.is_walked:
            query = query.where(is_due)
        return list(self._uow.connection.execute(query.order_by(table.c.id).limit(AT_ONCE)))

    def _sorted(self, rows: Sequence[sa.Row[Any]]) -> tuple[list[sa.Row[Any]], list[sa.Row[Any]]]:
        """Give what may go, and what has to stay for a while; what a hold keeps is neither."""
        held = self._uow.erasures.holds({row.patient_key for row in rows if row.patient_key})
        free = [row for row in rows if row.patient_key not in held]
        busy = self._busy(free)
        return (
            [row for row in free if row.id not in busy],
            [row for row in free if row.id in busy],
        )

    def _busy(self, rows: Sequence[sa.Row[Any]]) -> set[str]:
        """Give the events that an open job needs, and the results still to be marked in an EHR."""
        ids = [row.id for row in rows]
        if self._kept.table is events:
            query = sa.select(jobs.c.event_id).where(
                jobs.c.event_id.in_(ids), jobs.c.state.in_(_OPEN)
            )
        else:
            query = sa.select(retractions.c.delivery_id).where(
                retractions.c.delivery_id.in_(ids), retractions.c.state == "pending"
            )
        return set(self._uow.connection.scalars(query))

    def _remove(self, rows: Sequence[sa.Row[Any]]) -> None:
        if not rows:
            return
        ids, bundles = [row.id for row in rows], 0
        if self._kept.table is events:
            self._empty_events(ids)
            theirs = {row.belongs_to for row in rows if row.belongs_to}
            bundles = self._uow.erasures.empty_bundles(theirs)
        else:
            emptied = sa.update(deliveries).where(deliveries.c.id.in_(ids))
            self._uow.connection.execute(emptied.values(body=EMPTY, location=None))
            whose = sa.select(deliveries.c.job_id).where(deliveries.c.id.in_(ids))
            self._uow.cds.forget_results(self._uow.connection.scalars(whose).all())
        self._record(Counter(row.patient_key for row in rows), bundles)
        self.count = len(rows)

    def _empty_events(self, ids: Sequence[str]) -> None:
        emptied = sa.update(events).where(events.c.id.in_(ids))
        values = {"payload": EMPTY, "codes": "", "effective_ms": None}
        self._uow.connection.execute(emptied.values(values))
        if self._name is RetentionClass.CONSENTS:
            # Bytes without a version may come again and be in force again: then they are new.
            renamed = [{"row": i, "dedupe": self._uow.erasures.unnamed("events", i)} for i in ids]
            self._uow.connection.execute(_RENAME, renamed)

    def _record(self, counts: Counter[str | None], bundles: int) -> None:
        name = self._kept.table.name
        for patient_key, count in counts.items():
            step = Step(
                id=new_id(),
                recorded=self._uow.now,
                source=self._run.source,
                patient_key=patient_key,
            )
            details = {
                "class": self._name.value,
                name: str(count),
                f"{name}-before-ms": str(self._before_ms),
                "submissions": str(bundles),
                "law": self._law,
            }
            bundles = 0  # told once
            self._uow.audit(
                removed(step, "expire", by=self._run.by, erasure_id=self._run.id, details=details)
            )

    def _mark(self) -> str:
        query = sa.select(retention_marks.c.after_id).where(
            retention_marks.c.name == self._name.value
        )
        return self._uow.connection.execute(query).scalar_one_or_none() or ""

    def _remember(self, after_id: str) -> None:
        mine = retention_marks.c.name == self._name.value
        values = {"after_id": after_id, "ran_ms": self._uow.now_ms}
        known = self._uow.connection.execute(sa.update(retention_marks).where(mine).values(values))
        if not known.rowcount:
            self._uow.connection.execute(
                sa.insert(retention_marks), {"name": self._name.value, **values}
            )
