"""Keep the processes of one machine running: start in order, restart what dies, drain at the end.

* A child that dies is started again after a delay that doubles from 0.2 to 5 s and begins anew
  once it lived for 5 s; a line says so.
* A child that gives no sign of life for a while (frozen, or caught in a call) is killed, and then
  started again like any other that died.
* A stop drains in phases: within one phase all get SIGTERM at once, the next phase begins when
  they are gone. After 20 s altogether, or on a second signal, SIGKILL ends what is left.
* Children may be added and removed while it runs.
* No child outlives the supervisor: on Linux the kernel kills the children of a killed one.

Knows nothing of what the processes do.
"""

import contextlib
import ctypes
import fcntl
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from gateway.core.errors import ProcessingError
from gateway.forking import Forked, Program, fork
from gateway.pulse import PingPulse, PipePulse, Pulse

FIRST_DELAY_S = 0.2
LONGEST_DELAY_S = 5.0
#: A child that lived this long is trusted again.
PROVEN_S = 5.0
DRAIN_S = 20.0
#: Until its first sign of life a child may take this long: it may have much to open.
START_WITHIN_S = 300.0
#: A log file above this size is put aside when its process starts.
LOG_LIMIT_BYTES = 10 * 2**20
_SOCKET_WAIT_S = 3.0
_LONGEST_NAP_S = 1.0
#: Tells a child into which descriptor it gives its signs of life.
_PIPE_VARIABLE = "NADI_HEARTBEAT_FD"
_MANY = 4096
_PR_SET_PDEATHSIG = 1


class AlreadyRunning(ProcessingError):
    """Another `nadi up` is running on this data folder."""

    issue_type = "lock-error"


@dataclass(frozen=True)
class Child:
    """A process to be kept running.

    Attributes:
        name: Its name in messages and of its log file.
        command: Program and arguments.
        environment: The whole environment.
        stop_phase: Children of a lower phase are stopped first.
        makes: A socket that must be there before the next child is started.
        hung_after_s: Without a sign of life for so long it is killed; None: it gives none.
        is_pinged: Whether it is asked for them, over the socket that it makes; another gives them
            by itself (`gateway.heartbeat`).
        is_restarted: False for one that may end by itself.
        in_terminal: Its output belongs into the terminal, not into a log file.
        is_forked: Its command, `python -m module …`, is not started: the supervisor is forked and
            runs the module (`gateway.forking`), where the system can do that.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    stop_phase: int = 0
    makes: Path | None = None
    hung_after_s: float | None = None
    is_pinged: bool = False
    is_restarted: bool = True
    in_terminal: bool = False
    is_forked: bool = False


class _Running:
    """One child as it is at the moment."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.process: subprocess.Popen[bytes] | Forked | None = None
        self.started = 0.0
        self.pulse: Pulse | None = None
        self.heard_at: float | None = None
        self.restart_at: float | None = None
        self.delay_s = FIRST_DELAY_S
        self.leaves_until: float | None = None

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def is_hung(self, now: float) -> bool:
        """Say whether it was silent for too long."""
        if self.pulse is None or self.child.hung_after_s is None:
            return False
        if self.pulse.heard():
            self.heard_at = now
        if self.heard_at is None:
            return now - self.started > max(START_WITHIN_S, self.child.hung_after_s)
        return now - self.heard_at > self.child.hung_after_s

    def forget(self) -> None:
        """Listen no longer."""
        if self.pulse is not None:
            self.pulse.close()
        self.pulse, self.heard_at = None, None

    def excuse(self, now: float, absent_s: float) -> None:
        """Count it as heard where nobody listened for long: the whole machine may have slept."""
        if self.heard_at is not None and absent_s > (self.child.hung_after_s or 0) / 2:
            self.heard_at = now

    def signal(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)


