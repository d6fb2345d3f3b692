"""B5: threads that share one session, against prefork: memory (PSS) and throughput.

The same Celery worker, the same two at a time; only the pool differs. Each turn starts a worker
afresh, lets it serve one model and then three, and looks at its memory after each.
"""

import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from celery import Celery

from benchmarks import figures
from benchmarks.figures import Sample, Turn, by_turns, comparison, condensed
from benchmarks.machine import cpu_seconds, pss_bytes
from benchmarks.peers import environment
from benchmarks.queue_broker import await_socket
from benchmarks.queues.serving import RUNS
from benchmarks.result import Chart, Result, Scale
from benchmarks.systems import broker_command, started

_ROUNDS = 3
_MIB = 2**20
_TIMEOUT_S = 120.0
_TASK = "benchmarks.queues.serving.serve"
THREADS, PREFORK = "threads, one session", "prefork"
_POOLS = {THREADS: "threads", PREFORK: "prefork"}
_AT_ONCE = 2


def run(scale: Scale) -> Result:
    """Measure both pools by turns."""
    turns = {name: _turn(pool, scale) for name, pool in _POOLS.items()}
    cost = condensed(by_turns(turns, scale.pick(_ROUNDS, 1), scale.tell, scale.within_s))
    ours, theirs = cost[THREADS], cost[PREFORK]
    speeds = [f"runs/s, {name}" for name in RUNS]
    most = f"PSS MiB, {len(RUNS)} models"
    return Result(
        number="B5",
        name="workers",
        title="Workers: threads that share one session against prefork, PSS and throughput",
        fairness="The same Celery worker, two tasks at a time, the same models and cases; only the "
        "pool differs. A task makes several runs, so that the model is measured and not the queue. "
        "Sessions have one thread. Runs are of one case: with the smallest model it is the "
        "interpreter's lock that is measured; Nadi itself runs up to 64 cases at once.",
        tables={"Medians (lowest to highest round)": comparison(cost)},
        values={
            "saved_mib": theirs[most].median - ours[most].median,
            # The least that any of the models gains: one that loses must not hide behind another.
            "times_throughput": min(figures.times(ours[name], theirs[name]) for name in speeds),
            **{
                f"times_{name}": figures.times(ours[speed], theirs[speed])
                for name, speed in zip(RUNS, speeds, strict=True)
            },
        },
        charts=[
            Chart(
                "Memory of the worker",
                "MiB of PSS",
                bars={
                    f"{name}, {count} model{'s' if count > 1 else ''}": each[
                        f"PSS MiB, {count} model{'s' if count > 1 else ''}"
                    ].median
                    for name, each in cost.items()
                    for count in (1, len(RUNS))
                },
            )
        ],
    )


def _turn(pool: str, scale: Scale) -> Turn:
    def turn(_: int) -> Sample:
        sample: dict[str, float] = {}
        with _serving(pool) as worker:
            for count, name in enumerate(RUNS, start=1):
                worker.push(name, scale.pick(24, 12))  # all of its processes open the session
                tasks = scale.pick(96, 24)
                wall, cpu = worker.push(name, tasks)
                sample[f"runs/s, {name}"] = tasks * RUNS[name] / wall
                sample[f"CPU-ms per run, {name}"] = cpu * 1000 / (tasks * RUNS[name])
                if count in (1, len(RUNS)):
                    size = sum(pss_bytes([worker.root]).values()) / _MIB
                    sample[f"PSS MiB, {count} model{'s' if count > 1 else ''}"] = size
        return sample

    return turn


@dataclass(frozen=True)
class _Worker:
    """A worker that serves models.

    Attributes:
        root: Its first process.
        app: Sends to it.
        done: The file that grows by a byte with every task.
    """

    root: int
    app: Celery
    done: Path

    def push(self, model: str, count: int) -> tuple[float, float]:
        """Send tasks of a model and wait for them; give the seconds on the clock and of CPU.

        Raises:
            TimeoutError: Not all were done in time.
        """
        wanted = self.done.stat().st_size + count
        ids = [f"{model}/{uuid.uuid4()}" for _ in range(count)]
        began, cpu = time.perf_counter(), sum(cpu_seconds([self.root]).values())
        for job_id in ids:
            self.app.send_task(_TASK, (job_id,))
        while self.done.stat().st_size < wanted:
            if time.perf_counter() - began > _TIMEOUT_S:
                raise TimeoutError(f"{wanted - self.done.stat().st_size} tasks were never done")
            time.sleep(0.002)
        wall = time.perf_counter() - began
        return wall, sum(cpu_seconds([self.root]).values()) - cpu


@contextmanager
def _serving(pool: str) -> Iterator[_Worker]:
    with TemporaryDirectory(prefix="bench-workers-") as name, ExitStack() as stack:
        folder = Path(name)
        done, socket = folder / "done", folder / "broker.sock"
        done.touch()
        stack.enter_context(started(broker_command(folder), {}, folder / "broker.log"))
        await_socket(socket)
        url = f"redis+socket://{socket}"
        settings = {**environment(), "BENCH_BROKER": url, "BENCH_DONE": str(done)}
        command = (
            *(sys.executable, "-m", "celery", "-q", "-A", "benchmarks.queues.serving", "worker"),
            *("-P", pool, "-c", str(_AT_ONCE), "--without-gossip", "--without-mingle"),
        )
        root = stack.enter_context(started(command, settings, folder / "worker.log"))
        app = Celery("benchmark", broker=url, set_as_current=False)
        yield _Worker(root, app, done)
        app.close()
