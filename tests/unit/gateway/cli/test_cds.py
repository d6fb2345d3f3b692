"""`nadi cds` lists services and what became of cards; a call is a sample for `route explain`."""

import json
from pathlib import Path

from gateway.core.cds.feedback import Feedback
from gateway.core.clock import utc_now
from gateway.core.jobs import BusinessStatus, JobState, NewJob
from tests.cds import cds_site, request
from tests.commands import Run
from tests.installation import Installation

KEY = "a" * 64
NOTE = b'{"overrideReason": {"userComment": "known since May"}}'


def apply(nadi: Installation) -> None:
    with nadi.store.write() as uow:
        uow.sites.apply(cds_site(), "test")


def test_services_are_listed_with_what_they_ask_for(nadi: Installation, run: Run):
    apply(nadi)

    found = json.loads(run("cds", "services", "--json").stdout)

    assert [each["id"] for each in found] == ["ckd-risk-patient-view", "ckd-risk-order-sign"]
    assert found[0]["prefetch"]["patient"] == "Patient/{{context.patientId}}"
    assert "creatinine" in run("cds", "services").stdout


def test_feedback_is_listed_with_its_comment_and_that_is_on_record(nadi: Installation, run: Run):
    with nadi.store.write() as uow:
        job = NewJob(
            event_id="e1",
            route="ckd-risk",
            model="ckd-risk@1",
            model_digest="d",
            patient_key=KEY,
            state=JobState.REJECTED,
            business_status=BusinessStatus.CONSENT_DENIED,
        )
        uow.jobs.add([job])
        kept = uow.jobs.get(job.id)
        said = Feedback(job.id, "overridden", utc_now(), "already-known", NOTE)
        uow.cds.add("ehr/cds-hooks", [(said, kept)])

    (found,) = json.loads(run("cds", "feedback", "--json").stdout)
    listed = run("cds", "feedback", "--route", "ckd-risk").stdout

    assert (found["card"], found["comment"]) == (job.id, "known since May")
    assert "already-known" in listed
    assert json.loads(run("cds", "feedback", "--route", "other", "--json").stdout) == []
    with nadi.store.read() as uow:
        asked = f"select count(*) from audit_events where patient_key = '{KEY}'"  # noqa: S608
        assert uow.connection.exec_driver_sql(asked).scalar_one() == 2


def test_a_call_of_a_service_is_a_sample(nadi: Installation, run: Run, tmp_path: Path):
    apply(nadi)
    sample = tmp_path / "request.json"
    sample.write_text(json.dumps(request()))

    told = run("route", "explain", "--route", "ckd-risk", "--sample", str(sample), "--json").stdout

    found = json.loads(told)["resources"]
    (matched,) = [each for each in found if each["matches"]]
    assert matched["resource"] == "Observation/o1-crea"
    assert matched["result"]["resourceType"] == "Observation"


def test_a_call_that_is_none_is_explained(nadi: Installation, run: Run, tmp_path: Path):
    apply(nadi)
    sample = tmp_path / "request.json"
    sample.write_text(json.dumps(request(hookInstance="1")))

    said = run("route", "explain", "--route", "ckd-risk", "--sample", str(sample), code=1)

    assert "hookInstance: A UUID that is new for each call." in said.stderr
