import gzip
import json
from itertools import permutations

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.fhir import parse_resource
from gateway.core.jobs import BusinessStatus, JobState
from gateway.store.jobs import JobFilter
from tests.audited import bodies
from tests.conftest import Api
from tests.factories import Json, bundle, consent, creatinine, meta, patient, raw
from tests.waiting import ready

URN = "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0"


def task(response) -> Json:
    """Insist on an accepted resource; give its Task, which has to be valid R4."""
    assert response.status_code == 202, response.text
    parse_resource(response.content, expected_type="Task")
    body: Json = response.json()
    assert response.headers["location"] == f"/fhir/Task/{body['id']}"
    return body


def entries(response) -> list[Json]:
    """Insist on a Bundle as answer, valid R4; give its entries."""
    assert response.status_code == 200, response.text
    parse_resource(response.content, expected_type="Bundle")
    found: list[Json] = response.json().get("entry", [])
    return found


def issue(response, status: int) -> Json:
    """Insist on a refusal; give the first issue of its OperationOutcome, which is valid R4."""
    assert response.status_code == status, response.text
    parse_resource(response.content, expected_type="OperationOutcome")
    first: Json = response.json()["issue"][0]
    return first


def rows(api: Api, table: str) -> int:
    with api.store.read() as uow:
        return uow.connection.scalar(sa.text(f"select count(*) from {table}"))  # noqa: S608


def current(api: Api) -> set[tuple[str, str]]:
    """Give type and content of what is current."""
    with api.store.read() as uow:
        ids = uow.connection.scalars(sa.text("select id from events where is_current")).all()
        found = uow.events.get_many(ids).values()
        return {(event.resource_type, uow.events.content(event).decode()) for event in found}


# --- single resources -----------------------------------------------------------------------


def test_a_resource_is_stored_byte_for_byte_and_answered_with_its_task(api: Api):
    body = (
        b'{"resourceType":"Observation",\n "status":"final", '
        b'"code":{"text":"x"},"valueQuantity":{"value":1.50}}'
    )

    answer = task(api.post(body, "/fhir/Observation"))

    assert (answer["status"], answer["businessStatus"]["text"]) == ("completed", "no-route")
    with api.store.read() as uow:
        event = uow.events.get(answer["id"])
        assert event is not None
        assert uow.events.content(event) == body


def test_a_put_and_a_post_to_the_base_are_received_too(api: Api):
    assert task(api.put(raw(patient(1)), "/fhir/Patient/p1"))
    assert task(api.post(raw(patient(2)), "/fhir"))
    assert task(api.post(raw(patient(3)), "/fhir/"))
    assert rows(api, "events") == 3


def test_a_gzipped_body_is_stored_as_it_was_before(api: Api):
    body = raw(patient(1))

    answer = task(api.post(gzip.compress(body), "/fhir/Patient", **{"Content-Encoding": "gzip"}))

    with api.store.read() as uow:
        event = uow.events.get(answer["id"])
        assert event is not None
        assert uow.events.content(event) == body


def test_with_consent_a_ready_job_waits_and_without_it_is_refused(api: Api):
    refused = task(api.post(raw(creatinine(1))))
    task(api.post(raw(consent(1))))
    ready = task(api.post(raw(creatinine(2))))

    assert (refused["status"], refused["businessStatus"]["text"]) == ("rejected", "consent-denied")
    assert (ready["status"], ready["businessStatus"]["text"]) == ("ready", "queued")


def test_the_request_id_of_a_caller_comes_back_and_is_kept(api: Api):
    response = api.post(raw(patient(1)), "/fhir/Patient", **{"X-Request-Id": "abc-1"})

    assert response.headers["x-request-id"] == "abc-1"
    with api.store.read() as uow:
        assert uow.connection.scalar(sa.text("select request_id from events")) == "abc-1"


def test_a_request_id_that_could_carry_anything_is_replaced(api: Api):
    response = api.post(raw(patient(1)), "/fhir/Patient", **{"X-Request-Id": "Ana Maria"})

    assert "Ana" not in response.headers["x-request-id"]


def test_the_id_of_a_put_has_to_be_that_of_the_address(api: Api):
    told = issue(api.put(raw(patient(1)), "/fhir/Patient/other"), 400)

    assert told["expression"] == ["Patient.id"]
    assert issue(api.put(raw({"resourceType": "Patient"}), "/fhir/Patient/p1"), 400)
    assert rows(api, "events") == 0


