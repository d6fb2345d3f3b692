"""Processes are started, restarted, drained and never left behind."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from gateway.settings import Settings, environment_with
from gateway.supervisor import (
    LOG_LIMIT_BYTES,
    AlreadyRunning,
    Child,
    Supervisor,
    sole_supervisor,
)

ROOT = Path(__file__).resolve().parents[3]


def python(name: str, code: str, **more) -> Child:
    return Child(name, (sys.executable, "-c", textwrap.dedent(code)), environment_with(), **more)


SLEEPER = "import time; print('up', flush=True); time.sleep(60)"
STUBBORN = """
    import signal, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print('up', flush=True)
    time.sleep(60)
"""


def until(condition, timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    return state != "Z"


class Observed:
    """A supervisor whose turns a test can look into; the test decides when it stops."""

    def __init__(self, tmp_path: Path, *children: Child) -> None:
        self.lines: list[str] = []
        self.supervisor = Supervisor(children, tmp_path, say=self.lines.append)

    def run(self, done, *, timeout_s: float = 15) -> None:
        deadline = time.monotonic() + timeout_s

        def tick() -> float:
            if done() or time.monotonic() > deadline:
                os.kill(os.getpid(), signal.SIGTERM)
            return 0.02

        self.supervisor.start()
        self.supervisor.run(tick)
        assert time.monotonic() <= deadline, "did not happen in time"


def test_a_child_that_dies_is_restarted_and_a_line_says_so(tmp_path):
    observed = Observed(tmp_path, python("relay", SLEEPER))
    seen: set[int] = set()

    def killed_once() -> bool:
        for pid in observed.supervisor.pids().values():
            if not seen:
                os.kill(pid, signal.SIGKILL)
            seen.add(pid)
        return len(seen) == 2

    observed.run(killed_once)

    log = tmp_path / "relay.log"
    assert observed.lines == [
        f"relay was ended by SIGKILL and is started again in 0.2 s. Its log: {log}"
    ]


BEATING = """
    import os, time
    while True:
        os.write(int(os.environ["NADI_HEARTBEAT_FD"]), b".")
        time.sleep(0.05)
