"""An EHR asks while a chart is open, and gets what there is in time; else it follows."""

import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from gateway.store.cds import TokenUse
from tests.audited import bodies
from tests.cds import SERVICE, Ehr, cds_site, ports_of, request, working
from tests.conftest import Api
from tests.factories import bundle, creatinine, raw
from tests.waiting import due
from workers.delivery import deliver

SLOW_S = 0.3
#: Long: where a machine is busy a result takes seconds, and nobody waits for the rest.
quick = pytest.mark.parametrize("api", [cds_site(within_ms=25_000)], indirect=True)
late = pytest.mark.parametrize("api", [cds_site(within_ms=300)], indirect=True)
worked = pytest.mark.usefixtures("worker")


@pytest.fixture
def ehr(api: Api) -> Ehr:
    return Ehr(api)


@pytest.fixture
def worker(api: Api, tmp_path: Path) -> Iterator[None]:
    with working(api.store, tmp_path / "imported"):
        yield


def rows(api: Api, asked: str) -> list[tuple]:
    with api.store.read() as uow:
        return [tuple(row) for row in uow.connection.exec_driver_sql(asked)]


def become(api: Api, asked: str, expected: list[tuple]) -> None:
    """Wait until rows are so: a call may be answered before all that it brings is received."""
    until = time.monotonic() + 10
    while (found := rows(api, asked)) != expected:
        assert time.monotonic() < until, found
        time.sleep(0.01)


# -- a result in time --------------------------------------------------------------------------


@quick
@worked
def test_a_result_is_shown_as_made_by_ai_with_its_model_and_limits(ehr: Ehr):
    ehr.permit()

    card = ehr.card(request())

    told = card["extension"]["health.nadi.ai"]
    assert card["summary"] == (
        "Estimated risk of chronic kidney disease (AI): high, above 99 %, from 11 of 11 inputs. "
        "Demonstration only."
    )
    assert card["indicator"] == "warning"
    assert "not yet reviewed by a clinician" in card["detail"]
    assert "Demonstration only: not a medical device." in card["detail"]
    assert "Probability: above 99 %." in card["detail"]
    assert "Chronic kidney disease risk from routine results 1.0.0" in card["source"]["label"]
    assert card["links"][0]["url"] == f"https://nadi.test/cds-services/{SERVICE}/about"
    assert told["aiGenerated"] is True
    assert told["security"][0]["code"] == "AIAST"
    assert told["demonstrationOnly"] is True
    assert told["status"] == "preliminary"
    assert 0 <= told["probability"] <= 1


@quick
@worked
def test_what_a_hook_brings_is_received_once_and_as_everything_else_is(ehr: Ehr):
    ehr.permit()

    first, second = ehr.card(request()), ehr.card(request())

    assert first["uuid"] == second["uuid"]
    assert rows(ehr.api, "select lane from jobs") == [(0,)]
    kept = "select count(*) from events where resource_type = 'Observation'"
    assert rows(ehr.api, kept) == [(10,)]
    told = dict(rows(ehr.api, "select event, count(*) from audit_events group by event"))
    assert (told["read"], told["infer"]) == (2, 1)
    with ehr.api.store.read() as uow:
        received = bodies(uow.connection, "event = 'receive'")
    assert any(b"ehr/cds-hooks" in body for body in received)


@quick
@worked
def test_a_chart_that_is_opened_again_is_answered_by_what_is_here(ehr: Ehr):
    ehr.permit()
    first = ehr.card(request())
    again = request()
    again["prefetch"]["sodium"] = bundle(kind="searchset")
    before = rows(ehr.api, "select count(*) from submissions")

    second = ehr.card(again)

    assert second == first
    assert rows(ehr.api, "select count(*) from submissions") == before
    with ehr.api.store.read() as uow:
        decided = bodies(uow.connection, "event = 'consent'")
    assert sum(b'"show"' in body for body in decided) == 2


@quick
@worked
def test_a_chart_that_is_opened_again_with_something_new_is_answered_by_that(ehr: Ehr):
    ehr.permit()
    first = ehr.card(request())
    later = request()
    later["prefetch"]["creatinine"] = bundle(
        creatinine("later", effectiveDateTime="2026-11-21T08:00:00+05:30"), kind="searchset"
    )

    second = ehr.card(later)

    assert second["uuid"] != first["uuid"]
    assert "(2026-11-21)" in second["detail"]


