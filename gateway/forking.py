"""Start a process of ours as a fork of this one, so that both keep one copy of what was loaded.

Processes of one program load the same libraries, some 60 MB each. Loaded once before they are
forked (`load`), these are pages of memory that all of them read; a page that one of them writes to
becomes its own, so nothing is shared that could be changed: each is as alone as a started program.

A fork begins with all that its parent had. What a new program would not have is taken away before
its module runs: signal handlers, open files, the environment, settings that were read.

Linux only. Fork while there is no other thread: one that holds a lock would be missing in the copy.

Source: Python 3 documentation, `gc.freeze` and `os.fork`; fork(2); mallopt(3).
"""

import atexit
import contextlib
import ctypes
import gc
import importlib
import os
import runpy
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

from gateway.settings import live_in

_PR_SET_NAME = 15
_M_ARENA_MAX = -8
#: Each thread of glibc would keep a heap of its own; two are enough for these processes.
ARENAS = 2
_LIBC = ctypes.CDLL(None)
_STANDARD = 3
#: What a supervisor handles, and what a program begins with.
_HANDLED: Mapping[signal.Signals, Callable[[int, FrameType | None], object] | signal.Handlers] = {
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGHUP: signal.SIG_DFL,
    signal.SIGCHLD: signal.SIG_DFL,
    signal.SIGINT: signal.default_int_handler,
}


@dataclass(frozen=True)
class Program:
    """What a fork becomes.

    Attributes:
        name: What `ps` and `top` show, 15 bytes of it.
        module: A Python module that is run as `__main__`, and its arguments.
        environment: The whole environment.
        output: Descriptor for what it writes; None leaves it ours.
        keeps: A descriptor of ours that it keeps; it loses all others.
    """

    name: str
    module: Sequence[str]
    environment: Mapping[str, str]
    output: int | None = None
    keeps: int | None = None


class Forked:
    """A forked process; used like `subprocess.Popen`.

    Attributes:
        returncode: None while it runs; negative when a signal ended it.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Look whether it ended."""
        return self._reaped(os.WNOHANG)

    def wait(self) -> int | None:
        """Wait until it ends."""
        return self._reaped(0)

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it ended: its number may be another's by now."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def _reaped(self, options: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


def load(modules: Iterable[str]) -> None:
    """Load what forks will share.

    Args:
        modules: None that starts a thread or opens a connection when it is imported.
    """
    with contextlib.suppress(AttributeError):  # another libc than glibc
        _LIBC.mallopt(_M_ARENA_MAX, ARENAS)
    # A collection would leave holes, which forks fill: then those pages are no longer shared.
    gc.disable()
    for name in modules:
        importlib.import_module(name)
    # No collection of a fork looks at them, and a look is a write: it marks what it saw.
    gc.freeze()
    gc.enable()


def fork(program: Program, bind: Callable[[], None]) -> Forked:
    """Start a program as a copy of this process. Call it in the main thread.

    Args:
        program: What it becomes.
        bind: Called in the new process, which is to end with this one.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()  # or what waits there is written twice
    # A signal for the new process must not meet a handler of ours in it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
    try:
        pid = os.fork()
        if pid == 0:
            _live(program, bind, before)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return Forked(pid)


def _live(program: Program, bind: Callable[[], None], mask: Iterable[int]) -> NoReturn:
    """Be the program, until it ends; never come back into the code of the parent."""
    code = 1
    try:
        _LIBC.prctl(_PR_SET_NAME, program.name.encode(), 0, 0, 0)
        _forget_signals(mask)
        os.setsid()
        bind()
        _take_descriptors(program)
        live_in(program.environment)
        sys.argv = list(program.module)
        runpy.run_module(program.module[0], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as ended:
        code = _code_of(ended)
    except BaseException:  # noqa: BLE001 - as at the end of every program
        sys.excepthook(*sys.exc_info())
    finally:
        _end(code)


def _forget_signals(mask: Iterable[int]) -> None:
    signal.set_wakeup_fd(-1)
    for number, handler in _HANDLED.items():
        signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _take_descriptors(program: Program) -> None:
    """Put nothing into the place of what was open.

    The numbers stay taken: an object of the parent that closes its own when it goes away would
    else close what the program has opened under that number.
    """
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    if program.output is not None:
        os.dup2(program.output, 1)
        os.dup2(program.output, 2)
    for number in [int(each.name) for each in Path("/proc/self/fd").iterdir()]:
        if number >= _STANDARD and number not in (nothing, program.keeps):
            os.dup2(nothing, number, inheritable=False)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(write_through=True)  # type: ignore[union-attr]  # text streams of a program


def _code_of(ended: SystemExit) -> int:
    if ended.code is None or isinstance(ended.code, int):
        return ended.code or 0
    sys.stderr.write(f"{ended.code}\n")
    return 1


def _end(code: int) -> NoReturn:
    """Do what the interpreter does at its end, which a function that was forked never reaches."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001 - waits for threads
        atexit._run_exitfuncs()  # noqa: SLF001
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    finally:
        os._exit(code & 0xFF)
