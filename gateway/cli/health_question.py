"""Ask this machine's API how it is, without ever waiting for the answer.

`nadi up` watches its processes in one thread: while it waited for an API that is slow, it would
watch nobody. So a question is put, and whatever has come of its answer is looked at in passing.
"""

import errno
import json
import socket
import time
from collections.abc import Mapping
from typing import Any

from gateway.settings import WILDCARDS, Settings

#: How soon to look again while an answer is awaited, in seconds.
LOOK_AGAIN_S = 0.05
_PATIENCE_S = 5.0
_MANY = 65_536
#: Of an answer so much is read; the true one has a few hundred bytes.
_MOST_BYTES = 2**20
_ASK = b"GET /health/ready HTTP/1.0\r\nHost: nadi\r\n\r\n"


class HealthQuestion:
    """One `GET /health/ready` after the other.

    Attributes:
        is_open: Whether an answer is awaited.
    """

    def __init__(self, settings: Settings, *, patience_s: float = _PATIENCE_S) -> None:
        """Take whom to ask.

        Args:
            settings: They say where the API listens.
            patience_s: After so long a question counts as not answered.
        """
        host = WILDCARDS.get(settings.host, settings.host)
        self._family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._address = (host, settings.port)
        self._patience_s = patience_s
        self._socket: socket.socket | None = None
        self._until = 0.0
        self._is_asked = False
        self._read = b""

    @property
    def is_open(self) -> bool:
        """Whether an answer is awaited."""
        return self._socket is not None

    def put(self) -> None:
        """Ask, and forget a question that is still open."""
        self.close()
        self._until = time.monotonic() + self._patience_s
        self._is_asked, self._read = False, b""
        self._socket = socket.socket(self._family, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        # What goes wrong here is met again as soon as something is sent.
        self._socket.connect_ex(self._address)

    def answer(self) -> Mapping[str, Any] | None:
        """Look for the answer.

        Returns:
            The JSON object that the API gave, ready or not; None while there is none. `is_open`
            tells one that is still to come from one that will not.
        """
        if self._socket is None:
            return None
        try:
            is_whole = self._go_on(self._socket)
        except OSError:
            self.close()
            return None
        if is_whole:
            self.close()
            return _content(self._read)
        if time.monotonic() > self._until or len(self._read) > _MOST_BYTES:
            self.close()
        return None

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _go_on(self, connection: socket.socket) -> bool:
        """Send and read what can be without waiting; say whether the API has said all."""
        try:
            if not self._is_asked:
                connection.send(_ASK)
                self._is_asked = True
            while part := connection.recv(_MANY):
                self._read += part
                if len(self._read) > _MOST_BYTES:
                    return False
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno == errno.ENOTCONN:  # the connection is still being made
                return False
            raise
        return True


def _content(answer: bytes) -> Mapping[str, Any] | None:
    """Give the body of an answer that was ended by hanging up."""
    try:
        content = json.loads(answer.partition(b"\r\n\r\n")[2])
    except ValueError:
        return None
    return content if isinstance(content, dict) else None
