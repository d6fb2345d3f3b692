import gc
from collections.abc import Iterator

import pytest

from gateway import heap


@pytest.fixture(autouse=True)
def _undone() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


def test_what_is_loaded_is_left_out_of_later_collections() -> None:
    heap.settle()

    assert gc.get_freeze_count() > 0


def test_cycles_made_later_are_still_collected() -> None:
    heap.settle()
    cycle: list[object] = []
    cycle.append(cycle)
    del cycle

    assert gc.collect() >= 1
