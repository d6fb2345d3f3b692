import os
import subprocess
import sys

import pytest

from benchmarks.fsyncs import counted, read

SUMMARY = """\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 80.00    0.012000          12      1000           fdatasync
 20.00    0.003000          30       100         1 fsync
------ ----------- ----------- --------- --------- ----------------
100.00    0.015000          13      1100         1 total
"""


def test_the_calls_of_both_kinds_are_added_up():
    assert read(SUMMARY) == 1100


def test_a_process_that_never_waited_for_the_disk_is_counted_as_none():
    assert read("") == 0


def test_what_a_process_does_in_the_block_is_counted(tmp_path):
    program = (
        "import os, sys; f = open(sys.argv[1], 'w'); sys.stdin.readline();"
        "[os.fsync(f.fileno()) for _ in range(5)]; print(flush=True); sys.stdin.readline()"
    )
    command = (sys.executable, "-c", program, str(tmp_path / "file"))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, env=dict(os.environ), **pipes) as process:
        with counted([process.pid]) as calls:
            process.stdin.write("\n")
            process.stdin.flush()
            process.stdout.readline()
        process.stdin.write("\n")

    if calls.calls is None:
        pytest.skip("strace is not installed, or may not look at other processes")
    assert calls.calls == 5
