from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, wait
from threading import Event

import pytest

from gateway.core.errors import Busy, StoreConflict, StoreUnavailable
from gateway.store.group_commit import MOST_TRIES, GroupCommit

SOON_S = 10


class Kitchen:
    """Doubles numbers; notes every batch, and waits before each until it is let go."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.may_go = Event()
        self.may_go.set()
        self.started = Event()
        self.trouble: Callable[[Sequence[int]], Exception | None] = lambda _items: None

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.started.set()
        assert self.may_go.wait(SOON_S)
        self.batches.append(list(items))
        error = self.trouble(items)
        if error is not None:
            raise error
        return [item * 2 for item in items]


@pytest.fixture
def kitchen() -> Kitchen:
    return Kitchen()


@pytest.fixture
def commit(kitchen: Kitchen) -> Iterator[GroupCommit[int, int]]:
    made = GroupCommit(kitchen, limit=10, max_waiting=12)
    yield made
    kitchen.may_go.set()
    made.close()


def hold(kitchen: Kitchen, commit: GroupCommit[int, int]) -> Future[int]:
    """Let one item be under way, so that what follows gathers."""
    kitchen.may_go.clear()
    kitchen.started.clear()
    first = commit.submit(0)
    assert kitchen.started.wait(SOON_S)
    return first


def test_each_waiter_gets_its_own_answer(commit: GroupCommit[int, int]):
    futures = [commit.submit(number) for number in range(8)]

    assert [future.result(SOON_S) for future in futures] == [0, 2, 4, 6, 8, 10, 12, 14]


def test_what_waits_together_shares_a_commit_up_to_the_limit(
    kitchen: Kitchen, commit: GroupCommit[int, int]
):
    first = hold(kitchen, commit)
    rest = [commit.submit(number) for number in range(1, 12)]

    kitchen.may_go.set()

    wait([first, *rest], SOON_S)
    assert kitchen.batches == [[0], list(range(1, 11)), [11]]


def test_a_heavy_item_counts_for_its_weight(kitchen: Kitchen):
    commit = GroupCommit(kitchen, limit=10, max_waiting=100, weigh=lambda item: item)
    first = hold(kitchen, commit)
    rest = [commit.submit(weight) for weight in (6, 6, 6)]

    kitchen.may_go.set()

    wait([first, *rest], SOON_S)
    commit.close()
    assert kitchen.batches == [[0], [6, 6], [6]]


def test_too_much_waiting_is_refused_and_room_comes_back(
    kitchen: Kitchen, commit: GroupCommit[int, int]
):
    futures = [hold(kitchen, commit), *(commit.submit(number) for number in range(1, 12))]

    with pytest.raises(Busy) as refused:
        commit.submit(99)

    assert refused.value.retry_after_s == 1
    kitchen.may_go.set()
    wait(futures, SOON_S)
    assert commit.submit(1).result(SOON_S) == 2


def test_one_bad_item_does_not_sink_its_neighbours(kitchen: Kitchen, commit: GroupCommit[int, int]):
    kitchen.trouble = lambda items: ValueError("three") if 3 in items else None
    first = hold(kitchen, commit)
    futures = [commit.submit(number) for number in (2, 3, 4)]

    kitchen.may_go.set()

    assert (first.result(SOON_S), futures[0].result(SOON_S), futures[2].result(SOON_S)) == (0, 4, 8)
    with pytest.raises(ValueError, match="three"):
        futures[1].result(SOON_S)
    assert kitchen.batches == [[0], [2, 3, 4], [2], [3], [4]]


def test_when_the_database_is_away_nothing_is_tried_again(
    kitchen: Kitchen, commit: GroupCommit[int, int]
):
    kitchen.trouble = lambda _items: StoreUnavailable()
    futures = [hold(kitchen, commit), commit.submit(1), commit.submit(2)]

    kitchen.may_go.set()

    for future in futures:
        with pytest.raises(StoreUnavailable):
            future.result(SOON_S)
    assert kitchen.batches == [[0], [1, 2]]


def test_an_item_that_another_process_was_ahead_of_is_tried_again(
    kitchen: Kitchen, commit: GroupCommit[int, int]
):
    kitchen.trouble = lambda _items: StoreConflict() if len(kitchen.batches) < 3 else None

    assert commit.submit(5).result(SOON_S) == 10

    assert kitchen.batches == [[5], [5], [5]]


def test_an_item_that_never_gets_its_turn_is_given_back(
    kitchen: Kitchen, commit: GroupCommit[int, int]
):
    kitchen.trouble = lambda _items: StoreConflict()

    with pytest.raises(StoreConflict):
        commit.submit(5).result(SOON_S)

    assert kitchen.batches == [[5]] * MOST_TRIES


def test_a_waiter_that_went_away_is_dropped_and_the_others_are_served(
    kitchen: Kitchen, commit: GroupCommit[int, int]
):
    hold(kitchen, commit)
    gone, stays = commit.submit(1), commit.submit(2)
    gone.cancel()

    kitchen.may_go.set()

    assert stays.result(SOON_S) == 4
    with pytest.raises(CancelledError):
        gone.result(SOON_S)
    assert kitchen.batches == [[0], [2]]
    assert commit.submit(3).result(SOON_S) == 6


def test_a_batch_that_everybody_left_is_not_committed_and_frees_its_room(
    kitchen: Kitchen, commit: GroupCommit[int, int]
):
    hold(kitchen, commit)
    gone = [commit.submit(number) for number in range(1, 11)]
    for future in gone:
        future.cancel()
    kitchen.may_go.set()

    assert commit.submit(20).result(SOON_S) == 40

    served = [commit.submit(number) for number in range(11)]
    assert wait(served, SOON_S).not_done == set()


def test_a_waiter_cannot_leave_once_its_batch_is_under_way(
    kitchen: Kitchen, commit: GroupCommit[int, int]
):
    first = hold(kitchen, commit)

    assert not first.cancel()

    kitchen.may_go.set()
    assert first.result(SOON_S) == 0


def test_closing_commits_what_waits_and_takes_nothing_more(kitchen: Kitchen):
    commit = GroupCommit(kitchen, limit=10, max_waiting=12)
    futures = [commit.submit(number) for number in range(5)]

    commit.close()

    assert [future.result(0) for future in futures] == [0, 2, 4, 6, 8]
    with pytest.raises(Busy, match="stopping"):
        commit.submit(9)


def test_closing_commits_what_gathered_behind_a_batch(kitchen: Kitchen):
    commit = GroupCommit(kitchen, limit=10, max_waiting=12)
    first = hold(kitchen, commit)
    second = commit.submit(1)
    commit._queue.put(None)

    kitchen.may_go.set()

    commit.close()
    assert (first.result(0), second.result(0)) == (0, 2)


def test_only_after_a_batch_of_several_does_it_wait_a_moment_for_more(kitchen: Kitchen):
    late: list[Future[int]] = []
    commit = GroupCommit(
        kitchen, limit=10, max_waiting=12, pause=lambda _s: late.append(commit.submit(9))
    )
    first = hold(kitchen, commit)
    together = [commit.submit(1), commit.submit(2)]
    kitchen.may_go.set()
    wait([first, *together], SOON_S)

    assert commit.submit(3).result(SOON_S) == 6
    assert late[0].result(SOON_S) == 18
    commit.close()

    assert kitchen.batches[:3] == [[0], [1, 2], [3, 9]]
