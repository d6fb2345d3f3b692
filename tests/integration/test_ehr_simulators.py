"""Every EHR that has a profile, as its source behaves: nothing is lost, nothing is there twice.

The whole story of a delivery with a real database runs against a real HTTP server, while answers
are lost after the EHR has written and others are refused in between.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from adapters.ehr_profile import profiles
from adapters.fhir_rest.client import FhirClient
from gateway.core.jobs import BusinessStatus, JobState
from gateway.core.ladder import Terms
from gateway.store.audit_log import AuditFilter
from tests.hospital import FakeConnections, Hospital, observation
from tests.sandbox import TOKEN, SandboxEhr
from tests.simulators import CONCEPT, SIMULATORS, Simulator
from workers.climbing import ladder_recipient
from workers.ehr_abilities import EhrAbilities
from workers.ehrs import Connection, FhirApi

pytestmark = pytest.mark.integration

PATIENTS = 4
ROUNDS = 40
OWN_CODES = Terms(codes={("https://nadi.health/fhir/sid/toy", "toy"): ("", CONCEPT, "Toy risk")})


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxEhr]:
    running = SandboxEhr()
    running.start()
    yield running
    running.stop()


@contextmanager
def hospital_with(folder: Path, sandbox: SandboxEhr, chosen: Simulator) -> Iterator[Hospital]:
    """Give a hospital whose EHR is this simulator, with a result for each of its patients."""
    made = Hospital(folder)
    (route,) = made.site.routes
    made.site = replace(made.site, routes=(replace(route, terms=OWN_CODES),))
    base_url = f"{sandbox.origin}/fhir"
    with FhirClient(
        base_url, auth_header=lambda: f"Bearer {TOKEN}", timeout_s=5, max_response_bytes=10**6
    ) as client:
        abilities = EhrAbilities(
            client,
            base_url=base_url,
            profile=chosen.profile or None,
            monotonic=lambda: seconds(made),
        )
        recipient = ladder_recipient(client, abilities, connections=2)
        for number in range(PATIENTS):
            name = f"{prefix_of(made)}-{number}"
            made.admit_patient(name)
            made.push(observation(name=name, of=name))
        made.infer()
        api = FhirApi(client, None, abilities, base_url)
        made.ehrs = FakeConnections(Connection("ehr", recipient, api))  # type: ignore[arg-type]
        made.ports = replace(made.ports, ehrs=made.ehrs)
        yield made
    made.close()


def seconds(hospital: Hospital) -> float:
    """Give the time by the clock that a test turns."""
    return hospital.now.timestamp()


def prefix_of(hospital: Hospital) -> str:
    """Give how the ids of the patients of this hospital begin: its folder has a name of its own."""
    folder = hospital.url.rpartition("/")[0].rpartition("/")[2]
    return folder.replace("_", "-")[-50:]


def deliver_all(hospital: Hospital) -> None:
    """Deliver until nothing waits any more."""
    for _ in range(ROUNDS):
        hospital.deliver()
        hospital.pass_time(90)


def kept(sandbox: SandboxEhr, hospital: Hospital, kind: str) -> list[dict[str, Any]]:
    """Give what the EHR holds of the patients of this hospital."""
    prefix = f"Patient/{prefix_of(hospital)}-"
    answer = httpx.get(
        f"{sandbox.origin}/fhir/{kind}?_count=1000", headers={"Authorization": f"Bearer {TOKEN}"}
    )
    found = [each["resource"] for each in answer.json().get("entry", ())]
    return [each for each in found if prefix in each.get("subject", {}).get("reference", "")]


def lost_of(hospital: Hospital) -> list[str]:
    with hospital.store.read() as uow:
        known = uow.deliveries.of_jobs([job.id for job in hospital.jobs()])
    return [each.lost for each in known.values()]


def faults_of(chosen: Simulator) -> dict[str, Any]:
    healthy = {
        "software": "",
        "no_transaction": False,
        "no_batch": False,
        "no_conditional_create": False,
        "no_update_create": False,
        "no_metadata": False,
        "ignored_params": [],
        "writable_types": [],
        "unsupported_types": [],
        "known_codes": [],
        "required_elements": [],
        "refused_statuses": [],
        "drop_elements": [],
        "page_size": 50,
        "error_rate": 0,
        "drop_after_commit_rate": 0,
    }
    return {**healthy, **chosen.faults}


@pytest.mark.parametrize("name", SIMULATORS)
def test_every_result_is_where_it_belongs_once_and_what_was_dropped_is_reported(
    tmp_path: Path, sandbox: SandboxEhr, name: str
) -> None:
    chosen = SIMULATORS[name]
    sandbox.faults(**faults_of(chosen))
    with hospital_with(tmp_path, sandbox, chosen) as hospital:
        sandbox.faults(
            drop_after_commit_rate=0.4,
            error_rate=0.25,
            error_statuses=chosen.statuses,
            retry_after_s=1,
            seed=len(name),
        )
        for _ in range(6):
            hospital.deliver()
            hospital.pass_time(90)
        sandbox.faults(drop_after_commit_rate=0, error_rate=0)
        deliver_all(hospital)

        jobs = hospital.jobs()
        assert {job.state for job in jobs} == {JobState.COMPLETED}
        expected = BusinessStatus.DELIVERED if chosen.kept_as else BusinessStatus.ON_WORKLIST
        assert Counter(job.business_status for job in jobs) == {expected: PATIENTS}
        with hospital.store.read() as uow:
            known = uow.deliveries.of_jobs([job.id for job in jobs])
        assert {each.rung for each in known.values()} == {chosen.rung}
        for each in known.values():
            assert set(chosen.lost) <= set(each.lost.split(", "))
        told = [outcome for event, outcome in hospital.audited() if event == "deliver"]
        assert told.count("0") == (PATIENTS if chosen.kept_as else 0), "one that says delivered"
        assert len(told) >= PATIENTS
        if chosen.kept_as:
            found = kept(sandbox, hospital, chosen.kept_as)
            assert Counter(r["subject"]["reference"] for r in found) == Counter(
                {r["subject"]["reference"]: 1 for r in found}
            )
            assert len(found) == PATIENTS
        else:
            assert kept(sandbox, hospital, "Observation") == []


@pytest.mark.parametrize("name", ["openmrs", "bahmni"])
def test_where_the_label_is_dropped_people_read_it_beside_the_value(
    tmp_path: Path, sandbox: SandboxEhr, name: str
) -> None:
    chosen = SIMULATORS[name]
    sandbox.faults(**faults_of(chosen))
    with hospital_with(tmp_path, sandbox, chosen) as hospital:
        deliver_all(hospital)

        found = kept(sandbox, hospital, "Observation")
        assert len(found) == PATIENTS
        for each in found:
            assert ("valueQuantity" in each) is chosen.has_number
            told = each.get("valueString", "") + "".join(n["text"] for n in each.get("note", ()))
            assert "AI" in told or "not a medical device" in told
            assert each["code"]["coding"][0]["code"] == CONCEPT


def test_what_a_profile_says_is_dropped_is_what_its_simulator_drops(
    tmp_path: Path, sandbox: SandboxEhr
) -> None:
    chosen = SIMULATORS["openmrs"]
    sandbox.faults(**faults_of(chosen))
    with hospital_with(tmp_path, sandbox, chosen) as hospital:
        deliver_all(hospital)

        said = set(profiles()["openmrs-fhir2"].drops["Observation"])
        for lost in lost_of(hospital):
            labels = {each for each in lost.split(", ") if " " not in each}
            assert labels <= said
            assert {"meta.security", "identifier", "device"} <= labels


def test_the_audit_tells_the_way_of_each_result(tmp_path: Path, sandbox: SandboxEhr) -> None:
    chosen = SIMULATORS["openemr-that-takes-documents"]
    sandbox.faults(**faults_of(chosen))
    with hospital_with(tmp_path, sandbox, chosen) as hospital:
        deliver_all(hospital)

        with hospital.store.read() as uow:
            rows = [
                r for r in uow.audit_log.search(AuditFilter(limit=1000)) if r.event == "deliver"
            ]
        details = [
            {d["type"]: d["valueString"] for d in e["detail"]}
            for row in rows
            for e in orjson.loads(row.body)["entity"]
            if "rung" in {d["type"] for d in e.get("detail", ())}
        ]
        assert len(details) == PATIENTS
        for each in details:
            assert each["rung"] == "document-reference"
            assert "OpenEMR lets no Observation be created." in each["left"]
            assert "identifier" in each["lost"]
