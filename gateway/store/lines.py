"""What waits in a table, line by line, without reading all that waits.

A line is a lane and a name (a route; a system and a source). `lines` finds the lines by leaping
from one to the next in the index, `head` reads the first rows of one: both cost the same however
many rows wait.

Source: "loose index scan", https://wiki.postgresql.org/wiki/Loose_indexscan.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from gateway.core.lanes import Lane


@dataclass(frozen=True)
class Queue:
    """A table whose rows wait.

    Attributes:
        is_waiting: Conditions of a row that waits; the first is that of the partial index.
        name: Column that names a line.
        at: Column with the moment from which a row may go, in milliseconds.
        shown: Columns that `head` gives before `at`.
    """

    is_waiting: Sequence[sa.ColumnElement[bool] | sa.TextClause]
    lane: sa.Column[int]
    name: sa.Column[str]
    at: sa.Column[int]
    shown: Sequence[sa.Column[Any]]

    def lines(self) -> sa.Select[Any]:
        """Give the statement that finds the lines: lane and name of each."""
        lanes = sa.union_all(*(sa.select(sa.literal(int(lane)).label("lane")) for lane in Lane))
        each = lanes.subquery("lanes")
        first = self._first(self.lane == each.c.lane)
        found = sa.select(each.c.lane, first.label("name")).cte("lines", recursive=True)
        following = self._first(self.lane == found.c.lane, self.name > found.c.name)
        found = found.union_all(
            sa.select(found.c.lane, following.label("name")).where(found.c.name.is_not(None))
        )
        return sa.select(found.c.lane, found.c.name).where(found.c.name.is_not(None))

    def head(self) -> sa.Select[Any]:
        """Give the statement that reads a line: of `lane` and `name`, due at `now`, `most` rows."""
        return (
            sa.select(*self.shown, self.at)
            .where(
                *self.is_waiting,
                self.lane == sa.bindparam("lane"),
                self.name == sa.bindparam("name"),
                self.at <= sa.bindparam("now"),
            )
            .order_by(self.at)
            .limit(sa.bindparam("most", type_=sa.Integer))
        )

    def _first(self, *criteria: sa.ColumnElement[bool]) -> sa.ScalarSelect[Any]:
        found = sa.select(sa.func.min(self.name)).where(*self.is_waiting, *criteria)
        return found.scalar_subquery()
