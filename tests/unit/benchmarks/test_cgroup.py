import subprocess

import pytest

from benchmarks.cgroup import entrance, limited


def test_outside_of_a_block_nothing_joins_a_group():
    assert entrance() is None


def test_what_is_started_in_the_block_is_in_the_group_and_the_group_is_gone_after_it():
    with limited(2**28) as group:
        if group.folder is None:
            pytest.skip(group.reason)
        told = subprocess.run(
            ["cat", "/proc/self/cgroup"],
            check=True,
            capture_output=True,
            text=True,
            preexec_fn=entrance(),
        )
        used = group.told()

    assert group.folder.name in told.stdout
    assert used.startswith("enforced; peak")
    assert not group.folder.exists()
