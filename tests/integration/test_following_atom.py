"""A follower of the sandbox EHR's Atom feeds: what they point at comes by FHIR, each once."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.authorization import GivenLogin
from adapters.feeds.atom_client import AtomClient
from adapters.fhir_rest.client import FhirClient
from adapters.fhir_rest.errors import EhrAnswerUnreadable, EhrRefused
from gateway.core.audit import Source
from gateway.delivery_probe import DeliveryProbe, SavedPatientTrace
from gateway.listeners.following_atom import AtomFollower, AtomPlan
from gateway.listeners.handing_in import HandingIn
from tests.factories import patient
from tests.feeding import Feeding, fed
from tests.sandbox import TOKEN

pytestmark = pytest.mark.integration

PERSON = {"names": [{"givenName": "Asha", "familyName": "Rao"}], "gender": "F"}
CREATININE = {
    "uuid": "164364AAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    "name": "Creatinine",
    "units": "mg/dL",
    "mappings": [{"source": "LOINC", "code": "2160-0"}],
}


@pytest.fixture
def feeding(sqlite_url: str, tmp_path: Path) -> Iterator[Feeding]:
    with fed(sqlite_url, tmp_path) as made:
        yield made


def registered(feeding: Feeding) -> str:
    """Register a patient, as somebody at the desk does."""
    person: str = feeding.enter("patient", {"person": PERSON | {"birthdate": "1961-06-15"}})["uuid"]
    return person


def visited(feeding: Feeding, person: str, *values: float, **more: Any) -> dict[str, Any]:
    """Save a visit with results, as Bahmni's pages do."""
    results = [{"concept": CREATININE, "value": value} for value in values]
    said = {"patientUuid": person, "observations": results, **more}
    return feeding.enter("bahmnicore/bahmniencounter", said)


def feeds_of(feeding: Feeding, base_url: str) -> AtomClient:
    made = AtomClient(base_url, login=GivenLogin(f"Bearer {TOKEN}"), timeout_s=5)
    feeding.closing.append(made.close)
    return made


def follower(feeding: Feeding, *, from_beginning: bool = False) -> AtomFollower:
    feeds = feeds_of(feeding, f"{feeding.sandbox.origin}/openmrs/ws/atomfeed")
    way_in = HandingIn(feeding.hand_over, base_url=feeding.base, count=lambda *_: None)
    plan = AtomPlan(("patient", "encounter"), 0, from_beginning)
    ports = (feeding.store, feeds, feeding.ehr, way_in)
    return AtomFollower("ehr/atom", plan, ports, feeding.now)


def probe(feeding: Feeding, patient_id: str) -> DeliveryProbe:
    feeds = feeds_of(feeding, f"{feeding.sandbox.origin}/openmrs/ws/atomfeed")
    trace = SavedPatientTrace(feeds.save_patient, f"Patient/{patient_id}")
    return DeliveryProbe(feeding.store, trace, ("ehr/atom", "ehr"), Source("hospital", "test"))


def test_a_probe_is_the_test_patient_saved_as_she_is_and_arrives_by_the_feed(feeding: Feeding):
    person = registered(feeding)
    following, proving = follower(feeding), probe(feeding, person)
    following.turn()
    before = feeding.ehr.read(f"Patient/{person}")

    sent = proving.send()
    assert proving.lag_ms(sent) is None
    following.turn()
    lag_ms = proving.lag_ms(sent)

    assert lag_ms is not None
    assert 0 <= lag_ms < 10_000
    after = feeding.ehr.read(f"Patient/{person}")
    assert (before.pop("meta") != after.pop("meta"), after) == (True, before)
    with feeding.store.read() as uow:
        told = "select count(*) from audit_events where event = 'note'"
        assert uow.connection.exec_driver_sql(told).scalar() == 1


def test_a_probe_about_a_patient_that_is_not_there_is_refused(feeding: Feeding):
    with pytest.raises(EhrRefused):
        probe(feeding, "aca97062-35c5-4a23-baf8-000000000099").send()


def test_what_changes_after_the_beginning_comes_and_what_was_before_does_not(feeding: Feeding):
    registered(feeding)
    following = follower(feeding)
    assert following.turn()

    visited(feeding, registered(feeding), 1.5, 1.6)
    assert following.turn()
    assert following.turn()

    assert (len(feeding.events("Patient")), len(feeding.events("Encounter"))) == (1, 1)
    assert len(feeding.events()) == 2


