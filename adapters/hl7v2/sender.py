"""The other side of MLLP: sends messages and waits for what answers them."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from adapters.hl7v2.framing import Framing, framed
from adapters.hl7v2.message import Message, Segment, header_alone, parsed
from gateway.core.errors import TransientError

_PIECE_BYTES = 64 * 1024
_LARGEST_ANSWER = 1 << 20


class NoAnswer(TransientError):
    """The other side did not answer, so the message may not be stored there."""


class Sender:
    """One connection."""

    def __init__(self, connection: socket.socket) -> None:
        """Take an open connection."""
        self._connection = connection
        self._framing = Framing(_LARGEST_ANSWER)
        self._waiting: list[bytes] = []

    def send(self, message: bytes) -> list[Message]:
        """Send a message; give its acknowledgements: one, two, or none where it asks for none.

        Raises:
            NoAnswer: The connection was closed, or nothing came in time.
        """
        self._connection.sendall(framed(message))
        return [self._answer() for _ in range(expected_answers(message))]

    def _answer(self) -> Message:
        while not self._waiting:
            try:
                piece = self._connection.recv(_PIECE_BYTES)
            except TimeoutError as error:
                raise NoAnswer("No answer came in time.") from error
            except OSError as error:
                raise NoAnswer("The connection broke.") from error
            if not piece:
                raise NoAnswer("The connection was closed without an answer.")
            self._waiting += [block.content for block in self._framing.feed(piece)]
        return parsed(self._waiting.pop(0))


def expected_answers(message: bytes) -> int:
    """Say how many acknowledgements a message asks for whatever becomes of it."""
    found = header_alone(message)
    asked = [found.header.text(at) for at in (15, 16)] if found else ["", ""]
    return sum(each == "AL" for each in asked) if any(asked) else 1


@contextmanager
def connected(
    host: str, port: int, *, timeout_s: float, tls: ssl.SSLContext | None = None
) -> Iterator[Sender]:
    """Open a connection.

    Args:
        host: Where to.
        port: Where to.
        timeout_s: Longest wait for the connection and for each answer.
        tls: For MLLPS.

    Raises:
        NoAnswer: There is no connection.
    """
    try:
        plain = socket.create_connection((host, port), timeout=timeout_s)
        connection = tls.wrap_socket(plain, server_hostname=host) if tls else plain
    except (OSError, ssl.SSLError) as error:
        message = f"{host}:{port} can't be reached ({type(error).__name__})."
        raise NoAnswer(message) from error
    with connection:
        yield Sender(connection)


def acknowledged(answer: Message) -> tuple[str, str]:
    """Give the code and the explanation of an acknowledgement; no code where it is none."""
    msa = answer.first("MSA")
    said = [_explanation(each) for each in answer.of("ERR")]
    return msa.text(1) if msa else "", "; ".join(said)


def _explanation(err: Segment) -> str:
    """Read an ERR of either form."""
    field = 2 if err.text(2) else 1
    place = "-".join(filter(None, (err.text(field), err.text(field, 3))))
    says = err.text(8) or err.text(3, 2) or err.text(1, 4, 2)
    return f"{place}: {says}" if place else says
