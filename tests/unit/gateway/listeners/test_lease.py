"""One host follows a feed at a time, and another goes on when it dies."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from gateway.listeners.lease import LEASE_MS, Lease
from gateway.store.unit_of_work import Store


@dataclass
class Clock:
    seconds: float = 0

    def __call__(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)


def test_only_one_of_two_hosts_follows_and_the_other_goes_on_when_it_dies(store: Store):
    clock = Clock()
    first, second = (Lease(store, "ehr/poll", host, clock) for host in ("one", "two"))

    assert (first.holds(), second.holds()) == (True, False)
    assert second.held_by == "one"
    clock.seconds = LEASE_MS / 1000 - 1
    assert not second.holds()
    clock.seconds = LEASE_MS / 1000
    assert (second.holds(), first.holds()) == (True, False)


def test_whoever_goes_on_keeps_it(store: Store):
    clock = Clock()
    first, second = (Lease(store, "ehr/poll", host, clock) for host in ("one", "two"))

    for clock.seconds in range(0, 120, 3):
        assert (first.holds(), second.holds()) == (True, False)


def test_whoever_ends_lets_another_begin_at_once(store: Store):
    clock = Clock()
    first, second = (Lease(store, "ehr/poll", host, clock) for host in ("one", "two"))
    first.holds()

    second.give_up()
    assert not second.holds()
    first.give_up()

    assert second.holds()


def test_feeds_do_not_share_a_lease(store: Store):
    clock = Clock()

    assert Lease(store, "ehr/poll", "one", clock).holds()
    assert Lease(store, "lab/poll", "two", clock).holds()
