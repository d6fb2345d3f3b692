"""What is in the EHR when consent is withdrawn is marked there, once, where the site says so."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from gateway.core.fhir import parse_resource
from tests.factories import raw
from tests.revoking import Ward, ward
from tests.sandbox import SandboxEhr

pytestmark = pytest.mark.integration

ENTERED_IN_ERROR = "revocation: {delivered: entered-in-error}"


@pytest.fixture(scope="module")
def ehr(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxEhr]:
    started = SandboxEhr(journal=tmp_path_factory.mktemp("ehr") / "journal.ndjson")
    started.start()
    yield started
    started.stop()


@pytest.fixture
def here(tmp_path: Path, database_url: str, ehr: SandboxEhr) -> Iterator[Ward]:
    with ward(tmp_path, database_url, ehr, site=ENTERED_IN_ERROR) as made:
        yield made
    ehr.faults(down="no", slow_ms=0, drop_after_commit_rate=0, no_transaction=False)


def delivered(here: Ward) -> None:
    here.admit()
    here.infer()
    here.deliver()


def states(here: Ward) -> list[tuple[str, str]]:
    with here.api.store.read() as uow:
        rows = uow.connection.execute(sa.text("select state, last_answer from retractions"))
        return [(row.state, row.last_answer) for row in rows]


def test_a_delivered_result_is_marked_once_and_a_provenance_says_why(here: Ward) -> None:
    delivered(here)
    here.revoke()

    assert here.retract() == 1
    here.revoke()
    assert here.retract() == 0

    first, marked = here.versions()
    assert (first["status"], marked["status"]) == ("preliminary", "entered-in-error")
    assert "must not be used" in marked["text"]["div"]
    assert "withdrew" in marked["note"][-1]["text"]
    assert marked["valueQuantity"] == first["valueQuantity"]
    assert parse_resource(raw(marked)).content == marked
    place = f"Observation/{marked['id']}"
    about = [p for p in here.written("Provenance") if {"reference": place} in p["target"]]
    run, withdrawal = about
    assert parse_resource(raw(withdrawal))
    assert withdrawal["activity"]["coding"][0]["code"] == "NULLIFY"
    assert withdrawal["reason"][0]["coding"][0]["code"] == "PATRQT"
    assert run["activity"]["coding"][0]["code"] == "CREATE"
    assert states(here) == [("done", "marked 1")]
    assert here.steps()[-1] == ("retract", "0")


def test_a_clinician_is_shown_the_result_as_entered_in_error(here: Ward) -> None:
    delivered(here)
    here.revoke()

    answer = here.api.get(f"/fhir/Observation?patient={here.patient.reference}", "clinician")

    (entry,) = answer.json()["entry"]
    assert entry["resource"]["status"] == "entered-in-error"


def test_an_ehr_that_is_away_is_asked_again_until_the_result_is_marked(here: Ward) -> None:
    delivered(here)
    here.revoke()
    here.ehr.faults(down="close")

    here.retract()
    assert states(here) == [("pending", "EhrUnreachable")]
    here.ehr.faults(down="no")
    here.retract()

    assert [each["status"] for each in here.versions()] == ["preliminary", "entered-in-error"]
    assert states(here) == [("done", "marked 1")]


def test_an_answer_that_is_lost_marks_nothing_twice(here: Ward) -> None:
    delivered(here)
    here.revoke()
    here.hooks.at(f"update {place_of(here)}", lambda: here.ehr.faults(drop_after_commit_rate=1))

    here.retract()
    here.ehr.faults(drop_after_commit_rate=0)
    here.retract()

    assert [each["status"] for each in here.versions()] == ["preliminary", "entered-in-error"]
    assert states(here) == [("done", "marked 1")]


def place_of(here: Ward) -> str:
    return f"Observation/{here.versions()[0]['id']}"


def test_what_somebody_changed_meanwhile_is_not_overwritten(here: Ward) -> None:
    delivered(here)
    here.revoke()
    (result,) = here.versions()
    changed = {**result, "status": "amended", "method": {"text": "looked at by a nurse"}}
    here.hooks.at(f"update {place_of(here)}", lambda: here.store_in_ehr(changed))

    here.retract()
    assert states(here) == [("pending", "EhrConflict")]
    here.retract()

    *_, marked = here.versions()
    assert (marked["status"], marked["method"]) == ("entered-in-error", changed["method"])


def test_a_result_that_may_have_arrived_is_looked_for_and_marked(here: Ward) -> None:
    here.admit()
    here.infer()
    here.ehr.faults(drop_after_commit_rate=1)
    here.deliver()
    here.ehr.faults(drop_after_commit_rate=0)
    here.revoke()

    here.retract()

    assert [each["status"] for each in here.versions()] == ["preliminary", "entered-in-error"]


def test_a_result_whose_answer_and_identifier_were_lost_is_found_by_its_looks_and_marked(
    here: Ward,
) -> None:
    lost = ["identifier", "meta.security"]
    here.admit()
    here.infer()
    before = len(here.written("Observation"))
    here.ehr.faults(drop_elements=lost, no_conditional_create=True, drop_after_commit_rate=1)
    here.deliver()
    here.ehr.faults(drop_after_commit_rate=0)
    here.revoke()

    here.retract()
    here.ehr.faults(drop_elements=[], no_conditional_create=False)

    written = here.written("Observation")[before:]
    assert [each["status"] for each in written] == ["preliminary", "entered-in-error"]
    assert written[0]["id"] == written[1]["id"]
    assert "identifier" not in written[0]


def test_a_result_that_may_be_in_an_ehr_that_can_not_be_searched_is_for_people(here: Ward) -> None:
    here.admit()
    here.infer()
    here.ehr.faults(drop_after_commit_rate=1)
    here.deliver()
    here.ehr.faults(drop_after_commit_rate=0, no_reads=True)
    here.revoke()

    here.retract()
    here.ehr.faults(no_reads=False)

    assert states(here) == [("failed", "ResultNotKnown")]


def test_a_result_that_never_arrived_is_looked_for_twice_and_let_be(here: Ward) -> None:
    here.admit()
    here.infer()
    here.ehr.faults(down="close")
    here.deliver()
    here.ehr.faults(down="no")
    here.revoke()

    here.retract()
    assert states(here) == [("pending", "not there yet")]
    here.retract()

    assert states(here) == [("done", "not there")]
    assert here.versions() == []


@pytest.mark.parametrize(
    ("faults", "searches"),
    # Its identifier, its looks; and its identifier again, where what is found has another one.
    [({}, 2), ({"ignored_params": ["identifier"]}, 3)],
    ids=["heeds identifiers", "ignores them"],
)
def test_the_identifier_of_a_result_in_doubt_is_looked_for_once_where_the_ehr_heeds_it(
    here: Ward, faults: dict[str, object], searches: int
) -> None:
    here.store_in_ehr(*here.patient.labs)
    here.admit()
    here.infer()
    here.ehr.faults(down="close")
    here.deliver()
    here.ehr.faults(down="no", **faults)
    here.revoke()
    here.hooks.passed.clear()

    here.retract()
    here.ehr.faults(ignored_params=[])

    assert here.hooks.passed.count("search Observation") == searches


def test_a_result_that_was_on_its_way_when_consent_was_withdrawn_is_marked(here: Ward) -> None:
    here.admit()
    here.infer()
    here.hooks.at("transaction", here.revoke_beside)
    here.deliver()
    here.acknowledged()

    here.retract()

    assert [each["status"] for each in here.versions()] == ["preliminary", "entered-in-error"]


def test_a_site_that_keeps_what_was_delivered_marks_nothing(
    tmp_path: Path, sqlite_url: str, ehr: SandboxEhr
) -> None:
    with ward(tmp_path, sqlite_url, ehr) as here:
        delivered(here)
        here.revoke()

        assert here.retract() == 0
        assert [each["status"] for each in here.versions()] == ["preliminary"]