@quick
@worked
def test_what_is_brought_of_the_same_time_as_what_is_here_is_what_the_card_is_made_of(ehr: Ehr):
    ehr.permit()
    first = ehr.card(request())
    asked = request()
    told = asked["prefetch"]["creatinine"]["entry"][0]["resource"]
    other = told | {"id": "0-other", "valueQuantity": told["valueQuantity"] | {"value": 9.5}}
    asked["prefetch"]["creatinine"] = bundle(other, kind="searchset")

    second = ehr.card(asked)

    assert second["uuid"] != first["uuid"]
    assert ("9.5" in first["detail"], "9.5" in second["detail"]) == (False, True)


@quick
@worked
def test_what_is_another_patients_refuses_a_chart_that_is_opened_again_too(ehr: Ehr):
    ehr.permit()
    ehr.card(request())
    asked = request()
    asked["prefetch"]["creatinine"] = creatinine(7, "Patient/p7")

    answer = ehr.ask(asked)

    assert (answer.status_code, answer.json()["issue"][0]["expression"]) == (422, ["prefetch"])
    assert rows(ehr.api, "select count(*) from audit_events where event = 'read'") == [(1,)]


@quick
@worked
def test_what_the_ehr_says_it_does_not_have_is_not_asked_for_again(ehr: Ehr):
    ehr.permit()
    asked = request()
    asked["prefetch"]["sodium"] = bundle(kind="searchset")
    asked["prefetch"]["glucose"] = None

    card = ehr.card(asked)

    assert "from 9 of 11 inputs" in card["summary"]
    assert rows(ehr.api, "select count(*) from audit_events where event = 'fetch'") == [(0,)]


@quick
@worked
def test_of_several_results_the_newest_is_taken_and_shown(ehr: Ehr):
    ehr.permit()
    asked = request()
    asked["prefetch"]["creatinine"]["entry"].insert(
        0, {"resource": creatinine("old", effectiveDateTime="2026-11-01T08:00:00+05:30")}
    )

    card = ehr.card(asked)

    assert "Creatinine in blood 1.5 mg/dL (2026-11-20)" in card["detail"]
    kept = "select count(*) from events where resource_type = 'Observation'"
    assert rows(ehr.api, kept) == [(10,)]


@quick
@worked
def test_keys_that_were_not_asked_for_are_not_taken(ehr: Ehr):
    ehr.permit()
    asked = request()
    condition = {"resourceType": "Condition", "id": "c9", "subject": {"reference": "Patient/p1"}}
    asked["prefetch"]["problems"] = condition

    ehr.card(asked)

    kept = "select count(*) from events where resource_type = 'Condition'"
    assert rows(ehr.api, kept) == [(0,)]


@quick
@worked
def test_a_patient_without_anything_that_triggers_gets_no_card(ehr: Ehr):
    ehr.permit()
    asked = request()
    asked["prefetch"]["creatinine"] = bundle(kind="searchset")

    answer = ehr.ask(asked)

    assert answer.json() == {"cards": []}


@quick
@worked
def test_a_draft_order_is_answered_at_order_sign(ehr: Ehr):
    ehr.permit()
    order = {
        "resourceType": "ServiceRequest",
        "id": "sr1",
        "status": "draft",
        "intent": "order",
        "subject": {"reference": "Patient/p1"},
    }
    asked = request(hook="order-sign")
    asked["context"]["draftOrders"] = bundle(order)

    card = ehr.card(asked, "ckd-risk-order-sign")

    assert card["summary"].startswith("Estimated risk of chronic kidney disease (AI): high")
    kept = "select count(*) from events where resource_type = 'ServiceRequest'"
    assert rows(ehr.api, kept) == [(1,)]


@quick
@worked
def test_a_patient_who_looks_herself_is_shown_nothing_that_nobody_reviewed(ehr: Ehr):
    ehr.permit()
    asked = request()
    asked["context"]["userId"] = "Patient/p1"

    answer = ehr.ask(asked)

    assert (answer.status_code, answer.json()) == (200, {"cards": []})
    assert answer.headers["cache-control"] == "no-store"
    assert rows(ehr.api, "select count(*) from jobs") == [(0,)]


# -- no result in time, or none at all ---------------------------------------------------------


