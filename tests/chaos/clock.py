"""A wall clock that a test sets, for every process of an installation (Linux with a C compiler).

libfaketime was tried first: with its monotonic clock left alone, `time.sleep` of Python fails under
it, and with it faked, timers jump too, which no real change of a clock does.
"""

import os
import shutil
import struct
import subprocess
import sys
import threading
from pathlib import Path

_SOURCE = Path(__file__).with_name("clock.c")


class Clock:
    """How far the clock of the installation is ahead of the machine's."""

    def __init__(self, folder: Path) -> None:
        """Prepare it.

        Args:
            folder: Where its file and the compiled library go.
        """
        self._offset = folder / "clock.ms"
        self._library = folder / "clock.so"
        self._lock = threading.Lock()
        self._ahead_ms = 0
        self.set(0)
        self.is_settable = sys.platform == "linux" and self._compile()

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs in its environment to follow it."""
        if not self.is_settable:
            return {}
        return {"LD_PRELOAD": str(self._library), "NADI_CHAOS_CLOCK": str(self._offset)}

    def jump(self, by_s: float, *, within_s: tuple[float, float]) -> None:
        """Set it forward or back, but no further from the machine's than a span."""
        ahead_s = self._ahead_ms / 1000 + by_s
        self.set(int(1000 * min(max(ahead_s, within_s[0]), within_s[1])))

    def set(self, ahead_ms: int) -> None:
        """Set it: the processes see it at once."""
        with self._lock:
            self._ahead_ms = ahead_ms
            # In place: the processes have this very file in their memory.
            descriptor = os.open(self._offset, os.O_WRONLY | os.O_CREAT, 0o600)
            os.pwrite(descriptor, struct.pack("<q", ahead_ms), 0)
            os.close(descriptor)

    def _compile(self) -> bool:
        compiler = shutil.which("cc")
        if compiler is None:
            return False
        command = [compiler, "-O2", "-Wall", "-shared", "-fPIC", "-o", self._library, _SOURCE]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0
