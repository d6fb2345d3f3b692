"""(3) Who is next: lanes first, sources in turn within a lane, and nobody for ever last.

Rules:

1. A more urgent lane goes first: stat, asap, urgent, routine.
2. Within a lane the next place goes to the source that was given the fewest so far, so that one
   which sends 100,000 events holds up none that sends one. A source that had nothing waiting begins
   where the others are: it saves up nothing.
3. Within a source the longest waiting goes first.
4. Ageing: one place in `AGED_SHARE` goes to the longest waiting of all lanes, if it has waited for
   longer than `longest_wait_ms`. So a routine job starts at the latest once its wait is over and
   those who waited longer had their share.

What waits is read by line: a lane and a name, a route's or a system's. Only as much of a line is
read as has room, so that a turn costs the same before 100 and before 100,000 that wait.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import heapify, heapreplace, merge
from operator import attrgetter

from gateway.core.lanes import Lane

#: Threads that a worker has beyond those for what is not stat (`workers.line`).
EXPRESS_THREADS = 1
#: One place in so many is for who has waited too long.
AGED_SHARE = 8


@dataclass(frozen=True)
class WaitingLine:
    """Where things of one lane wait, the longest waiting first.

    Attributes:
        name: What the store calls it: a route, or a system and a source.
        source: Whose they are: who shares fairly with others.
    """

    lane: Lane
    name: str
    source: str


@dataclass(frozen=True)
class Waiter:
    """One thing that waits.

    Attributes:
        kind: What it can share a batch with: a model, a system.
        since_ms: Since when it waits.
    """

    id: str
    kind: str
    since_ms: int
    line: WaitingLine


#: Gives the first waiters of a line, at most so many.
Heads = Callable[[WaitingLine, int], Sequence[Waiter]]


class Sharing:
    """Deals out places, and remembers how many each source was given; used by one thread."""

    def __init__(self, longest_wait_ms: int) -> None:
        """Take after how long, in milliseconds, ageing begins."""
        self._longest_wait_ms = longest_wait_ms
        self._given: dict[str, int] = {}
        self._aged_credit = 0.0

    def deal(
        self, lines: Sequence[WaitingLine], heads: Heads, *, room: int, now_ms: int
    ) -> list[Waiter]:
        """Choose who is next.

        Args:
            lines: Where something may wait.
            heads: Reads a line.
            room: How many places there are.
            now_ms: The present.

        Returns:
            At most `room` of them, the most urgent first; `charge` says which really went.
        """
        self._admit({line.source for line in lines})
        aged = self._aged(lines, heads, room, now_ms)
        chosen = {each.id: each for each in aged}
        for lane in sorted({line.lane for line in lines}):
            if len(chosen) >= room:
                break
            lines_here = [line for line in lines if line.lane is lane]
            for waiter in self._in_turn(lines_here, heads, room):
                if len(chosen) >= room:
                    break
                chosen.setdefault(waiter.id, waiter)
        return sorted(chosen.values(), key=lambda waiter: waiter.line.lane)

    def charge(self, gone: Iterable[Waiter]) -> None:
        """Take note of places that were used."""
        for waiter in gone:
            source = waiter.line.source
            self._given[source] = self._given.get(source, 0) + 1

    def _admit(self, sources: Collection[str]) -> None:
        """Forget who has nothing waiting; who is new begins where the one behind is."""
        known = {source: self._given[source] for source in sources if source in self._given}
        start = min(known.values(), default=0)
        self._given = {source: known.get(source, start) - start for source in sources}

    def _aged(
        self, lines: Sequence[WaitingLine], heads: Heads, room: int, now_ms: int
    ) -> list[Waiter]:
        """Give those whose wait is over, as many as they have places."""
        if len({line.lane for line in lines}) < 2:  # noqa: PLR2004 - nobody is before them
            return []
        self._aged_credit = min(self._aged_credit + room / AGED_SHARE, max(room, 1))
        places = int(self._aged_credit)
        until_ms = now_ms - self._longest_wait_ms
        old = [
            each
            for line in lines
            if places and line.lane is not Lane.STAT
            for each in heads(line, places)
            if each.since_ms <= until_ms
        ]
        old = sorted(old, key=attrgetter("since_ms"))[:places]
        self._aged_credit -= len(old)
        return old

    def _in_turn(self, lines: Sequence[WaitingLine], heads: Heads, most: int) -> Iterator[Waiter]:
        """Give the waiters of one lane, always the next of the source that was given least."""
        by_source: dict[str, list[Sequence[Waiter]]] = {}
        for line in lines:
            by_source.setdefault(line.source, []).append(heads(line, most))
        queues = {
            source: iter(list(merge(*found, key=attrgetter("since_ms"))))
            for source, found in by_source.items()
        }
        turns = [(self._given[source], source) for source in queues]
        heapify(turns)
        while turns:
            given, source = turns[0]
            waiter = next(queues[source], None)
            if waiter is None:
                turns = [turn for turn in turns if turn[1] != source]
                heapify(turns)
                continue
            heapreplace(turns, (given + 1, source))
            yield waiter
