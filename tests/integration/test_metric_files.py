"""Metrics are written into files that are mapped: a full disk must not end who writes there."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import mmap_dict
from prometheus_client.mmap_dict import MmapedDict

from gateway.metric_files import KeptFile
from tests.chaos.disk import Disk

#: Counts so many series that a file grows several times, and waits for a line before half of them.
COUNTING = """
import sys
from gateway import telemetry

def count(first, last):
    for number in range(first, last):
        telemetry.count_delivery_attempt(f"system-{number}", "delivered")

count(0, 100)
print("begun", flush=True)
sys.stdin.readline()
count(100, 3000)
print(telemetry.render_metrics().count(b'outcome="delivered"'), flush=True)
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    made = Disk(tmp_path / "disk", 8)
    if not made.is_mounted:
        pytest.skip("a tmpfs can't be mounted here: that needs root, or CAP_SYS_ADMIN")
    yield made
    made.close()


def counting(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", COUNTING],
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def go_on(process: subprocess.Popen[str]) -> tuple[int, str]:
    told, _ = process.communicate("\n", timeout=60)
    return process.returncode, told.splitlines()[-1]


def test_what_is_counted_is_read_from_the_folder(tmp_path: Path) -> None:
    process = counting(tmp_path)

    assert go_on(process) == (0, "3000")


def test_a_process_that_starts_on_a_full_disk_lives(disk: Disk) -> None:
    with disk.full(list):
        process = counting(disk.folder)

        assert go_on(process) == (0, "0"), "it counts for itself"
    assert list(disk.folder.iterdir()) == [], "nothing is left that others could not read"


def test_a_process_under_which_the_disk_fills_up_lives(disk: Disk) -> None:
    process = counting(disk.folder)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"

    with disk.full(list):
        code, told = go_on(process)

    assert code == 0
    assert 100 <= int(told) < 3000, "what there was room for is still read"


def test_a_file_is_what_the_library_makes_of_it(tmp_path: Path) -> None:
    kept, theirs = KeptFile(str(tmp_path / "kept")), MmapedDict(str(tmp_path / "theirs"))
    for each in (kept, theirs):
        for number in range(3000):
            each.write_value(f"key {number}", float(number), 0.0)
        each.close()

    assert (tmp_path / "kept").read_bytes() == (tmp_path / "theirs").read_bytes()
    assert (tmp_path / "kept").stat().st_blocks * 512 >= mmap_dict._INITIAL_MMAP_SIZE
