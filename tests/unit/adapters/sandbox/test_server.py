from pathlib import Path
from typing import Any

import orjson
import pytest

from adapters.sandbox.faults import Faults
from adapters.sandbox.server import SandboxOptions
from gateway.core.errors import ContentError
from gateway.core.fhir import parse_resource

PATIENT = {"resourceType": "Patient", "identifier": [{"system": "s", "value": "1"}]}


def test_a_created_resource_can_be_read_by_its_location(ehr) -> None:
    created = ehr.ask("POST", "/fhir/Patient", json=PATIENT)

    read = ehr.ask("GET", created.headers["location"])

    assert created.status_code == 201
    assert created.headers["etag"] == 'W/"1"'
    assert created.headers["last-modified"].endswith(" GMT")
    assert read.headers["content-type"] == "application/fhir+json"
    assert read.json()["meta"]["versionId"] == "1"
    assert read.json()["identifier"] == PATIENT["identifier"]


def test_a_conditional_create_creates_once(ehr) -> None:
    condition = {"If-None-Exist": "identifier=s|1"}

    answers = [ehr.ask("POST", "/fhir/Patient", json=PATIENT, headers=condition) for _ in range(3)]

    assert [each.status_code for each in answers] == [201, 200, 200]
    assert len({each.headers["location"] for each in answers}) == 1


def test_a_condition_that_matches_several_is_refused(ehr) -> None:
    for _ in range(2):
        ehr.ask("POST", "/fhir/Patient", json=PATIENT)

    answer = ehr.ask(
        "POST", "/fhir/Patient", json=PATIENT, headers={"If-None-Exist": "identifier=s|1"}
    )

    assert answer.status_code == 412
    assert answer.json()["issue"][0]["code"] == "multiple-matches"


def test_the_history_of_a_type_tells_what_was_deleted_the_newest_first(ehr, make_ehr) -> None:
    ehr.put(PATIENT | {"id": "a"})
    ehr.put(PATIENT | {"id": "b"})
    ehr.ask("DELETE", "/fhir/Patient/a")

    told = ehr.ask("GET", "/fhir/Patient/_history?_since=2026-01-01T00:00:00Z").json()

    happened = [(each["request"]["method"], each["request"]["url"]) for each in told["entry"]]
    assert happened == [
        ("DELETE", "Patient/a/_history/2"),
        ("PUT", "Patient/b/_history/1"),
        ("PUT", "Patient/a/_history/1"),
    ]
    assert "resource" not in told["entry"][0]
    assert ehr.ask("GET", "/fhir/Patient/_history?_since=2999-01-01").json()["total"] == 0
    assert ehr.ask("GET", "/fhir/Patient/_history?_since=never").status_code == 400
    silent = make_ehr(SandboxOptions(faults=Faults(no_history=True)))
    assert silent.ask("GET", "/fhir/Patient/_history").status_code == 501


def test_an_update_keeps_the_versions_before_it(ehr) -> None:
    ehr.put(PATIENT | {"id": "a"})
    ehr.put(PATIENT | {"id": "a", "gender": "male"})

    first = ehr.ask("GET", "/fhir/Patient/a/_history/1")
    now = ehr.ask("GET", "/fhir/Patient/a")

    assert "gender" not in first.json()
    assert now.json()["gender"] == "male"
    assert now.headers["etag"] == 'W/"2"'


def test_an_update_of_another_version_is_refused(ehr) -> None:
    ehr.put(PATIENT | {"id": "a"})
    stale = {"If-Match": 'W/"3"'}

    answer = ehr.ask("PUT", "/fhir/Patient/a", json=PATIENT, headers=stale)

    assert answer.status_code == 412


def test_a_conditional_update_by_query(ehr) -> None:
    ehr.put(PATIENT | {"id": "a"})

    answer = ehr.ask("PUT", "/fhir/Patient?identifier=s|1", json=PATIENT | {"gender": "other"})

    assert answer.status_code == 200
    assert ehr.ask("GET", "/fhir/Patient/a").json()["gender"] == "other"


def test_what_was_deleted_is_gone(ehr) -> None:
    ehr.put(PATIENT | {"id": "a"})

    deleted = [ehr.ask("DELETE", "/fhir/Patient/a").status_code for _ in range(2)]

    assert deleted == [204, 204]
    assert ehr.ask("GET", "/fhir/Patient/a").status_code == 410
    assert ehr.ids("/fhir/Patient") == []


def test_the_pages_of_a_search_give_every_match_once_whatever_is_written_meanwhile(ehr) -> None:
    for number in range(5):
        ehr.put(PATIENT | {"id": f"p{number}"})
    page = ehr.ask("GET", "/fhir/Patient?_count=2&_sort=_id").json()
    assert page["total"] == 5
    found = []

    while True:
        found += [each["resource"]["id"] for each in page["entry"]]
        following = [each["url"] for each in page["link"] if each["relation"] == "next"]
        if not following:
            break
        ehr.put(PATIENT | {"id": f"a{len(found)}"})
        page = ehr.ask("GET", following[0]).json()

    assert found == ["p0", "p1", "p2", "p3", "p4"]


