from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.headroom import Measured, RoomLimits, Shortage

MIB = 2**20
LIMITS = RoomLimits(disk_free_bytes=512 * MIB, memory_available_bytes=128 * MIB, backlog=1000)
PLENTY = Measured(
    disk_free_bytes=100_000 * MIB,
    disk_bytes=200_000 * MIB,
    memory_available_bytes=4_000 * MIB,
    memory_bytes=8_000 * MIB,
    backlog=0,
)


@pytest.mark.parametrize(
    ("measured", "short_of"),
    [
        ({}, set()),
        ({"disk_free_bytes": 511 * MIB}, {Shortage.DISK}),
        ({"memory_available_bytes": 127 * MIB}, {Shortage.MEMORY}),
        ({"backlog": 1000}, {Shortage.BACKLOG}),
        ({"backlog": 999}, set()),
        ({"disk_free_bytes": 0, "backlog": 1000}, {Shortage.DISK, Shortage.BACKLOG}),
        ({"disk_free_bytes": 4 * MIB, "disk_bytes": 64 * MIB}, set()),
        ({"disk_free_bytes": 3 * MIB, "disk_bytes": 64 * MIB}, {Shortage.DISK}),
        ({"memory_available_bytes": None, "memory_bytes": None}, set()),
    ],
    ids=[
        *("plenty", "disk", "memory", "backlog", "nearly", "two"),
        *("small disk", "small full disk", "not measured"),
    ],
)
def test_below_a_limit_there_is_too_little_room(measured, short_of) -> None:
    assert LIMITS.shortages(replace(PLENTY, **measured)) == short_of


def test_a_shortage_ends_only_with_a_tenth_more_room_than_its_limit() -> None:
    short = frozenset({Shortage.DISK, Shortage.MEMORY, Shortage.BACKLOG})
    nearly = replace(
        PLENTY,
        disk_free_bytes=520 * MIB,
        memory_available_bytes=130 * MIB,
        backlog=950,
    )
    clear = replace(
        PLENTY, disk_free_bytes=564 * MIB, memory_available_bytes=141 * MIB, backlog=909
    )

    assert LIMITS.shortages(nearly, short) == short
    assert LIMITS.shortages(nearly) == frozenset()
    assert LIMITS.shortages(clear, short) == frozenset()


@given(st.integers(0, 2**40), st.integers(0, 2**40), st.integers(0, 10**7))
def test_no_limit_is_ever_reached_where_none_is_set(disk, memory, backlog) -> None:
    none = RoomLimits(disk_free_bytes=0, memory_available_bytes=0, backlog=0)
    levels = replace(PLENTY, disk_free_bytes=disk, memory_available_bytes=memory, backlog=backlog)

    assert none.shortages(levels, frozenset(Shortage)) == frozenset()
