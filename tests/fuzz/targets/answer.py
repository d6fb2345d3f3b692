"""Answers of DICOM archives and of EHRs: read, or said to be unreadable."""

from datetime import UTC, datetime

from adapters.dicomweb import _file
from adapters.fhir_rest.answers import error_of, read_capabilities, read_content, read_json
from adapters.fhir_rest.errors import EhrAnswerUnreadable
from tests.fuzz.target import Target, shared

_NOW = datetime(2026, 11, 26, tzinfo=UTC)
_BODY = b"\r\n--b\r\nContent-Type: application/dicom\r\n\r\nDICM\r\n--b--\r\n"


def run(data: bytes) -> None:
    """Read an answer: a line with its content type, then its body."""
    head, _, body = data.partition(b"\n")
    content_type = head.decode("latin-1")
    error_of(400 + len(body) % 150, {"retry-after": content_type}, body, _NOW)
    if head[:1] == b"m":
        _file(content_type, body)
        return
    read_content(content_type, body)
    read_capabilities(read_json(body))


def seeds() -> list[bytes]:
    """Give an answer of an archive and answers of EHRs."""
    capabilities = shared("r4-examples/CapabilityStatement*.json", most=3)
    return [
        b'multipart/related; type="application/dicom"; boundary=b\n' + _BODY,
        b'application/fhir+json\n{"resourceType":"Binary","contentType":"text/plain","data":"eA=="}',
        b'Wed, 25 Nov 2026 10:00:00 GMT\n{"resourceType":"OperationOutcome","issue":[{}]}',
        *(b"application/fhir+json\n" + each for each in capabilities),
    ]


TARGET = Target(run, seeds, (EhrAnswerUnreadable,))
