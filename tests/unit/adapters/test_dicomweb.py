from collections.abc import Iterator

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.authorization import GivenLogin
from adapters.dicomweb import DicomWebClient, first_part
from adapters.fhir_rest.errors import (
    EhrAnswerTooLarge,
    EhrAnswerUnreadable,
    EhrFailed,
    EhrOverloaded,
    EhrRefused,
    ForeignAddress,
)
from gateway.core.attachments import Instance, Listed
from models.shown import Shown
from tests.answering import Answering, answering
from tests.pictures import dicom, gradient

FILE = dicom(gradient())
UIDS = ("1.2", "1.2.3", "1.2.3.4")
MULTIPART = 'multipart/related; type="application/dicom"; boundary="a b+c"'


@pytest.fixture
def archive() -> Iterator[Answering]:
    with answering() as server:
        yield server


@pytest.fixture
def client(archive: Answering) -> Iterator[DicomWebClient]:
    made = DicomWebClient(
        f"{archive.base}/dicom-web",
        login=GivenLogin("Bearer secret"),
        timeout_s=5,
        max_response_bytes=10_000_000,
    )
    yield made
    made.close()


def instance(client: DicomWebClient, *uids: str, max_bytes: int = 1_000_000) -> bytes | None:
    return client.instance(*(uids or UIDS), max_bytes=max_bytes)


def parts(*contents: bytes) -> bytes:
    framed = [b"--a b+c\r\nContent-Type: application/dicom\r\n\r\n" + each for each in contents]
    return b"\r\n".join([*framed, b"--a b+c--\r\n"])


def test_the_file_is_taken_out_of_a_multipart_answer(
    client: DicomWebClient, archive: Answering
) -> None:
    archive.answer(parts(FILE), content_type=MULTIPART)

    assert instance(client) == FILE

    (asked,) = archive.requests
    assert asked.path == "/dicom-web/studies/1.2/series/1.2.3/instances/1.2.3.4"
    assert 'multipart/related; type="application/dicom"' in asked.headers["accept"]
    assert asked.headers["authorization"] == "Bearer secret"


def test_a_plain_dicom_answer_is_read_too(client: DicomWebClient, archive: Answering) -> None:
    archive.answer(FILE, content_type="application/dicom")

    assert instance(client) == FILE


def test_what_the_archive_does_not_have_is_none(client: DicomWebClient, archive: Answering) -> None:
    archive.answer(b"", status=404)

    assert instance(client) is None


@pytest.mark.parametrize(
    ("status", "error"),
    [(503, EhrOverloaded), (500, EhrFailed), (403, EhrRefused), (302, EhrRefused)],
)
def test_other_answers_are_errors(
    client: DicomWebClient, archive: Answering, status: int, error: type[Exception]
) -> None:
    archive.answer(b"", status=status)

    with pytest.raises(error):
        instance(client)


def test_a_file_that_is_larger_than_allowed_is_not_read(
    client: DicomWebClient, archive: Answering
) -> None:
    archive.answer(parts(bytes(200_000)), content_type=MULTIPART)

    with pytest.raises(EhrAnswerTooLarge):
        instance(client, max_bytes=100_000)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"<html>", "text/html"),
        (b"{}", "application/dicom+json"),
        (parts(FILE), "multipart/related"),
        (b"no parts", MULTIPART),
        (b"--a b+c\r\nContent-Type: application/dicom\r\n\r\n" + FILE, MULTIPART),
        (b"--a b+c--\r\n", MULTIPART),
        (parts(FILE), "multipart/related; boundary*=a''b; boundary*0*=x"),
    ],
)
def test_what_is_no_file_is_unreadable(
    client: DicomWebClient, archive: Answering, body: bytes, content_type: str
) -> None:
    archive.answer(body, content_type=content_type)

    with pytest.raises(EhrAnswerUnreadable):
        instance(client)


@pytest.mark.parametrize("uid", ["", "1.2/../../admin", "1.2?x", "../1", "a", "1" * 65])
def test_what_is_no_uid_is_never_asked_for(
    client: DicomWebClient, archive: Answering, uid: str
) -> None:
    with pytest.raises(ForeignAddress):
        instance(client, "1.2", "1.2.3", uid)

    assert archive.requests == []


LISTED = {
    "0020000E": {"vr": "UI", "Value": ["1.2.3"]},
    "00080018": {"vr": "UI", "Value": ["1.2.3.4"]},
    "00080060": {"vr": "CS", "Value": ["DX"]},
    "00180015": {"vr": "CS", "Value": ["chest "]},
    "00185101": {"vr": "CS"},
}


def test_the_instances_of_a_study_are_listed_with_what_is_on_them(
    client: DicomWebClient, archive: Answering
) -> None:
    archive.answer(orjson.dumps([LISTED]), content_type="application/dicom+json")

    (found,) = client.instances("1.2")

    assert found == Listed(Instance(*UIDS), Shown("DX", "CHEST"))
    (asked,) = archive.requests
    assert asked.path.startswith("/dicom-web/studies/1.2/instances?limit=64&includefield=00080060")
    assert asked.headers["accept"] == "application/dicom+json"


@pytest.mark.parametrize("status", [204, 404])
def test_a_study_that_the_archive_does_not_have_has_no_instances(
    client: DicomWebClient, archive: Answering, status: int
) -> None:
    archive.answer(b"", status=status)

    assert client.instances("1.2") == []


@pytest.mark.parametrize(
    "body", [b"<html>", b"7", b"[7]", b"[{}]", b'[{"0020000E": {"Value": []}}]', b'{"a": 1}']
)
def test_what_is_no_list_is_unreadable(
    client: DicomWebClient, archive: Answering, body: bytes
) -> None:
    archive.answer(body)

    with pytest.raises(EhrAnswerUnreadable):
        client.instances("1.2")


def test_a_list_that_is_refused_is_an_error_and_no_uid_is_never_asked_for(
    client: DicomWebClient, archive: Answering
) -> None:
    archive.answer(b"", status=403)

    with pytest.raises(EhrRefused):
        client.instances("1.2")
    with pytest.raises(ForeignAddress):
        client.instances("1.2/../3")


@given(st.binary(max_size=300), st.booleans())
def test_a_part_comes_out_byte_for_byte(content: bytes, is_second: bool) -> None:
    body = parts(content, b"other") if is_second else parts(content)
    if b"\r\n--a b+c" in content:
        return

    assert first_part(body, b"a b+c") == content
