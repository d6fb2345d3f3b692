"""Consents: read into rules and decided on; what can't be read permits nothing."""

import orjson

from gateway.core.consent.reading import read_consent
from gateway.core.errors import ContentError
from gateway.core.fhir import parse_resource
from tests.factories import consent, raw
from tests.fuzz.target import Target, shared
from tests.pcf import agreed, but, pcf_consent, purposes


def run(data: bytes) -> None:
    """Read a Consent, valid or as it may lie in an old database."""
    try:
        content = parse_resource(data, expected_type="Consent").content
    except ContentError:
        content = orjson.loads(data)
        if not isinstance(content, dict):
            return
    read_consent(content, "Consent/1", patient="Patient/p1")


def seeds() -> list[bytes]:
    """Give consents of each form."""
    made = [consent(1), pcf_consent(), agreed(but("deny", purpose=purposes("TREAT")))]
    kinds = ("ihe-pcf/**/Consent*.json", "r4-examples/Consent*.json", "nrces/**/*onsent*.json")
    return [*map(raw, made), *(each for kind in kinds for each in shared(kind))]


TARGET = Target(run, seeds, (orjson.JSONDecodeError,))
