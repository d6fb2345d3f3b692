"""`nadi hl7 send` by TLS, against real servers: what goes wrong is said with what to do."""

import re
import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from adapters.tls import tls_context
from gateway.cli.main import app
from tests.certificates import Authority
from tests.receiving import receiving
from tests.unit.adapters.hl7v2.test_server import served

MESSAGE = b"MSH|^~\\&|LIS|LAB|NADI|HOSP|20260101||ORU^R01|M-1|P|2.5.1\r"
ACKNOWLEDGEMENT = b"MSH|^~\\&|NADI|HOSP|LIS|LAB|20260101||ACK|1|P|2.5.1\rMSA|AA|M-1\r"


@dataclass(frozen=True)
class Hospital:
    """Its authority, and another one, and a message to send."""

    authority: Authority
    stranger: Authority
    folder: Path

    @property
    def message(self) -> Path:
        return self.folder / "oru.hl7"

    def port(self, *, clients: bool = True, **of: object) -> ssl.SSLContext:
        """The TLS of a port, whose certificate is `of`."""
        name = "-".join(["port", *(str(each) for each in of.values())])
        file = str(self.authority.issue(name, **of))  # type: ignore[arg-type]
        return tls_context(file, file, str(self.authority.file) if clients else None)

    def trusting(self, *more: object) -> tuple[str, ...]:
        return ("--tls", str(self.authority.file), *map(str, more))


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    folder = tmp_path_factory.mktemp("hospital")
    stranger = Authority(tmp_path_factory.mktemp("stranger"), "stranger")
    made = Hospital(Authority(folder), stranger, folder)
    made.message.write_bytes(MESSAGE)
    return made


def sent(hospital: Hospital, port: int, *options: str) -> tuple[int, str]:
    """Send the message; give how that ended, and what was said."""
    arguments = ["hl7", "send", str(hospital.message), "--port", str(port), "--timeout", "5"]
    done = CliRunner().invoke(app, [*arguments, *options], env={"COLUMNS": "400"})
    return done.exit_code, re.sub(r"\s+", " ", done.output)


@contextmanager
def nadi_port(tls: ssl.SSLContext | None) -> Iterator[int]:
    """A port of Nadi's own."""
    with served(lambda _block, _peer: [ACKNOWLEDGEMENT], tls=tls) as port:
        yield port


@contextmanager
def other_port(tls: ssl.SSLContext | None) -> Iterator[int]:
    """A port of another make."""
    with receiving(tls=tls) as receiver:
        yield receiver.port


def port_of(kind: str, tls: ssl.SSLContext | None) -> AbstractContextManager[int]:
    return {"nadi": nadi_port, "other": other_port}[kind](tls)


KINDS = pytest.mark.parametrize("kind", ["nadi", "other"])


@KINDS
def test_a_message_goes_by_tls_with_a_certificate_and_its_key_in_two_files(
    hospital: Hospital, kind: str
) -> None:
    both = hospital.authority.issue("lis").read_bytes()
    at = both.index(b"-----BEGIN PRIVATE")
    certificate, key = hospital.folder / "lis.crt", hospital.folder / "lis.key"
    certificate.write_bytes(both[:at])
    key.write_bytes(both[at:])

    with port_of(kind, hospital.port()) as port:
        options = hospital.trusting("--certificate", certificate, "--key", key)
        code, says = sent(hospital, port, *options)

    assert (code, " AA " in says) == (0, True), says


@KINDS
@pytest.mark.parametrize(
    ("of", "says"),
    [
        ({"days": -1}, "has a certificate that has run out: its administrator renews it."),
        (
            {"host": "192.0.2.7"},
            (
                "has a certificate for another host name: use a name that stands in it (`--host` "
                "or `--server-name`), or have it issued for this one."
            ),
        ),
    ],
    ids=["expired", "of another name"],
)
def test_what_is_wrong_with_the_servers_certificate_is_said(
    hospital: Hospital, kind: str, of: dict[str, object], says: str
) -> None:
    with port_of(kind, hospital.port(clients=False, **of)) as port:
        code, said = sent(hospital, port, *hospital.trusting())

    assert code == 1
    assert f"127.0.0.1:{port} {says}" in said


