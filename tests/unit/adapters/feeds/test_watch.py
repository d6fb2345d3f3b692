from dataclasses import replace

import pytest

from adapters.feeds.numbers import Numbers
from adapters.feeds.watch import Patience, Step, Watched
from gateway.core.notice import Notice

PATIENCE = Patience(grace_ms=5000, heartbeat_ms=60_000, retry_ms=10_000)


def said(
    kind: str = "event-notification", *numbers: int, total: int | None = None, status="active"
):
    return Notice(kind, "Subscription/s", status, total, numbers)


def begun(at_ms: int = 0) -> Watched:
    return Watched.begin(said("handshake", total=0), at_ms)


def test_a_gap_is_given_time_and_then_recovered_once():
    watched = begun().heard(said("event-notification", 1, total=1), 1000)
    watched = watched.heard(said("event-notification", 3, total=3), 2000)

    assert watched.step(6999, PATIENCE) is None
    assert watched.step(7000, PATIENCE) is Step.RECOVER
    assert watched.tried(7000).step(7001, PATIENCE) is None
    assert watched.recovered(3, 7100).step(30_000, PATIENCE) is None


def test_what_is_merely_late_is_no_gap():
    watched = begun().heard(said("event-notification", 2, total=2), 1000)

    late = watched.heard(said("event-notification", 1, total=2), 3000)

    assert (late.missing_ms, late.step(20_000, PATIENCE)) == (None, None)


def test_a_gap_that_stays_is_as_old_as_its_first_sight():
    watched = begun().heard(said("event-notification", 2, total=2), 1000)

    again = watched.heard(said("event-notification", 4, total=4), 4000)

    assert again.missing_ms == 1000


def test_a_subscription_is_silent_after_two_heartbeats():
    watched = begun()

    assert watched.step(120_000, PATIENCE) is None
    assert watched.step(120_001, PATIENCE) is Step.ASK_STATUS
    assert watched.heard(said("heartbeat", total=0), 120_000).step(200_000, PATIENCE) is None
    assert watched.step(10**9, replace(PATIENCE, heartbeat_ms=None)) is None


@pytest.mark.parametrize("status", ["error", "off"])
def test_one_that_ended_is_begun_again_before_anything_else(status: str):
    watched = begun().heard(said("query-status", total=9, status=status), 1000)

    assert watched.step(100_000, PATIENCE) is Step.REACTIVATE


def test_a_handshake_after_an_error_shows_what_was_missed():
    watched = begun().heard(said("event-notification", 1, 2, total=2), 1)

    again = watched.heard(said("handshake", total=7, status="requested"), 2)

    assert again.numbers.missing == (3, 7)


@pytest.mark.parametrize("kind", ["handshake", "heartbeat", "query-status"])
def test_a_smaller_count_means_that_the_ehr_counts_anew(kind: str):
    watched = begun().heard(said("event-notification", 1, 2, 3, total=3), 1)
    notice = said(kind, total=1)

    assert watched.begins_anew(notice)
    assert watched.heard(notice, 2).numbers == Numbers.starting_after(1)


def test_an_event_that_was_overtaken_does_not_mean_so():
    watched = begun().heard(said("event-notification", 2, total=2), 1)

    assert not watched.begins_anew(said("event-notification", 1, total=1))


def test_what_came_before_the_first_notification_is_no_gap():
    watched = Watched.begin(said("event-notification", 41, 42, total=42), 1)

    assert watched.heard(said("event-notification", 41, 42, total=42), 1).numbers.settled == 42


def test_what_is_kept_is_read_again():
    watched = begun().heard(said("event-notification", 5, total=6), 7).tried(9)

    assert Watched.from_json(watched.as_json()) == watched
