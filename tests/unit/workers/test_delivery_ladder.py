"""Which way a result went is kept with its delivery and told in its AuditEvent."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from adapters.site_cds_hooks import CdsClient, CdsHooks, CdsService
from gateway.core.delivery import Delivery, DeliveryState
from gateway.core.jobs import BusinessStatus, JobState
from gateway.core.ladder import Rung, Terms
from gateway.store import worklist
from gateway.store.audit_log import AuditFilter
from tests.hospital import Hospital, away, observation


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    made = Hospital(tmp_path)
    made.admit_patient()
    made.push(observation())
    made.infer()
    yield made
    made.close()


def delivery_of(hospital: Hospital) -> Delivery:
    found = hospital.delivery()
    assert found is not None
    return found


def told(hospital: Hospital) -> dict[str, str]:
    """Give the details of the newest AuditEvent of a delivery, and the type it names."""
    with hospital.store.read() as uow:
        rows = [r for r in uow.audit_log.search(AuditFilter(limit=1000)) if r.event == "deliver"]
    entities = orjson.loads(rows[0].body)["entity"]
    entity = next(e for e in entities if "attempt" in {d["type"] for d in e.get("detail", ())})
    return {
        "type": entity["what"]["type"],
        **{d["type"]: d["valueString"] for d in entity["detail"]},
    }


def test_a_lower_rung_is_told_with_what_it_loses_and_why_it_was_taken(hospital: Hospital) -> None:
    hospital.ehr.types = ("DocumentReference", "Device", "Provenance")

    hospital.deliver()

    assert hospital.job().business_status is BusinessStatus.DELIVERED
    delivery = delivery_of(hospital)
    assert (delivery.rung, delivery.last_answer) == (
        "document-reference",
        "201 as DocumentReference",
    )
    assert "as a number" in delivery.lost
    audited = told(hospital)
    assert (audited["type"], audited["rung"]) == ("DocumentReference", "document-reference")
    assert audited["lost"] == delivery.lost
    assert "observation: Its CapabilityStatement names no create" in audited["left"]


def test_labels_that_the_ehr_dropped_are_kept_with_the_delivery(hospital: Hospital) -> None:
    hospital.ehr.drops["Observation"] = ("meta", "device")

    hospital.deliver()

    assert delivery_of(hospital).lost == "meta.security, device"
    assert told(hospital)["lost"] == "meta.security, device"
    with hospital.store.read() as uow:
        assert uow.deliveries.told() == [("ehr", "observation", "meta.security, device", 1)]


def test_what_no_ehr_takes_is_done_and_stays_on_the_worklist(hospital: Hospital) -> None:
    hospital.ehr.types = ("Patient",)

    hospital.deliver()

    job, delivery = hospital.job(), delivery_of(hospital)
    assert (job.state, job.business_status) == (JobState.COMPLETED, BusinessStatus.ON_WORKLIST)
    assert job.reason.startswith("It stays on the worklist: the EHR takes no form of it.")
    assert (delivery.state, delivery.rung) == (DeliveryState.DELIVERED, "worklist")
    assert told(hospital)["rung"] == "worklist"
    assert hospital.ehr.resources == {}


def test_a_route_may_keep_its_results_from_the_ehr(hospital: Hospital) -> None:
    (route,) = hospital.site.routes
    kept_here = replace(route, terms=Terms(only=frozenset({Rung.WORKLIST})))
    hospital.site = replace(hospital.site, routes=(kept_here,))

    hospital.deliver()

    assert hospital.job().business_status is BusinessStatus.ON_WORKLIST
    assert hospital.ehr.resources == {}


def test_what_no_ehr_takes_waits_for_a_card_where_the_chart_is_opened(hospital: Hospital) -> None:
    hospital.ehr.types = ("Patient",)
    client = CdsClient("ehr", "ehr", "https://ehr.test", (), frozenset())
    service = CdsService("toy-patient-view", "patient-view", "toy", "", "")
    cds = CdsHooks("https://nadi.test", 450, {client.issuer: client}, {service.id: service})
    hospital.site = replace(hospital.site, cds=cds)

    hospital.deliver()

    job, delivery = hospital.job(), delivery_of(hospital)
    assert (job.state, job.business_status) == (JobState.COMPLETED, BusinessStatus.ON_CARD)
    assert job.reason.startswith(
        "It is shown as a card, and waits until somebody opens the chart: the EHR takes no form"
    )
    assert (delivery.state, delivery.rung) == (DeliveryState.DELIVERED, "cds-card")
    assert delivery.last_answer == "card"
    assert told(hospital)["rung"] == "cds-card"
    with hospital.store.read() as uow:
        assert worklist.count(uow) == (0, None)


def test_a_site_that_allows_no_way_ends_the_job_with_the_reason(hospital: Hospital) -> None:
    (route,) = hospital.site.routes
    no_way = replace(route, terms=Terms(only=frozenset({Rung.CDS_CARD})))
    hospital.site = replace(hospital.site, routes=(no_way,))

    hospital.deliver()

    job = hospital.job()
    assert job.business_status is BusinessStatus.DELIVERY_FAILED
    assert "cds-card: The route shows no card" in job.reason
    assert delivery_of(hospital).last_answer == "not sent"


def test_an_ehr_that_is_away_is_no_reason_for_the_worklist(hospital: Hospital) -> None:
    hospital.ehr.away = away()

    hospital.deliver()

    assert hospital.job().business_status is BusinessStatus.DELIVERY_PENDING


def test_results_of_one_patient_that_look_alike_are_told_apart_by_the_ledger(
    hospital: Hospital,
) -> None:
    """Two versions of one sample give two results that differ in nothing that the EHR keeps."""
    ehr = hospital.ehr
    ehr.drops["Observation"] = ("identifier",)
    ehr.ignores_conditions = ehr.is_unlabelled = True
    hospital.deliver()
    hospital.push(observation(name="o2"))
    hospital.infer()
    ehr.dies_at = "transaction 2"
    hospital.deliver()
    hospital.pass_time(60)

    hospital.deliver()

    results = [each for each in ehr.of("Observation") if "valueQuantity" in each]
    assert len([each for each in results if "device" in each]) == 2
    assert {job.business_status for job in hospital.jobs()} == {BusinessStatus.DELIVERED}
