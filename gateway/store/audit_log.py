"""The AuditEvents, and the integrator that gives each its place in the Merkle log.

A record is appended in the transaction of what it records. A moment later one integrator (the
relay) gives new records consecutive leaf numbers and signs a checkpoint over the whole log, so
that no writer ever waits for the head of a chain. `lag()` is that window, measured.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.ext.compiler import compiles

from gateway.core.audit import AuditRecord
from gateway.core.audit_event import AGENT_SYSTEM
from gateway.core.clock import to_ms
from gateway.core.ledger import Checkpoint, Frontier, leaf_hash, root, sign_checkpoint
from gateway.core.ledger_nodes import grow
from gateway.store.engine import insert_all
from gateway.store.tables import audit_checkpoints, audit_events, audit_leaves, audit_nodes

if TYPE_CHECKING:
    from gateway.store.unit_of_work import UnitOfWork

#: Most records that one integration takes, so that its transaction stays short.
INTEGRATION_LIMIT = 10_000

# PostgreSQL hands out serial numbers before commit, so a lower number may appear late; the
# integrator looks back this far. SQLite has one writer and its numbers appear in order.
_LOOK_BACK = 50_000
_STREAMED = 1000


@dataclass(frozen=True)
class AuditFilter:
    """Which AuditEvents a search wants; None means any."""

    patient_key: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    outcome: str | None = None
    event: str | None = None
    job_id: str | None = None
    agent: str | None = None
    before_seq: int | None = None
    limit: int = 50


@dataclass(frozen=True)
class AuditRow:
    """One AuditEvent as stored; `leaf_index` is None until it is integrated."""

    seq: int
    recorded_ms: int
    event: str
    outcome: str
    patient_key: str | None
    job_id: str | None
    body: bytes
    leaf_index: int | None


class AuditLog:
    """The audit log of a site: appended to, integrated, searched, never changed."""

    def __init__(self, uow: "UnitOfWork") -> None:
        self._uow = uow

    def append(self, records: Sequence[AuditRecord]) -> None:
        """Insert records; their order is the order they were collected in."""
        insert_all(self._uow.connection, audit_events, [_row(record) for record in records])

    def integrate(self, key: Ed25519PrivateKey, origin: str) -> Checkpoint | None:
        """Give new records their leaf numbers and sign a checkpoint over the log.

        Returns:
            The new checkpoint, None when there was nothing new.
        """
        frontier = self._frontier()
        fresh = self._unintegrated()
        if not fresh:
            return None
        hashes = [leaf_hash(row.body) for row in fresh]
        self._uow.connection.execute(
            sa.insert(audit_leaves),
            [
                {"leaf_index": frontier.size + i, "audit_seq": row.seq, "leaf_hash": digest}
                for i, (row, digest) in enumerate(zip(fresh, hashes, strict=True))
            ],
        )
        grown, nodes = grow(frontier, hashes)
        insert_all(self._uow.connection, audit_nodes, [vars(node) for node in nodes])
        checkpoint = Checkpoint(origin, grown.size, root(grown))
        self._uow.connection.execute(
            sa.insert(audit_checkpoints),
            {
                "size": grown.size,
                "note": sign_checkpoint(key, checkpoint),
                "frontier": orjson.dumps(grown.to_hex()).decode(),
                "created_ms": self._uow.now_ms,
            },
        )
        return checkpoint

    def newest_checkpoint(self) -> str | None:
        """Give the signed note of the newest checkpoint."""
        newest = sa.select(audit_checkpoints.c.note).order_by(audit_checkpoints.c.size.desc())
        return self._uow.connection.execute(newest.limit(1)).scalar()

    def search(self, wanted: AuditFilter) -> list[AuditRow]:
        """Give matching AuditEvents, newest first."""
        query = (
            sa.select(*_ROW)
            .outerjoin(audit_leaves, audit_leaves.c.audit_seq == audit_events.c.seq)
            .where(*_criteria(wanted))
            .order_by(audit_events.c.seq.desc())
            .limit(wanted.limit)
        )
        return [AuditRow(*row) for row in self._uow.connection.execute(query)]

    def placed(self, wanted: AuditFilter, *, size: int) -> Iterator[AuditRow]:
        """Stream the matching AuditEvents among the first `size` leaves, in their order."""
        query = (
            sa.select(*_ROW)
            .join(audit_leaves, audit_leaves.c.audit_seq == audit_events.c.seq)
            .where(audit_leaves.c.leaf_index < size, *_criteria(wanted))
            .order_by(audit_leaves.c.leaf_index)
        )
        found = self._uow.connection.execute(query, execution_options={"yield_per": _STREAMED})
        for row in found:
            yield AuditRow(*row)

    def count(self, wanted: AuditFilter) -> int:
        """Count matching AuditEvents."""
        query = sa.select(sa.func.count()).select_from(audit_events).where(*_criteria(wanted))
        return self._uow.connection.execute(query).scalar_one()

    def lag(self) -> tuple[int, int | None]:
        """Count the records without a leaf number, and say when the oldest was recorded (ms)."""
        last = sa.select(sa.func.coalesce(sa.func.max(audit_leaves.c.audit_seq), 0))
        waiting = sa.select(sa.func.count(), sa.func.min(audit_events.c.recorded_ms)).where(
            audit_events.c.seq > last.scalar_subquery()
        )
        count, oldest = self._uow.connection.execute(waiting).one()
        return count, oldest

    def _frontier(self) -> Frontier:
        newest = sa.select(audit_checkpoints.c.size, audit_checkpoints.c.frontier)
        row = self._uow.connection.execute(
            newest.order_by(audit_checkpoints.c.size.desc()).limit(1)
        ).one_or_none()
        return Frontier.from_hex(row.size, orjson.loads(row.frontier)) if row else Frontier()

    def _unintegrated(self) -> Sequence[sa.Row[int, bytes]]:
        last = self._uow.connection.execute(
            sa.select(sa.func.coalesce(sa.func.max(audit_leaves.c.audit_seq), 0))
        ).scalar_one()
        is_ordered = self._uow.connection.dialect.name == "sqlite"
        query = sa.select(audit_events.c.seq, audit_events.c.body).where(
            audit_events.c.seq > (last if is_ordered else last - _LOOK_BACK)
        )
        if not is_ordered:
            query = query.where(~sa.exists().where(audit_leaves.c.audit_seq == audit_events.c.seq))
        query = query.order_by(audit_events.c.seq).limit(INTEGRATION_LIMIT)
        return self._uow.connection.execute(query).all()


_ROW = (
    audit_events.c.seq,
    audit_events.c.recorded_ms,
    audit_events.c.event,
    audit_events.c.outcome,
    audit_events.c.patient_key,
    audit_events.c.job_id,
    audit_events.c.body,
    audit_leaves.c.leaf_index,
)


def _row(record: AuditRecord) -> dict[str, object]:
    return {
        "id": record.id,
        "recorded_ms": to_ms(record.recorded),
        "event": record.event,
        "action": record.action,
        "outcome": record.outcome,
        "patient_key": record.patient_key,
        "job_id": record.job_id,
        "event_id": record.event_id,
        "body": record.body,
    }


def _criteria(wanted: AuditFilter) -> list[sa.ColumnElement[bool]]:
    columns = audit_events.c
    pairs = (
        (wanted.patient_key, columns.patient_key == wanted.patient_key),
        (wanted.since_ms, columns.recorded_ms >= (wanted.since_ms or 0)),
        (wanted.until_ms, columns.recorded_ms < (wanted.until_ms or 0)),
        (wanted.outcome, columns.outcome == wanted.outcome),
        (wanted.event, columns.event == wanted.event),
        (wanted.job_id, columns.job_id == wanted.job_id),
        (wanted.agent, _names(wanted.agent or "")),
        (wanted.before_seq, columns.seq < (wanted.before_seq or 0)),
    )
    return [criterion for value, criterion in pairs if value is not None]


def _names(agent: str) -> sa.ColumnElement[bool]:
    """Match bodies in which an agent stands as an identifier or a name, to the letter.

    There is no index on agents: narrow the search by time or patient where the log is long.
    """
    system, written = orjson.dumps(AGENT_SYSTEM), orjson.dumps(agent)
    needles = (
        b'"system":' + system + b',"value":' + written + b"}",
        b'"who":{"display":' + written + b",",
    )
    return sa.or_(*(_Contains(audit_events.c.body, sa.literal(needle)) for needle in needles))


class _Contains(sa.sql.functions.GenericFunction[bool]):
    """Say whether bytes contain other bytes."""

    type = sa.Boolean()
    inherit_cache = True


@compiles(_Contains, "sqlite")
def _contains_sqlite(element: _Contains, compiler: Any, **more: Any) -> str:  # noqa: ANN401
    return f"instr({compiler.process(element.clauses, **more)}) > 0"


@compiles(_Contains, "postgresql")
def _contains_postgresql(element: _Contains, compiler: Any, **more: Any) -> str:  # noqa: ANN401
    body, needle = element.clauses
    return f"position({compiler.process(needle, **more)} in {compiler.process(body, **more)}) > 0"
