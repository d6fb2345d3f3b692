"""The worklist over the API: who sees what, signs off what, and has what tried again."""

import pytest

from gateway.core.jobs import BusinessStatus
from gateway.core.principal import Role
from gateway.store.audit_log import AuditFilter
from tests.conftest import Api
from tests.factories import consent, raw
from tests.listed import keep_here, with_result
from tests.result_models import RISK, context_of, made


@pytest.fixture
def api(api: Api) -> Api:
    assert api.post(raw(consent(1))).status_code == 202
    return api


def kept(api: Api, number: int = 1) -> str:
    """Leave a result on the worklist; give the id of its item."""
    job_id = with_result(api, number, made(RISK, 0.7, context=context_of(f"r{number}")))
    keep_here(api.store, job_id)
    return job_id


def post(api: Api, path: str, body: bytes = b"", role: str = "clinician", **headers: str):
    given = {**api.headers(role), "Content-Type": "application/json", **headers}
    return api.client.post(path, content=body, headers=given)


def events(api: Api, event: str) -> list[str | None]:
    with api.store.read() as uow:
        rows = uow.audit_log.search(AuditFilter(event=event, limit=50))
    return [row.patient_key for row in rows]


@pytest.mark.parametrize("role", ["clinician", "integrator"])
def test_the_list_has_the_newest_first_page_by_page_and_names_no_patient(api: Api, role: str):
    first, second = kept(api, 1), kept(api, 2)

    page = api.get("/worklist?_count=1", role).json()
    following = next(each["url"] for each in page["link"] if each["relation"] == "next")
    rest = api.get(following, role).json()

    tasks = [each["resource"] for each in page["entry"] + rest["entry"]]
    assert [task["id"] for task in tasks] == [second, first]
    assert {(task["status"], task["intent"]) for task in tasks} == {("requested", "proposal")}
    assert "p1" not in str(tasks)
    assert [key is not None for key in events(api, "query")] == [True, True]


def test_a_clinician_reads_an_item_and_its_result_and_an_integrator_no_result(api: Api):
    item = kept(api)

    task, result = (
        api.get(f"/worklist/{item}", "clinician"),
        api.get(f"/worklist/{item}/result", "clinician"),
    )

    assert task.headers["etag"] == result.headers["etag"] == 'W/"0-on-worklist"'
    assert task.json()["focus"]["identifier"] == result.json()["identifier"][0]
    assert result.json()["subject"]["reference"] == "Patient/p1"
    assert api.get(f"/worklist/{item}/result", "integrator").status_code == 403
    assert all(events(api, "read"))


def test_a_sign_off_is_answered_alike_to_the_same_and_refused_to_another(api: Api):
    item = kept(api)
    with api.store.write() as uow:
        _, api.tokens["other"] = uow.credentials.add("dr-sen", Role.CLINICIAN)

    first = post(api, f"/worklist/{item}/sign-off", b'{"reason": "acted-on"}')
    again = post(api, f"/worklist/{item}/sign-off")
    other = post(api, f"/worklist/{item}/sign-off", role="other")

    assert (first.status_code, again.status_code, other.status_code) == (200, 200, 409)
    assert first.json() == again.json()
    task = first.json()
    assert (task["status"], task["owner"]["display"]) == ("completed", "clinician")
    assert task["statusReason"]["coding"][0]["code"] == "acted-on"
    assert "clinician signed it off before" in other.json()["issue"][0]["diagnostics"]
    assert api.get("/worklist", "clinician").json().get("entry") is None
    assert len(events(api, "sign-off")) == 1


def test_what_is_not_as_it_was_seen_is_not_signed_off(api: Api):
    item = kept(api)

    stale = post(api, f"/worklist/{item}/sign-off", **{"If-Match": 'W/"9-on-worklist"'})
    seen = api.get(f"/worklist/{item}", "clinician").headers["etag"]
    now = post(api, f"/worklist/{item}/sign-off", **{"If-Match": seen})

    assert (stale.status_code, now.status_code) == (412, 200)


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"reason": "because"}', b'{"why": "noted"}'])
def test_a_reason_is_one_of_those_there_are(api: Api, body: bytes):
    item = kept(api)

    refused = post(api, f"/worklist/{item}/sign-off", body)

    assert refused.status_code == 400
    assert "noted, acted-on" in refused.json()["issue"][0]["diagnostics"]
    assert events(api, "sign-off") == []


def test_an_integrator_has_an_item_tried_again_once(api: Api):
    item = kept(api)

    first = post(api, f"/worklist/{item}/retry", role="integrator")
    again = post(api, f"/worklist/{item}/retry", role="integrator")

    assert (first.status_code, again.status_code) == (202, 409)
    assert first.json()["businessStatus"]["text"] == "delivery-pending"
    with api.store.read() as uow:
        job = uow.jobs.get(item)
    assert job is not None
    assert job.business_status is BusinessStatus.DELIVERY_PENDING


def test_what_consent_took_off_the_list_is_shown_no_more(api: Api):
    item = kept(api)
    of_patient = "/fhir/Observation?patient=Patient/p1&system=ehr"
    assert len(api.get(of_patient, "clinician").json()["entry"]) == 1

    denied = consent(1)
    denied["provision"]["type"] = "deny"
    assert api.post(raw(denied)).status_code == 202

    assert api.get(of_patient, "clinician").json().get("entry") is None
    assert api.get(f"/worklist/{item}/result", "clinician").status_code == 403
    task = api.get(f"/worklist/{item}", "clinician").json()
    assert (task["status"], task["businessStatus"]["text"]) == ("cancelled", "consent-withdrawn")


def test_there_is_no_item_of_an_unknown_job(api: Api):
    assert api.get("/worklist/x1", "clinician").status_code == 404
    assert post(api, "/worklist/x1/sign-off").status_code == 404
