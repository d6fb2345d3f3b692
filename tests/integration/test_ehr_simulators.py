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

from adapters.authorization import GivenLogin
from adapters.ehr_profile import profiles
from adapters.fhir_rest.client import FhirClient
from gateway.core.jobs import BusinessStatus, JobState
from gateway.core.ladder import LOSES, Panel, Rung, Terms
from gateway.store.audit_log import AuditFilter
from tests.hospital import FakeConnections, Hospital, consent_of, observation
from tests.sandbox import TOKEN, SandboxEhr
from tests.simulators import CONCEPT, MODEL, PANEL, SIMULATORS, Simulator
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


class Watched(FhirClient):
    """Remembers what was read, which says whether anybody looked."""

    def __init__(self, base_url: str) -> None:
        super().__init__(
            base_url, login=GivenLogin(f"Bearer {TOKEN}"), timeout_s=5, max_response_bytes=10**6
        )
        self.reads: list[str] = []

    def read(self, reference: str) -> dict[str, Any] | None:
        self.reads.append(reference)
        return super().read(reference)


@contextmanager
def hospital_with(
    folder: Path, sandbox: SandboxEhr, chosen: Simulator
) -> Iterator[tuple[Hospital, Watched]]:
    """Give a hospital whose EHR is this simulator, with a result for each of its patients."""
    made = Hospital(folder)
    (route,) = made.site.routes
    made.site = replace(made.site, routes=(replace(route, terms=OWN_CODES),))
    base_url = f"{sandbox.origin}/fhir"
    with Watched(base_url) as client:
        abilities = EhrAbilities(
            client,
            base_url=base_url,
            profile=chosen.profile or None,
            monotonic=lambda: seconds(made),
        )
        recipient = ladder_recipient(client, abilities, connections=2)
        api = FhirApi(client, None, abilities, base_url)
        made.ehrs = FakeConnections(Connection("ehr", recipient, api))  # type: ignore[arg-type]
        made.ports = replace(made.ports, ehrs=made.ehrs)
        for number in range(PATIENTS):
            name = f"{prefix_of(made)}-{number}"
            made.admit_patient(name)
            made.push(observation(name=name, of=name))
        made.infer()
        yield made, client
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
    """Give what the EHR holds of the patients of this hospital, whatever it lets others read."""
    sandbox.faults(no_reads=False, max_page_size=1000)
    prefix = f"Patient/{prefix_of(hospital)}-"
    answer = httpx.get(
        f"{sandbox.origin}/fhir/{kind}?_count=1000", headers={"Authorization": f"Bearer {TOKEN}"}
    )
    found = [each["resource"] for each in answer.json().get("entry", ())]
    return [each for each in found if prefix in each.get("subject", {}).get("reference", "")]


def lost_of(hospital: Hospital) -> list[set[str]]:
    """Give of each delivery which elements the EHR lost, without what its form can't hold."""
    with hospital.store.read() as uow:
        known = uow.deliveries.of_jobs([job.id for job in hospital.jobs()])
    told = (each.lost.removesuffix(LOSES.get(Rung(each.rung), "")) for each in known.values())
    return [{name for name in each.split(", ") if name} for each in told]


def faults_of(chosen: Simulator) -> dict[str, Any]:
    healthy = {
        "software": "",
        "no_transaction": False,
        "no_batch": False,
        "no_conditional_create": False,
        "no_update_create": False,
        "posts_pushes": False,
        "unknown_id_status": 405,
        "no_reads": False,
        "max_page_size": 1000,
        "no_metadata": False,
        "ignored_params": [],
        "writable_types": [],
        "unsupported_types": [],
        "known_codes": [],
        "required_elements": [],
        "refused_statuses": [],
        "drop_elements": [],
        "units_by_code": {},
        "page_size": 50,
        "error_rate": 0,
        "drop_after_commit_rate": 0,
        "fail_after_commit_rate": 0,
    }
    return {**healthy, **chosen.faults}


@pytest.mark.parametrize("name", SIMULATORS)
def test_every_result_is_where_it_belongs_once_and_what_was_dropped_is_reported(
    tmp_path: Path, sandbox: SandboxEhr, name: str
) -> None:
    chosen = SIMULATORS[name]
    sandbox.faults(**faults_of(chosen))
    with hospital_with(tmp_path, sandbox, chosen) as (hospital, client):
        sandbox.faults(
            drop_after_commit_rate=0.4,
            fail_after_commit_rate=0.3 if chosen.fails_after else 0,
            error_rate=0.25,
            error_statuses=chosen.statuses,
            retry_after_s=1,
            seed=len(name),
        )
        for _ in range(6):
            hospital.deliver()
            hospital.pass_time(90)
        sandbox.faults(drop_after_commit_rate=0, fail_after_commit_rate=0, error_rate=0)
        deliver_all(hospital)

        jobs = hospital.jobs()
        assert {job.state for job in jobs} == {JobState.COMPLETED}
        expected = BusinessStatus.DELIVERED if chosen.kept_as else BusinessStatus.ON_WORKLIST
        assert Counter(job.business_status for job in jobs) == {expected: PATIENTS}
        with hospital.store.read() as uow:
            known = uow.deliveries.of_jobs([job.id for job in jobs])
        assert {each.rung for each in known.values()} == {chosen.rung}
        assert lost_of(hospital) == [set(chosen.lost)] * PATIENTS
        looked_at = {each.partition("/")[0] for each in client.reads}
        assert looked_at == ({chosen.kept_as} if chosen.kept_as else set())
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
    with hospital_with(tmp_path, sandbox, chosen) as (hospital, _):
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
    with hospital_with(tmp_path, sandbox, chosen) as (hospital, _):
        deliver_all(hospital)

        said = set(profiles()["openmrs-fhir2"].drops["Observation"])
        for lost in lost_of(hospital):
            assert lost - {"the value as a number"} <= said