def test_a_credential_without_a_system_is_told_how_to_get_one(api: Api):
    response = api.post(raw(patient(1)), "/fhir/Patient", **api.headers("nobody"))

    assert "nadi access add" in issue(response, 403)["diagnostics"]
    assert rows(api, "events") == 0


def test_a_refusal_is_put_on_record_without_its_content(api: Api):
    issue(api.post(b'{"resourceType":"Patient","ZZCANARY":1}', "/fhir/Patient"), 400)

    with api.store.read() as uow:
        [body] = bodies(uow.connection, "event = 'receive' and outcome = '8'")
    assert b"ZZCANARY" not in body


def test_the_metrics_count_what_was_received_and_admitted(api: Api):
    before = counted(api)
    task(api.post(raw(consent(1))))
    task(api.post(raw(creatinine(1))))
    task(api.post(raw(creatinine(1))))
    task(api.post(raw(creatinine(2, "Patient/p2"))))
    issue(api.post(b"{}", "/fhir/Patient"), 400)

    after = counted(api)

    grown = {name: after[name] - before.get(name, 0) for name in after}
    assert grown['nadi_received_total{outcome="accepted",system="ehr"}'] == 3
    assert grown['nadi_received_total{outcome="repeat",system="ehr"}'] == 1
    assert grown['nadi_admitted_total{decision="job",route="ckd-risk"}'] == 1
    assert grown['nadi_admitted_total{decision="consent-denied",route="ckd-risk"}'] == 1
    assert grown['nadi_refusals_total{reason="consent-denied"}'] == 1
    assert grown['nadi_step_items_total{step="receive"}'] == 4


def counted(api: Api) -> dict[str, float]:
    lines = api.client.get("/metrics").text.splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if line.startswith("nadi_"))
    return {name: float(value) for name, value in pairs if "_total" in name}


# --- repeats --------------------------------------------------------------------------------


@pytest.mark.parametrize("told", [meta(1), {}], ids=["same version", "same bytes"])
def test_a_repeat_gives_the_same_task_and_nothing_twice(api: Api, told: Json):
    task(api.post(raw(consent(1))))
    body = raw(creatinine(1, **told))
    first = task(api.post(body))
    before = [rows(api, table) for table in ("events", "jobs", "audit_events")]

    again = task(api.post(body))

    assert again == first
    assert [rows(api, table) for table in ("events", "jobs", "audit_events")] == before


def test_the_same_version_in_other_bytes_is_a_repeat(api: Api):
    first = task(api.post(raw(creatinine(1, **meta(1)))))

    again = task(api.post(raw(creatinine(1, language="en", **meta(1)))))

    assert (again["id"], rows(api, "events")) == (first["id"], 1)


def test_a_whole_bundle_again_gives_the_same_tasks_and_nothing_twice(api: Api):
    body = raw(bundle(consent(1), patient(1), creatinine(1)))
    first = entries(api.post(body))
    tables = ("events", "jobs", "submissions", "audit_events")
    before = [rows(api, table) for table in tables]

    again = entries(api.post(body))

    assert again == first
    assert [rows(api, table) for table in tables] == before


def test_the_same_entry_in_another_bundle_is_a_repeat_and_both_bundles_are_kept(api: Api):
    one, two = raw(bundle(patient(1), creatinine(1))), raw(bundle(patient(1), creatinine(2)))

    first, second = entries(api.post(one)), entries(api.post(two))

    assert first[0]["resource"]["id"] == second[0]["resource"]["id"]
    assert rows(api, "events") == 3
    assert submissions(api) == {one, two}


def submissions(api: Api) -> set[bytes]:
    with api.store.read() as uow:
        ids = uow.connection.scalars(sa.text("select id from submissions")).all()
        return {uow.events.submission_bytes(each) for each in ids}


def test_the_same_bytes_twice_in_one_bundle_are_one_event(api: Api):
    body = raw(bundle(patient(1), patient(1), kind="history"))

    first, second = entries(api.post(body))

    assert first["resource"]["id"] == second["resource"]["id"]
    assert rows(api, "events") == 1
    assert submissions(api) == {body}


def test_a_version_in_other_bytes_leaves_its_bundle_whole(api: Api):
    task(api.post(raw(creatinine(1, **meta(1)))))
    body = raw(bundle(creatinine(1, language="en", **meta(1))))

    entries(api.post(body))

    assert rows(api, "events") == 1
    assert submissions(api) == {body}


