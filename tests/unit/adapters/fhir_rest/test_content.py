import base64
import json
from collections.abc import Iterator

import pytest

from adapters.authorization import GivenLogin
from adapters.fhir_rest.answers import Content
from adapters.fhir_rest.client import FhirClient
from adapters.fhir_rest.errors import (
    EhrAnswerTooLarge,
    EhrAnswerUnreadable,
    EhrRefused,
    ForeignAddress,
)
from tests.answering import Answering, answering

CONTENT = bytes(range(256)) * 40


@pytest.fixture
def ehr() -> Iterator[Answering]:
    with answering() as server:
        yield server


@pytest.fixture
def client(ehr: Answering) -> Iterator[FhirClient]:
    with FhirClient(
        f"{ehr.base}/fhir",
        login=GivenLogin("Bearer secret"),
        timeout_s=5,
        max_response_bytes=1_000_000,
    ) as made:
        yield made


def fetch(
    client: FhirClient, address: str = "Binary/b1", max_bytes: int = 50_000
) -> Content | None:
    return client.content(address, max_bytes=max_bytes)


def binary(**changed: object) -> bytes:
    data = base64.b64encode(CONTENT).decode()
    told = {"resourceType": "Binary", "contentType": "image/png", "data": data, **changed}
    return json.dumps(told).encode()


def test_a_binary_in_json_gives_its_bytes_its_type_and_its_owner(
    client: FhirClient, ehr: Answering
) -> None:
    owner = {"reference": "Patient/p1"}
    ehr.answer(binary(securityContext=owner), content_type="application/fhir+json;charset=utf-8")

    assert fetch(client) == Content("image/png", CONTENT, "Patient/p1")
    assert ehr.requests[0].path == "/fhir/Binary/b1"


def test_an_ehr_that_gives_the_bytes_themselves_is_understood(
    client: FhirClient, ehr: Answering
) -> None:
    ehr.answer(CONTENT, content_type="application/dicom")

    assert fetch(client, f"{ehr.base}/fhir/files/7") == Content("application/dicom", CONTENT)


def test_what_is_not_there_is_none(client: FhirClient, ehr: Answering) -> None:
    ehr.answer(b"", status=410)

    assert fetch(client) is None


@pytest.mark.parametrize(
    "address",
    [
        "http://169.254.169.254/latest/meta-data",
        "https://ehr.evil/fhir/Binary/1",
        "//ehr.evil/Binary/1",
        "../admin",
        "/other/Binary/1",
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0/..",
        "Binary/%2e%2e/%2e%2e/admin",
    ],
)
def test_no_address_outside_of_the_ehr_is_asked(
    client: FhirClient, ehr: Answering, address: str
) -> None:
    with pytest.raises(ForeignAddress):
        fetch(client, address)

    assert ehr.requests == []


def test_a_redirect_to_elsewhere_is_not_followed(client: FhirClient, ehr: Answering) -> None:
    ehr.answer(b"", status=302, Location="http://169.254.169.254/latest")

    with pytest.raises(EhrRefused):
        fetch(client)
    assert len(ehr.requests) == 1


@pytest.mark.parametrize("is_json", [True, False])
def test_content_that_is_larger_than_allowed_is_not_read(
    client: FhirClient, ehr: Answering, is_json: bool
) -> None:
    ehr.answer(
        binary() if is_json else CONTENT,
        content_type="application/fhir+json" if is_json else "image/png",
    )

    with pytest.raises(EhrAnswerTooLarge):
        fetch(client, max_bytes=len(CONTENT) - 1)
    assert fetch(client, max_bytes=len(CONTENT)) is not None


@pytest.mark.parametrize(
    "body",
    [b"<html>", b"[]", b'{"resourceType": "Patient"}', binary(data="A"), binary(data="\u00fcA==")],
    ids=["html", "list", "patient", "base64", "letters"],
)
def test_json_that_is_no_binary_is_unreadable(
    client: FhirClient, ehr: Answering, body: bytes
) -> None:
    ehr.answer(body, content_type="application/fhir+json")

    with pytest.raises(EhrAnswerUnreadable):
        fetch(client)


def test_content_stays_out_of_what_is_printed() -> None:
    assert "secret" not in repr(Content("text/plain", b"secret"))
