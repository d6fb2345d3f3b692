"""Whatever was received, repeated, superseded, switched to and fro or refused: the log agrees."""

import pytest

from gateway.store import verification
from gateway.store.keys import load_or_create
from tests.conftest import Api
from tests.factories import bundle, consent, creatinine, meta, patient, raw

pytestmark = pytest.mark.integration


def test_a_log_over_everything_that_can_be_received_verifies(api: Api, tmp_path):
    off, on = consent(1, status="inactive"), consent(1)
    for resource in (on, creatinine(1), off, on, off):
        assert api.post(raw(resource)).status_code == 202
    for version in (2, 3, 1, 2):
        api.post(raw(creatinine(2, **meta(version))))
    api.post(raw(creatinine(2, language="en", **meta(3))))
    whole = bundle(patient(1), creatinine(3), consent(3))
    for sent in (whole, whole, bundle(patient(1), {**patient(2), "gender": "x"}, kind="batch")):
        assert api.post(raw(sent)).status_code == 200
    for reference in ("Observation/o3", "Consent/c3", "Consent/c3", "Observation/never-seen"):
        deleted = api.client.request("DELETE", f"/fhir/{reference}", headers=api.headers())
        assert deleted.status_code == 202
    gone = {"request": {"method": "DELETE", "url": "Patient/p1"}, "response": {"status": "204"}}
    assert api.post(raw({**bundle(kind="history"), "entry": [gone]})).status_code == 200
    for body in (b"{", b"", raw({**patient(3), "birthDate": "soon"})):
        assert api.post(body, "/fhir/Patient").status_code == 400
    keys = load_or_create(tmp_path / "data", master_key_file=None, audit_key_file=None)
    with api.store.write() as uow:
        uow.audit_log.integrate(keys.signing, keys.origin)

    with api.store.read() as uow:
        report = verification.verify(uow, keys.verifier, outside=[], progress=lambda *_: None)

    about = {finding.table for finding in report.findings} - {"sites", "credentials"}
    assert about == set(), [f for f in report.findings if f.table in about]
