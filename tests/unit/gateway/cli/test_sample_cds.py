"""`nadi route explain` on a CDS Hooks request says what the API would answer to it, and why."""

import json
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from tests.bad_calls import BadCall, cases
from tests.cds import Json, cds_site, chart, request
from tests.commands import Run
from tests.factories import SITE
from tests.installation import Installation, consent

Told = Callable[..., Json]

#: What a call can be refused for by what is in it. Which service is called is in its address.
IN_THE_BODY = [
    case
    for case in cases()
    if case.path.startswith("/cds-services/ckd-risk")
    and case.body.startswith(b'{"hook"')
    and case.what not in {"another hook than the service's", "a property twice"}
]


@pytest.fixture
def told(nadi: Installation, run: Run, tmp_path: Path) -> Told:
    """Explain a call on the site of the tests; give what programs are told."""

    def explain(call: Json | bytes, *, site: str = cds_site(), code: int = 0) -> Json:
        with nadi.store.write() as uow:
            uow.sites.apply(site, "test")
        sample = tmp_path / "request.json"
        sample.write_bytes(call if isinstance(call, bytes) else orjson.dumps(call))
        given = ("route", "explain", "--route", "ckd-risk", "--sample", str(sample), "--json")
        return dict(json.loads(run(*given, code=code).stdout))

    return explain


@pytest.fixture
def permitted(nadi: Installation) -> None:
    """Hold a consent of the patient."""
    with nadi.store.write() as uow:
        uow.sites.apply(cds_site(), "test")
    nadi.receive(consent("p1"))


@pytest.mark.parametrize("case", IN_THE_BODY, ids=lambda case: case.what)
def test_what_the_api_refuses_is_answered_the_same_and_matches_nothing(
    told: Told, case: BadCall
) -> None:
    found = told(case.body, code=1)

    (issue, *_) = found["answer"]["issues"]
    said = (found["answer"]["status"], issue["code"], issue["expression"] or "")
    assert said == (case.status, case.code, case.place)
    assert found["resources"] == []


def test_the_table_of_refusals_has_calls_of_each_kind() -> None:
    assert {case.place.partition(".")[0] for case in IN_THE_BODY} >= {
        "hook",
        "hookInstance",
        "context",
        "fhirServer",
        "prefetch",
    }


def test_a_refusal_is_shown_with_its_status_and_its_place(
    nadi: Installation, run: Run, tmp_path: Path
) -> None:
    with nadi.store.write() as uow:
        uow.sites.apply(cds_site(), "test")
    sample = tmp_path / "request.json"
    sample.write_bytes(orjson.dumps(request(fhirServer="https://evil.test/fhir")))

    said = run("route", "explain", "--route", "ckd-risk", "--sample", str(sample), code=1)

    assert "fhirServer: This is not the base_url" in said.stderr
    assert "would answer HTTP 400: nothing of it is received" in said.stderr
    assert "matches" not in said.stdout


def test_a_route_without_hooks_is_no_service(told: Told) -> None:
    answer = told(request(), site=SITE, code=1)["answer"]

    assert answer["status"] == 404
    assert "`cds_hooks`" in answer["issues"][0]["diagnostics"]


def test_what_only_a_patient_looks_at_gets_no_card_and_is_not_received(told: Told) -> None:
    context = {"userId": "Patient/p1", "patientId": "p1"}

    found = told(request(context=context), code=1)

    assert found["answer"]["status"] == 200
    assert "no clinician looks" in found["answer"]["says"]
    assert found["resources"] == []


def test_what_was_not_asked_for_is_not_taken(told: Told) -> None:
    brought = {**chart(1), "more": chart(1)["creatinine"], "creatinine": None}

    found = told(request(prefetch=brought), code=1)

    assert "Observation/o1-crea" not in {each["resource"] for each in found["resources"]}
    assert "nothing that it brings starts the route" in found["answer"]["says"]


def test_without_consent_the_card_says_that_a_result_may_follow(told: Told) -> None:
    answer = told(request())["answer"]

    assert (answer["status"], answer["issues"]) == (200, [])
    assert "may follow" in answer["says"]


@pytest.mark.usefixtures("permitted")
def test_with_consent_it_has_the_result(told: Told) -> None:
    answer = told(request())["answer"]

    assert answer["status"] == 200
    assert answer["says"].startswith("a card, with the result")


def test_what_it_does_not_bring_is_named_and_412_where_the_ehr_does_not_give_it(told: Told) -> None:
    brought = {name: part for name, part in chart(1).items() if name != "creatinine"}

    answer = told(request(prefetch=brought), code=1)["answer"]

    assert answer["would_ask_ehr_for"] == ["creatinine"]
    assert "else HTTP 412" in answer["says"]


@pytest.mark.usefixtures("permitted")
def test_what_the_model_needs_and_nobody_has_is_412(told: Told) -> None:
    call = request()
    del call["prefetch"]["patient"]["birthDate"]

    found = told(call, code=1)

    assert found["answer"]["status"] == 412
    assert found["answer"]["issues"][0]["code"] == "not-found"
    assert "Age" in found["answer"]["issues"][0]["diagnostics"]