def test_openmrs_has_beside_each_number_which_model_made_it_once(
    tmp_path: Path, sandbox: SandboxEhr
) -> None:
    chosen = SIMULATORS["openmrs"]
    sandbox.faults(**faults_of(chosen))
    with hospital_with(tmp_path, sandbox, chosen) as (hospital, _):
        (route,) = hospital.site.routes
        named = dict.fromkeys(OWN_CODES.codes, ("", CONCEPT, "AI: toy risk"))
        terms = Terms(codes=named, panel=Panel(PANEL, MODEL))
        hospital.site = replace(hospital.site, routes=(replace(route, terms=terms),))
        sandbox.faults(drop_after_commit_rate=0.5, seed=1, units_by_code={CONCEPT: "%"})
        for _ in range(8):
            hospital.deliver()
            hospital.pass_time(90)
        sandbox.faults(drop_after_commit_rate=0)
        deliver_all(hospital)

        found = kept(sandbox, hospital, "Observation")
        by_code = {code: _by_patient(found, code) for code in (CONCEPT, PANEL, MODEL)}
        assert [len(each) for each in by_code.values()] == [PATIENTS] * 3
        assert len(found) == 3 * PATIENTS
        for name, panel in by_code[PANEL].items():
            result, model = by_code[CONCEPT][name], by_code[MODEL][name]
            assert result["valueQuantity"]["value"] == 0.18
            assert model["valueString"] == "Toy risk 1.0.0 (AI)"
            assert panel["hasMember"] == [
                {"reference": f"Observation/{each['id']}"} for each in (result, model)
            ]
        assert {job.business_status for job in hospital.jobs()} == {BusinessStatus.DELIVERED}
        # The Concept shows per cent, and the model's number is none.
        assert all("unit" in lost for lost in lost_of(hospital))


def _by_patient(found: list[dict[str, Any]], code: str) -> dict[str, dict[str, Any]]:
    return {
        each["subject"]["reference"]: each
        for each in found
        if each["code"]["coding"][0]["code"] == code
    }


def test_a_server_that_calls_itself_hapi_and_drops_labels_is_seen_through(
    tmp_path: Path, sandbox: SandboxEhr
) -> None:
    chosen = SIMULATORS["hapi-that-drops-labels"]
    sandbox.faults(**faults_of(chosen))
    with hospital_with(tmp_path, sandbox, chosen) as (hospital, _):
        sandbox.faults(drop_after_commit_rate=1)
        hospital.deliver()
        hospital.pass_time(90)
        sandbox.faults(drop_after_commit_rate=0)
        deliver_all(hospital)

        assert hospital.ehrs.known.abilities.profile.profile == "hapi"  # type: ignore[union-attr]
        found = kept(sandbox, hospital, "Observation")
        assert sorted(each["subject"]["reference"] for each in found) == [
            f"Patient/{prefix_of(hospital)}-{number}" for number in range(PATIENTS)
        ]
        assert lost_of(hospital) == [{"meta.security", "identifier"}] * PATIENTS


def test_care_gives_nothing_and_a_model_has_to_do_with_what_was_pushed(
    tmp_path: Path, sandbox: SandboxEhr
) -> None:
    chosen = SIMULATORS["care"]
    sandbox.faults(**faults_of(chosen))
    with hospital_with(tmp_path, sandbox, chosen) as (hospital, _):
        unknown = f"{prefix_of(hospital)}-unknown"
        hospital.push(consent_of(unknown))
        hospital.push(observation(name=unknown, of=unknown))
        hospital.infer()
        deliver_all(hospital)

        ends = Counter((job.state, job.business_status) for job in hospital.jobs())
        assert ends == {
            (JobState.COMPLETED, BusinessStatus.ON_WORKLIST): PATIENTS,
            (JobState.REJECTED, BusinessStatus.PATIENT_UNKNOWN): 1,
        }


def test_the_audit_tells_the_way_of_each_result(tmp_path: Path, sandbox: SandboxEhr) -> None:
    chosen = SIMULATORS["openemr-that-takes-documents"]
    sandbox.faults(**faults_of(chosen))
    with hospital_with(tmp_path, sandbox, chosen) as (hospital, _):
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
