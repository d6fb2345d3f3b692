"""How a supervisor hears that a process is alive although it may be frozen or caught in a call.

* A process of ours gives a sign of life by itself (`gateway.heartbeat`): a byte into a pipe that
  it inherited. No file and no clock is involved: neither a full disk nor a clock that is set makes
  anyone look dead.
* The broker is no program of ours: it is asked, over its socket, and whatever it answers counts.

Neither ever waits.
"""

import contextlib
import os
import socket
from pathlib import Path
from typing import Protocol

_PING = b"PING\r\n"
_MANY = 4096


class Pulse(Protocol):
    """The signs of life of one process."""

    def heard(self) -> bool:
        """Say whether there was one since the last time, and ask for the next where need be."""

    def close(self) -> None:
        """Give up what is held for it."""


class PipePulse:
    """What comes through a pipe of which the process has the other end.

    Attributes:
        write_end: Descriptor for the process; close it here once the process has it.
    """

    def __init__(self) -> None:
        self._read_end, self.write_end = os.pipe()
        for end in (self._read_end, self.write_end):
            os.set_blocking(end, False)

    def heard(self) -> bool:
        """Say whether anything came."""
        try:
            return bool(os.read(self._read_end, _MANY))
        except BlockingIOError:
            return False

    def close(self) -> None:
        """Close our end."""
        os.close(self._read_end)


class PingPulse:
    """What a server of the Redis protocol answers on its unix socket."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket: socket.socket | None = None

    def heard(self) -> bool:
        """Say whether it answered the last question, and ask again."""
        try:
            if self._socket is None:
                self._connect()
            answered = self._answer()
            self._ask()
        except OSError:  # it is away: whoever watches its process knows why
            self.close()
            return False
        return answered

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connect(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.setblocking(False)
        self._socket.connect(str(self._path))

    def _answer(self) -> bool:
        try:
            read = self._socket.recv(_MANY) if self._socket else b""
        except BlockingIOError:
            return False
        if not read:
            raise ConnectionResetError
        return True

    def _ask(self) -> None:
        # When it reads no more the socket is full: there are questions enough.
        with contextlib.suppress(BlockingIOError):
            if self._socket is not None:
                self._socket.send(_PING)
