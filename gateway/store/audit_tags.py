"""Was an AuditEvent written by somebody who has the master key? Its tag says so.

What an earlier Nadi wrote has no tag. From the first that has one, all have to; and once one that
has a tag stands in the Merkle log, nothing without a tag is given a place in it any more.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from gateway.store.key_check import ROW_ID
from gateway.store.packing import unpacked
from gateway.store.tables import audit_events, audit_leaves

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.store.unit_of_work import UnitOfWork

#: Most AuditEvents that `false_ones` opens, so that it answers soon.
MOST_COMPARED = 10_000
#: Fetches a few rows at a time: their bodies may be long.
FETCHED = {"yield_per": 500}

_FIRST = sa.text("select seq from audit_events where tag is not null order by seq limit 1")
_LAST_PLACED = sa.text("select coalesce(max(audit_seq), 0) from audit_leaves")
_KEPT = sa.text("select value from key_check where id = :id")
_PLACED = sa.text("select count(*) from audit_leaves")
_UP_TO = sa.text("select count(*) from audit_events where seq <= :last")
_COLUMNS = [audit_events.c[name] for name in ("seq", "id", "body", "tag")]
_HAS_LEAF = sa.exists().where(audit_leaves.c.audit_seq == audit_events.c.seq)


class AuditTags:
    """Compares the tags of AuditEvents within one transaction."""

    def __init__(self, uow: "UnitOfWork") -> None:
        self._uow = uow

    @cached_property
    def is_right_key(self) -> bool:
        """Whether the master key is that of this database; with another each tag is false."""
        kept = self._uow.connection.execute(_KEPT, {"id": ROW_ID}).scalar()
        return bool(kept == self._uow.key_check.expected)

    @cached_property
    def last_placed(self) -> int:
        """The highest number that has a leaf; 0 when none has."""
        return int(self._uow.connection.execute(_LAST_PLACED).scalar_one())

    @cached_property
    def _first(self) -> int | None:
        found: int | None = self._uow.connection.execute(_FIRST).scalar()
        return found

    def is_true(self, seq: int, name: str, body: bytes, tag: bytes | None) -> bool:
        """Say whether whoever wrote an AuditEvent had the master key, as far as a tag can tell.

        Args:
            seq: Its number.
            name: Its id.
            body: Its bytes.
            tag: What stands beside it.
        """
        if tag is None:
            return self._first is None or seq < self._first
        return tag == self._uow.sealer.audit_tag(name, body)

    def may_be_placed(self, seq: int, name: str, body: bytes, tag: bytes | None) -> bool:
        """Say whether an AuditEvent that has no leaf may be given one.

        Args:
            seq: Its number.
            name: Its id.
            body: Its bytes.
            tag: What stands beside it.
        """
        is_too_late = self._first is not None and self.last_placed >= self._first
        return not (tag is None and is_too_late) and self.is_true(seq, name, body, tag)


@dataclass(frozen=True)
class FalseOnes:
    """AuditEvents that nobody with the master key wrote.

    Attributes:
        numbers: Their numbers in `audit_events`.
        is_all: Whether all that have no leaf were compared.
    """

    numbers: tuple[int, ...]
    is_all: bool


def false_ones(uow: "UnitOfWork") -> FalseOnes:
    """Find what was put among the AuditEvents without the master key and so has no leaf.

    Compares at most `MOST_COMPARED` before and as many after the last leaf. Whether an AuditEvent
    was changed that has a leaf, or took the place of one removed, `nadi audit verify` says.
    """
    tags, connection = AuditTags(uow), uow.connection
    numbers: list[int] = []
    is_all = True
    for conditions in _where(tags, connection):
        query = sa.select(*_COLUMNS).where(*conditions).order_by(audit_events.c.seq)
        count = 0
        for row in connection.execute(query.limit(MOST_COMPARED), execution_options=FETCHED):
            count += 1
            if not tags.may_be_placed(row.seq, row.id, unpacked(row.body), row.tag):
                numbers.append(row.seq)
        is_all &= count < MOST_COMPARED
    return FalseOnes(tuple(numbers), is_all)


def _where(tags: AuditTags, connection: sa.Connection) -> "Iterator[list[Any]]":
    """Give where to look: among the placed only where there are more than leaves."""
    last = tags.last_placed
    placed = connection.execute(_PLACED).scalar_one()
    if connection.execute(_UP_TO, {"last": last}).scalar_one() > placed:
        yield [audit_events.c.seq <= last, ~_HAS_LEAF]
    yield [audit_events.c.seq > last]
