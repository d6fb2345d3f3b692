"""(1) Whether there is room for more, before the disk, the memory or the patience runs out; pure.

Rules:

1. Below a limit nothing new is taken: too little free disk, too little available memory, too many
   jobs that wait. A limit of the disk or the memory is a number of bytes, or a share of a machine
   so small that the number would be much of it.
2. It is taken again when there is a tenth more room than the limit asks, so that it does not go to
   and fro.
3. A Consent is always taken: it may be a refusal, and what is kept free is there for it. Reads are
   never refused for want of room.
"""

from dataclasses import dataclass
from enum import StrEnum

#: No more of a small disk or memory than this part of it is kept free.
SMALL_SHARE = 0.05
#: How much more room there has to be before a limit no longer holds.
_CLEAR = 1.1


class Shortage(StrEnum):
    """What there is too little room in."""

    DISK = "disk"
    MEMORY = "memory"
    BACKLOG = "backlog"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured; None where it can't be.

    Attributes:
        backlog: Ready jobs, counted no further than their limit.
    """

    disk_free_bytes: int | None
    disk_bytes: int | None
    memory_available_bytes: int | None
    memory_bytes: int | None
    backlog: int


@dataclass(frozen=True, kw_only=True)
class RoomLimits:
    """How much room has to be left; 0 sets no limit."""

    disk_free_bytes: int
    memory_available_bytes: int
    backlog: int

    def shortages(
        self, measured: Measured, before: frozenset[Shortage] = frozenset()
    ) -> frozenset[Shortage]:
        """Say in what there is too little room.

        Args:
            measured: What was measured.
            before: In what there was too little a moment ago.
        """
        is_short = {
            Shortage.DISK: _is_below(
                measured.disk_free_bytes,
                _limit(self.disk_free_bytes, measured.disk_bytes),
                was_short=Shortage.DISK in before,
            ),
            Shortage.MEMORY: _is_below(
                measured.memory_available_bytes,
                _limit(self.memory_available_bytes, measured.memory_bytes),
                was_short=Shortage.MEMORY in before,
            ),
            Shortage.BACKLOG: self._has_too_many(measured.backlog, Shortage.BACKLOG in before),
        }
        return frozenset(name for name, holds in is_short.items() if holds)

    def _has_too_many(self, backlog: int, was_short: bool) -> bool:
        limit = self.backlog / _CLEAR if was_short else self.backlog
        return bool(self.backlog) and backlog >= limit


def _limit(wanted: int, whole: int | None) -> float:
    return wanted if whole is None else min(wanted, whole * SMALL_SHARE)


def _is_below(found: int | None, limit: float, *, was_short: bool) -> bool:
    if found is None:
        return False
    return found < limit * (_CLEAR if was_short else 1)
