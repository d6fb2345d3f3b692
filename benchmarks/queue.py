"""B3: the queue, messages per second and CPU of each, against Celery and dramatiq.

The same jobs on the same broker program (Valkey on a unix socket, nothing kept on disk): one that
does nothing, and one of about 2 ms of CPU outside of the interpreter's lock, as a model's run is.
Nadi sends up to 64 ids in one task, the others one. Every queue has its own broker and its workers
all the while; each has its turns. A message is done when its job has said so.

No queue here is durable, and none needs to be in Nadi: the database is the truth, and a message
that is lost is sent again. What that costs (claims in the database) is in the second table.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from benchmarks.figures import Sample, Turn, by_turns, comparison, condensed
from benchmarks.machine import cpu_seconds
from benchmarks.peers import REPOSITORY, Peer, PeerMissing, environment
from benchmarks.queue_broker import await_socket
from benchmarks.queue_claims import claims, published
from benchmarks.queues.job import NOTHING, WORK, work
from benchmarks.result import Chart, Result, Scale
from benchmarks.systems import broker_command, started

DRAMATIQ = Peer("dramatiq", ("dramatiq[redis]==2.2.1",))
_ROUNDS = 5
_JOB_S = 0.002
_TIMEOUT_S = 120.0
_LOOK_EVERY_S = 0.002
_SECOND_US = 1e6

NADI, DEFAULT, TUNED, OTHER = "Nadi, 64 a task", "Celery", "Celery, tuned", "dramatiq"
_QUIET = ("--without-gossip", "--without-mingle", "--without-heartbeat")


@dataclass(frozen=True)
class _Kind:
    """A queue to be started.

    Attributes:
        module: In `benchmarks.queues`.
        worker: Arguments of the interpreter that start its workers.
        peer: Whose environment it runs in; Nadi's own where there is none.
        scheme: How its library writes the address of a unix socket.
    """

    module: str
    worker: tuple[str, ...]
    peer: Peer | None = None
    scheme: str = "redis+socket"


_THREADS = ("-P", "threads", "-c", "2", *_QUIET)
_KINDS: Mapping[str, _Kind] = {
    NADI: _Kind(
        "nadi_queue",
        ("celery", "-q", "-A", "benchmarks.queues.nadi_queue", "worker", "-Q", "infer", *_THREADS),
    ),
    DEFAULT: _Kind(
        "celery_default",
        ("celery", "-q", "-A", "benchmarks.queues.celery_default", "worker", "-c", "2"),
    ),
    TUNED: _Kind(
        "celery_tuned",
        ("celery", "-q", "-A", "benchmarks.queues.celery_tuned", "worker", *_THREADS),
    ),
    OTHER: _Kind(
        "dramatiq_default",
        ("dramatiq", "benchmarks.queues.dramatiq_default", "--processes", "2"),
        DRAMATIQ,
        "unix",
    ),
}


def run(scale: Scale) -> Result:
    """Measure every queue that can be had, and then what Nadi's claims cost."""
    skipped: list[str] = []
    rounds = _calibrated()
    with ExitStack() as stack:
        turns: dict[str, Turn] = {}
        for name, kind in _KINDS.items():
            scale.tell(f"starting {name}")
            try:
                queue = stack.enter_context(_running(kind, rounds))
            except PeerMissing as error:
                skipped.append(str(error))
                continue
            queue.push(NOTHING, 64)  # warm
            turns[name] = _turn(queue, scale)
        cost = condensed(by_turns(turns, scale.pick(_ROUNDS, 1), scale.tell, scale.within_s))
    claimed, rung = claims(scale), published(scale)
    one, many = (claimed[name]["jobs/s"].median for name in ("1 at a time", "64 at a time"))
    nothing = "CPU µs, nothing to do"
    return Result(
        number="B3",
        name="queue",
        title="Queue: messages/s and CPU of each, against Celery (default, tuned) and dramatiq",
        fairness="The same jobs, the same broker program, two workers each: Nadi's and the tuned "
        "Celery's are threads, Celery's default two processes, dramatiq's two processes of eight "
        "threads. No results are kept and no message is durable; Nadi's durability is the "
        "database's (second table, and B8). CPU is that of broker, workers and sender.",
        tables={
            "A message (median of rounds, lowest to highest)": comparison(cost),
            "Nadi's jobs rung for and claimed in SQLite": comparison(claimed),
            "A message with one id, published": comparison({"Nadi": rung}),
        },
        values={
            "nadi_us": cost[NADI][nothing].median,
            "celery_us": cost[DEFAULT][nothing].median,
            "tuned_us": cost[TUNED][nothing].median,
            **({"dramatiq_us": cost[OTHER][nothing].median} if OTHER in cost else {}),
            "times_claim_batched": many / one,
            "claim_one_us": claimed["1 at a time"]["CPU µs of a job"].median,
            "claim_many_us": claimed["64 at a time"]["CPU µs of a job"].median,
            "ring_us": rung["µs on the clock"].median,
            "message_bytes": rung["bytes of a message"].median,
        },
        charts=[
            Chart(
                "A message with nothing to do",
                "µs of CPU",
                bars={name: each[nothing].median for name, each in cost.items()},
                is_log=True,
            )
        ],
        skipped=skipped,
    )


