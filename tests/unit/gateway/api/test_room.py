"""Where there is no room events get 503 and say why; consents and reads are served all the same."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.app import build
from gateway.core.fhir import parse_resource
from gateway.core.headroom import Shortage
from gateway.core.lanes import Lane
from gateway.room import Room, memory_bytes
from gateway.store.keys import load_or_create
from gateway.store.sealing import Sealer
from gateway.store.unit_of_work import Store
from tests.asgi import AsgiClient
from tests.conftest import Api, credentials, settings_for
from tests.factories import SITE, bundle, consent, creatinine, patient, raw
from tests.filling import fill_jobs
from tests.registered import register_brought

LIMIT = 20


@dataclass(frozen=True)
class Full:
    api: Api
    room: Room

    def fill(self) -> None:
        with self.api.store.write() as uow:
            fill_jobs(uow, LIMIT, route="ckd-risk", lane=Lane.ROUTINE)
        self.room.look()

    def empty(self) -> None:
        with self.api.store.write() as uow:
            uow.connection.exec_driver_sql("delete from jobs")
        self.room.look()


@pytest.fixture
def full(sqlite_url: str, tmp_path: Path) -> Iterator[Full]:
    settings = settings_for(tmp_path / "data", sqlite_url, max_backlog=LIMIT)
    app = build(settings)
    keys = load_or_create(settings.data_dir, master_key_file=None, audit_key_file=None)
    store = Store(sqlite_url, Sealer(keys.master), consents=keys.consents)
    with store.write() as uow:
        uow.sites.apply(SITE, "test")
    register_brought(store)
    with AsgiClient(app) as client:
        made = Full(Api(client, store, credentials(store)), app.room)
        made.fill()
        yield made
    store.close()


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (creatinine(), "/fhir/Observation"),
        (creatinine(), "/fhir"),
        (bundle(patient(), creatinine()), "/fhir"),
    ],
    ids=["by type", "at the base", "bundle"],
)
def test_a_full_queue_is_told_with_when_to_come_again_and_how_to_mend_it(full, body, path) -> None:
    refused = full.api.post(raw(body), path)

    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "30"
    parse_resource(refused.content, expected_type="OperationOutcome")
    (issue,) = refused.json()["issue"]
    assert issue["code"] == "throttled"
    assert "20 jobs wait already" in issue["diagnostics"]
    assert "NADI_MAX_BACKLOG" in issue["diagnostics"]


def test_a_consent_is_taken_alone_and_in_a_bundle_however_full_it_is(full) -> None:
    alone = full.api.post(raw(consent()), "/fhir/Consent")
    together = full.api.post(raw(bundle(patient(), consent())), "/fhir")

    assert alone.status_code == 202
    assert together.status_code == 200


def test_reads_are_served_however_full_it_is(full) -> None:
    assert full.api.get("/fhir/Task").status_code == 200


def test_events_are_taken_again_by_themselves_when_there_is_room(full) -> None:
    full.empty()

    assert full.api.post(raw(creatinine()), "/fhir/Observation").status_code == 202


def test_the_metrics_say_what_is_short(full) -> None:
    full.api.post(raw(creatinine()), "/fhir/Observation")

    metrics = full.api.get("/metrics").text

    assert 'nadi_short_of_room{of="backlog"} 1.0' in metrics
    assert 'nadi_short_of_room{of="disk"} 0.0' in metrics
    assert 'nadi_refused_for_room_total{of="backlog"}' in metrics


@pytest.mark.parametrize("shortage", list(Shortage))
def test_what_is_short_is_told_with_the_setting_that_holds(full, shortage: Shortage) -> None:
    said = full.room.refusal(shortage)

    assert "NADI_M" in said.message
    assert "Consents and reads are served all the same." in said.message
    assert said.retry_after_s


def test_disk_and_memory_of_this_machine_are_measured(full) -> None:
    measured = full.room.measured()

    assert 0 < measured.disk_free_bytes <= measured.disk_bytes
    assert 0 < measured.memory_available_bytes <= measured.memory_bytes
    assert measured.backlog == LIMIT


MEMINFO = "MemTotal: 8000 kB\nMemFree: 100 kB\nMemAvailable: 4000 kB\n"


def test_a_containers_memory_counts_where_it_has_less_and_its_cached_files_as_free() -> None:
    kib = 1024
    within = {"most": f"{2000 * kib}\n", "used": f"{1900 * kib}\n"}

    assert memory_bytes(MEMINFO) == (4000 * kib, 8000 * kib)
    assert memory_bytes(MEMINFO, **within) == (100 * kib, 2000 * kib)
    cached = f"anon 5\ninactive_file {500 * kib}\n"
    assert memory_bytes(MEMINFO, **within, use=cached) == (600 * kib, 2000 * kib)
    assert memory_bytes(MEMINFO, most="max\n", used="5\n") == (4000 * kib, 8000 * kib)
    assert memory_bytes("") == (None, None)