def test_many_at_once_are_stored_once(api: Api):
    headers = {"Content-Type": "application/fhir+json", **api.headers()}

    answers = api.client.post_all("/fhir", [raw(creatinine(1))] * 20, headers)

    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert rows(api, "events") == 1


# --- versions -------------------------------------------------------------------------------

VERSIONS = [
    meta(2, "2026-11-20T08:00:00Z"),
    meta(3, "2026-11-20T09:00:00Z"),
    meta(10, "2026-11-20T09:00:00Z"),
]


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("how", ["one by one", "one bundle"])
def test_the_newest_version_is_current_whatever_the_order(api: Api, order: tuple[int], how: str):
    sent = [consent(1, **VERSIONS[number]) for number in order]

    if how == "one bundle":
        entries(api.post(raw(bundle(*sent, kind="history"))))
    else:
        for each in sent:
            task(api.put(raw(each), "/fhir/Consent/c1"))

    assert current(api) == {("Consent", json.dumps(consent(1, **VERSIONS[2])))}
    assert rows(api, "events") == 3


def test_an_older_version_sets_nothing_going_and_says_so(api: Api):
    task(api.post(raw(consent(1))))
    task(api.post(raw(creatinine(1, **meta(3)))))

    late = task(api.post(raw(creatinine(1, **meta(2)))))

    assert (late["status"], late["businessStatus"]["text"]) == ("rejected", "superseded")
    again = task(api.post(raw(creatinine(1, **meta(2)))))
    assert again == late
    assert rows(api, "jobs") == 1


def test_bytes_without_version_that_come_again_are_in_force_again(api: Api):
    """A consent switched off, on and off again has to be off, though the bytes are known."""
    off, on = consent(1, status="inactive"), consent(1)
    first = task(api.post(raw(off)))
    task(api.post(raw(on)))
    assert task(api.post(raw(creatinine(1))))["status"] == "ready"

    again = task(api.post(raw(off)))

    assert again["id"] == first["id"]
    assert current(api) >= {("Consent", json.dumps(off))}
    assert ("Consent", json.dumps(on)) not in current(api)
    with api.store.read() as uow:
        (job,) = uow.jobs.find(JobFilter())
    assert job.business_status is BusinessStatus.CONSENT_WITHDRAWN
    assert task(api.post(raw(creatinine(2))))["businessStatus"]["text"] == "consent-denied"


def test_bytes_without_version_come_and_go_within_one_bundle_too(api: Api):
    off, on = consent(1, status="inactive"), consent(1)

    entries(api.post(raw(bundle(off, on, off, kind="history"))))

    assert current(api) == {("Consent", json.dumps(off))}
    assert rows(api, "events") == 2


def test_a_known_bundle_brings_its_unversioned_entries_back_into_force(api: Api):
    off, on = raw(bundle(consent(1, status="inactive"))), raw(bundle(consent(1)))

    for body in (off, on, off):
        entries(api.post(body))

    assert current(api) == {("Consent", json.dumps(consent(1, status="inactive")))}
    assert submissions(api) == {off, on}


@st.composite
def histories(draw: st.DrawFn) -> list[list[Json]]:
    """Versions of a few resources in any order, some twice, split into any batches."""
    told = [
        creatinine(number, **meta(version, f"2026-11-2{version}T00:00:00Z"))
        for number in range(draw(st.integers(1, 3)))
        for version in range(draw(st.integers(1, 4)))
    ]
    order = draw(st.permutations([*told, *draw(st.lists(st.sampled_from(told), max_size=3))]))
    cuts = sorted(draw(st.sets(st.integers(1, len(order)), max_size=4)))
    return [order[start:end] for start, end in zip([0, *cuts], [*cuts, len(order)], strict=True)]


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(histories())
def test_any_order_in_any_batches_ends_in_the_same_current_versions(
    api: Api, batches: list[list[Json]]
):
    with api.store.write() as uow:
        for table in ("events", "jobs", "submissions"):
            uow.connection.execute(sa.text(f"delete from {table}"))  # noqa: S608 - our own names

    for batch in batches:
        if batch:
            entries(api.post(raw(bundle(*batch, kind="history"))))

    everything = [resource for batch in batches for resource in batch]
    newest: dict[str, Json] = {}
    for resource in sorted(everything, key=lambda each: int(each["meta"]["versionId"])):
        newest[resource["id"]] = resource
    assert current(api) == {("Observation", json.dumps(each)) for each in newest.values()}
    assert rows(api, "events") == len({json.dumps(each) for each in everything})


