"""Files of consents to import: notifications, FHIR, an export of another site."""

import orjson

from gateway.core.consent.importing import EXPORT, documents_in
from gateway.core.errors import ContentError
from tests.abdm import notification
from tests.factories import bundle, consent, raw
from tests.fuzz.target import Target

_LOCAL = {
    "patient": "Patient/p1",
    "system": "ehr",
    "decision": "permit",
    "purposes": ["TREAT"],
    "means": "written",
    "recorded_at": "2026-11-25T10:00:00Z",
    "recorded_by": "nurse",
}


def run(data: bytes) -> None:
    """Cut the documents out of a file."""
    for document in documents_in(data):
        assert document.content in data


def seeds() -> list[bytes]:
    """Give a file of each form."""
    export = {"format": EXPORT, "consents": [{"id": "c1", "local": _LOCAL}]}
    return [
        raw(consent(1)),
        raw(bundle(consent(1), consent(2))),
        orjson.dumps(export),
        orjson.dumps(notification()),
    ]


TARGET = Target(run, seeds, (ContentError,))
