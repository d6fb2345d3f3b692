"""ABDM consent notifications for tests: valid, small, each field changeable."""

import json
from pathlib import Path
from typing import Any

from gateway.core.consent.abdm import AbdmPolicy, default_purposes
from gateway.core.consent.abdm_artefact import ACCESS_MODES

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "abdm"
CONSENT_ID = "7d0b3c54-0000-4b8e-9f10-5a2c3b0f1c11"
POLICY = AbdmPolicy(
    consent_manager="sbx",
    facilities=frozenset({"IN0000000002"}),
    purposes=default_purposes(),
    access_modes=ACCESS_MODES,
)

Json = dict[str, Any]


def permission(**changed: Any) -> Json:
    """What limits the grant; None takes a field away."""
    whole = {
        "accessMode": "VIEW",
        "dateRange": {"from": "2025-11-01T00:00:00.000Z", "to": "2026-11-22T00:00:00.000Z"},
        "dataEraseAt": "2026-12-01T00:00:00.000Z",
        "frequency": {"unit": "HOUR", "value": 1, "repeats": 0},
        **changed,
    }
    return {name: value for name, value in whole.items() if value is not None}


def detail(**changed: Any) -> Json:
    """A `consentDetail` as v3 writes it; None takes a field away."""
    whole = {
        "schemaVersion": "v3",
        "consentId": CONSENT_ID,
        "createdAt": "2026-11-01T05:10:20.123Z",
        "patient": {"id": "ana.test@sbx"},
        "careContexts": [{"patientReference": "MRN-1", "careContextReference": "OPD-1"}],
        "purpose": {"text": "Care Management", "code": "CAREMGT", "refUri": None},
        "hip": {"id": "IN0000000001", "name": "Test Hospital", "type": "HIP"},
        "hiu": {"id": "IN0000000002", "name": "Test HIU", "type": "HIU"},
        "consentManager": {"id": "sbx"},
        "requester": {"name": "Dr. Test"},
        "hiTypes": ["DiagnosticReport"],
        "permission": permission(),
        **changed,
    }
    return {name: value for name, value in whole.items() if value is not None}


def notification(status: str = "GRANTED", **changed: Any) -> Json:
    """A notification with its artefact; `consentDetail=None` leaves that out."""
    whole = {
        "status": status,
        "consentId": CONSENT_ID,
        "consentDetail": detail(),
        "signature": "c2lnbmF0dXJl",
        **changed,
    }
    return {"notification": {name: value for name, value in whole.items() if value is not None}}


def ended(status: str = "REVOKED") -> Json:
    """A notification without an artefact, as a consent manager ends one."""
    return notification(status, consentDetail=None)


def raw(body: Json) -> bytes:
    """Write it as it is received."""
    return json.dumps(body).encode()
