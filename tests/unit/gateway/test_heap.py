import gc
import sys
from collections.abc import Iterator
from pathlib import Path

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


@pytest.mark.skipif(sys.platform != "linux", reason="told by /proc")
def test_what_was_given_back_between_what_is_kept_is_returned_to_the_system() -> None:
    # Below the size at which a block is a mapping of its own, which would be returned at once.
    blocks = [b"x" * 100_000 for _ in range(500)]
    kept = blocks[::50]
    blocks.clear()
    held = _own_bytes()

    heap.settle()

    assert held - _own_bytes() > 30_000_000
    assert len(kept) == 10


def _own_bytes() -> int:
    status = Path("/proc/self/status").read_text("ascii")
    return 1024 * int(status.partition("RssAnon:")[2].split()[0])
