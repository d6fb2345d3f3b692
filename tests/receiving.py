"""A receiver of HL7 v2 messages on a real port that answers as a test says, well or badly."""

import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from adapters.hl7v2.framing import Framing, framed
from adapters.hl7v2.message import Message, parsed

#: How a receiver may answer; any other word stands in MSA-1, with what follows as further segments.
CLOSES, HANGS, DRIPS, RESETS, NONSENSE, OF_ANOTHER, OF_NONE = (
    "closes",
    "hangs",
    "drips",
    "resets",
    "nonsense",
    "of another",
    "of none",
)


@dataclass
class Receiver:
    """What one receiver got.

    Attributes:
        answers: How each message is answered, in order; the last goes on.
        got: The messages, as they came.
    """

    port: int
    answers: Sequence[str]
    got: list[bytes] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def messages(self) -> list[Message]:
        """What came, read."""
        return [parsed(each) for each in self.got]

    @property
    def kept(self) -> dict[str, Message]:
        """What a receiver keeps that knows a repeat by its control id."""
        return {each.control_id: each for each in self.messages}

    def talk(self, connection: socket.socket) -> None:
        framing = Framing(1 << 20)
        with connection:
            while piece := connection.recv(65536):
                for block in framing.feed(piece):
                    at = len(self.got)
                    self.got.append(block.content)
                    how = self.answers[min(at, len(self.answers) - 1)]
                    if not self._answer(connection, how, parsed(block.content)):
                        return

    def _answer(self, connection: socket.socket, how: str, message: Message) -> bool:
        """Answer a message; say whether the connection stays."""
        if how == CLOSES:
            return False
        if how == RESETS:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            return False
        if how == HANGS:
            return self.stop.wait(20) and False
        of = {OF_ANOTHER: "SOMETHING", OF_NONE: ""}.get(how, message.control_id)
        said = framed(_acknowledgement("AA" if how in (OF_ANOTHER, OF_NONE, DRIPS) else how, of))
        if how == DRIPS:
            for byte in said:
                connection.sendall(bytes([byte]))
                if self.stop.wait(0.05):
                    return False
        connection.sendall(framed(b"good day") if how == NONSENSE else said)
        return True


def _acknowledgement(how: str, of: str) -> bytes:
    code, *more = how.split("\r")
    lines = ["MSH|^~\\&|LIS|HOSP|NADI|test|20261126||ACK|1|P|2.5.1", f"MSA|{code}|{of}", *more]
    return "".join(f"{line}\r" for line in lines).encode()


@contextmanager
def receiving(
    *answers: str, port: int = 0, tls: ssl.SSLContext | None = None
) -> Iterator[Receiver]:
    """Run a receiver.

    Args:
        answers: How each message is answered, in order; the last goes on. Without any: AA.
        port: Where; 0 takes any.
        tls: For MLLPS.
    """
    with socket.create_server(("127.0.0.1", port)) as server:
        server.settimeout(0.1)
        receiver = Receiver(server.getsockname()[1], answers or ("AA",))
        thread = threading.Thread(target=_serve, args=(server, receiver, tls))
        thread.start()
        try:
            yield receiver
        finally:
            receiver.stop.set()
            thread.join(10)


def _serve(server: socket.socket, receiver: Receiver, tls: ssl.SSLContext | None) -> None:
    while not receiver.stop.is_set():
        with suppress(OSError):
            plain, _ = server.accept()
            plain.settimeout(5)
            receiver.talk(tls.wrap_socket(plain, server_side=True) if tls else plain)