def test_what_is_written_by_fhir_makes_no_entry(feeding: Feeding):
    following = follower(feeding)
    assert following.turn()

    person = {**patient(1), "id": "aca97062-35c5-4a23-baf8-000000000001"}
    feeding.put(person, lab("o1", registered(feeding)))
    assert following.turn()

    assert (len(feeding.events("Patient")), len(feeding.events())) == (1, 0)


def lab(name: str, person: str) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": name,
        "status": "final",
        "code": {"text": "x"},
        "subject": {"reference": f"Patient/{person}"},
    }


def test_a_result_that_is_changed_in_a_visit_comes_as_another_one(feeding: Feeding):
    following, person = follower(feeding), registered(feeding)
    following.turn()
    first = visited(feeding, person, 1.5)
    following.turn()

    changed = [{"concept": CREATININE, "value": 1.9, "uuid": first["observations"][0]["uuid"]}]
    visited(feeding, person, encounterUuid=first["encounterUuid"], observations=changed)
    following.turn()

    assert (len(feeding.events("Encounter")), len(feeding.events())) == (2, 2)
    found = feeding.ehr.search("Observation", [("encounter", first["encounterUuid"])])
    assert [each["valueQuantity"]["value"] for each in found] == [1.9]


def test_many_pages_are_read_by_whoever_is_started_next(feeding: Feeding):
    person = registered(feeding)
    for number in range(23):
        visited(feeding, person, number)
    feeding.is_api_away = True
    assert not follower(feeding, from_beginning=True).turn()
    feeding.is_api_away = False

    assert follower(feeding, from_beginning=True).turn()
    assert follower(feeding, from_beginning=True).turn()

    events = feeding.events()
    assert (len(events), len(set(events)), len(feeding.events("Encounter"))) == (23, 23, 23)


def test_what_was_deleted_meanwhile_is_received_as_deleted(feeding: Feeding):
    following = follower(feeding)
    following.turn()
    person = registered(feeding)
    visit = visited(feeding, person)["encounterUuid"]
    following.turn()
    visited(feeding, person, encounterUuid=visit)
    feeding.delete(f"Encounter/{visit}")

    assert following.turn()

    with feeding.store.read() as uow:
        rows = uow.connection.exec_driver_sql(
            "select count(*), sum(is_current) from events where resource_type = 'Encounter'"
        ).one()
    assert tuple(rows) == (2, 1)


def test_a_feed_that_can_not_be_read_is_tried_again_later(feeding: Feeding):
    feeding.sandbox.faults(down="503")
    following = follower(feeding)
    assert not following.turn()
    feeding.sandbox.faults(down="no")
    assert not following.turn()
    assert following.problem

    feeding.seconds = 2
    assert following.turn()
    assert following.problem == ""


def test_what_the_ehr_refuses_is_passed_over_as_long_as_it_gives_others(feeding: Feeding):
    following, person = follower(feeding), registered(feeding)
    following.turn()
    visit = visited(feeding, person, 1.5)["encounterUuid"]
    feeding.sandbox.faults(ignored_params=[], unsupported_types=["Encounter"])
    assert following.turn(), "a type that is not there is gone, not refused"

    class Forbidding(FhirClient):
        refuses = "Encounter"

        def read_bytes(self, reference: str) -> bytes | None:
            if reference.startswith(self.refuses):
                raise EhrRefused(403)
            return super().read_bytes(reference)

        def pages(self, resource_type: str, params: Any) -> Any:
            if self.refuses in ("", resource_type):
                raise EhrRefused(403)
            return super().pages(resource_type, params)

    feeding.ehr = Forbidding(
        feeding.base, login=GivenLogin(f"Bearer {TOKEN}"), timeout_s=5, max_response_bytes=2**22
    )
    feeding.closing.append(feeding.ehr.close)
    following = follower(feeding)
    feeding.sandbox.faults(unsupported_types=[])
    visited(feeding, person, 1.6, encounterUuid=visit)

    assert following.turn()
    assert len(feeding.events()) == 2

    feeding.ehr.refuses = ""
    visited(feeding, person, 1.7, encounterUuid=visit)
    assert not following.turn()
    assert "403" in following.problem


def test_a_page_of_another_kind_is_no_feed(feeding: Feeding):
    feeds = feeds_of(feeding, feeding.base)
    feeding.put({**patient(1), "id": "recent"})

    with pytest.raises(EhrAnswerUnreadable):
        feeds.page("Patient", None)

    assert feeds.page("Nothing", 7) is None
