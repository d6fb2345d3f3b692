"""What it costs to ring for jobs and to claim them in the database, by how many at a time.

What the relay and a worker do between an admitted job and its model, on a SQLite file, in one
process: look for ready jobs, send their ids, claim them. After each turn all are made ready again.
"""

import time
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from redis import Redis

from benchmarks.figures import Figure, Figures, Sample, Turn, by_turns, condensed
from benchmarks.filling import fill
from benchmarks.folders import prepared
from benchmarks.queue_broker import ringer
from benchmarks.result import Scale
from benchmarks.workload import make_workload
from gateway.broker import KEY_PREFIX
from gateway.core.clock import new_id
from gateway.queue import INFER_QUEUE, INFER_TASK, Ringer
from gateway.settings import Settings
from gateway.store.installation import Installation

_SIZES = (1, 10, 64)
_ROUNDS = 5
_LEASE_MS = 60_000
_SECOND_US = 1e6
_RUNG = 200
_READY_AGAIN = (
    "update jobs set state = 'ready', business_status = 'queued', lease_owner = null, "
    "lease_until_ms = null where state = 'in-progress'"
)


def claims(scale: Scale) -> Figures:
    """Measure the sizes by turns."""
    with TemporaryDirectory(prefix="bench-claims-") as name, ringer(Path(name)) as ring:
        folder = Path(name) / "data"
        nadi = prepared(folder)
        load = make_workload(
            scale.pick(320, 64), seed=3, now=datetime.now(UTC).replace(microsecond=0)
        )
        posts = (*load.records, *load.triggers)
        fill(nadi, Settings(data_dir=folder), posts, lambda made: scale.tell(f"{made} received"))
        turns = {f"{size} at a time": _turn(nadi, ring, size) for size in _SIZES}
        cost = condensed(by_turns(turns, scale.pick(_ROUNDS, 1), scale.tell, scale.within_s))
        nadi.store.close()
    return cost


def published(scale: Scale) -> dict[str, Figure]:
    """Measure what a request would wait for if it published its message itself, and its size."""
    with TemporaryDirectory(prefix="bench-ring-") as name, ringer(Path(name)) as ring:
        broker = Redis(unix_socket_path=str(Path(name) / "broker.sock"))

        def turn(_: int) -> Sample:
            began = time.perf_counter()
            for _ in range(_RUNG):
                ring.ring(INFER_TASK, [new_id()])
            wall = time.perf_counter() - began
            (message,) = broker.lrange(KEY_PREFIX + INFER_QUEUE, 0, 0)
            return {
                "µs on the clock": wall / _RUNG * _SECOND_US,
                "bytes of a message": len(message),
            }

        turn(-1)  # connects
        return condensed(by_turns({"": turn}, scale.pick(_ROUNDS, 1), scale.tell))[""]


def _turn(nadi: Installation, ring: Ringer, size: int) -> Turn:
    def turn(_: int) -> Sample:
        count, began, spent = 0, time.perf_counter(), time.process_time()
        while claimed := _claim(nadi, ring, size):
            count += claimed
        wall, cpu = time.perf_counter() - began, time.process_time() - spent
        with nadi.store.write() as uow:
            uow.connection.exec_driver_sql(_READY_AGAIN)
        return {"jobs/s": count / wall, "CPU µs of a job": cpu / count * _SECOND_US}

    return turn


def _claim(nadi: Installation, ring: Ringer, size: int) -> int:
    with nadi.store.read() as uow:
        lines = uow.jobs.lines()
        ready = [job.id for job in uow.jobs.head(lines[0], size)] if lines else []
    if not ready:
        return 0
    ring.ring(INFER_TASK, ready)
    with nadi.store.write(is_durable=False) as uow:
        return len(uow.jobs.claim(ready, "benchmark", lease_ms=_LEASE_MS))
