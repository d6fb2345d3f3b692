import pytest
import sqlalchemy as sa

from gateway.core.fhir import parse_resource
from gateway.core.principal import Role
from tests.conftest import Api
from tests.factories import consent, creatinine, patient, raw


def pushed(api: Api, resource) -> str:
    response = api.post(raw(resource))
    assert response.status_code == 202
    return response.json()["id"]


def reads_on_record(api: Api) -> int:
    with api.store.read() as uow:
        return uow.connection.scalar(
            sa.text("select count(*) from audit_events where event in ('read', 'query')")
        )


def test_who_pushed_an_event_reads_its_task_and_that_of_its_job(api: Api):
    pushed(api, consent(1))
    event = pushed(api, creatinine(1))

    answer = api.get(f"/fhir/Task/{event}")
    job = api.get(f"/fhir/{answer.json()['output'][0]['valueReference']['reference']}")

    assert (answer.status_code, job.status_code) == (200, 200)
    for response in (answer, job):
        parse_resource(response.content, expected_type="Task")
    assert job.json()["partOf"] == [{"reference": f"Task/{event}"}]
    assert "permits TREAT" in job.json()["note"][0]["text"]


def test_every_read_is_on_record_before_it_is_shown(api: Api):
    event = pushed(api, creatinine(1))
    before = reads_on_record(api)

    api.get(f"/fhir/Task/{event}")
    api.get("/fhir/Task")

    assert reads_on_record(api) == before + 2


def test_another_ehr_does_not_see_what_it_did_not_push(api: Api):
    event = pushed(api, creatinine(1))
    with api.store.write() as uow:
        api.tokens["other"] = uow.credentials.add("other", Role.EHR, "ehr")[1]

    assert api.get(f"/fhir/Task/{event}", "other").status_code == 404
    assert "entry" not in api.get("/fhir/Task", "other").json()


def test_an_integrator_sees_the_tasks_of_all(api: Api):
    event = pushed(api, creatinine(1))

    assert api.get(f"/fhir/Task/{event}", "integrator").status_code == 200


@pytest.mark.parametrize("role", ["compliance"])
def test_other_roles_see_no_tasks(api: Api, role: str):
    assert api.get("/fhir/Task", role).status_code == 403


def test_an_unknown_task_is_not_found(api: Api):
    assert api.get("/fhir/Task/no-such-id").status_code == 404


def test_a_listing_is_paged_newest_first_without_gap_or_repeat(api: Api):
    events = [pushed(api, patient(number)) for number in range(5)]
    seen: list[str] = []
    address: str | None = "/fhir/Task?_count=2"

    while address is not None:
        page = api.get(address)
        parse_resource(page.content, expected_type="Bundle")
        seen += [entry["resource"]["id"] for entry in page.json().get("entry", [])]
        links = {link["relation"]: link["url"] for link in page.json()["link"]}
        address = links.get("next")

    assert seen == sorted(events, reverse=True)


@pytest.mark.parametrize("count", ["-1", "1.5", "x", "", "٣", "9" * 30])
def test_a_count_that_is_no_number_is_refused(api: Api, count: str):
    assert api.get(f"/fhir/Task?_count={count}").status_code == 400


@pytest.mark.parametrize("before", ["", "a b", "x" * 65, "%00"])
def test_a_page_that_no_link_gave_is_refused(api: Api, before: str):
    assert api.get(f"/fhir/Task?before={before}").status_code == 400
