"""The port on a real socket: TLS, limits, and nothing acknowledged that was not answered."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from adapters.hl7v2.framing import Block
from adapters.hl7v2.sender import NoAnswer, connected
from adapters.hl7v2.server import Limits, MllpServer, PortTaken, Refuse
from adapters.tls import tls_context
from gateway.core.errors import ConfigurationError
from tests.certificates import Authority

LIMITS = Limits(max_bytes=10_000, max_connections=10, idle_s=30)
MESSAGE = b"MSH|^~\\&|a\rMSA|AA|1\r"


def echo(block: Block, _peer: str) -> list[bytes]:
    return [block.content]


@contextmanager
def served(
    answer: Callable[[Block, str], list[bytes] | None] = echo,
    limits: Limits = LIMITS,
    *,
    tls: ssl.SSLContext | None = None,
    count: Callable[[str], None] = lambda _outcome: None,
    refuse: Refuse = lambda _why, _peer: None,
) -> Iterator[int]:
    stop, listens, ports = threading.Event(), threading.Event(), []
    server = MllpServer(answer, limits, tls=tls, count=count, refuse=refuse)

    def ready(port: int) -> None:
        ports.append(port)
        listens.set()

    thread = threading.Thread(target=lambda: server.run("127.0.0.1", 0, stop, ready=ready))
    thread.start()
    assert listens.wait(10)
    try:
        yield ports[0]
    finally:
        stop.set()
        thread.join(15)
        assert not thread.is_alive()


def test_messages_are_answered_in_order_also_when_all_are_sent_at_once():
    messages = [b"MSH|^~\\&|%d\r" % number for number in range(50)]

    with served() as port, socket.create_connection(("127.0.0.1", port), timeout=10) as sender:
        sender.sendall(b"".join(b"\x0b" + each + b"\x1c\r" for each in messages))
        answer = b""
        while answer.count(b"\x1c\r") < len(messages):
            answer += sender.recv(65536)

    assert answer == b"".join(b"\x0b" + each + b"\x1c\r" for each in messages)


def test_many_connections_are_served_at_the_same_time():
    with served(limits=Limits(max_bytes=1000, max_connections=200, idle_s=30)) as port:
        open_ones = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(100)]
        for each in open_ones:
            each.sendall(b"\x0bMSH|")
        for each in open_ones:
            each.sendall(b"x\x1c\r")
        answers = [each.recv(100) for each in open_ones]
        for each in open_ones:
            each.close()

    assert answers == [b"\x0bMSH|x\x1c\r"] * 100


def test_a_message_without_an_answer_closes_its_connection():
    with (
        served(lambda _block, _peer: None) as port,
        connected("127.0.0.1", port, timeout_s=5) as sender,
        pytest.raises(NoAnswer, match="closed without an answer"),
    ):
        sender.send(MESSAGE)


@pytest.mark.parametrize("said", [MESSAGE, b"GET / HTTP/1.1\r\n\r\n"], ids=["no frame", "HTTP"])
def test_what_is_not_mllp_is_hung_up_on_at_once_and_counted(said: bytes):
    counted: list[str] = []

    with (
        served(count=counted.append) as port,
        socket.create_connection(("127.0.0.1", port), timeout=10) as sender,
    ):
        sender.sendall(said)
        assert sender.recv(100) == b""

    assert counted == ["not-mllp"]


def test_an_idle_connection_is_closed():
    limits = Limits(max_bytes=1000, max_connections=5, idle_s=0.2)

    with served(limits=limits) as port, socket.create_connection(("127.0.0.1", port), 10) as idle:
        assert idle.recv(1) == b""


def test_a_stop_lets_what_is_being_answered_be_answered_and_ends_the_idle():
    asked, go_on = threading.Event(), threading.Event()

    def slow(block: Block, _peer: str) -> list[bytes]:
        asked.set()
        assert go_on.wait(5)
        return [block.content]

    with (
        served(slow) as port,
        socket.create_connection(("127.0.0.1", port), 10) as idle,
        socket.create_connection(("127.0.0.1", port), 10) as busy,
    ):
        busy.sendall(b"\x0bMSH|a\x1c\r")
        assert asked.wait(5)
        threading.Timer(0.5, go_on.set).start()
        # The block ends: the server is told to stop while it answers.
        sockets = idle.dup(), busy.dup()

    with sockets[0] as idle, sockets[1] as busy:
        assert busy.recv(100) == b"\x0bMSH|a\x1c\r"
        assert idle.recv(100) == b""


def test_a_port_that_is_taken_is_said():
    with served() as port, pytest.raises(PortTaken, match=f"Port {port} can't be listened on"):
        MllpServer(echo, LIMITS).run("127.0.0.1", port, threading.Event(), ready=lambda _: None)


# --- MLLPS ----------------------------------------------------------------------------------


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def trusting(authority: Authority, certificate: Path | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.file))
    if certificate:
        context.load_cert_chain(certificate)
    return context


def answered(port: int, tls: ssl.SSLContext) -> bool:
    try:
        with connected("127.0.0.1", port, timeout_s=5, tls=tls) as sender:
            return bool(sender.send(MESSAGE))
    except NoAnswer:
        return False


def test_over_tls_messages_are_answered_and_in_clear_they_are_not(authority: Authority):
    own = str(authority.issue("lab-port"))

    with served(tls=tls_context(own, own, None)) as port:
        assert answered(port, trusting(authority))
        with connected("127.0.0.1", port, timeout_s=5) as plain, pytest.raises(NoAnswer):
            plain.send(MESSAGE)


def test_a_client_needs_a_certificate_of_the_named_authority(authority: Authority, tmp_path: Path):
    own = str(authority.issue("lab-port"))
    stranger = Authority(tmp_path, "stranger").issue("someone")

    with served(tls=tls_context(own, own, str(authority.file))) as port:
        assert answered(port, trusting(authority, authority.issue("lis")))
        assert not answered(port, trusting(authority))
        assert not answered(port, trusting(authority, stranger))


def test_files_that_are_no_certificates_are_named_without_their_content(tmp_path: Path):
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("secret")

    with pytest.raises(ConfigurationError) as raised:
        tls_context(str(wrong), str(wrong), None)

    assert raised.value.message == (
        "The TLS files can't be used: wrong.pem holds no certificate in PEM."
    )