def _calibrated() -> int:
    """Find out how many blocks make a job of about 2 ms on this machine."""
    began = time.thread_time()
    work(100)
    return max(1, round(_JOB_S / ((time.thread_time() - began) / 100)))


@dataclass(frozen=True)
class _Queue:
    """A queue that runs.

    Attributes:
        roots: Of its broker and its workers.
        sender: Its process, told on standard input.
        done: The file that grows by a byte with every job.
    """

    roots: tuple[int, ...]
    sender: "subprocess.Popen[str]"
    done: Path

    def push(self, kind: str, count: int) -> tuple[float, float]:
        """Send jobs and wait for them; give the seconds on the clock and those of CPU.

        Raises:
            TimeoutError: Not all were done in time.
        """
        wanted = self.done.stat().st_size + count
        began, cpu = time.perf_counter(), sum(cpu_seconds(self.roots).values())
        _pipe(self.sender.stdin).write(f"{kind} {count}\n")
        _pipe(self.sender.stdin).flush()
        while self.done.stat().st_size < wanted:
            if time.perf_counter() - began > _TIMEOUT_S:
                raise TimeoutError(f"{wanted - self.done.stat().st_size} jobs were never done")
            time.sleep(_LOOK_EVERY_S)
        wall = time.perf_counter() - began
        sending = float(_pipe(self.sender.stdout).readline())
        return wall, sum(cpu_seconds(self.roots).values()) - cpu + sending


def _pipe(stream: IO[str] | None) -> IO[str]:
    if stream is None:
        raise TypeError("the sender was started without pipes")
    return stream


def _turn(queue: _Queue, scale: Scale) -> Turn:
    def turn(_: int) -> Sample:
        sample: dict[str, float] = {}
        counts = ((NOTHING, scale.pick(2000, 300)), (WORK, scale.pick(256, 64)))
        for kind, count in counts:
            wall, cpu = queue.push(kind, count)
            what = "nothing to do" if kind == NOTHING else "2 ms to do"
            sample[f"messages/s, {what}"] = count / wall
            sample[f"CPU µs, {what}"] = cpu / count * _SECOND_US
        return sample

    return turn


@contextmanager
def _running(kind: _Kind, rounds: int) -> Iterator[_Queue]:
    """Run a queue: its broker, its workers and its sender.

    Raises:
        PeerMissing: Its package can't be had here.
    """
    python = str(kind.peer.python()) if kind.peer else sys.executable
    with TemporaryDirectory(prefix="bench-queue-") as name, ExitStack() as stack:
        folder = Path(name)
        done, socket = folder / "done", folder / "broker.sock"
        done.touch()
        url = f"{kind.scheme}://{socket}"
        settings = {
            **environment(),
            "BENCH_BROKER": url,
            "NADI_BROKER_URL": url,
            "BENCH_DONE": str(done),
            "BENCH_JOB_ROUNDS": str(rounds),
        }
        broker = stack.enter_context(started(broker_command(folder), {}, folder / "broker.log"))
        await_socket(socket)
        command = (python, "-m", *kind.worker)
        worker = stack.enter_context(started(command, settings, folder / "worker.log"))
        sender = stack.enter_context(_sender(python, kind.module, settings))
        yield _Queue((broker, worker), sender, done)


@contextmanager
def _sender(
    python: str, module: str, settings: Mapping[str, str]
) -> Iterator["subprocess.Popen[str]"]:
    command: Sequence[str] = (python, "-m", "benchmarks.queues.sender", module)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(
        command, text=True, cwd=REPOSITORY, env={**os.environ, **settings}, **pipes
    ) as process:
        yield process
        _pipe(process.stdin).close()