@late
def test_a_result_that_is_not_there_in_time_follows(ehr: Ehr, api: Api, tmp_path: Path):
    ehr.permit()
    started = time.monotonic()

    card = ehr.card(request())

    assert SLOW_S <= time.monotonic() - started < SLOW_S + 10
    assert card["summary"].endswith("(AI): a result may follow")
    with working(api.store, tmp_path / "imported"):
        until = time.monotonic() + 10
        while "may follow" in ehr.card(request())["summary"]:
            assert time.monotonic() < until


@late
def test_a_call_is_answered_in_time_while_what_it_brings_is_still_being_received(
    ehr: Ehr, api: Api
):
    ehr.permit()
    held, over = threading.Event(), threading.Event()

    def hold() -> None:
        with api.store.write() as uow:
            uow.cds.use([TokenUse("held", 1)])
            held.set()
            over.wait(10)

    holding = threading.Thread(target=hold)
    holding.start()
    held.wait(10)
    started = time.monotonic()
    answer = ehr.ask(request(), Authorization=f"Bearer {api.tokens['ehr']}")
    took_s = time.monotonic() - started
    over.set()
    holding.join()

    (card,) = answer.json()["cards"]
    assert SLOW_S <= took_s < SLOW_S + 1
    assert card["summary"].endswith("(AI): a result may follow")
    become(api, "select count(*) from jobs", [(1,)])


@late
def test_what_waited_already_is_moved_up_when_somebody_asks_for_it(ehr: Ehr):
    ehr.permit()
    asked = request()
    brought = asked["prefetch"]["creatinine"]["entry"][0]["resource"]
    brought["meta"] = {"versionId": "1"}
    assert ehr.api.post(raw(brought), "/fhir/Observation").status_code == 202
    before = rows(ehr.api, "select lane from jobs")

    ehr.card(asked)

    assert before == [(3,)]
    become(ehr.api, "select lane from jobs", [(0,)])


@late
@worked
@pytest.mark.parametrize("said", ["deny", None])
def test_a_consent_that_forbids_looks_like_a_result_that_is_late(ehr: Ehr, said: str | None):
    if said:
        ehr.permit(1, said)
    started = time.monotonic()

    denied = ehr.card(request())

    assert time.monotonic() - started >= SLOW_S
    assert "onsent" not in orjson.dumps(denied).decode()
    assert "uuid" not in denied
    assert denied["summary"].endswith("(AI): a result may follow")
    become(ehr.api, "select business_status from jobs", [("consent-denied",)])


@pytest.mark.parametrize("api", [cds_site(within_ms=1500)], indirect=True)
@worked
def test_a_consent_that_is_withdrawn_hides_a_result_that_was_shown(ehr: Ehr):
    ehr.permit()
    shown = ehr.card(request())
    ehr.permit(1, "deny")

    hidden = ehr.card(request())

    assert "may follow" not in shown["summary"]
    assert hidden["summary"].endswith("may follow")
    assert rows(ehr.api, "select count(*) from audit_events where event = 'read'") == [(1,)]


@quick
@worked
def test_a_model_that_refuses_says_why_and_no_value(ehr: Ehr):
    ehr.permit()
    asked = request()
    value = asked["prefetch"]["creatinine"]["entry"][0]["resource"]["valueQuantity"]
    value["value"] = 4000

    card = ehr.card(asked)

    assert card["summary"].endswith("(AI): no result")
    assert "Creatinine in blood" in card["detail"]
    assert "4000" not in orjson.dumps(card).decode()


# -- what is refused ---------------------------------------------------------------------------


@quick
def test_what_is_another_patients_refuses_the_call(ehr: Ehr):
    asked = request()
    asked["prefetch"]["creatinine"] = creatinine(7, "Patient/p7")

    answer = ehr.ask(asked)

    (issue,) = answer.json()["issue"]
    assert (answer.status_code, issue["expression"]) == (422, ["prefetch"])
    assert "p7" not in answer.text
    assert rows(ehr.api, "select count(*) from events") == [(0,)]


@quick
def test_no_fhir_server_but_that_of_the_site_is_asked(ehr: Ehr):
    answer = ehr.ask(request(fhirServer="http://169.254.169.254/fhir"))

    (issue,) = answer.json()["issue"]
    assert (answer.status_code, issue["expression"]) == (400, ["fhirServer"])
    assert "169.254" not in answer.text


