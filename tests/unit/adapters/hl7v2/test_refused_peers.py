"""Who is refused by a port is told of with the reason, and learns it too: on real handshakes."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from adapters.hl7v2.server import Limits
from adapters.peer_refusal import PeerRefusal
from adapters.tls import tls_context
from tests.certificates import Authority
from tests.unit.adapters.hl7v2.test_server import LIMITS, MESSAGE, echo, served

Told = list[tuple[PeerRefusal, str]]
HERE = "127.0.0.1"
V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"), "stranger")


@contextmanager
def secured(authority: Authority, told: Told, limits: Limits = LIMITS) -> Iterator[int]:
    """Run a port that insists on certificates of the authority."""
    own = str(authority.issue("port"))

    def refuse(why: PeerRefusal, peer: str) -> None:
        told.append((why, peer))

    tls = tls_context(own, own, str(authority.file))
    with served(limits=limits, tls=tls, refuse=refuse) as port:
        yield port


def trusting(authority: Authority, certificate: Path | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.file))
    if certificate:
        context.load_cert_chain(certificate)
    return context


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.01)


def speaks(port: int, context: ssl.SSLContext) -> str:
    """Send a message by TLS; give the reason of OpenSSL for what goes wrong."""
    try:
        plain = socket.create_connection((HERE, port), timeout=10)
        with plain, context.wrap_socket(plain, server_hostname=HERE) as connection:
            connection.sendall(b"\x0b" + MESSAGE + b"\x1c\r")
            return "" if connection.recv(1000) else "closed"
    except ssl.SSLError as error:
        return error.reason or ""


@pytest.mark.parametrize("version", [V12, V13], ids=["TLS 1.2", "TLS 1.3"])
@pytest.mark.parametrize("shows", ["nothing", "a stranger's", "expired", "its own"])
def test_a_client_whose_certificate_does_not_pass_is_told_of_and_gets_the_alert(
    authority: Authority, stranger: Authority, tmp_path: Path, shows: str, version: ssl.TLSVersion
) -> None:
    certificate, why, alert = {
        "nothing": (
            None,
            PeerRefusal.NO_CERTIFICATE,
            {V12: "SSLV3_ALERT_HANDSHAKE_FAILURE", V13: "TLSV13_ALERT_CERTIFICATE_REQUIRED"},
        ),
        "a stranger's": (
            stranger.issue("lis"),
            PeerRefusal.UNTRUSTED,
            dict.fromkeys((V12, V13), "TLSV1_ALERT_UNKNOWN_CA"),
        ),
        "expired": (
            authority.issue("old", days=-1),
            PeerRefusal.EXPIRED,
            dict.fromkeys((V12, V13), "SSLV3_ALERT_CERTIFICATE_EXPIRED"),
        ),
        "its own": (
            Authority.of_itself(tmp_path),
            PeerRefusal.UNTRUSTED,
            dict.fromkeys((V12, V13), "TLSV1_ALERT_UNKNOWN_CA"),
        ),
    }[shows]
    client, told = trusting(authority, certificate), Told()
    client.minimum_version = client.maximum_version = version

    with secured(authority, told) as port:
        reason = speaks(port, client)
        until(lambda: told)

    assert told == [(why, HERE)]
    assert reason == alert[version]


def test_a_client_that_does_not_trust_the_port_is_told_of(
    authority: Authority, stranger: Authority
) -> None:
    told = Told()

    with secured(authority, told) as port:
        speaks(port, trusting(stranger))
        until(lambda: told)

    assert told == [(PeerRefusal.OURS_NOT_TRUSTED, HERE)]


@pytest.mark.parametrize("latest", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_an_old_version_of_tls_is_told_of(authority: Authority, latest: ssl.TLSVersion) -> None:
    client, told = trusting(authority), Told()
    client.set_ciphers("ALL:@SECLEVEL=0")
    client.minimum_version = client.maximum_version = latest

    with secured(authority, told) as port:
        reason = speaks(port, client)
        until(lambda: told)

    assert told == [(PeerRefusal.OLD_TLS, HERE)]
    assert reason == "TLSV1_ALERT_PROTOCOL_VERSION"


def test_a_client_without_a_common_cipher_is_told_of(authority: Authority) -> None:
    client, told = trusting(authority), Told()
    client.maximum_version = V12
    client.set_ciphers("AES128-SHA")  # of RSA keys; that of the port is of an elliptic curve

    with secured(authority, told) as port:
        speaks(port, client)
        until(lambda: told)

    assert told == [(PeerRefusal.NO_COMMON_CIPHER, HERE)]


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (b"\x0b" + MESSAGE + b"\x1c\r", PeerRefusal.IN_CLEAR),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", PeerRefusal.IN_CLEAR),
        (b"\x16\x03\x01\x00\x05hello", PeerRefusal.BROKEN_OFF),
        (b"\x16\x03", PeerRefusal.BROKEN_OFF),
        (b"", PeerRefusal.LEFT),
    ],
    ids=["MLLP", "HTTP", "no hello", "cut short", "nothing"],
)
def test_what_is_no_tls_is_told_of(authority: Authority, sent: bytes, why: PeerRefusal) -> None:
    told = Told()

    with secured(authority, told) as port:
        with socket.create_connection((HERE, port), timeout=10) as client:
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
            with suppress(ConnectionError):
                client.recv(1000)
        until(lambda: told)

    assert told == [(why, HERE)]


def test_a_handshake_that_is_not_finished_in_time_is_told_of(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.hl7v2.server.HANDSHAKE_WITHIN_S", 0.2)
    told = Told()

    with (
        secured(authority, told) as port,
        socket.create_connection((HERE, port), timeout=10) as client,
    ):
        client.sendall(b"\x16")
        until(lambda: told)

    assert told == [(PeerRefusal.TOO_SLOW, HERE)]


def test_handshakes_under_way_count_among_the_connections(authority: Authority) -> None:
    told = Told()

    limits = Limits(max_bytes=1000, max_connections=1, idle_s=30)

    with (
        secured(authority, told, limits) as port,
        socket.create_connection((HERE, port), timeout=10) as silent,
        socket.create_connection((HERE, port), timeout=10) as other,
    ):
        silent.sendall(b"\x16")
        assert other.recv(1) == b""
        until(lambda: told)

    assert told[0] == (PeerRefusal.TOO_MANY, HERE)


def test_a_client_that_was_let_in_and_ends_is_not_told_of(authority: Authority) -> None:
    told = Told()

    with secured(authority, told) as port:
        assert speaks(port, trusting(authority, authority.issue("lis"))) == ""
        with socket.create_connection((HERE, port), timeout=10):
            pass  # who comes next is told of, so what came before is done
        until(lambda: told)

    assert told == [(PeerRefusal.LEFT, HERE)]


def test_a_large_message_and_its_large_answer_pass_through_tls(authority: Authority) -> None:
    message = MESSAGE + b"x" * 3_000_000
    limits = Limits(max_bytes=4_000_000, max_connections=2, idle_s=30)
    tls = trusting(authority, authority.issue("lis"))

    with (
        secured(authority, Told(), limits) as port,
        socket.create_connection((HERE, port), timeout=20) as plain,
        tls.wrap_socket(plain, server_hostname=HERE) as connection,
    ):
        sending = threading.Thread(
            target=connection.sendall, args=(b"\x0b" + message + b"\x1c\r",), daemon=True
        )
        sending.start()
        answer = b""
        while not answer.endswith(b"\x1c\r"):
            answer += connection.recv(65536)

    assert answer == b"\x0b" + message + b"\x1c\r"


def test_tls_to_a_port_in_clear_is_told_of_at_once(authority: Authority) -> None:
    told = Told()

    with served(refuse=lambda why, peer: told.append((why, peer))) as port:
        reason = speaks(port, trusting(authority))
        until(lambda: told)

    assert told == [(PeerRefusal.TLS_IN_CLEAR, HERE)]
    assert reason


def test_who_may_not_connect_is_told_of() -> None:
    told = Told()
    limits = Limits(max_bytes=1000, max_connections=5, idle_s=30, allow=("10.20.0.0/16",))

    with (
        served(echo, limits, refuse=lambda why, peer: told.append((why, peer))) as port,
        socket.create_connection((HERE, port), timeout=10) as client,
    ):
        assert client.recv(1) == b""

    assert told == [(PeerRefusal.NOT_ALLOWED, HERE)]