@KINDS
def test_a_server_of_an_authority_that_is_not_trusted_is_said_with_the_option(
    hospital: Hospital, kind: str
) -> None:
    with port_of(kind, hospital.port(clients=False)) as port:
        code, said = sent(hospital, port, "--tls", str(hospital.stranger.file))

    assert code == 1
    assert "an authority that is not trusted: name the hospital's own authority in `--tls`" in said


def test_a_server_may_be_known_by_another_name_than_its_host(hospital: Hospital) -> None:
    tls = hospital.port(clients=False, host="192.0.2.7")

    with nadi_port(tls) as port:
        code, said = sent(hospital, port, *hospital.trusting("--server-name", "192.0.2.7"))

    assert code == 0, said


@KINDS
def test_a_server_that_wants_a_certificate_of_ours_is_said_with_the_option(
    hospital: Hospital, kind: str
) -> None:
    with port_of(kind, hospital.port()) as port:
        code, said = sent(hospital, port, *hospital.trusting())

    assert code == 1
    assert "wants a certificate of ours: name the file with it and its key in" in said
    assert "`--certificate`" in said


@KINDS
@pytest.mark.parametrize(
    ("shows", "says"),
    [
        ("stranger", "does not take our certificate, or misses one"),
        ("expired", "says that our certificate has run out"),
    ],
)
def test_a_server_that_does_not_take_our_certificate_is_said(
    hospital: Hospital, kind: str, shows: str, says: str
) -> None:
    certificate = {
        "stranger": hospital.stranger.issue("lis"),
        "expired": hospital.authority.issue("old", days=-1),
    }[shows]

    with port_of(kind, hospital.port()) as port:
        code, said = sent(hospital, port, *hospital.trusting("--certificate", certificate))

    assert code == 1
    assert says in said


@KINDS
def test_a_port_that_speaks_no_tls_is_said(hospital: Hospital, kind: str) -> None:
    with port_of(kind, None) as port:
        code, said = sent(hospital, port, *hospital.trusting(), "--timeout", "1")

    assert code == 1
    assert ("broke off the TLS handshake" if kind == "nadi" else "does it speak TLS there") in said


@KINDS
def test_who_speaks_in_clear_to_a_port_of_tls_is_told_so(hospital: Hospital, kind: str) -> None:
    with port_of(kind, hospital.port()) as port:
        code, said = sent(hospital, port)

    assert code == 1
    assert "speaks TLS there, and was spoken to in clear: name whom to trust in `--tls`." in said


def test_a_port_that_answers_what_is_in_clear_by_an_alert_of_tls_is_known_by_it(
    hospital: Hospital,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        pool.submit(_alert_once, server)
        code, said = sent(hospital, server.getsockname()[1])

    assert code == 1
    assert "The receiver speaks TLS there, and was spoken to in clear" in said


def _alert_once(server: socket.socket) -> None:
    """Answer as some servers do to what is no TLS, then listen no more."""
    connection, _ = server.accept()
    with connection:
        connection.recv(1000)
        server.close()
        connection.sendall(bytes.fromhex("15030300020246"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--certificate", "own.pem"), "--certificate is for TLS: say with --tls FILE whom"),
        (("--key", "own.pem"), "--key is for TLS: say with --tls FILE whom"),
        (("--server-name", "lis"), "--server-name is for TLS: say with --tls FILE whom"),
        (("--tls", "ca.pem", "--key", "own.pem"), "--key is the key of a certificate"),
    ],
    ids=["certificate", "key", "name", "key alone"],
)
def test_options_of_tls_that_would_do_nothing_are_refused(
    hospital: Hospital, options: tuple[str, ...], says: str
) -> None:
    hospital.authority.issue("own")
    paths = [str(hospital.folder / each) if each.endswith(".pem") else each for each in options]

    code, said = sent(hospital, 1, *paths)

    assert code == 2
    assert says in said
