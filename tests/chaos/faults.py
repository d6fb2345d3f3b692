"""The faults: each is a block; what is broken at its beginning is whole again at its end.

`Missed` says that there was nothing to break: the process was dead already, for example.
"""

import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path

import httpx
import psutil
import redis
import sqlalchemy as sa

from gateway.broker import BROKER_ERRORS
from gateway.settings import Settings
from tests import postgres
from tests.chaos.arena import MODEL, ROLES, Arena
from tests.chaos.schedule import Planned

Fault = Callable[[Arena, Planned], AbstractContextManager[None]]

#: Knobs of the EHR that are turned for a while.
EHR_FAULTS: Mapping[str, Mapping[str, object]] = {
    "ehr-503": {"down": "503", "retry_after_s": 1},
    "ehr-hangs-up": {"down": "close"},
    "ehr-slow": {"slow_ms": 1500},
    "ehr-5xx": {"error_rate": 0.5, "error_statuses": [500, 502, 503, 504], "retry_after_s": 1},
    "ehr-429": {"error_rate": 0.6, "error_statuses": [429], "retry_after_s": 1},
    "ehr-drops-after-commit": {"drop_after_commit_rate": 0.6},
    "ehr-batches-only": {"no_transaction": True, "drop_after_commit_rate": 0.2},
    "ehr-no-bundles": {"no_transaction": True, "no_batch": True, "drop_after_commit_rate": 0.2},
}
#: How far the clock may be from the machine's, in seconds: the data is five minutes old.
_CLOCK_WITHIN_S = (-120.0, 7200.0)
_HEALED_WITHIN_S = 60.0
_STARTED_WITHIN_S = 10.0
#: The patience of the supervisor with one that was frozen before its first sign of life (on a busy
#: machine a start takes longer than `_STARTED_WITHIN_S`), and a while for its own turn.
_REPLACED_WITHIN_S = 300.0 + 60.0


class Missed(Exception):
    """There was nothing to break."""


@contextmanager
def _kill(role: str, arena: Arena, _: Planned) -> Iterator[None]:
    beside = arena.beside(role)
    if beside is not None:
        beside.kill()
    else:
        arena.signal(_alive(arena, role), signal.SIGKILL)
    yield


@contextmanager
def _freeze(role: str, arena: Arena, _: Planned) -> Iterator[None]:
    pids = _alive(arena, role)
    arena.signal(pids, signal.SIGSTOP)
    try:
        yield
    finally:
        arena.signal(pids, signal.SIGCONT)


@contextmanager
def _stop(role: str, arena: Arena, planned: Planned) -> Iterator[None]:
    """Freeze for good: whoever watches over it has to notice, and to put another in its place."""
    stopped = _settled_down(arena, role)
    arena.signal(stopped, signal.SIGSTOP)
    deadline = time.monotonic() + _REPLACED_WITHIN_S
    while not (set(arena.pids(role)) - set(stopped)):
        if time.monotonic() > deadline:
            arena.orphans.append(f"after {planned.kind}: it is frozen still, nobody replaced it")
            arena.signal(stopped, signal.SIGCONT)
            break
        time.sleep(0.2)
    yield


def _settled_down(arena: Arena, role: str) -> list[int]:
    """Wait until the process of a role is no longer starting: a start may take very long."""
    deadline = time.monotonic() + 2 * _STARTED_WITHIN_S
    while time.monotonic() < deadline:
        with suppress(psutil.NoSuchProcess):
            found = [psutil.Process(pid) for pid in arena.pids(role)]
            # By the kernel's clock and ours: a clock that is set is set for Nadi alone.
            if found and all(time.time() - p.create_time() > _STARTED_WITHIN_S for p in found):
                return [each.pid for each in found]
        time.sleep(0.5)
    raise Missed


def _alive(arena: Arena, role: str) -> list[int]:
    pids = arena.pids(role)
    if not pids:
        raise Missed
    return pids


@contextmanager
def _kill_supervisor(arena: Arena, planned: Planned) -> Iterator[None]:
    with arena.held_down():
        arena.nadi.process.kill()
        arena.nadi.process.wait()
        arena.insist_on_no_orphans(planned.kind)
        yield


@contextmanager
def _cut_power(arena: Arena, _: Planned) -> Iterator[None]:
    with arena.held_down():
        arena.kill_everything()
        arena.reopen_database_as_it_lay()
        yield


@contextmanager
def _flush_broker(arena: Arena, _: Planned) -> Iterator[None]:
    try:
        if arena.rabbit is not None:
            arena.rabbit.flush()
        else:
            with broker_of(arena) as client:
                client.flushall()
    except BROKER_ERRORS as error:
        raise Missed from error
    yield


