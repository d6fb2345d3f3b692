"""The content type that a caller says its body has."""

from gateway.api.body import _problem_of
from gateway.core.r4_json import may_hold
from tests.fuzz.target import Target


def run(data: bytes) -> None:
    """Judge a content type, as a header brings it."""
    _problem_of(data.decode("latin-1"))
    may_hold(data, b"#", b"urn:")


def seeds() -> list[bytes]:
    """Give the usual content types."""
    return [
        b"application/fhir+json; fhirVersion=4.0; charset=utf-8",
        b"application/json; charset*=utf-8''utf-8; a*0*=x; a*1=y",
        b'text/json; charset="UTF-8"; q=1',
        b"application/fhir+xml",
    ]


TARGET = Target(run, seeds, longest=512)
