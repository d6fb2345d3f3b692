"""Why a system can't be reached is told apart, by errors of real sockets and real TLS."""

import re
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from adapters.authorization import NO_LOGIN
from adapters.fhir_rest.client import FhirClient
from adapters.fhir_rest.errors import (
    EhrConnectionRefused,
    EhrNameUnknown,
    EhrNoConnection,
    EhrNotTrusted,
    EhrTlsFailed,
    EhrUnreachable,
)
from adapters.hl7v2.sender import NoConnection, connected
from adapters.obstacles import Obstacle, obstacle_of
from adapters.tls import sender_context, tls_context
from tests.answering import answering
from tests.certificates import Authority
from tests.running import TLS

STATEMENT = b'{"resourceType": "CapabilityStatement"}'


@dataclass(frozen=True)
class Certificates:
    authority: Authority
    folder: Path

    def port(self, *, clients: bool = False, **of: object) -> ssl.SSLContext:
        """The TLS of a port, whose certificate is `of`."""
        name = "-".join(["port", *(str(each) for each in of.values())])
        file = str(self.authority.issue(name, **of))  # type: ignore[arg-type]
        return tls_context(file, file, str(self.authority.file) if clients else None)

    def caller(self, certificate: Path | None = None) -> ssl.SSLContext:
        """The TLS of one who trusts the authority."""
        made = sender_context(self.authority.file, certificate)
        assert made is not None
        return made


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")
    return Certificates(Authority(folder), folder)


@pytest.fixture
def closed_port() -> Iterator[int]:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield unused.getsockname()[1]


def asked(base: str, verify: ssl.SSLContext = TLS, timeout_s: float = 5) -> EhrUnreachable:
    with (
        FhirClient(
            f"{base}/fhir",
            login=NO_LOGIN,
            timeout_s=timeout_s,
            max_response_bytes=1000,
            verify=verify,
        ) as client,
        pytest.raises(EhrUnreachable) as raised,
    ):
        client.capabilities()
    return raised.value


def test_a_trusted_certificate_is_no_obstacle(certificates: Certificates) -> None:
    with answering(certificates.port()) as ehr:
        ehr.answer(STATEMENT)
        with FhirClient(
            ehr.base,
            login=NO_LOGIN,
            timeout_s=5,
            max_response_bytes=1000,
            verify=certificates.caller(),
        ) as client:
            client.capabilities()

    assert len(ehr.requests) == 1


def test_an_authority_that_is_not_trusted_is_told_with_where_to_name_it(
    certificates: Certificates,
) -> None:
    with answering(certificates.port()) as ehr:
        error = asked(ehr.base)

    assert type(error) is EhrNotTrusted
    assert "name the hospital's own authority in `tls.authority`" in error.message


@pytest.mark.parametrize(
    ("of", "words"),
    [
        ({"days": -1}, "has run out"),
        ({"host": "192.0.2.7"}, "for another host name"),
    ],
    ids=["expired", "of another"],
)
def test_what_is_wrong_with_a_certificate_is_told(
    certificates: Certificates, of: dict[str, object], words: str
) -> None:
    with answering(certificates.port(**of)) as ehr:
        error = asked(ehr.base, certificates.caller())

    assert type(error) is EhrNotTrusted
    assert words in error.message


def test_a_certificate_that_signed_itself_is_not_one_of_an_unknown_authority(
    tmp_path: Path,
) -> None:
    own = Authority.of_itself(tmp_path)

    with answering(tls_context(str(own), str(own), None)) as ehr:
        error = asked(ehr.base)

    assert error.message.startswith("The EHR has a certificate that signed itself")


def test_a_server_that_wants_our_certificate_is_told_and_content_with_it(
    certificates: Certificates,
) -> None:
    ours = certificates.authority.issue("ours")

    with answering(certificates.port(clients=True)) as ehr:
        ehr.answer(STATEMENT)
        bare = asked(ehr.base, certificates.caller())
        with FhirClient(
            ehr.base,
            login=NO_LOGIN,
            timeout_s=5,
            max_response_bytes=1000,
            verify=certificates.caller(ours),
        ) as client:
            client.capabilities()

    assert type(bare) is EhrTlsFailed
    assert "`tls.certificate`" in bare.message


def test_a_port_without_tls_is_told() -> None:
    with answering() as ehr:
        error = asked(ehr.base.replace("http:", "https:"))

    assert type(error) is EhrTlsFailed
    assert "does not speak TLS there" in error.message


def test_a_port_where_nobody_listens_is_told(closed_port: int) -> None:
    error = asked(f"http://127.0.0.1:{closed_port}")

    assert type(error) is EhrConnectionRefused
    assert "does it run, and is the port right?" in error.message


def test_a_name_that_nobody_knows_is_told() -> None:
    error = asked("http://ehr.invalid")

    assert type(error) is EhrNameUnknown
    assert "not known here" in error.message


def test_a_port_that_answers_nothing_at_all_is_told(full_port: int) -> None:
    error = asked(f"http://127.0.0.1:{full_port}", timeout_s=0.2)

    assert type(error) is EhrNoConnection
    assert "does a firewall let this machine through" in error.message


def test_a_receiver_of_hl7_v2_is_told_of_by_the_same_words(
    closed_port: int, full_port: int
) -> None:
    told = {}
    for port in (closed_port, full_port):
        with (
            pytest.raises(NoConnection) as raised,
            connected("127.0.0.1", port, timeout_s=0.2),
        ):
            pass
        told[port] = raised.value.obstacle
    assert told == {closed_port: Obstacle.REFUSED, full_port: Obstacle.NO_CONNECTION}


@pytest.mark.parametrize("obstacle", Obstacle)
def test_every_obstacle_has_words_that_say_what_to_do(obstacle: Obstacle) -> None:
    assert re.fullmatch(r"[a-z].+(: .+[.?])", obstacle.says)
    assert len(obstacle.says) < 150


def test_an_error_before_this_one_is_not_taken_for_its_cause() -> None:
    error = ValueError()
    error.__context__ = ConnectionRefusedError()

    before = obstacle_of(error)
    error.__cause__ = error.__context__
    beneath = obstacle_of(error)

    assert (before, beneath) == (None, Obstacle.REFUSED)


@pytest.fixture
def full_port() -> Iterator[int]:
    """A port whose queue of connections is full: it answers no more, as behind a firewall."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", port))
        yield port
        for each in waiting:
            each.close()
