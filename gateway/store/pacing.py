"""The lines of requests before systems with a rate cap, shared by all processes of a database.

Whose clock: on PostgreSQL the server's, which all hosts share. On SQLite there is one machine, and
its monotonic clock is the same for all processes and is never set. What is handed out are moments
of the asking process's own monotonic clock: a wait under way minds no clock that is set.
"""

import time
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from gateway.core.errors import RateTaken
from gateway.core.pacing import PacedLine, after_places, apart_us, first_place_us
from gateway.store.pacing_tables import paced_lines

if TYPE_CHECKING:
    from gateway.store.unit_of_work import UnitOfWork

_NOW_US = sa.text("select cast(extract(epoch from clock_timestamp()) * 1000000 as bigint)")


class Pacing:
    """The lines, within one unit of work."""

    def __init__(self, uow: "UnitOfWork") -> None:
        self._uow = uow

    def take(
        self, system: str, *, count: int, per_second: float, within_s: float
    ) -> tuple[float, float]:
        """Take the next places before a system.

        Args:
            system: Its name.
            count: How many.
            per_second: Its cap.
            within_s: How long the caller can wait for the first.

        Returns:
            When the first is, in seconds of this process's monotonic clock, and how many seconds
            each is after the one before.

        Raises:
            RateTaken: The first is later than that; none was taken.
        """
        line = self._line(system)
        # After the line is held: what passed while waiting for it counts.
        now_us, here_s = self._now_us(), time.monotonic()
        first_us, each_us = first_place_us(line, now_us), apart_us(per_second)
        wait_s = (first_us - now_us) / 1e6
        if wait_s > within_s:
            raise RateTaken(retry_after_s=wait_s)
        self._keep(system, after_places(first_us, now_us, count=count, each_us=each_us))
        return here_s + wait_s, each_us / 1e6

    def _line(self, system: str) -> PacedLine:
        """Read a line, and let nobody else at it until this transaction ends."""
        found = self._held(system)
        if found is None:
            # Another process may begin the same line: one row stands, and both wait for it.
            self._begin(system)
            return self._line(system)
        return found

    def _held(self, system: str) -> PacedLine | None:
        columns = paced_lines.c
        query = sa.select(columns.next_us, columns.seen_us).where(columns.system == system)
        found = self._uow.connection.execute(query.with_for_update()).one_or_none()
        return PacedLine(*found) if found else None

    def _begin(self, system: str) -> None:
        insert = sqlite.insert if self._is_sqlite else postgresql.insert
        row = insert(paced_lines).values(system=system, next_us=0, seen_us=0)
        self._uow.connection.execute(row.on_conflict_do_nothing())

    def _now_us(self) -> int:
        if self._is_sqlite:
            return time.monotonic_ns() // 1000
        now_us: int = self._uow.connection.execute(_NOW_US).scalar_one()
        return now_us

    def _keep(self, system: str, line: PacedLine) -> None:
        changed = sa.update(paced_lines).where(paced_lines.c.system == system)
        values = {"next_us": line.next_us, "seen_us": line.seen_us}
        self._uow.connection.execute(changed.values(values))

    @property
    def _is_sqlite(self) -> bool:
        return self._uow.connection.dialect.name == "sqlite"
