"""Who is next, whatever waits: order of lanes, equal shares, and an end to every wait."""

from collections import Counter
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.lanes import Lane
from gateway.core.sharing import AGED_SHARE, Sharing, Waiter, WaitingLine

NOW_MS, LONGEST_MS = 1_000_000, 60_000
LINES = st.builds(
    WaitingLine, st.sampled_from(Lane), st.sampled_from("abcd"), st.sampled_from("xyz")
)
QUEUES = st.dictionaries(LINES, st.lists(st.integers(0, NOW_MS), max_size=12), max_size=6)


class Waiting:
    """What waits, in memory."""

    def __init__(self, queues: dict[WaitingLine, list[int]]) -> None:
        self.waiters = {
            line: [
                Waiter(f"{line.lane}{line.name}{line.source}{n}", "m", since, line)
                for n, since in enumerate(sorted(times))
            ]
            for line, times in queues.items()
        }
        self.most_read = 0

    @property
    def lines(self) -> list[WaitingLine]:
        return [line for line, some in self.waiters.items() if some]

    def heads(self, line: WaitingLine, most: int) -> Sequence[Waiter]:
        self.most_read = max(self.most_read, most)
        return self.waiters[line][:most]

    def take(self, sharing: Sharing, room: int) -> list[Waiter]:
        gone = sharing.deal(self.lines, self.heads, room=room, now_ms=NOW_MS)
        sharing.charge(gone)
        ids = {each.id for each in gone}
        for line, some in self.waiters.items():
            self.waiters[line] = [each for each in some if each.id not in ids]
        return gone


@given(QUEUES, st.integers(1, 30))
def test_everything_goes_once_and_no_place_stays_empty_while_something_waits(queues, room) -> None:
    waiting, sharing = Waiting(queues), Sharing(LONGEST_MS)
    everything = {each.id for some in waiting.waiters.values() for each in some}
    gone: list[str] = []

    while waiting.lines:
        taken = waiting.take(sharing, room)
        assert len(taken) == min(room, len(everything) - len(gone))
        assert waiting.most_read <= room
        gone += [each.id for each in taken]

    assert sorted(gone) == sorted(everything)


@given(QUEUES, st.integers(1, 30))
def test_nobody_goes_before_the_more_urgent_but_those_whose_wait_is_over(queues, room) -> None:
    waiting, sharing = Waiting(queues), Sharing(LONGEST_MS)

    while waiting.lines:
        taken = waiting.take(sharing, room)
        left = [line.lane for line in waiting.lines]
        early = [each for each in taken if left and each.line.lane > min(left)]
        assert all(each.since_ms <= NOW_MS - LONGEST_MS for each in early)


@given(st.dictionaries(st.sampled_from("xyz"), st.integers(1, 60), min_size=2), st.integers(1, 9))
def test_sources_get_the_same_as_long_as_they_have_something_waiting(counts, room) -> None:
    waiting = Waiting(
        {WaitingLine(Lane.ROUTINE, s, s): [NOW_MS] * count for s, count in counts.items()}
    )
    sharing, got = Sharing(LONGEST_MS), Counter(dict.fromkeys(counts, 0))

    while len(waiting.lines) == len(counts):
        got.update(each.line.source for each in waiting.take(sharing, room))
        if len(waiting.lines) == len(counts):
            assert max(got.values()) - min(got.values()) <= 1


def test_who_had_nothing_waiting_saves_up_nothing() -> None:
    busy, late = WaitingLine(Lane.ROUTINE, "a", "x"), WaitingLine(Lane.ROUTINE, "b", "y")
    waiting, sharing = Waiting({busy: [NOW_MS] * 100}), Sharing(LONGEST_MS)
    for _ in range(5):
        waiting.take(sharing, 10)

    waiting.waiters.update(Waiting({late: [NOW_MS] * 100}).waiters)
    taken = waiting.take(sharing, 10)

    assert Counter(each.line.source for each in taken) == {"x": 5, "y": 5}


def test_of_what_waited_too_long_one_goes_for_every_seven_more_urgent() -> None:
    old, flood = WaitingLine(Lane.ROUTINE, "a", "x"), WaitingLine(Lane.ASAP, "b", "x")
    waiting = Waiting({old: [0] * 50, flood: [NOW_MS] * 1000})
    sharing = Sharing(LONGEST_MS)

    taken = [each for _ in range(16) for each in waiting.take(sharing, 3)]

    assert Counter(each.line.lane for each in taken)[Lane.ROUTINE] == 16 * 3 // AGED_SHARE