class Supervisor:
    """Runs children until it is told to stop. Start and run it in the main thread.

    Args:
        children: In the order in which they are started.
        log_dir: Where `<name>.log` files go; None sends all output to the terminal.
        say: Takes one line for the person at the terminal.
    """

    def __init__(
        self, children: Sequence[Child], log_dir: Path | None, *, say: Callable[[str], None]
    ) -> None:
        self._running = [_Running(child) for child in children]
        self._log_dir = log_dir
        self._say = say
        self._stop_signals = 0
        self._looked_at = time.monotonic()

    def start(self) -> None:
        """Start every child, in order."""
        # A child's death is bound to the thread that forked it: it has to be the main one.
        for running in self._running:
            self._launch(running)
            _wait_for(running)

    def add(self, child: Child) -> None:
        """Start one more child."""
        running = _Running(child)
        self._running.append(running)
        self._launch(running)

    def remove(self, name: str) -> None:
        """Let a child end, and do not start it again; it may take a while."""
        for running in self._running:
            if running.child.name == name and running.leaves_until is None:
                running.leaves_until = time.monotonic() + DRAIN_S
                running.restart_at = None
                running.signal(signal.SIGTERM)

    def pids(self) -> dict[str, int]:
        """Give the process id of every child that is alive, by name."""
        return {
            running.child.name: running.process.pid
            for running in self._running
            if running.process is not None and running.alive()
        }

    def run(self, tick: Callable[[], float]) -> None:
        """Watch the children until SIGTERM, SIGINT or SIGHUP, then drain.

        Args:
            tick: Called at every turn; says in how many seconds it wants to be called again.
        """
        with self._signals() as woken:
            while not self._stop_signals:
                nap_s = min(self._look_after_children(), tick(), _LONGEST_NAP_S)
                if select.select([woken], [], [], nap_s)[0]:
                    os.read(woken, _MANY)
            self.stop()

    def stop(self) -> None:
        """Drain phase by phase, within `DRAIN_S` altogether."""
        asked = self._stop_signals
        deadline = time.monotonic() + DRAIN_S
        for phase in sorted({running.child.stop_phase for running in self._running}):
            group = [r for r in self._running if r.child.stop_phase == phase]
            for running in group:
                running.signal(signal.SIGTERM)
            while any(running.alive() for running in group):
                if time.monotonic() > deadline or self._stop_signals > max(asked, 1):
                    break
                time.sleep(0.02)
            self._kill(group)

    def _kill(self, group: Sequence[_Running]) -> None:
        for running in group:
            if running.process is None:
                continue
            if running.alive():
                self._say(f"{running.child.name} did not end in time and is killed.")
            running.signal(signal.SIGKILL)
            running.process.wait()

    def _look_after_children(self) -> float:
        """Reap and restart; say in how many seconds a restart is due."""
        now = time.monotonic()
        self._see_off(now)
        self._kill_hung(now)
        for running in self._running:
            if running.process is not None and not running.alive():
                self._note_death(running, now)
            if running.restart_at is not None and now >= running.restart_at:
                self._launch(running)
        due = [r.restart_at - now for r in self._running if r.restart_at is not None]
        return max(min(due, default=_LONGEST_NAP_S), 0.0)

    def _see_off(self, now: float) -> None:
        """Forget what was removed and is gone; kill what did not go in time."""
        leaving = [each for each in self._running if each.leaves_until is not None]
        self._kill([each for each in leaving if each.alive() and now > (each.leaves_until or 0)])
        for running in leaving:
            if not running.alive():
                running.forget()
                self._running.remove(running)

    def _kill_hung(self, now: float) -> None:
        absent_s, self._looked_at = now - self._looked_at, now
        for running in self._running:
            running.excuse(now, absent_s)
            if running.alive() and running.is_hung(now):
                silent_s = now - (running.heard_at or running.started)
                name = running.child.name
                self._say(f"{name} gave no sign of life for {silent_s:.0f} s and is killed.")
                running.signal(signal.SIGKILL)
                if running.process is not None:
                    running.process.wait()

    def _note_death(self, running: _Running, now: float) -> None:
        process, running.process = running.process, None
        ending = _ending(process.returncode if process else None)
        if not running.child.is_restarted:
            if process and process.returncode:
                self._say(f"{running.child.name} {ending}.")
            return
        if now - running.started >= PROVEN_S:
            running.delay_s = FIRST_DELAY_S
        running.restart_at = now + running.delay_s
        log = f" Its log: {self._log(running.child)}" if self._log_dir else ""
        self._say(
            f"{running.child.name} {ending} and is started again in {running.delay_s:g} s.{log}"
        )
        running.delay_s = min(2 * running.delay_s, LONGEST_DELAY_S)

    def _launch(self, running: _Running) -> None:
        with self._output(running.child) as output, self._listening(running) as pipe:
            running.process = _started(running.child, output, pipe)
        running.started = time.monotonic()
        running.restart_at = None

    @contextlib.contextmanager
    def _listening(self, running: _Running) -> Iterator[int | None]:
        """Listen for its signs of life; give the end of the pipe that it writes them to."""
        running.forget()
        child = running.child
        if child.hung_after_s is None:
            yield None
        elif child.is_pinged and child.makes is not None:
            running.pulse = PingPulse(child.makes)
            yield None
        else:
            running.pulse = pipe = PipePulse()
            try:
                yield pipe.write_end
            finally:
                os.close(pipe.write_end)

    @contextlib.contextmanager
    def _output(self, child: Child) -> Iterator[IO[bytes] | None]:
        if self._log_dir is None or child.in_terminal:
            yield None
            return
        log = self._log(child)
        if log.exists() and log.stat().st_size > LOG_LIMIT_BYTES:
            log.replace(log.with_suffix(".log.1"))
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "ab") as output:
            yield output

    def _log(self, child: Child) -> Path:
        return (self._log_dir or Path()) / f"{child.name}.log"

    @contextlib.contextmanager
    def _signals(self) -> Iterator[int]:
        """Take signals; give a descriptor that can be read once one came.

        An Event would not do: its lock is held for a moment by whoever waits for it, and a signal
        that comes just then would wait for that lock in the same thread, for ever.
        """

        def asked_to_stop(_number: int, _frame: object) -> None:
            self._stop_signals += 1

        def child_changed(_number: int, _frame: object) -> None:
            """Only wake up."""

        handlers = {
            signal.SIGTERM: asked_to_stop,
            signal.SIGINT: asked_to_stop,
            signal.SIGHUP: asked_to_stop,
            signal.SIGCHLD: child_changed,
        }
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        woken, wake = os.pipe()
        for end in (woken, wake):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        try:
            yield woken
        finally:
            signal.set_wakeup_fd(-1)
            for end in (woken, wake):
                os.close(end)
            for number, handler in before.items():
                signal.signal(number, handler)


