"""The built-in patient who refuses everything: refused at every stage, or nothing is admitted."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from adapters.site import Site
from gateway.api.canary import CanaryRunner, post_through
from gateway.api.health import Health
from gateway.api.intake import Intake
from gateway.canary import Canary, CanaryReport, clear
from gateway.core.audit import AgentKind, AuditAgent, Source
from gateway.core.canary import CANARY_PATIENT, CANARY_SYSTEM, is_canary
from gateway.core.jobs import BusinessStatus, Job
from gateway.store.audit_log import AuditFilter
from gateway.store.audit_questions import Asked
from gateway.store.jobs import JobFilter
from gateway.store.model_watch import ModelWatch
from gateway.store.processing import patients_since
from gateway.store.tables import events
from gateway.telemetry import render_metrics
from tests.factories import raw
from tests.people import person
from tests.revoking import Ward, ward
from tests.running import running_nadi, wait_until
from tests.sandbox import SandboxEhr

pytestmark = pytest.mark.integration

SOURCE = Source("revoking", "test")
PERSON = AuditAgent("os-user:tester", "tester", AgentKind.USER)
SWITCH = (
    "update events set is_current = :on where system = 'nadi-canary' and resource_type = 'Consent'"
)


@pytest.fixture(scope="module")
def ehr(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxEhr]:
    started = SandboxEhr(journal=tmp_path_factory.mktemp("ehr") / "journal.ndjson")
    started.start()
    yield started
    started.stop()


@pytest.fixture
def here(tmp_path: Path, database_url: str, ehr: SandboxEhr) -> Iterator[Ward]:
    with ward(tmp_path, database_url, ehr) as made:
        yield made


def run(here: Ward) -> CanaryReport:
    """Run her as `nadi doctor` does, without waiting for the workers."""
    store, site = here.api.store, here.ports.site
    models = ModelWatch(store).current
    intake = Intake(store, site, models, process_name="test", after_commit=lambda: None)
    return Canary(store, site, post_through(intake), "test").run(wait_s=0)


def hers(here: Ward) -> list[Job]:
    key = here.api.store.sealer.patient_key(CANARY_SYSTEM, CANARY_PATIENT)
    with here.api.store.read() as uow:
        return uow.jobs.find(JobFilter(patient_key=key))


def endings(here: Ward) -> set[tuple[str, BusinessStatus]]:
    return {(job.route, job.business_status) for job in hers(here)}


def lose_consent(here: Ward) -> dict[str, Any]:
    """Remove her Consent from the database behind Nadi's back; give the row."""
    key = here.api.store.sealer.patient_key(CANARY_SYSTEM, CANARY_PATIENT)
    with here.api.store.write() as uow:
        found = uow.connection.execute(sa.select(events).where(*_is_consent_of(key)))
        row = dict(found.mappings().one())
        uow.connection.execute(sa.delete(events).where(*_is_consent_of(key)))
    return row


def bring_back(here: Ward, row: dict[str, Any]) -> None:
    with here.api.store.write() as uow:
        uow.connection.execute(sa.insert(events), row)


def _is_consent_of(key: str) -> tuple[sa.ColumnElement[bool], ...]:
    return events.c.patient_key == key, events.c.resource_type == "Consent"


def work(here: Ward) -> None:
    here.infer()
    here.deliver()


def test_she_is_refused_at_admission_at_inference_and_at_the_write_back(here: Ward) -> None:
    report = run(here)
    work(here)
    again = run(here)

    assert (report.is_permitted, report.is_proven) == (False, True)
    assert (again.is_permitted, again.is_proven) == (False, True)
    assert endings(here) >= {
        ("ckd-risk+canary", BusinessStatus.CONSENT_DENIED),
        ("ckd-risk+canary-infer", BusinessStatus.CONSENT_WITHDRAWN),
        ("ckd-risk+canary-deliver", BusinessStatus.CONSENT_WITHDRAWN),
    }
    assert here.journal is not None
    assert CANARY_PATIENT not in here.journal.read_text()
    assert 'system="nadi-canary"' not in render_metrics().decode()


def test_she_is_in_the_log_and_in_no_count_and_in_no_list_unless_asked_for(here: Ward) -> None:
    run(here)

    with here.api.store.read() as uow:
        listed = uow.jobs.find(JobFilter())
        hers = [each for each in uow.jobs.find(JobFilter(with_canary=True)) if each not in listed]
        assert {is_canary(each.route) for each in listed} <= {False}
        assert len(hers) == 3
        assert sum(uow.jobs.counts().values()) == len(listed)
        assert patients_since(uow, 0) == len({each.patient_key for each in listed})
        assert uow.audit_log.search(AuditFilter(patient_key=hers[0].patient_key))
        told, all_told = (
            uow.audit_questions.refusals(Asked(with_canary=each)) for each in (False, True)
        )
        assert len(all_told.rows) == len(told.rows) + 1
    levels = Health(here.api.store, lambda: True, Site).levels()
    assert sum(levels.deliveries.values()) == 0


