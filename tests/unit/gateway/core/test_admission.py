import hashlib
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from gateway.core.admission import Arrival, admit
from gateway.core.consent import read_consent
from gateway.core.event import facts
from gateway.core.jobs import BusinessStatus, EventId, JobState
from gateway.core.routing import Route
from tests.factories import consent, creatinine, raw

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
DIGEST = "d" * 64
ROUTE = Route(
    name="ckd-risk",
    source="ehr",
    match="Observation",
    resource_type="Observation",
    model="ckd-risk@1",
    purpose="TREAT",
    consent_default="deny",
    sink="ehr",
    with_provenance=True,
    report_refusals=False,
    trigger=lambda _content: True,
)
PERMIT = read_consent(consent(), "Consent/c", patient="Patient/p1")


def arrival(**changed: object) -> Arrival:
    content = creatinine()
    body = raw(content)
    made = Arrival(
        id=EventId("event-1"),
        system="ehr",
        principal_id="1",
        principal_name="ehr",
        address=None,
        is_update=False,
        request_id=None,
        facts=facts(content),
        content=content,
        raw=body,
        sha256=hashlib.sha256(body).hexdigest(),
        dedupe_key="k",
        resource_key="r",
        patient_key="p",
    )
    return replace(made, **changed)


def admitted(*, given=None, routes=(ROUTE,), models=None, consents=(PERMIT,)):
    models = {"ckd-risk@1": DIGEST} if models is None else models
    return admit(given or arrival(), routes=routes, models=models, consents=consents, now=NOW)


def test_a_permitted_event_becomes_a_ready_job_with_its_decision():
    ((admission),) = admitted()

    job = admission.job
    assert (job.state, job.business_status, job.reason) == (
        JobState.READY,
        BusinessStatus.QUEUED,
        "",
    )
    assert (job.event_id, job.route, job.model) == ("event-1", "ckd-risk", "ckd-risk@1")
    assert (job.model_digest, job.patient_key) == (DIGEST, "p")
    assert admission.decision is not None
    assert job.decisions == (admission.decision.as_json("admit", NOW),)


def test_an_event_that_matches_no_route_sets_nothing_going():
    assert admitted(routes=()) == ()
    assert admitted(routes=[replace(ROUTE, trigger=lambda _content: False)]) == ()


def test_every_matched_route_gives_exactly_one_job():
    routes = [ROUTE, replace(ROUTE, name="other", model="missing@1")]

    first, second = admitted(routes=routes)

    assert (first.job.route, first.job.state) == ("ckd-risk", JobState.READY)
    assert (second.job.route, second.job.state) == ("other", JobState.REJECTED)


def test_a_resource_without_a_patient_is_refused_before_anything_is_asked():
    content = {name: value for name, value in creatinine().items() if name != "subject"}

    (admission,) = admitted(given=arrival(facts=facts(content), patient_key=None), models={})

    assert admission.decision is None
    assert (admission.job.state, admission.job.business_status) == (
        JobState.REJECTED,
        BusinessStatus.PATIENT_UNKNOWN,
    )
    assert admission.job.reason == "The resource names no patient."


def test_a_model_that_is_not_installed_is_refused():
    (admission,) = admitted(models={})

    assert admission.decision is None
    assert admission.job.business_status is BusinessStatus.MODEL_UNAVAILABLE
    assert admission.job.reason == "Model ckd-risk@1 is not in service."
    assert admission.job.model_digest == ""


@pytest.mark.parametrize(
    "consents",
    [(), (read_consent(consent(provision={"type": "deny"}), "Consent/d", patient="Patient/p1"),)],
    ids=["none", "denial"],
)
def test_without_permission_the_job_is_rejected_with_the_reasons(consents):
    (admission,) = admitted(consents=consents)

    assert admission.decision is not None
    assert (admission.job.state, admission.job.business_status) == (
        JobState.REJECTED,
        BusinessStatus.CONSENT_DENIED,
    )
    assert admission.job.reason == " ".join(admission.decision.reasons)
    assert admission.job.decisions[0]["decision"] == "deny"


def test_a_route_may_permit_where_nothing_is_on_record():
    (admission,) = admitted(routes=[replace(ROUTE, consent_default="permit")], consents=())

    assert admission.job.state is JobState.READY


@pytest.mark.parametrize(
    "mark",
    [
        {"meta": {"security": [{"code": "AIAST"}]}},
        {"meta": {"tag": [{"code": "AIAST"}]}},
        {"identifier": [{"system": "https://nadi.health/fhir/sid/result", "value": "x"}]},
    ],
    ids=["label", "tag", "our own identifier"],
)
def test_what_ai_made_never_triggers_a_model_so_that_no_answer_feeds_itself(mark):
    (admission,) = admitted(given=arrival(content=creatinine() | mark))

    assert admission.job.state is JobState.REJECTED
    assert admission.job.business_status is BusinessStatus.MADE_BY_AI


@pytest.mark.parametrize("status", ["entered-in-error", "cancelled", "preliminary", "unknown"])
def test_an_observation_that_is_not_final_sets_nothing_going(status):
    (admission,) = admitted(given=arrival(content=creatinine() | {"status": status}))

    assert admission.job.state is JobState.REJECTED
    assert admission.job.business_status is BusinessStatus.NOT_FINAL


@pytest.mark.parametrize("status", ["final", "amended", "corrected"])
def test_a_settled_observation_runs(status):
    (admission,) = admitted(given=arrival(content=creatinine() | {"status": status}))

    assert admission.job.state is JobState.READY


def test_another_resource_is_refused_only_when_it_was_entered_in_error():
    condition = {"resourceType": "Condition", "status": "entered-in-error"}
    route = replace(ROUTE, resource_type=None)
    recorded = replace(facts(creatinine()), resource_type="Condition")

    (refused,) = admitted(given=arrival(content=condition, facts=recorded), routes=(route,))
    (ready,) = admitted(
        given=arrival(content={"resourceType": "Condition"}, facts=recorded), routes=(route,)
    )

    assert refused.job.business_status is BusinessStatus.NOT_FINAL
    assert ready.job.state is JobState.READY