"""


def test_a_child_that_is_frozen_is_killed_and_restarted(tmp_path):
    frozen, well = (python(name, BEATING, hung_after_s=0.5) for name in ("infer", "relay"))
    observed = Observed(tmp_path, frozen, well)
    seen: dict[str, set[int]] = {"infer": set(), "relay": set()}
    stopping: list[float] = []

    def came_back() -> bool:
        for name, pid in observed.supervisor.pids().items():
            seen[name].add(pid)
        if not stopping and time.monotonic() - began > 1:
            stopping.append(time.monotonic())
            os.kill(observed.supervisor.pids()["infer"], signal.SIGSTOP)
        return len(seen["infer"]) == 2

    began = time.monotonic()
    observed.run(came_back)

    assert len(seen["relay"]) == 1
    silent, restarted = observed.lines
    assert silent.startswith("infer gave no sign of life for ")
    assert silent.endswith(" s and is killed.")
    assert restarted.startswith("infer was ended by SIGKILL and is started again")


@pytest.mark.parametrize(
    "hang",
    ["ctypes.PyDLL(None).sleep(60)", "with heart.working(): time.sleep(60)"],
    ids=["native call that lets no other thread run", "batch that never ends"],
)
def test_a_child_caught_in_a_call_is_killed_and_restarted(tmp_path, hang):
    code = f"""
        import ctypes, os, time
        from gateway.heartbeat import Heartbeat
        pipe = int(os.environ["NADI_HEARTBEAT_FD"])
        heart = Heartbeat(pipe, hung_after_s=0.8, stuck_after_s=0.3)
        heart.start()
        time.sleep(0.2)
        {hang}
    """
    observed = Observed(tmp_path, python("infer", code, hung_after_s=0.8))

    observed.run(lambda: len(observed.lines) == 2)

    assert observed.lines[0].startswith("infer gave no sign of life for ")
    assert observed.lines[1].startswith("infer was ended by SIGKILL")


def test_a_child_that_is_silent_while_it_starts_is_left_alone(tmp_path):
    slow = textwrap.dedent(BEATING).replace("while True", "time.sleep(1)\nwhile True")
    observed = Observed(tmp_path, python("api", slow, hung_after_s=0.3))
    began = time.monotonic()

    observed.run(lambda: time.monotonic() - began > 1.5)

    assert observed.lines == []


def test_children_are_not_blamed_for_the_time_in_which_their_supervisor_stood_still(tmp_path):
    observed = Observed(tmp_path, python("api", BEATING, hung_after_s=0.8))
    naps = iter([0.0, 0.0, 1.2])
    began = time.monotonic()

    def stand_still_once() -> bool:
        if time.monotonic() - began > 0.3:
            for pid in observed.supervisor.pids().values():
                os.kill(pid, signal.SIGSTOP)
            time.sleep(next(naps, 0.0))
            for pid in observed.supervisor.pids().values():
                os.kill(pid, signal.SIGCONT)
        return time.monotonic() - began > 2

    observed.run(stand_still_once)

    assert observed.lines == []


def test_signals_that_come_at_any_moment_do_not_stop_the_supervisor(tmp_path):
    code = f"""
        import os, signal, threading, time
        from pathlib import Path
        from gateway.supervisor import Supervisor
        def storm():
            for number in range(6_000):
                os.kill(os.getpid(), signal.SIGCHLD)
                time.sleep(0 if number % 10 else 0.0001)
            os.kill(os.getpid(), signal.SIGTERM)
        threading.Thread(target=storm).start()
        Supervisor([], Path({str(tmp_path)!r}), say=print).run(lambda: 0.0)
    """

    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, cwd=ROOT, timeout=30, check=False)

    assert done.returncode == 0


def test_a_child_that_keeps_dying_is_restarted_more_and_more_slowly(tmp_path):
    observed = Observed(tmp_path, python("api", "raise SystemExit(3)"))

    observed.run(lambda: len(observed.lines) == 3)

    assert [line.split(" Its")[0] for line in observed.lines] == [
        f"api ended with code 3 and is started again in {delay} s."
        for delay in ("0.2", "0.4", "0.8")
    ]


def test_a_stop_drains_phase_by_phase(tmp_path):
    order = tmp_path / "order"
    code = """
        import signal, sys, time
        def end(*_):
            time.sleep(0.1)
            open({order!r}, 'a').write('{name} ')
            sys.exit()
        signal.signal(signal.SIGTERM, end)
        print('up', flush=True)
        time.sleep(60)
    """
    children = [
        python(name, code.format(order=str(order), name=name), stop_phase=phase)
        for name, phase in (("broker", 2), ("relay", 1), ("api", 0))
    ]
    observed = Observed(tmp_path, *children)
    logs = [tmp_path / f"{child.name}.log" for child in children]

    observed.run(lambda: all(log.exists() and log.read_text() == "up\n" for log in logs))

    assert order.read_text().split() == ["api", "relay", "broker"]


def test_a_second_signal_kills_what_does_not_end(tmp_path):
    observed = Observed(tmp_path, python("deliver", STUBBORN))
    log = tmp_path / "deliver.log"
    again = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    started: list[float] = []

    def up() -> bool:
        if not (log.exists() and log.read_text() == "up\n"):
            return False
        again.start()
        started.append(time.monotonic())
        return True

    observed.run(up)

    assert observed.lines == ["deliver did not end in time and is killed."]
    assert time.monotonic() - started[0] < 15
    assert observed.supervisor.pids() == {}


def test_a_child_that_may_end_is_not_restarted(tmp_path):
    play = python("play", "raise SystemExit(4)", is_restarted=False)
    observed = Observed(tmp_path, play)

    observed.run(lambda: observed.lines)

    assert observed.lines == ["play ended with code 4."]


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help exists on Linux only")
def test_no_child_outlives_a_killed_supervisor(tmp_path):
    code = f"""
        import sys
        from pathlib import Path
        from gateway.settings import environment_with
        from gateway.supervisor import Child, Supervisor
        child = Child("c", (sys.executable, "-c", {SLEEPER!r}), environment_with())
        supervisor = Supervisor([child], Path({str(tmp_path)!r}), say=print)
        supervisor.start()
        print(supervisor.pids()["c"], flush=True)
        supervisor.run(lambda: 0.1)
    """
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, stdout=subprocess.PIPE
    )
    with parent:
        child = int(parent.stdout.readline())
        assert is_alive(child)

        parent.kill()

    until(lambda: not is_alive(child))


def test_a_large_log_is_put_aside_at_the_start(tmp_path):
    log = tmp_path / "api.log"
    log.write_bytes(b"x" * (LOG_LIMIT_BYTES + 1))
    observed = Observed(tmp_path, python("api", SLEEPER))

    observed.run(lambda: log.exists() and log.read_text() == "up\n")

    assert (tmp_path / "api.log.1").stat().st_size == LOG_LIMIT_BYTES + 1
    assert log.stat().st_mode & 0o777 == 0o600


def test_a_second_supervisor_of_the_same_folder_is_refused(tmp_path):
    lock = tmp_path / "nadi.lock"

    with (
        sole_supervisor(lock),
        pytest.raises(AlreadyRunning, match=f"process {os.getpid()}"),
        sole_supervisor(lock),
    ):
        pass

    with sole_supervisor(lock):
        assert lock.read_text() == f"{os.getpid()}\n"


def test_the_brokers_socket_stays_short_enough_for_the_kernel(tmp_path):
    deep = tmp_path / ("d" * 120)

    short = Settings(data_dir=deep).broker_socket

    assert len(os.fsencode(short)) <= 100
    assert short == Settings(data_dir=deep).broker_socket
    assert short != Settings(data_dir=tmp_path / ("e" * 120)).broker_socket
    assert Settings(data_dir=Path("/srv/n")).broker_socket == Path("/srv/n/run/broker.sock")


def test_a_child_is_added_and_removed_while_the_others_go_on(tmp_path):
    observed = Observed(tmp_path, python("api", SLEEPER))
    seen: list[set[str]] = []

    def changed() -> bool:
        names = set(observed.supervisor.pids())
        if not seen or seen[-1] != names:
            seen.append(names)
            if len(seen) == 1:
                observed.supervisor.add(python("mllp", SLEEPER))
            if len(seen) == 2:
                observed.supervisor.remove("mllp")
        return len(seen) == 3

    observed.run(changed)

    assert seen == [{"api"}, {"api", "mllp"}, {"api"}]
    assert observed.lines == []
