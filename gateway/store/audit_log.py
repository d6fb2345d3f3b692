"""The AuditEvents, and the integrator that gives each its place in the Merkle log.

A record is appended in the transaction of what it records. A moment later one integrator (the
relay) gives new records consecutive leaf numbers and signs a checkpoint over the whole log, so
that no writer ever waits for the head of a chain. `lag()` is that window, measured.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import orjson
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.core.audit import AuditRecord
from gateway.core.clock import to_ms
from gateway.core.ledger import Checkpoint, Frontier, leaf_hash, root, sign_checkpoint
from gateway.core.ledger_nodes import grow
from gateway.store import audit_search
from gateway.store.audit_search import AuditFilter, AuditRow
from gateway.store.audit_tags import FETCHED, AuditTags
from gateway.store.engine import insert_all
from gateway.store.packing import packed, unpacked
from gateway.store.tables import (
    IS_RARE,
    audit_checkpoints,
    audit_events,
    audit_leaves,
    audit_nodes,
    audit_terms,
)
from gateway.store.verification_report import as_bytes

__all__ = ["INTEGRATION_LIMIT", "AuditFilter", "AuditLog", "AuditRow"]

if TYPE_CHECKING:
    from gateway.store.unit_of_work import UnitOfWork

#: Most records that one integration looks at, so that its transaction stays short.
INTEGRATION_LIMIT = 10_000

# PostgreSQL hands out serial numbers before commit, so a lower number may appear late; the
# integrator looks back this far. SQLite has one writer and its numbers appear in order.
_LOOK_BACK = 50_000

# The condition of the index has to be said, or it is not used.
_RESTORED = sa.text(
    f"select max(recorded_ms) from audit_events where event = 'restore' and {IS_RARE}"  # noqa: S608
)


_TO_INTEGRATE = [audit_events.c[name] for name in ("seq", "id", "body", "tag")]


class AuditLog:
    """The audit log of a site: appended to, integrated, searched, never changed."""

    def __init__(self, uow: "UnitOfWork") -> None:
        self._uow = uow
        #: Numbers of the AuditEvents that `integrate` gave no leaf: nobody with the key wrote them.
        self.refused: tuple[int, ...] = ()
        #: The last number that `integrate` looked at; None when it saw everything there was.
        self.looked_to: int | None = None

    def append(self, records: Sequence[AuditRecord]) -> None:
        """Insert records; their order is the order they were collected in."""
        if not records:
            return
        insert_all(self._uow.connection, audit_events, self._rows(records))
        terms = [
            {"term": term, "recorded_ms": to_ms(record.recorded), "audit_seq": seq}
            for seq, record in zip(self._numbers(records), records, strict=True)
            for term in record.terms
        ]
        insert_all(self._uow.connection, audit_terms, terms)

    def _numbers(self, records: Sequence[AuditRecord]) -> Sequence[int]:
        """Give the numbers that records just got."""
        connection = self._uow.connection
        if connection.dialect.name == "sqlite":
            # There is one writer, so they follow each other and the last is the highest. The
            # driver is asked directly: with every transaction, the way around costs as much as
            # an insert.
            driver: Any = connection.connection.driver_connection
            [last] = driver.execute("select last_insert_rowid()").fetchone()
            return range(last - len(records) + 1, last + 1)
        ids = [record.id for record in records]
        query = sa.select(audit_events.c.id, audit_events.c.seq).where(audit_events.c.id.in_(ids))
        known = {row.id: row.seq for row in connection.execute(query)}
        return [known[name] for name in ids]

    def integrate(
        self, key: Ed25519PrivateKey, origin: str, *, after: int | None = None
    ) -> Checkpoint | None:
        """Give new records their leaf numbers and sign a checkpoint over the log.

        What was put into the table without the key stays without a leaf, see `refused`. However
        many of these there are: who calls again with what `looked_to` says gets past them.

        Args:
            key: Signs the checkpoint.
            origin: Name of the log.
            after: Go on behind this number; what stands before it was refused a moment ago.

        Returns:
            The new checkpoint, None when nothing that was looked at got a leaf.
        """
        frontier = self._frontier()
        fresh = self._ours(after)
        if not fresh:
            return None
        hashes = [digest for _, digest in fresh]
        leaves = [
            {"leaf_index": frontier.size + i, "audit_seq": seq, "leaf_hash": digest}
            for i, (seq, digest) in enumerate(fresh)
        ]
        insert_all(self._uow.connection, audit_leaves, leaves)
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

    def restored_ms(self) -> int | None:
        """Say when this database was last restored from a backup; None when it never was."""
        found: int | None = self._uow.connection.execute(_RESTORED).scalar()
        return found

    def search(self, wanted: AuditFilter) -> list[AuditRow]:
        """Give matching AuditEvents, newest first if nothing else is wanted."""
        return audit_search.search(self._uow.connection, wanted)

    def placed(self, wanted: AuditFilter, *, size: int) -> Iterator[AuditRow]:
        """Stream the matching AuditEvents among the first `size` leaves, in their order."""
        return audit_search.placed(self._uow.connection, wanted, size=size)

    def count(self, wanted: AuditFilter, *, most: int | None = None) -> int:
        """Count matching AuditEvents, `most` at most."""
        return audit_search.count(self._uow.connection, wanted, most=most)

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

    def _rows(self, records: Sequence[AuditRecord]) -> list[dict[str, object]]:
        tag = self._uow.sealer.audit_tag
        # PostgreSQL packs long values by itself, and could not look into ours.
        kept = packed if self._uow.connection.dialect.name == "sqlite" else bytes
        return [
            {**_row(record), "body": kept(record.body), "tag": tag(record.id, record.body)}
            for record in records
        ]

    def _ours(self, after: int | None) -> list[tuple[int, bytes]]:
        """Give number and leaf hash of what has no leaf yet and a tag of ours."""
        tags = AuditTags(self._uow)
        found: list[tuple[int, bytes]] = []
        refused: list[int] = []
        seq, count = 0, 0
        for seq, name, body, tag in self._unintegrated(tags.last_placed, after):
            count += 1
            if tags.may_be_placed(seq, name, body, tag):
                found.append((seq, leaf_hash(body)))
            else:
                refused.append(seq)
        self.refused = tuple(refused)
        self.looked_to = seq if count == INTEGRATION_LIMIT else None
        return found

    def _unintegrated(
        self, last: int, after: int | None
    ) -> Iterator[tuple[int, str, bytes, bytes | None]]:
        """Give number, id, bytes and tag of what has no leaf yet, a few at a time."""
        is_ordered = self._uow.connection.dialect.name == "sqlite"
        start = last if is_ordered else last - _LOOK_BACK
        start = start if after is None else max(start, after)
        query = sa.select(*_TO_INTEGRATE).where(audit_events.c.seq > start)
        if not is_ordered:
            query = query.where(~sa.exists().where(audit_leaves.c.audit_seq == audit_events.c.seq))
        query = query.order_by(audit_events.c.seq).limit(INTEGRATION_LIMIT)
        for seq, name, body, tag in self._uow.connection.execute(query, execution_options=FETCHED):
            yield seq, name, unpacked(body), None if tag is None else as_bytes(tag)


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
    }
