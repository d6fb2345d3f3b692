"""Every form of a result in the sandbox EHR, over HTTP, checked there by the R4 validator."""

from collections.abc import Iterator
from typing import Any

import pytest

from adapters.authorization import GivenLogin
from adapters.fhir_rest.client import FhirClient
from gateway.core.fhir import parse_resource
from gateway.core.findings import Report
from gateway.core.write_back import AS_OBSERVATION, WITHOUT_MEDIA, StoredReport
from tests.result_models import RISK_ASSESSMENT, made, reports, with_map
from tests.sandbox import TOKEN, SandboxEhr
from workers.fates import Fate, NotReached, Written
from workers.result_recipient import ResultRecipient

pytestmark = pytest.mark.integration

MOST_BYTES = 1_000_000


@pytest.fixture
def sandbox() -> Iterator[SandboxEhr]:
    running = SandboxEhr(validate=parse_resource)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def client(sandbox: SandboxEhr) -> Iterator[FhirClient]:
    with FhirClient(
        f"{sandbox.origin}/fhir",
        login=GivenLogin(f"Bearer {TOKEN}"),
        timeout_s=5.0,
        max_response_bytes=MOST_BYTES,
    ) as connected:
        yield connected


def write(client: FhirClient, report: Report, *, again: bool = False) -> Fate:
    stored = StoredReport.read(report.to_json())
    repeated = frozenset({stored.identifier}) if again else frozenset()
    (fate,) = ResultRecipient(client).write([stored], repeated=repeated).values()
    return fate


def held(client: FhirClient, resource_type: str) -> list[dict[str, Any]]:
    return client.search(resource_type, [("_security", "AIAST")], max_pages=2)


@pytest.mark.parametrize("name", sorted(reports()))
@pytest.mark.parametrize("no_transaction", [False, True], ids=["transaction", "one-by-one"])
def test_the_ehr_accepts_a_result_of_every_kind_once(
    sandbox: SandboxEhr, client: FhirClient, name: str, no_transaction: bool
) -> None:
    sandbox.faults(no_transaction=no_transaction)
    report = reports()[name]

    first = write(client, report)
    again = write(client, report, again=True)

    assert isinstance(first, Written)
    assert isinstance(again, Written)
    assert (first.status, again.status) == (201, 200)
    assert first.location == again.location
    (found,) = held(client, report.result["resourceType"])
    assert found["identifier"] == report.result["identifier"]
    assert len(held(client, "Media")) == len(report.attachments)


def test_the_ehr_puts_the_places_of_result_device_and_map_into_the_references(
    client: FhirClient,
) -> None:
    fate = write(client, with_map())

    assert isinstance(fate, Written)
    (media,) = held(client, "Media")
    (device,) = client.search("Device", [])
    assert media["partOf"] == [{"reference": fate.location}]
    assert media["device"] == {"reference": f"Device/{device['id']}"}
    (provenance,) = client.search("Provenance", [("target", str(fate.location))])
    targets = [each["reference"] for each in provenance["target"]]
    assert targets == [fate.location, f"Media/{media['id']}"]


@pytest.mark.parametrize("no_transaction", [False, True], ids=["transaction", "one-by-one"])
def test_an_ehr_without_risk_assessments_gets_an_observation(
    sandbox: SandboxEhr, client: FhirClient, no_transaction: bool
) -> None:
    sandbox.faults(unsupported_types=["RiskAssessment"], no_transaction=no_transaction)
    report = made(RISK_ASSESSMENT, 0.73)

    first, again = write(client, report), write(client, report, again=True)

    assert isinstance(first, Written)
    assert first.changed == (AS_OBSERVATION,)
    assert isinstance(again, Written)
    assert again.location == first.location
    (found,) = held(client, "Observation")
    assert found["valueQuantity"]["value"] == 0.73


def test_an_ehr_without_media_gets_the_result_alone(
    sandbox: SandboxEhr, client: FhirClient
) -> None:
    sandbox.faults(unsupported_types=["Media"])

    fate = write(client, with_map())

    assert isinstance(fate, Written)
    assert fate.changed == (WITHOUT_MEDIA,)


@pytest.mark.parametrize("report", [made(RISK_ASSESSMENT, 0.73), with_map()], ids=["risk", "map"])
@pytest.mark.parametrize("no_transaction", [False, True], ids=["transaction", "one-by-one"])
def test_an_answer_that_is_lost_after_the_write_leaves_nothing_twice(
    sandbox: SandboxEhr, client: FhirClient, report: Report, no_transaction: bool
) -> None:
    sandbox.faults(
        no_transaction=no_transaction, no_conditional_create=True, drop_after_commit_rate=1.0
    )
    lost = write(client, report)
    sandbox.faults(drop_after_commit_rate=0.0)

    fate = write(client, report, again=True)

    assert isinstance(lost, NotReached)
    assert isinstance(fate, Written)
    assert len(held(client, report.result["resourceType"])) == 1
    assert len(held(client, "Media")) == len(report.attachments)
    assert len(client.search("Provenance", [("target", str(fate.location))])) == 1


def test_risk_assessments_and_maps_can_be_searched_by_patient_and_device(
    client: FhirClient,
) -> None:
    write(client, made(RISK_ASSESSMENT, 0.73))
    write(client, with_map())
    (device,) = client.search("Device", [])

    risks = client.search("RiskAssessment", [("patient", "p1"), ("performer", device["id"])])
    maps = client.search("Media", [("patient", "p1"), ("device", device["id"])])

    assert (len(risks), len(maps)) == (1, 1)
