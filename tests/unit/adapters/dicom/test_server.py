"""What is refused at the port is counted under a name of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom import uid

from adapters.dicom.header import NotUnderstood
from adapters.dicom.server import DicomServer, NoRoom, Stored, Terms
from adapters.tls import tls_context
from gateway.core.errors import ConfigurationError
from tests.dicom import associate, film, send
from tests.pictures import gradient


@contextmanager
def served(counted: list[str], **changed: Any) -> Iterator[int]:
    def keep(stored: Stored) -> None:
        if stored.instance == film(number=2).SOPInstanceUID:
            raise NoRoom("There is too little room on the disk.")
        if stored.instance == film(number=3).SOPInstanceUID:
            raise NotUnderstood(0xC002, "PatientID (0010,0020) is empty: whose is it?")

    told = {"callers": ("SCANNER",), "allow": (), "max_bytes": 100_000, "max_connections": 2}
    terms = Terms(title="NADI", idle_s=5, **told | changed)
    server = DicomServer(
        terms, keep, lambda outcome, peer: counted.append(f"{outcome} {peer.title}")
    )
    try:
        yield server.start("127.0.0.1", 0)
    finally:
        server.stop()


def test_every_refusal_is_counted_by_what_it_is_about():
    counted: list[str] = []
    with served(counted) as port:
        large = film(number=4, pixels=gradient(300, 300, top=4095))
        answers = send(port, film(), film(number=2), film(number=3), large)
        associate(port, caller="STRANGER")
        associate(port, called="PACS")
        associate(port, syntaxes=[uid.JPEGLSLossless]).release()

    assert [each.Status for each in answers] == [0, 0xA700, 0xC002, 0xC004]
    assert counted == [
        "refused-A700 SCANNER",
        "refused-C002 SCANNER",
        "refused-C004 SCANNER",
        "refused-caller STRANGER",
        "refused-called SCANNER",
        "refused-syntax SCANNER",
        "refused-syntax SCANNER",
    ]


def test_one_association_too_many_is_rejected_and_one_from_elsewhere_gets_no_word():
    counted: list[str] = []
    with served(counted, max_connections=1) as port:
        first = associate(port)
        second = associate(port)
        assert (first.is_established, second.is_rejected) == (True, True)
        first.release()
    with served(counted, allow=("10.0.0.0/8",)) as port:
        assert not associate(port).is_established

    assert counted == ["refused-association SCANNER", "refused-address "]


def test_a_port_that_is_taken_and_a_certificate_that_is_none_are_told(tmp_path: Path):
    with served([]) as port, pytest.raises(ConfigurationError, match="can't be listened on"):
        DicomServer(
            Terms(title="NADI", callers=("A",), allow=(), max_bytes=1, max_connections=1, idle_s=1),
            lambda _stored: None,
            lambda _outcome, _peer: None,
        ).start("127.0.0.1", port)
    nothing = tmp_path / "none.pem"
    nothing.write_text("none")
    with pytest.raises(ConfigurationError, match="can't be used"):
        tls_context(str(nothing), str(nothing), None)