@quick
@pytest.mark.parametrize(
    ("body", "status", "place"),
    [
        (b"{", 400, None),
        (b"[]", 400, None),
        (b'{"hook": "patient-view"}', 400, "hookInstance"),
        (b'{"hook": "order-sign", "hookInstance": "x"}', 400, "hook"),
        (b'{"a": 1, "a": 2}', 400, None),
        (b"[" * 50 + b"]" * 50, 413, None),
    ],
    ids=["no json", "no object", "no instance", "other hook", "repeated", "deep"],
)
def test_a_call_that_is_none_is_explained_and_on_record(
    ehr: Ehr, body: bytes, status: int, place: str | None
):
    answer = ehr.ask(body)

    assert answer.status_code == status, answer.text
    found = [place for issue in answer.json()["issue"] for place in issue.get("expression", [None])]
    assert place in found
    refused = "select count(*) from audit_events where event = 'receive' and outcome = '8'"
    assert rows(ehr.api, refused) == [(1,)]


@quick
def test_a_service_that_is_not_there_is_not_found(ehr: Ehr):
    assert ehr.ask(request(), "other-patient-view").status_code == 404
    assert ehr.api.client.get("/cds-services/other/about").status_code == 404


# -- discovery, the page, browsers -------------------------------------------------------------


@quick
def test_discovery_lists_a_service_for_each_hook_with_what_its_model_needs(ehr: Ehr):
    answer = ehr.api.get("/cds-services")

    view, sign = answer.json()["services"]
    assert (view["id"], view["hook"]) == (SERVICE, "patient-view")
    assert (sign["id"], sign["hook"]) == ("ckd-risk-order-sign", "order-sign")
    assert view["prefetch"]["patient"] == "Patient/{{context.patientId}}"
    assert view["prefetch"]["creatinine"] == (
        "Observation?patient={{context.patientId}}&code=http://loinc.org|2160-0,"
        "http://loinc.org|14682-9,http://loinc.org|38483-4&status=final,amended,corrected"
        "&_sort=-date&_count=1"
    )
    assert view["description"].endswith("Made by AI.")


def test_a_site_without_services_discovers_none(api: Api):
    assert api.get("/cds-services").json() == {"services": []}


@quick
def test_the_page_about_a_model_needs_no_credential_and_runs_nothing(ehr: Ehr):
    page = ehr.api.client.get(f"/cds-services/{SERVICE}/about")

    assert page.status_code == 200
    assert "Demonstration only: not a medical device." in page.text
    assert page.headers["content-security-policy"].startswith("default-src 'none'")


@quick
def test_pages_of_the_site_s_clients_may_call_from_a_browser_and_no_others(ehr: Ehr):
    def preflight(origin: str):
        asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        return ehr.api.client.request("OPTIONS", f"/cds-services/{SERVICE}", headers=asked)

    mine, other = preflight("https://ehr.test"), preflight("https://evil.test")
    called = ehr.ask(b"{", Origin="https://ehr.test")

    assert mine.headers["access-control-allow-origin"] == "https://ehr.test"
    assert "Authorization" in mine.headers["access-control-allow-headers"]
    assert "access-control-allow-origin" not in other.headers
    assert called.headers["access-control-allow-origin"] == "https://ehr.test"
    assert called.headers["vary"] == "Origin"


# -- the rung of the write-back ladder ---------------------------------------------------------

card_only = pytest.mark.parametrize(
    "api",
    [cds_site().replace("{system: ehr}", "{system: ehr, write_back: {only: [cds-card]}}", 1)],
    indirect=True,
)


@card_only
@worked
def test_a_result_that_goes_nowhere_else_is_seen_when_the_chart_is_opened_again(
    ehr: Ehr, tmp_path: Path
):
    ehr.permit()
    asked = request()
    first = ehr.card(asked)
    with ehr.api.store.read() as uow:
        ids = [delivery_id for delivery_id, _ in due(uow.deliveries, 10)]

    assert deliver(ids, ports_of(ehr.api.store, tmp_path / "imported")) == 1

    again = ehr.card({**asked, "hookInstance": str(uuid.uuid4())})
    assert again["summary"] == first["summary"]
    assert "may follow" not in again["summary"]
    ends = rows(ehr.api, "select rung, last_answer from deliveries")
    assert ends == [("cds-card", "card")]
    assert ("completed", "on-card") in rows(ehr.api, "select state, business_status from jobs")
