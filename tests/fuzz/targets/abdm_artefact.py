"""ABDM consent notifications: an artefact grants what it says readably, or nothing."""

from gateway.core.consent.abdm import artefact_scope, read_artefact
from gateway.core.consent.abdm_artefact import (
    ArtefactUnreadable,
    ScopeUnclear,
    patient_address,
    read_notification,
)
from tests.abdm import POLICY, detail, ended, notification, raw
from tests.fuzz.target import Target, shared


def run(data: bytes) -> None:
    """Read a notification and the permission in it."""
    read = read_notification(data)
    if read.detail is not None:
        patient_address(read.detail)
    read_artefact([read], "1", patient="Patient/p1", policy=POLICY)
    artefact_scope([read])


def seeds() -> list[bytes]:
    """Give a grant, a revocation and the published samples."""
    return [raw(notification()), raw(ended()), raw(detail()), *shared("abdm/**/*.json")]


TARGET = Target(run, seeds, (ArtefactUnreadable, ScopeUnclear))