# --- consent --------------------------------------------------------------------------------


def test_a_revocation_stops_what_is_queued_and_says_why(api: Api):
    task(api.post(raw(consent(1, **meta(1)))))
    queued = task(api.post(raw(creatinine(1))))

    task(api.post(raw(consent(1, status="inactive", **meta(2)))))

    after = api.get(f"/fhir/Task/{queued['id']}").json()
    assert (after["status"], after["businessStatus"]["text"]) == ("cancelled", "consent-withdrawn")
    with api.store.read() as uow:
        (job,) = uow.jobs.find(JobFilter(state=JobState.CANCELLED))
        events = uow.connection.scalars(
            sa.text("select event from audit_events where job_id = :id order by seq"),
            {"id": job.id},
        ).all()
    assert [decision["stage"] for decision in job.decisions] == ["admit", "withdraw"]
    assert events == ["consent", "admit", "consent", "cancel"]


def test_a_consent_in_the_same_bundle_counts_in_any_order(api: Api):
    (observed, _) = entries(api.post(raw(bundle(creatinine(1), consent(1)))))

    assert observed["resource"]["status"] == "ready"


def test_a_revocation_of_another_patient_stops_nothing(api: Api):
    task(api.post(raw(consent(1))))
    queued = task(api.post(raw(creatinine(1))))

    task(api.post(raw(consent(2, "Patient/p2", status="inactive"))))

    assert api.get(f"/fhir/Task/{queued['id']}").json()["status"] == "ready"


def test_a_job_that_a_worker_holds_is_left_to_its_own_question(api: Api):
    task(api.post(raw(consent(1, **meta(1)))))
    task(api.post(raw(creatinine(1))))
    with api.store.write() as uow:
        ((job_id, _),) = ready(uow.jobs, 10)
        uow.jobs.claim([job_id], "worker", lease_ms=60_000)

    task(api.post(raw(consent(1, status="inactive", **meta(2)))))

    with api.store.read() as uow:
        assert uow.jobs.get(job_id).state is JobState.IN_PROGRESS


def test_a_consent_until_the_end_of_the_calendar_is_read(api: Api):
    provision = {"type": "permit", "period": {"start": "2020-01-01", "end": "9999-12-31"}}
    task(api.post(raw(consent(1, provision=provision))))

    assert task(api.post(raw(creatinine(1))))["status"] == "ready"


NOBODY = [
    pytest.param({"reference": "http://other.test/fhir/Patient/p1"}, id="another host"),
    pytest.param({"identifier": {"system": "http://x", "value": "1"}}, id="identifier only"),
    pytest.param({"reference": URN}, id="urn"),
    pytest.param({"reference": "#p"}, id="contained"),
    pytest.param(None, id="no patient"),
]


def denial_of(whom: Json | None) -> Json:
    denial = consent(2, provision={"type": "deny"}, contained=[{**patient(1), "id": "p"}])
    del denial["patient"]
    if whom != {"reference": "#p"}:
        del denial["contained"]
    return {**denial, "patient": whom} if whom else denial


@pytest.mark.parametrize("whom", NOBODY)
def test_a_consent_without_a_patient_of_this_system_is_refused(api: Api, whom: Json | None):
    before = rows(api, "audit_events")

    told = issue(api.post(raw(denial_of(whom))), 422)

    assert (told["code"], told["expression"]) == ("business-rule", ["Consent.patient"])
    assert "Patient/<id>" in told["diagnostics"]
    assert rows(api, "events") == 0
    assert rows(api, "audit_events") == before + 1


@pytest.mark.parametrize("whom", NOBODY)
def test_a_consent_without_a_patient_is_refused_alone_in_a_loose_bundle(
    api: Api, whom: Json | None
):
    body = raw(bundle(patient(1), denial_of(whom), kind="batch"))

    first, second = entries(api.post(body))

    assert (first["response"]["status"], second["response"]["status"]) == ("202", "422")
    told = second["response"]["outcome"]["issue"][0]
    assert (told["code"], told["expression"]) == (
        "business-rule",
        ["Bundle.entry[1].resource.patient"],
    )
    assert rows(api, "events") == 1
    assert submissions(api) == {body}


