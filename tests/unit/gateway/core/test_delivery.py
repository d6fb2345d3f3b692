import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.delivery import (
    FAILURES_TO_OPEN,
    LONGEST_OPEN_S,
    Backoff,
    Circuit,
    Passage,
)

NOW = 1_000_000
BACKOFF = Backoff(base_s=1, max_s=300, budget_s=3600)


@pytest.mark.parametrize(
    ("attempt", "retry_after_s", "drawn", "expected"),
    [
        (1, None, 0.0, 0.0),
        (1, None, 0.5, 0.5),
        (2, None, 0.5, 1.0),
        (5, None, 0.5, 8.0),
        (20, None, 0.5, 150.0),
        (10_000, None, 0.5, 150.0),
        (1, 120.0, 0.0, 120.0),
        (3, 120.0, 0.5, 122.0),
    ],
    ids=["least", "first", "second", "fifth", "capped", "huge", "asked", "asked-and-jitter"],
)
def test_the_delay_doubles_is_capped_and_honours_retry_after(
    attempt: int, retry_after_s: float | None, drawn: float, expected: float
) -> None:
    delay = BACKOFF.delay_s(attempt, retry_after_s=retry_after_s, random=lambda: drawn)

    assert delay == expected


def test_what_waits_for_an_ehr_that_is_away_waits_no_longer_than_its_circuit() -> None:
    delay = BACKOFF.delay_s(50, retry_after_s=None, random=lambda: 0.5, is_of_system=True)

    assert delay == LONGEST_OPEN_S / 2


@given(
    attempt=st.integers(1, 1000),
    asked=st.one_of(st.none(), st.floats(0, 86_400)),
    drawn=st.floats(0, 1, exclude_max=True),
)
def test_the_delay_is_never_sooner_than_asked_nor_longer_than_the_maximum(
    attempt: int, asked: float | None, drawn: float
) -> None:
    delay = BACKOFF.delay_s(attempt, retry_after_s=asked, random=lambda: drawn)

    assert (asked or 0) <= delay <= (asked or 0) + 300


def test_a_result_is_given_up_at_the_age_of_the_budget() -> None:
    assert not BACKOFF.is_spent(3599.9)
    assert BACKOFF.is_spent(3600)


def test_a_circuit_lets_all_through_until_it_has_failed_often_enough() -> None:
    circuit = Circuit()

    for _ in range(FAILURES_TO_OPEN - 1):
        circuit = circuit.after_failure(NOW, delay_s=10, is_asked=False)

    assert circuit.passage(NOW) is Passage.ALL
    opened = circuit.after_failure(NOW, delay_s=10, is_asked=False)
    assert opened.passage(NOW + 9_999) is Passage.NONE
    assert opened.passage(NOW + 10_000) is Passage.ONE


def test_while_the_probe_is_out_nothing_else_passes_until_the_probe_is_lost() -> None:
    probing = Circuit(FAILURES_TO_OPEN, NOW).probing(NOW, lease_ms=60_000)

    assert probing.is_probing
    assert probing.passage(NOW + 59_999) is Passage.NONE
    assert probing.passage(NOW + 60_000) is Passage.ONE


def test_a_failed_probe_opens_the_circuit_again_for_a_bounded_time() -> None:
    probing = Circuit(FAILURES_TO_OPEN, NOW).probing(NOW, lease_ms=60_000)

    failed = probing.after_failure(NOW, delay_s=300, is_asked=False)

    assert not failed.is_probing
    assert failed.passage(NOW + 1000) is Passage.NONE
    assert failed.passage(NOW + int(LONGEST_OPEN_S * 1000)) is Passage.ONE


def test_a_system_that_asks_for_a_pause_gets_it_at_once_and_in_full() -> None:
    asked = Circuit().after_failure(NOW, delay_s=120, is_asked=True)

    assert asked.passage(NOW + 119_999) is Passage.NONE
    assert asked.passage(NOW + 120_000) is Passage.ONE