def test_a_forgotten_search_has_to_be_made_again(ehr) -> None:
    assert ehr.ask("GET", "/fhir?_getpages=x&_getpagesoffset=2").status_code == 410


def test_a_search_can_be_posted_and_counted(ehr) -> None:
    ehr.put(PATIENT | {"id": "a"})

    posted = ehr.ask("POST", "/fhir/Patient/_search", data={"identifier": "s|1"})
    counted = ehr.ask("GET", "/fhir/Patient?_summary=count")

    assert posted.json()["entry"][0]["resource"]["id"] == "a"
    assert counted.json()["total"] == 1
    assert "entry" not in counted.json()


def test_minimal_answers_have_no_body(ehr) -> None:
    answer = ehr.ask("POST", "/fhir/Patient", json=PATIENT, headers={"Prefer": "return=minimal"})

    assert (answer.status_code, answer.content) == (201, b"")


@pytest.mark.parametrize(
    ("method", "path", "arguments", "status"),
    [
        ("POST", "/fhir/Patient", {"content": b"{", "headers": {"content-type": "text/json"}}, 415),
        ("POST", "/fhir/Patient", {"content": b"{"}, 400),
        ("POST", "/fhir/Patient", {"content": b"[]"}, 400),
        ("POST", "/fhir/Observation", {"json": PATIENT}, 400),
        ("POST", "/fhir/no-type", {"json": {"resourceType": "no-type"}}, 404),
        ("PUT", "/fhir/Patient/a", {"json": PATIENT | {"id": "b"}}, 400),
        ("PUT", "/fhir/Patient/a_b", {"json": PATIENT}, 400),
        ("GET", "/fhir/Patient/none", {}, 404),
        ("GET", "/fhir/Patient/none/_history/1", {}, 404),
        ("GET", "/fhir/Patient?colour=red", {}, 400),
        ("POST", "/fhir/Patient/_search", {"json": {}}, 415),
    ],
)
def test_bad_requests_get_an_operation_outcome(
    ehr, method: str, path: str, arguments: dict[str, Any], status: int
) -> None:
    answer = ehr.ask(method, path, **arguments)

    assert answer.status_code == status
    assert answer.json()["resourceType"] == "OperationOutcome"


def test_only_the_holder_of_the_token_gets_in(make_ehr) -> None:
    ehr = make_ehr(SandboxOptions(token="secret"))  # noqa: S106

    statuses = [
        ehr.ask("GET", path, headers=headers).status_code
        for path, headers in (
            ("/fhir/metadata", {}),
            ("/fhir/Patient", {}),
            ("/fhir/Patient", {"Authorization": "Bearer other"}),
            ("/sandbox/stats", {}),
            ("/fhir/Patient", {"Authorization": "Bearer secret"}),
        )
    ]

    assert statuses == [200, 401, 401, 401, 200]


def test_the_capability_statement_is_valid_and_true(make_ehr) -> None:
    ehr = make_ehr(SandboxOptions(faults=Faults(no_transaction=True, unsupported_types=("Task",))))

    body = ehr.ask("GET", "/fhir/metadata").content

    parse_resource(body)
    (rest,) = orjson.loads(body)["rest"]
    assert rest["interaction"] == [{"code": "batch"}]
    assert "Task" not in {each["type"] for each in rest["resource"]}


def test_a_validating_ehr_refuses_what_is_not_valid(make_ehr) -> None:
    def refuse(body: bytes) -> None:
        if b"gender" not in body:
            raise ContentError

    ehr = make_ehr(SandboxOptions(validate=refuse))

    refused = ehr.ask("POST", "/fhir/Patient", json=PATIENT)
    taken = ehr.ask("POST", "/fhir/Patient", json=PATIENT | {"gender": "male"})

    assert (refused.status_code, taken.status_code) == (422, 201)


def test_everything_is_there_after_a_restart(make_ehr, tmp_path: Path) -> None:
    options = SandboxOptions(journal=tmp_path / "ehr.ndjson")
    first = make_ehr(options)
    first.put(PATIENT | {"id": "a"})
    first.shut_down()

    second = make_ehr(options)
    found = second.ask("GET", "/fhir/Patient/a")
    second.shut_down()

    assert found.json()["identifier"] == PATIENT["identifier"]


def test_stats_count_resources_and_copies(ehr) -> None:
    for _ in range(3):
        ehr.ask("POST", "/fhir/Patient", json=PATIENT)

    stats = ehr.ask("GET", "/sandbox/stats").json()

    assert stats == {"resources": {"Patient": 3}, "duplicates": {"Patient": 2}, "pushes": {}}