def test_a_consent_without_a_patient_sinks_a_bundle_that_is_one_whole(api: Api):
    before = rows(api, "audit_events")

    told = issue(api.post(raw(bundle(patient(1), consent(1, URN), kind="transaction"))), 422)

    assert told["code"] == "business-rule"
    assert told["expression"] == ["Bundle.entry[1].resource.patient"]
    assert [rows(api, table) for table in ("events", "submissions")] == [0, 0]
    assert rows(api, "audit_events") == before + 1


def test_a_consent_by_the_urn_of_a_patient_without_an_id_is_refused(api: Api):
    sent = bundle(consent(1, URN), {"resourceType": "Patient", "birthDate": "1961-05-01"})
    sent["entry"][1]["fullUrl"] = URN

    refused, received = entries(api.post(raw(sent)))

    assert (refused["response"]["status"], received["response"]["status"]) == ("422", "202")


def test_a_consent_is_answered_as_recorded(api: Api):
    answer = task(api.post(raw(consent(1))))

    assert (answer["status"], answer["businessStatus"]["text"]) == ("completed", "recorded")


# --- references -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ("Patient/p1", "queued"),
        ("http://ehr.test/fhir/Patient/p1", "queued"),
        ("http://ehr.test/fhir/Patient/p1/_history/4", "queued"),
        ("http://other.test/fhir/Patient/p1", "patient-unknown"),
        ("Group/g1", "patient-unknown"),
        (URN, "patient-unknown"),
    ],
)
def test_a_reference_finds_its_patient_in_this_ehr_or_not_at_all(
    api: Api, subject: str, expected: str
):
    task(api.post(raw(consent(1))))

    assert task(api.post(raw(creatinine(1, subject))))["businessStatus"]["text"] == expected


def test_references_by_urn_are_resolved_within_their_bundle(api: Api):
    sent = bundle(consent(1, URN), creatinine(1, URN), patient(1))
    sent["entry"][2]["fullUrl"] = URN

    _, observed, _ = entries(api.post(raw(sent)))

    assert observed["resource"]["businessStatus"]["text"] == "queued"
    with api.store.read() as uow:
        event = uow.events.get(observed["resource"]["id"])
        assert event is not None
        assert uow.events.patient(event) == "Patient/p1"


def test_a_urn_whose_resource_has_no_id_stays_unknown(api: Api):
    nameless = {"resourceType": "Patient", "birthDate": "1961-05-01"}
    sent = bundle(creatinine(1, URN), nameless)
    sent["entry"][1]["fullUrl"] = URN

    observed, _ = entries(api.post(raw(sent)))

    assert observed["resource"]["businessStatus"]["text"] == "patient-unknown"


# --- Bundles --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["batch", "collection", "history", "searchset"])
def test_a_bad_entry_of_a_loose_bundle_is_refused_alone(api: Api, kind: str):
    sent = bundle(patient(1), {**patient(2), "gender": "ZZCANARY"}, patient(3), kind=kind)
    body = raw(sent)

    response = api.post(body)

    first, second, third = entries(response)
    assert (first["response"]["status"], third["response"]["status"]) == ("202", "202")
    assert second["response"]["status"] in {"400", "422"}
    assert second["response"]["outcome"]["issue"][0]["expression"] == [
        "Bundle.entry[1].resource.gender"
    ]
    assert "ZZCANARY" not in response.text
    assert rows(api, "events") == 2
    assert submissions(api) == {body}


@pytest.mark.parametrize("kind", ["transaction", "document", "message"])
def test_a_bad_entry_sinks_a_bundle_that_is_one_whole(api: Api, kind: str):
    response = api.post(raw(bundle(patient(1), {**patient(2), "gender": "x"}, kind=kind)))

    assert response.status_code in {400, 422}
    parse_resource(response.content, expected_type="OperationOutcome")
    assert [rows(api, table) for table in ("events", "submissions")] == [0, 0]


def test_an_empty_bundle_is_answered_with_an_empty_one(api: Api):
    assert entries(api.post(raw({"resourceType": "Bundle", "type": "batch"}))) == []


def test_a_transaction_is_answered_as_one(api: Api):
    response = api.post(raw(bundle(patient(1), kind="transaction")))

    assert response.json()["type"] == "transaction-response"
    assert entries(response)[0]["response"]["location"].startswith("Task/")


