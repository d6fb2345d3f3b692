"""The other side of MLLP: sends messages and waits for what answers them."""

import re
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from adapters.hl7v2.framing import Framing, framed
from adapters.hl7v2.message import Message, Segment, header_alone, parsed
from adapters.hl7v2.problems import Hl7Problem
from adapters.obstacles import Obstacle, obstacle_of, of_connecting, said_of
from gateway.core.errors import TransientError

_PIECE_BYTES = 64 * 1024
_LARGEST_ANSWER = 1 << 20
#: How an alert of TLS begins: what a port says that was expected to be spoken to by TLS.
_ALERT = b"\x15\x03"


class NoAnswer(TransientError):
    """The other side did not answer, so the message may not be stored there."""

    obstacle: Obstacle | None = None

    @classmethod
    def because(cls, obstacle: Obstacle) -> "NoAnswer":
        """Say why, and what to do about it."""
        error = cls(f"The receiver {obstacle.says}")
        error.obstacle = obstacle
        return error


class NoConnection(NoAnswer):
    """There is no connection to the other side, so nothing was sent."""

    def __init__(self, place: str, obstacle: Obstacle | None, error: Exception) -> None:
        """Say why, and what to do about it.

        Args:
            place: Host and port.
            obstacle: What is known of it.
            error: Of the connection.
        """
        self.obstacle = obstacle
        super().__init__(said_of(place, obstacle, error))


class Sender:
    """One connection."""

    def __init__(self, connection: socket.socket, *, timeout_s: float) -> None:
        """Take an open connection.

        Args:
            connection: To the receiver.
            timeout_s: Longest wait for all that answers a message, however it drips.
        """
        self._connection = connection
        self._timeout_s = timeout_s
        self._framing = Framing(_LARGEST_ANSWER)
        self._waiting: list[bytes] = []

    def send(self, message: bytes) -> list[Message]:
        """Send a message; give its acknowledgements: one, two, or none where it asks for none.

        Raises:
            NoAnswer: The connection was closed, or nothing came in time.
        """
        until = time.monotonic() + self._timeout_s
        try:
            self._connection.settimeout(self._timeout_s)
            self._connection.sendall(framed(message))
            return [self._answer(until) for _ in range(expected_answers(message))]
        except TimeoutError as error:
            raise NoAnswer("No answer came in time.") from error
        except OSError as error:
            # A server that misses our certificate says so only after the handshake (TLS 1.3).
            obstacle = self._parting_word(obstacle_of(error))
            told = NoAnswer.because(obstacle) if obstacle else NoAnswer("The connection broke.")
            raise told from error

    def _parting_word(self, obstacle: Obstacle | None) -> Obstacle | None:
        """Say what a server said that hung up while we still sent; else what is known anyhow."""
        if obstacle not in {None, Obstacle.TLS_BROKEN_OFF}:
            return obstacle
        try:
            is_alert = self._connection.recv(_PIECE_BYTES).startswith(_ALERT)
        except OSError as error:
            return obstacle_of(error) or obstacle
        return Obstacle.SPEAKS_TLS if is_alert else obstacle

    def _answer(self, until: float) -> Message:
        while not self._waiting:
            left_s = until - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            self._connection.settimeout(left_s)
            piece = self._connection.recv(_PIECE_BYTES)
            if not piece:
                raise NoAnswer("The connection was closed without an answer.")
            if piece.startswith(_ALERT):
                raise NoAnswer.because(Obstacle.SPEAKS_TLS)
            self._waiting += [block.content for block in self._framing.feed(piece)]
        return _read(self._waiting.pop(0))


def _read(content: bytes) -> Message:
    """Read an answer; its words may be in any character set, its codes are ASCII.

    Raises:
        NoAnswer: It is no HL7 v2 message.
    """
    for charset in ("UNICODE UTF-8", "8859/1"):
        try:
            return parsed(content, charset=charset)
        except Hl7Problem:
            continue
    raise NoAnswer("What came is no HL7 v2 message.")