def _started(
    child: Child, output: IO[bytes] | None, pipe: int | None
) -> subprocess.Popen[bytes] | Forked:
    """Start a child. Ctrl-C goes to the supervisor alone, which then stops the others in order."""
    environment = {**child.environment, **({_PIPE_VARIABLE: str(pipe)} if pipe else {})}
    bind = die_with_parent(os.getpid())
    if child.is_forked and bind is not None:
        log = output.fileno() if output else None
        return fork(Program(f"nadi-{child.name}", child.command[2:], environment, log, pipe), bind)
    return subprocess.Popen(  # noqa: S603 (commands are our own)
        child.command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        pass_fds=(pipe,) if pipe else (),
        start_new_session=True,
        preexec_fn=bind,  # noqa: PLW1509 (no thread forks)
    )


def die_with_parent(parent: int) -> Callable[[], None] | None:
    """Make the hook of a child that asks the kernel to kill it when its parent dies (Linux).

    Args:
        parent: Process id of the parent, whose main thread has to start the child.
    """
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def bind() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return bind


def _wait_for(running: _Running) -> None:
    deadline = time.monotonic() + _SOCKET_WAIT_S
    made = running.child.makes
    while made and not made.exists() and running.alive() and time.monotonic() < deadline:
        time.sleep(0.01)


def _ending(returncode: int | None) -> str:
    if returncode is None or returncode >= 0:
        return f"ended with code {returncode}"
    return f"was ended by {signal.Signals(-returncode).name}"


@contextlib.contextmanager
def sole_supervisor(lock_file: Path) -> Iterator[None]:
    """Hold the lock of a data folder, so that only one supervisor works on it.

    The lock ends with the process, however it ends; the file then says who held it last.

    Raises:
        AlreadyRunning: Another process holds it.
    """
    descriptor = os.open(lock_file, os.O_RDWR | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = file.read().strip() or "unknown"
            message = f"Nadi already runs on this data folder (process {holder})."
            raise AlreadyRunning(message) from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