def test_a_bundle_that_is_put_is_taken_apart_like_any_other(api: Api):
    sent = {**bundle(patient(1), consent(1)), "id": "b1"}

    assert len(entries(api.put(raw(sent), "/fhir/Bundle/b1"))) == 2
    assert issue(api.put(raw(sent), "/fhir/Bundle/other"), 400)["expression"] == ["Bundle.id"]


def deleted(kind: str) -> Json:
    sent = bundle(patient(1), kind=kind)
    gone = {"fullUrl": "http://ehr.test/fhir/Consent/c1"}
    gone["request"] = {"method": "DELETE", "url": "Consent?status=active"}
    if kind == "history":
        gone["response"] = {"status": "204"}
    sent["entry"].append(gone)
    return sent


@pytest.mark.parametrize("kind", ["history", "batch"])
def test_a_conditional_delete_is_refused_where_it_stands_never_ignored(api: Api, kind: str):
    first, second = entries(api.post(raw(deleted(kind))))

    assert first["response"]["status"] == "202"
    assert second["response"]["status"] == "422"
    told = second["response"]["outcome"]["issue"][0]
    assert told["expression"] == ["Bundle.entry[1].request.method"]
    with api.store.read() as uow:
        refusals = uow.connection.scalar(
            sa.text("select count(*) from audit_events where event = 'receive' and outcome = '8'")
        )
    assert refusals == 1


def test_a_conditional_delete_within_a_transaction_refuses_it_all(api: Api):
    told = issue(api.post(raw(deleted("transaction"))), 422)

    assert told["code"] == "not-supported"
    assert rows(api, "events") == 0


def test_an_entry_without_a_resource_is_refused_where_it_stands(api: Api):
    sent = bundle(patient(1), kind="batch")
    sent["entry"].append({"request": {"method": "POST", "url": "Patient"}})

    _, second = entries(api.post(raw(sent)))

    assert second["response"]["status"] == "422"
    assert second["response"]["outcome"]["issue"][0]["expression"] == ["Bundle.entry[1]"]


@pytest.mark.parametrize("changed", [{"id": "other"}, {"id": None}])
def test_an_update_in_a_bundle_carries_the_id_of_its_address(api: Api, changed: Json):
    sent = bundle(patient(1), kind="batch")
    sent["entry"][0]["resource"] = {
        name: value for name, value in {**patient(1), **changed}.items() if value is not None
    }

    (refused,) = entries(api.post(raw(sent)))

    assert refused["response"]["status"] == "400"
    assert rows(api, "events") == 0


def test_a_conditional_update_in_a_bundle_names_no_id(api: Api):
    sent = bundle(patient(1), kind="batch")
    sent["entry"][0]["request"]["url"] = "Patient?identifier=http://x|1"

    assert entries(api.post(raw(sent)))[0]["response"]["status"] == "202"


def test_what_is_only_for_the_record_sets_nothing_going_and_a_consent_in_it_holds(api: Api):
    for_record = {"X-Nadi-Receive": "record"}
    sent = bundle(consent(1), creatinine(1))

    first, second = entries(api.post(raw(sent), **for_record))
    repeat = task(api.post(raw(creatinine(1))))
    live = task(api.post(raw(creatinine(2))))

    assert [each["resource"]["businessStatus"]["text"] for each in (first, second)] == [
        "recorded",
        "no-route",
    ]
    assert repeat["id"] == second["resource"]["id"]
    assert (live["status"], rows(api, "jobs")) == ("ready", 1)


def test_a_result_of_ours_that_comes_back_without_its_label_triggers_nothing(api: Api):
    """OpenMRS drops both the label and the identifier of what is written there."""
    api.post(raw(consent(1)))
    with api.store.write() as uow:
        uow.written.add([("ehr", "Observation/o1"), ("lab", "Observation/o2"), ("ehr", "nowhere")])

    ours, other = (task(api.post(raw(creatinine(number)))) for number in (1, 2))

    assert (ours["status"], ours["businessStatus"]["text"]) == ("rejected", "made-by-ai")
    assert other["status"] == "ready"
    with api.store.read() as uow:
        key = uow.sealer.patient_key("ehr", "Patient/p1")
        read = uow.events.record(key, ["Observation"])
    assert [event.id for event in read] == [other["id"]]
