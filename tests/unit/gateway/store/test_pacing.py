"""The line before a system is one for all who open its database, and no clock holds it up."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
import sqlalchemy as sa

from gateway.core.errors import RateTaken
from gateway.store.pacing_tables import paced_lines
from gateway.store.sealing import Sealer
from gateway.store.unit_of_work import Store
from tests.conftest import MASTER

PER_SECOND = 1000.0
HOUR_US = 3600 * 10**6


@pytest.fixture
def stores(database_url: str) -> Iterator[list[Store]]:
    """The same database, opened as three processes do."""
    opened = [Store(database_url, Sealer(MASTER)) for _ in range(3)]
    yield opened
    for each in opened:
        each.close()


def take(store: Store, count: int = 1, *, per_second: float = PER_SECOND) -> float:
    """Take places; give when the first is."""
    with store.write(is_durable=False) as uow:
        first_s, _ = uow.pacing.take("ehr", count=count, per_second=per_second, within_s=5)
    return first_s


def test_all_who_open_the_database_stand_in_one_line(stores: list[Store]) -> None:
    def take_some(store: Store) -> list[float]:
        return [take(store, 40) for _ in range(5)]

    with ThreadPoolExecutor(len(stores)) as pool:
        places = sorted(each for found in pool.map(take_some, stores) for each in found)

    # On PostgreSQL each process translates from the server's clock: that takes a moment.
    assert len(places) == 15
    assert all(after - before >= 40 / PER_SECOND - 0.02 for before, after in pairwise(places))
    assert places[-1] - places[0] >= 14 * 40 / PER_SECOND - 0.02


def test_whose_line_is_too_long_is_given_no_place_and_told_when_to_come(
    stores: list[Store],
) -> None:
    take(stores[0], 20, per_second=2)

    with pytest.raises(RateTaken) as refused:
        take(stores[1], per_second=2)
    with stores[1].read() as uow:
        before = uow.connection.execute(sa.select(paced_lines)).all()
    with pytest.raises(RateTaken):
        take(stores[2], per_second=2)
    with stores[1].read() as uow:
        after = uow.connection.execute(sa.select(paced_lines)).all()

    assert refused.value.retry_after_s == pytest.approx(10, abs=1)
    assert before == after


def test_a_clock_that_was_an_hour_ahead_holds_nobody_up(stores: list[Store]) -> None:
    take(stores[0], 100)
    ahead = {name: paced_lines.c[name] + HOUR_US for name in ("next_us", "seen_us")}
    with stores[0].write() as uow:
        uow.connection.execute(sa.update(paced_lines).values(ahead))

    first_s = take(stores[1])

    assert first_s - time.monotonic() <= 100 / PER_SECOND


def test_a_system_does_not_stand_in_the_line_of_another(stores: list[Store]) -> None:
    take(stores[0], 5, per_second=1)

    with stores[1].write() as uow:
        first_s, apart_s = uow.pacing.take("lab", count=1, per_second=4, within_s=0)

    assert first_s <= time.monotonic()
    assert apart_s == 0.25
