"""What a machine says of itself, read as the gateway's containers and old computers write it."""

import os

import pytest

from gateway.cli import machine

MEMINFO = "MemTotal:        4026532 kB\nMemFree: 1 kB\nMemAvailable:    2013266 kB\n"


def test_this_machine_is_described_and_nothing_is_left_in_the_folder(tmp_path):
    found = machine.look(tmp_path)

    assert found.cores >= 1
    assert 0 < found.available_bytes <= found.memory_bytes
    assert 0 < found.fsync.median_ms <= found.fsync.worst_ms
    assert list(tmp_path.iterdir()) == []


def test_only_instructions_that_matter_are_named():
    text = "processor\t: 0\nflags\t\t: fpu sse4_1 avx2 avx512_vnni\nflags\t\t: none\n"

    assert machine.flags_of(text) == ("sse4_1", "avx2", "avx512_vnni")


@pytest.mark.parametrize(
    ("cpu_max", "most"),
    [("150000 100000", 1), ("50000 100000", 1), ("max 100000", None), ("", None)],
)
def test_a_container_may_use_its_share_of_the_processors(cpu_max, most):
    allowed = len(os.sched_getaffinity(0))

    assert machine.cores(cpu_max) == (most or allowed)


@pytest.mark.parametrize(
    ("limit", "memory", "available"),
    [
        ("max\n", 4026532 * 1024, 2013266 * 1024),
        ("1073741824\n", 2**30, 2**30),
        ("", 4026532 * 1024, 2013266 * 1024),
    ],
)
def test_a_container_has_the_memory_it_is_given(limit, memory, available):
    assert machine.memory_bytes(MEMINFO, limit) == (memory, available)


def test_memory_is_known_where_no_kernel_lists_it():
    total, available = machine.memory_bytes("", "")

    assert 0 < available <= total
