"""An EHR is asked no faster than its cap, by however many processes, counted where it stands."""

import signal
import subprocess
import sys
import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import pytest

from adapters.fhir_rest.pace import LATE_S
from tests.answering import answering

pytestmark = pytest.mark.integration

PER_SECOND, PROCESSES = 40, 3
#: A request that left in time may arrive a little later than the next one.
WAY_S = 0.25


def test_several_processes_together_keep_the_cap_while_one_is_frozen_and_one_dies(
    database_url: str,
) -> None:
    with answering() as ehr, asking(database_url, f"{ehr.base}/fhir") as processes:
        ehr.answer(b'{"resourceType": "Patient", "id": "made-up"}', content_type="application/json")
        begin(processes)
        frozen, killed, _ = processes
        time.sleep(0.8)
        frozen.send_signal(signal.SIGSTOP)
        time.sleep(0.7)
        frozen.send_signal(signal.SIGCONT)
        time.sleep(0.5)
        killed.kill()
        died_s = time.monotonic()
        time.sleep(1.2)
        arrived_s = sorted(each.at_s for each in ehr.requests)

    for span_s in (0.2, 0.5, 1.0, 2.0):
        most = max(within(arrived_s, begins_s, span_s) for begins_s in arrived_s)
        assert most <= PER_SECOND * (span_s + LATE_S + WAY_S) + 1, f"{most} in {span_s} s"
    # Nobody stood behind the dead one for long, and the cap was used.
    assert within(arrived_s, died_s + 0.2, 1.0) >= PER_SECOND / 4


def within(arrived_s: Sequence[float], begins_s: float, span_s: float) -> int:
    """Count what arrived in a span."""
    return bisect_right(arrived_s, begins_s + span_s) - bisect_right(arrived_s, begins_s - 1e-9)


@contextmanager
def asking(database_url: str, base: str) -> Iterator[list[subprocess.Popen[str]]]:
    """Start the processes, each ready to ask; end them with the block."""
    command = [sys.executable, "-m", "tests.pacing", database_url, base, str(PER_SECOND)]
    with ExitStack() as stack:
        started = []
        for _ in range(PROCESSES):
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            started.append(process)
        yield started


def begin(processes: Sequence[subprocess.Popen[str]]) -> None:
    """Let all begin at the same moment, once all are ready."""
    for each in processes:
        assert each.stdout is not None
        assert each.stdout.readline() == "ready\n"
    for each in processes:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
