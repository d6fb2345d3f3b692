"""Ids sort in the order in which they were made, and times survive the way into the database."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.clock import from_ms, new_id, to_ms, utc_now


def test_ids_sort_in_the_order_in_which_they_were_made():
    ids = [new_id() for _ in range(20_000)]

    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)


def test_ids_of_many_threads_are_never_the_same():
    with ThreadPoolExecutor(8) as pool:
        ids = [each for made in pool.map(lambda _: [new_id() for _ in range(500)], range(8))
               for each in made]  # fmt: skip

    assert len(set(ids)) == len(ids)


def test_an_id_is_a_uuid_of_version_7_that_tells_its_time():
    before = to_ms(utc_now())

    made = uuid.UUID(new_id())

    assert made.version == 7
    assert made.variant == uuid.RFC_4122
    assert 0 <= (made.int >> 80) - before < 10_000


@given(st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_a_time_comes_back_to_the_millisecond(moment):
    assert from_ms(to_ms(moment)) == moment.replace(microsecond=moment.microsecond // 1000 * 1000)