@contextmanager
def _restart_broker(arena: Arena, _: Planned) -> Iterator[None]:
    try:
        if arena.rabbit is not None:
            arena.rabbit.restart()
        else:
            with broker_of(arena) as client:
                client.shutdown(nosave=True)
    except BROKER_ERRORS as error:
        raise Missed from error
    yield


def broker_of(arena: Arena) -> "redis.Redis":
    """Speak to the broker that an installation brings along."""
    socket = Settings(data_dir=arena.data).broker_socket
    return redis.Redis(unix_socket_path=str(socket), socket_timeout=2)


@contextmanager
def _ehr(knobs: Mapping[str, object], arena: Arena, planned: Planned) -> Iterator[None]:
    seed = {"seed": int(planned.size * 1000)}
    try:
        arena.nadi.faults(**knobs, **seed)
    except httpx.HTTPError as error:
        raise Missed from error
    try:
        yield
    finally:
        heal_ehr(arena)


def heal_ehr(arena: Arena) -> None:
    """Take every fault of the EHR back, as soon as it can be told."""
    deadline = time.monotonic() + _HEALED_WITHIN_S
    while time.monotonic() < deadline:
        with suppress(httpx.HTTPError):
            arena.nadi.faults(**arena.healthy_ehr)
            return
        time.sleep(0.2)


@contextmanager
def _fill_disk(arena: Arena, _: Planned) -> Iterator[None]:
    with arena.disk.full(lambda: [each.pid for each in arena.processes()]):
        yield


@contextmanager
def _lock_database(arena: Arena, _: Planned) -> Iterator[None]:
    hold = _lock_sqlite if arena.database_url is None else _lock_postgresql
    with hold(arena):
        yield


@contextmanager
def _lock_sqlite(arena: Arena) -> Iterator[None]:
    connection = sqlite3.connect(arena.data / "nadi.db", isolation_level=None, timeout=5)
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
    except sqlite3.OperationalError as error:
        raise Missed from error
    finally:
        connection.close()


@contextmanager
def _lock_postgresql(arena: Arena) -> Iterator[None]:
    engine = sa.create_engine(arena.database_url or "", poolclass=sa.NullPool)
    try:
        with engine.connect() as connection:
            connection.execute(sa.text("set lock_timeout = '5s'"))
            connection.execute(sa.text("lock table events, jobs in access exclusive mode"))
            yield
    except sa.exc.DBAPIError as error:
        raise Missed from error
    finally:
        engine.dispose()


@contextmanager
def _restart_database(arena: Arena, planned: Planned) -> Iterator[None]:
    mode = "fast" if planned.size < 0.5 else "immediate"
    try:
        postgres.restart(arena.database_url or "", mode)
    except subprocess.SubprocessError as error:
        raise Missed from error
    yield


@contextmanager
def _hide_model(arena: Arena, planned: Planned) -> Iterator[None]:
    """Take the model's files away; in half of the cases its worker has to open them anew."""
    there, away = arena.models / MODEL, arena.folder / f"{MODEL}.away"
    there.rename(away)
    if planned.size < 0.5:
        arena.signal(arena.pids("infer"), signal.SIGKILL)
    try:
        yield
    finally:
        away.rename(there)


@contextmanager
def _set_clock(sign: int, arena: Arena, planned: Planned) -> Iterator[None]:
    if not arena.clock.is_settable:
        raise Missed
    arena.clock.jump(sign * (10 + 3000 * planned.size**3), within_s=_CLOCK_WITHIN_S)
    yield


FAULTS: Mapping[str, Fault] = {
    **{f"kill-{role}": partial(_kill, role) for role in ROLES},
    **{f"freeze-{role}": partial(_freeze, role) for role in ROLES},
    **{f"hang-{role}": partial(_freeze, role) for role in ("infer", "deliver", "mllp")},
    **{f"stop-{role}": partial(_stop, role) for role in ROLES if role != "ehr"},
    **{name: partial(_ehr, knobs) for name, knobs in EHR_FAULTS.items()},
    "kill-supervisor": _kill_supervisor,
    "power-cut": _cut_power,
    "broker-flush": _flush_broker,
    "broker-restart": _restart_broker,
    "disk-full": _fill_disk,
    "database-locked": _lock_database,
    "database-locked-long": _lock_database,
    "database-restarted": _restart_database,
    "model-vanished": _hide_model,
    "clock-forward": partial(_set_clock, 1),
    "clock-back": partial(_set_clock, -1),
}


def log_files(arena: Arena) -> list[Path]:
    """Give every file that Nadi writes for people to read."""
    return [arena.folder / "up.log", *sorted((arena.data / "logs").glob("*"))]
