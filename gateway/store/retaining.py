"""What had its time is removed, some rows at a time, each batch with its AuditEvents.

* A batch is one short transaction, so that what arrives meanwhile waits for no more than one.
* Rows are walked in the order in which they came; how far is remembered for each class, so that a
  run does not look again at what earlier runs removed. A row that has to stay, for a legal hold or
  a job that is still open, is looked at again by every run.
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
from gateway.store.tables import deliveries, events, jobs, retractions
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
_GIVEN_UP = (DeliveryState.FAILED, DeliveryState.CANCELLED)


@dataclass(frozen=True)
class _Kept:
    """Where a class lies.

    Attributes:
        belongs: Which rows of the table are of this class.
        sealed: What is emptied.
        at: When a row came to be.
    """

    table: sa.Table
    belongs: sa.ColumnElement[bool]
    sealed: sa.ColumnElement[Any]
    at: sa.ColumnElement[int]


_IS_CONSENT = events.c.resource_type == "Consent"
_CLASSES = {
    RetentionClass.PAYLOADS: _Kept(events, ~_IS_CONSENT, events.c.payload, events.c.received_ms),
    RetentionClass.CONSENTS: _Kept(
        events,
        sa.and_(_IS_CONSENT, events.c.is_current.is_(False)),
        events.c.payload,
        events.c.received_ms,
    ),
    RetentionClass.RESULTS: _Kept(
        deliveries,
        deliveries.c.state == DeliveryState.DELIVERED,
        deliveries.c.body,
        deliveries.c.created_ms,
    ),
    RetentionClass.UNDELIVERED: _Kept(
        deliveries,
        deliveries.c.state.in_(_GIVEN_UP),
        deliveries.c.body,
        deliveries.c.created_ms,
    ),
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
        rows = self._rows(max(walked, self._mark()))
        if not rows:
            return walked, False
        going, staying = self._sorted([row for row in rows if row.is_due])
        self._remove(going)
        # What stays is looked at again, and so is all that follows the first of it; ids are in the
        # order of time, so that nothing behind what is too young can be due.
        staying += [row for row in rows if row.at_ms >= self._before_ms]
        first = min((row.id for row in staying), default=None)
        seen = [row.id for row in rows if first is None or row.id < first]
        if seen:
            self._remember(seen[-1])
        return rows[-1].id, len(rows) == AT_ONCE and rows[-1].at_ms < self._before_ms

    def _rows(self, after: str) -> list[Any]:
        kept, table = self._kept, self._kept.table
        is_due = sa.and_(kept.belongs, sa.func.length(kept.sealed) > 0, kept.at < self._before_ms)
        more = table.c.submission_id if table is events else table.c.job_id
        query = (
            sa.select(
                table.c.id,
                table.c.patient_key,
                kept.at.label("at_ms"),
                is_due.label("is_due"),
                more.label("belongs_to"),
            )
            .where(table.c.id > after)
            .order_by(table.c.id)
            .limit(AT_ONCE)
        )
        return list(self._uow.connection.execute(query))

    def _sorted(self, rows: Sequence[sa.Row[Any]]) -> tuple[list[sa.Row[Any]], list[sa.Row[Any]]]:
        """Part what may go from what has to stay."""
        held = self._uow.erasures.holds({row.patient_key for row in rows if row.patient_key})
        busy = self._busy(rows)
        stays = [row for row in rows if row.patient_key in held or row.id in busy]
        kept = {row.id for row in stays}
        return [row for row in rows if row.id not in kept], stays

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