def test_the_runner_posts_through_the_api_with_a_credential_of_its_own(here: Ward) -> None:
    runner = here.app.canary
    assert isinstance(runner, CanaryRunner)

    report = runner.run_once(wait_s=0)

    assert report.is_proven
    with here.api.store.read() as uow:
        names = {each.name for each in uow.credentials.list()}
        (received,) = uow.connection.execute(
            sa.text("select count(*) from events where system = 'nadi-canary' and request_id <> ''")
        ).one()
    assert CANARY_SYSTEM not in names
    assert received == 2


def test_her_consent_lost_from_the_database_stops_admission_until_a_person_clears_it(
    here: Ward,
) -> None:
    run(here)
    row = lose_consent(here)

    report = run(here)

    assert report.is_permitted
    assert "at admission (routes: ckd-risk)" in report.says
    someone = person("stopped")
    refused = here.api.put(raw(someone.creatinine()), f"/fhir/Observation/{someone.id}-creatinine")
    assert refused.status_code == 503
    assert "canary" in refused.json()["issue"][0]["diagnostics"]
    assert here.api.put(raw(someone.consent("deny")), f"/fhir/Consent/{someone.id}-consent")
    ready = here.api.client.get("/health/ready")
    assert (ready.status_code, ready.json()["checks"]["canary"]) == (
        503,
        "permitted: nothing is admitted",
    )

    assert clear(here.api.store, SOURCE, PERSON, "Nothing was mended.")
    assert run(here).is_permitted, "she is permitted still"

    bring_back(here, row)
    assert clear(here.api.store, SOURCE, PERSON, "Her row was brought back.")
    assert run(here).is_proven
    here.push(someone.creatinine())
    with here.api.store.read() as uow:
        query = "select outcome from audit_events where event = 'canary' order by seq"
        told = [row.outcome for row in uow.connection.execute(sa.text(query))]
    assert told == ["8", "0", "8", "0"]


def test_a_consent_is_received_even_while_nothing_is_admitted(here: Ward) -> None:
    run(here)
    lose_consent(here)
    assert run(here).is_permitted

    someone = person("refuses")
    answer = here.api.put(raw(someone.consent("deny")), f"/fhir/Consent/{someone.id}-consent")

    assert answer.status_code == 202


@pytest.mark.parametrize(
    ("stage", "work_of"),
    [("inference", "infer"), ("the write-back", "deliver")],
    ids=["inference", "write-back"],
)
def test_a_stage_that_permits_her_later_stops_admission_too(
    here: Ward, stage: str, work_of: str
) -> None:
    run(here)
    row = lose_consent(here)
    getattr(here, work_of)()
    bring_back(here, row)

    report = run(here)

    assert report.is_permitted
    assert f"at {stage} (routes: ckd-risk)" in report.says
    assert here.journal is not None
    assert CANARY_PATIENT not in here.journal.read_text()


def test_a_consent_of_hers_that_was_altered_refuses_all_the_same(here: Ward) -> None:
    run(here)
    key = here.api.store.sealer.patient_key(CANARY_SYSTEM, CANARY_PATIENT)
    with here.api.store.write() as uow:
        altered = sa.update(events).where(*_is_consent_of(key)).values(payload=b"\x00" * 64)
        uow.connection.execute(altered)
    here.forget_consents()

    assert run(here).is_proven


def test_a_running_gateway_runs_her_and_stops_when_her_consent_is_lost(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("canary") / "nadi"
    with running_nadi(folder, environment={"NADI_CANARY_EVERY_S": "1"}) as nadi:
        wait_until(
            lambda: bool(nadi.rows("select 1 from canary_state where is_proven")),
            within_s=60,
            what="she was run",
        )
        assert nadi.nadi("audit", "verify", check=False).returncode == 0
        nadi.change(SWITCH, on=False)
        wait_until(
            lambda: httpx.get(f"{nadi.base}/health/ready").status_code == 503,
            within_s=60,
            what="nothing is admitted",
        )

        found = json.loads(nadi.nadi("doctor", "--json", check=False).stdout)
        said = next(each for each in found if each["check"] == "canary")
        assert said["verdict"] == "failed"
        with nadi.client() as client:
            someone = person("stopped")
            answer = client.put(
                f"/fhir/Patient/{someone.id}",
                json=someone.patient,
                headers={"Content-Type": "application/fhir+json"},
            )
        assert answer.status_code == 503
        assert nadi.nadi("canary", "status", check=False).returncode == 1

        nadi.change(SWITCH, on=True)
        cleared = nadi.nadi("canary", "clear", "--reason", "The row was mended.", check=False)
        assert cleared.returncode == 0, cleared.stderr + cleared.stdout
        assert httpx.get(f"{nadi.base}/health/ready").status_code == 200
