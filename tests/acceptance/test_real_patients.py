"""Real data through the whole of Nadi: the public kidney disease table and Synthea's Bundles.

Every probability that reaches the EHR is the one the model gives when it is run directly on the
table; every other job was refused for the reason that feature extraction gives.
"""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from models.registry import load_installed
from models.runtime import Runtime
from tests import ckd
from tests.running import RunningNadi, running_nadi, wait_until
from workers.features import Refusal, extract

SYNTHEA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "synthea"
TAG = {"system": "https://hospital.example/order", "code": "complete"}
SITE = """
site: acceptance
systems:
  ehr:
    kind: fhir-rest
    base_url: http://127.0.0.1:${NADI_SANDBOX_PORT:-8090}/fhir
    auth: {kind: none}
    receive: [push]
routes:
  whole-order:
    source: ehr
    match: "Observation.meta.tag.where(code='complete')"
    consent: {purpose: TREAT, default: deny}
    model: ckd-risk@1
    sink: {system: ehr, also: [provenance]}
  creatinine:
    source: ehr
    match: >-
      Observation.code.coding.where(system='http://loinc.org' and
      (code='2160-0' or code='14682-9' or code='38483-4'))
    consent: {purpose: PATRQT, default: permit}
    model: ckd-risk@1
    sink: {system: ehr, also: [provenance]}
"""
pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def nadi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNadi]:
    folder = tmp_path_factory.mktemp("acceptance")
    with running_nadi(folder / "data") as running:
        site = folder / "site.yaml"
        site.write_text(SITE)
        running.nadi("site", "apply", str(site))
        yield running


@pytest.mark.skipif(not ckd.ARFF.exists(), reason="the kidney disease table is not at hand")
def test_every_probability_in_the_ehr_is_the_models_own_on_the_table(nadi: RunningNadi) -> None:
    at = datetime.now(UTC).replace(microsecond=0)
    resources = {
        row.patient_id: ckd.to_fhir(
            row, system_units="si" if row.number % 4 > 1 else "conventional", at=at
        )
        for row in ckd.ckd_rows()
    }
    # One patient of the table has an age and not a single result: nothing that could be pushed.
    rows = [row for row in ckd.ckd_rows() if len(resources[row.patient_id]) > 1]
    with nadi.client() as client:
        for patient_id, of_patient in resources.items():
            answer = client.post("/fhir", json=_order(patient_id, of_patient))
            assert answer.status_code == 200, answer.text
    wait_until(nadi.is_settled, within_s=120, what="every job is finished")

    jobs = [job for job in nadi.jobs() if job["route"] == "whole-order"]
    refusals = Counter(job["business_status"] for job in jobs if job["state"] == "rejected")
    model = load_installed()["ckd-risk"]
    expected, refused = {}, Counter[str]()
    for row in rows:
        patient, *observations = resources[row.patient_id]
        features = extract(model.manifest, observations, patient=patient, at=at)
        if isinstance(features, Refusal):
            refused[features.reason] += 1
        else:
            (probability,) = Runtime(model).predict({"features": ckd.model_input(row)[None, :]})[0]
            expected[row.patient_id] = float(probability)
    # Both routes write about most patients: every single result has to be right.
    results = [
        (result["subject"]["reference"].removeprefix("Patient/"), result["valueQuantity"]["value"])
        for result in nadi.results()
        if result["subject"]["reference"].startswith("Patient/ckd-")
    ]
    written = {patient_id for patient_id, _ in results}

    assert written == expected.keys()
    assert max(abs(value - expected[patient_id]) for patient_id, value in results) <= 1e-6
    assert refusals == refused
    assert len(rows) >= 399
    assert len(jobs) == len(rows) == len(written) + sum(refused.values())
    print(  # noqa: T201
        f"{len(results)} results of {len(written)} patients equal to the table's, "
        f"refused: {dict(refused)}"
    )


@pytest.mark.skipif(not SYNTHEA.exists(), reason="the Synthea Bundles are not at hand")
def test_synthea_bundles_pass_and_every_job_ends_with_a_result_or_a_reason(
    nadi: RunningNadi,
) -> None:
    before = {job["id"] for job in nadi.jobs()}
    pushed = 0
    with nadi.client() as client:
        for path in sorted(SYNTHEA.glob("*.json")):
            answer = client.post("/fhir", content=path.read_bytes(), headers=_JSON)
            assert answer.status_code == 200, answer.text[:500]
            tasks = answer.json()["entry"]
            assert all(entry["response"]["status"] == "202" for entry in tasks)
            again = client.post("/fhir", content=path.read_bytes(), headers=_JSON)
            assert [e["resource"]["id"] for e in again.json()["entry"]] == [
                e["resource"]["id"] for e in tasks
            ]
            pushed += len(tasks)
    wait_until(nadi.is_settled, within_s=180, what="every job is finished")

    jobs = [job for job in nadi.jobs() if job["id"] not in before]

    ended = Counter((job["state"], job["business_status"]) for job in jobs)
    assert jobs
    assert set(ended) <= {
        ("completed", "delivered"),
        ("rejected", "input-missing"),
        ("rejected", "input-stale"),
        ("rejected", "input-implausible"),
        ("rejected", "unit-unknown"),
        ("rejected", "too-few-inputs"),
        ("rejected", "outside-intended-use"),
        ("rejected", "consent-denied"),
    }
    assert nadi.duplicates() == 0
    assert nadi.nadi("audit", "verify", check=False).returncode == 0
    print(f"{pushed} resources, {dict(ended)}")  # noqa: T201


_JSON = {"Content-Type": "application/fhir+json"}


def _order(patient_id: str, resources: list[dict[str, Any]]) -> dict[str, Any]:
    """Give one patient's order as a transaction: consent first, the last result tagged."""
    *_, last = resources
    last = {**last, "meta": {"tag": [TAG]}}
    consent = {
        "resourceType": "Consent",
        "id": f"{patient_id}-consent",
        "status": "active",
        "scope": {
            "coding": [
                {
                    "system": "http://terminology.hl7.org/CodeSystem/consentscope",
                    "code": "patient-privacy",
                }
            ]
        },
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": {"reference": f"Patient/{patient_id}"},
        "policyRule": {
            "coding": [
                {
                    "system": "http://terminology.hl7.org/CodeSystem/v3-ActCode",
                    "code": "OPTIN",
                }
            ]
        },
        "provision": {
            "type": "permit",
            "purpose": [
                {"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "TREAT"}
            ],
        },
    }
    entries = [_entry(resource) for resource in (consent, *resources[:-1], last)]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    loaded: dict[str, Any] = orjson.loads(orjson.dumps(bundle))
    return loaded


def _entry(resource: dict[str, Any]) -> dict[str, Any]:
    url = f"{resource['resourceType']}/{resource['id']}"
    return {
        "fullUrl": f"https://hospital.example/fhir/{url}",
        "resource": resource,
        "request": {"method": "PUT", "url": url},
    }