def expected_answers(message: bytes) -> int:
    """Say how many acknowledgements a message asks for whatever becomes of it."""
    found = header_alone(message)
    asked = [found.header.text(at) for at in (15, 16)] if found else ["", ""]
    return sum(each == "AL" for each in asked) if any(asked) else 1


@contextmanager
def connected(
    host: str,
    port: int,
    *,
    timeout_s: float,
    tls: ssl.SSLContext | None = None,
    server_name: str | None = None,
) -> Iterator[Sender]:
    """Open a connection.

    Args:
        host: Where to.
        port: Where to.
        timeout_s: Longest wait for the connection, and for what answers a message.
        tls: For MLLPS.
        server_name: Name that stands in its certificate, where it is not that of the host.

    Raises:
        NoConnection: There is none.
    """
    place = f"{host}:{port}"
    try:
        connection = socket.create_connection((host, port), timeout=timeout_s)
    except (OSError, UnicodeError) as error:
        raise NoConnection(place, of_connecting(error), error) from error
    if tls is not None:
        try:
            connection = tls.wrap_socket(connection, server_hostname=server_name or host)
        except TimeoutError as error:
            raise NoConnection(place, Obstacle.TLS_UNANSWERED, error) from error
        except (OSError, ValueError) as error:  # a name may be none that can be asked for
            raise NoConnection(place, obstacle_of(error), error) from error
    with connection:
        yield Sender(connection, timeout_s=timeout_s)


def speaks_tls(host: str, port: int, *, timeout_s: float) -> bool:
    """Say whether a port that gave no answer in clear speaks TLS; nothing is sent to it.

    Args:
        host: Where to ask.
        port: Where to ask.
        timeout_s: Longest wait.
    """
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection((host, port), timeout=timeout_s) as plain,
            context.wrap_socket(plain),
        ):
            return True
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")
    except (OSError, UnicodeError):
        return False


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


@dataclass(frozen=True)
class Acknowledgement:
    """What a receiver says of a message, without any words of its own.

    Attributes:
        code: AA, AE, AR, CA, CE or CR; empty where it is none of these.
        of: Control id of the message that it answers.
        condition: Of table 0357; empty where it names none.
        place: Segment and field of what is wrong, such as `OBX-5`; empty where it names none.
    """

    code: str
    of: str
    condition: str = ""
    place: str = ""

    @property
    def is_taken(self) -> bool:
        """Whether the receiver has the message."""
        return self.code in _TAKEN

    @property
    def is_for_later(self) -> bool:
        """Whether the same message may be taken at another time."""
        return self.condition in _LATER

    def __str__(self) -> str:
        """Say it in a line."""
        told = (self.code, self.condition, self.place)
        return " ".join(each for each in told if each) or "no acknowledgement"


_CODES = frozenset({"AA", "AE", "AR", "CA", "CE", "CR"})
_TAKEN = frozenset({"AA", "CA"})
#: Record locked, internal error.
_LATER = frozenset({"206", "207"})
_CONDITION = re.compile(r"[0-9]{3}")
_SEGMENT = re.compile(r"[A-Z][A-Z0-9]{2}")
_FIELD = re.compile(r"[0-9]{1,3}")


def acknowledgement(answer: Message) -> Acknowledgement:
    """Read an answer; what could be a value of the message is left out."""
    msa, err = answer.first("MSA"), answer.first("ERR")
    code = msa.text(1) if msa else ""
    said = Acknowledgement(code if code in _CODES else "", msa.text(2) if msa else "")
    if err is None or said.is_taken:
        return said
    by_fields = bool(err.text(2) or err.text(3))
    condition = err.text(3) if by_fields else err.text(1, 4)
    where = (err.text(2), err.text(2, 3)) if by_fields else (err.text(1), err.text(1, 3))
    return Acknowledgement(
        said.code, said.of, condition if _CONDITION.fullmatch(condition) else "", _place(*where)
    )


def _place(segment: str, field: str) -> str:
    if not _SEGMENT.fullmatch(segment):
        return ""
    return f"{segment}-{field}" if _FIELD.fullmatch(field) else segment
