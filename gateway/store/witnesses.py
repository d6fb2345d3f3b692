"""What witnesses are known to have of our log, and what we keep of the logs of others."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from gateway.core.errors import StoreConflict
from gateway.store.tables import witness_states, witnessed_logs

if TYPE_CHECKING:
    from gateway.store.unit_of_work import UnitOfWork


@dataclass(frozen=True)
class WitnessState:
    """How it stands with one witness of the site file.

    Attributes:
        size: Newest size that it is known to have; 0 when none.
        confirmed_ms: When it got that; None when never.
        failures: Failed tries since.
        problem: Why the last try failed; empty when it did not.
        disagrees: Whether it holds a checkpoint that this log does not continue.
    """

    name: str
    size: int = 0
    confirmed_ms: int | None = None
    failures: int = 0
    next_attempt_ms: int = 0
    problem: str = ""
    disagrees: bool = False


@dataclass(frozen=True)
class WitnessedLog:
    """The newest checkpoint of another log."""

    origin: str
    size: int
    note: str
    received_ms: int


class Witnesses:
    """Both directions of witnessing."""

    def __init__(self, uow: "UnitOfWork") -> None:
        self._connection = uow.connection

    def states(self) -> dict[str, WitnessState]:
        """Give the state of every witness that was ever tried, by name."""
        found = self._connection.execute(sa.select(witness_states))
        return {row.name: WitnessState(*row) for row in found}

    def keep(self, state: WitnessState) -> None:
        """Keep the state of a witness."""
        gone = sa.delete(witness_states).where(witness_states.c.name == state.name)
        self._connection.execute(gone)
        self._connection.execute(sa.insert(witness_states), vars(state))

    def log(self, origin: str) -> WitnessedLog | None:
        """Give what is kept of another log."""
        query = sa.select(witnessed_logs).where(witnessed_logs.c.origin == origin)
        row = self._connection.execute(query).one_or_none()
        return WitnessedLog(*row) if row else None

    def replace(self, log: WitnessedLog, *, known_size: int | None) -> None:
        """Keep a newer checkpoint in place of the known one.

        Raises:
            StoreConflict: Another request was there first.
        """
        if known_size is None:
            # A second insert at the same time breaks the primary key: a conflict too.
            self._connection.execute(sa.insert(witnessed_logs), vars(log))
            return
        same = (witnessed_logs.c.origin == log.origin, witnessed_logs.c.size == known_size)
        changed = self._connection.execute(
            sa.update(witnessed_logs).where(*same).values(**vars(log))
        )
        if changed.rowcount != 1:
            raise StoreConflict("Another checkpoint of this log was there first; try again.")
