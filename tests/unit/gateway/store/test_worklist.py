"""The worklist from a worker's last step to a clinician's sign-off, or back down the ladder."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from adapters.fhir_rest.answers import EhrCapabilities
from gateway.core.audit import AgentKind, AuditAgent, Source
from gateway.core.errors import Erased, InvalidTransition, NotFound
from gateway.core.jobs import BusinessStatus, JobState
from gateway.core.ladder import IfLabelLost, Rung, Terms
from gateway.core.ledger import verifier_key
from gateway.core.worklist import Item, SignOffReason
from gateway.store import worklist
from gateway.store.erasing import Order, erase
from gateway.store.registering import Actor
from gateway.store.sealing import MasterKey, Sealer
from gateway.store.unit_of_work import Store
from gateway.store.verification import verify
from gateway.store.worklist import ItemChanged
from gateway.withdrawal import withdraw
from tests.consenting import CONSENT_KEY
from tests.hospital import Hospital, away, consent_of, observation

#: Of no log: what is compared here stands in other tables.
VERIFIER = verifier_key("test", Ed25519PrivateKey.generate().public_key())
DROPPED = ("meta", "note", "text", "code.text")


def actor(name: str) -> Actor:
    agent = AuditAgent(f"c-{name}", name, AgentKind.CLIENT, role="clinician")
    return Actor(Source("site", "api"), agent, agent.identifier)


RAO, SEN = actor("dr-rao"), actor("dr-sen")


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    made = Hospital(tmp_path)
    made.admit_patient()
    made.push(observation())
    made.infer()
    made.ehr.types = ("Patient",)
    made.deliver()
    yield made
    made.close()


def mend(hospital: Hospital) -> None:
    """Let the EHR have every type that a result may need."""
    hospital.ehr.types = ("Observation", "RiskAssessment", "Device", "Provenance")


def listed(hospital: Hospital) -> list[Item]:
    with hospital.store.read() as uow:
        return worklist.listed(uow, before=None, limit=10)[0]


def sign(hospital: Hospital, by: Actor = RAO, **more: str) -> Item:
    with hospital.store.write() as uow:
        return worklist.sign_off(uow, hospital.job().id, by, SignOffReason.NOTED, **more)


def retry(hospital: Hospital) -> None:
    with hospital.store.write() as uow:
        worklist.retry(
            uow, hospital.job().id, RAO, lambda name: hospital.site.route(name) is not None
        )


def signed_off(hospital: Hospital) -> int:
    return [event for event, _ in hospital.audited()].count("sign-off")


def findings(hospital: Hospital) -> list[str]:
    """Give what verification finds in jobs and deliveries."""
    store = Store(hospital.url, Sealer(MasterKey(b"k" * 32)), consents=CONSENT_KEY)
    with store.read() as uow:
        report = verify(uow, VERIFIER, outside=[], progress=lambda *_: None)
    store.close()
    return [str(each) for each in report.findings if each.table in ("jobs", "deliveries")]


# -- signed off ------------------------------------------------------------------------------


def test_an_item_is_signed_off_with_who_when_and_why_and_leaves_the_list(hospital: Hospital):
    (item,) = listed(hospital)
    hospital.pass_time(60)

    signed = sign(hospital)

    assert listed(hospital) == []
    with hospital.store.read() as uow:
        kept = worklist.find(uow, item.job.id)
        assert worklist.count(uow) == (0, None)
    assert kept == signed
    assert kept.signed is not None
    assert (kept.signed.name, kept.signed.reason) == ("dr-rao", SignOffReason.NOTED)
    assert kept.signed.at_ms == item.since_ms + 60_000
    job = hospital.job()
    assert (job.state, job.business_status) == (JobState.COMPLETED, BusinessStatus.SIGNED_OFF)
    assert job.reason == "A clinician signed it off: noted."


def test_the_same_person_is_answered_alike_and_another_is_told_who_was_there(hospital: Hospital):
    first = sign(hospital)
    hospital.pass_time(60)

    assert sign(hospital, seen="whatever was seen before") == first
    with pytest.raises(InvalidTransition, match="dr-rao signed it off before"):
        sign(hospital, SEN)

    assert signed_off(hospital) == 1


def test_what_moved_since_it_was_seen_is_not_signed_off(hospital: Hospital):
    (seen,) = listed(hospital)
    retry(hospital)
    hospital.deliver()

    with pytest.raises(ItemChanged):
        sign(hospital, seen=seen.version)

    (now,) = listed(hospital)
    assert sign(hospital, seen=now.version).signed is not None


def test_of_two_who_sign_off_at_once_one_is_told(tmp_path: Path, postgresql_url: str):
    """On a database that lets both into their transactions at the same time."""
    hospital = Hospital(tmp_path, url=postgresql_url)
    hospital.admit_patient()
    hospital.push(observation())
    hospital.infer()
    hospital.ehr.types = ("Patient",)
    hospital.deliver()

    assert len(listed(hospital)) == 1

    def tried(by: Actor) -> str:
        try:
            return str(sign(hospital, by).job.business_status)
        except InvalidTransition as error:
            return error.message

    with ThreadPoolExecutor(2) as both:
        answers = sorted(both.map(tried, (RAO, SEN)))

    assert answers[1] == "signed-off"
    assert answers[0].endswith("signed it off before; nothing was changed.")
    assert signed_off(hospital) == 1
    assert listed(hospital) == []
    hospital.close()


# -- tried again -----------------------------------------------------------------------------


def test_an_item_goes_from_the_top_of_the_ladder_once_the_ehr_was_mended(hospital: Hospital):
    mend(hospital)
    retry(hospital)
    assert listed(hospital) == []
    assert findings(hospital) == []

    hospital.deliver()

    assert hospital.job().business_status is BusinessStatus.DELIVERED
    delivery = hospital.delivery()
    assert delivery is not None
    assert (delivery.rung, delivery.attempt) == ("observation", 2)
    assert len(hospital.ehr.of("Observation")) == 1
    assert findings(hospital) == []
    with pytest.raises(InvalidTransition, match=r"not on the worklist: it is completed"):
        retry(hospital)


def test_an_ehr_that_is_as_poor_as_before_leaves_it_on_the_list(hospital: Hospital):
    retry(hospital)
    hospital.deliver()

    (item,) = listed(hospital)
    assert item.version == "2-on-worklist"
    assert findings(hospital) == []


def test_an_answer_that_is_lost_on_the_second_way_makes_no_second_result(hospital: Hospital):
    mend(hospital)
    retry(hospital)
    hospital.ehr.loses_answers = 1
    hospital.deliver()
    assert hospital.job().business_status is BusinessStatus.DELIVERY_PENDING
    hospital.pass_time(60)

    hospital.deliver()

    assert hospital.job().business_status is BusinessStatus.DELIVERED
    assert len(hospital.ehr.of("Observation")) == 1


def test_an_ehr_that_is_away_keeps_it_waiting_and_off_the_list(hospital: Hospital):
    mend(hospital)
    retry(hospital)
    hospital.ehr.away = away()

    hospital.deliver()

    assert hospital.job().business_status is BusinessStatus.DELIVERY_PENDING
    assert listed(hospital) == []


def test_what_was_marked_for_the_sake_of_its_label_stands_again_in_its_place(tmp_path: Path):
    hospital = Hospital(tmp_path)
    (route,) = hospital.site.routes
    terms = Terms(
        only=frozenset({Rung.OBSERVATION, Rung.WORKLIST}), if_label_lost=IfLabelLost.NEXT_RUNG
    )
    hospital.site = replace(hospital.site, routes=(replace(route, terms=terms),))
    hospital.admit_patient()
    hospital.push(observation())
    hospital.infer()
    hospital.ehr.drops["Observation"] = DROPPED
    hospital.deliver()
    assert [each["status"] for each in hospital.ehr.of("Observation")] == ["entered-in-error"]
    assert len(listed(hospital)) == 1

    hospital.ehr.drops.clear()
    retry(hospital)
    hospital.deliver()

    (kept,) = hospital.ehr.of("Observation")
    assert kept["status"] == "preliminary"
    assert kept["meta"]["security"]
    assert kept["device"]["reference"].startswith("Device/")
    assert hospital.job().business_status is BusinessStatus.DELIVERED
    assert len(hospital.ehr.of("Provenance")) == 1
    hospital.close()


def test_a_result_that_is_only_a_card_goes_down_the_ladder_again_too(hospital: Hospital):
    with hospital.store.write() as uow:
        uow.connection.exec_driver_sql("update jobs set business_status = 'on-card'")
        uow.connection.exec_driver_sql("update deliveries set rung = 'cds-card'")
    with pytest.raises(InvalidTransition, match="not on the worklist"):
        sign(hospital)
    mend(hospital)

    retry(hospital)
    hospital.deliver()

    assert hospital.job().business_status is BusinessStatus.DELIVERED
    assert len(hospital.ehr.of("Observation")) == 1


def test_what_was_signed_off_is_not_tried_again(hospital: Hospital):
    sign(hospital)

    with pytest.raises(InvalidTransition, match="not on the worklist"):
        retry(hospital)


def test_what_has_no_route_any_more_stays_where_clinicians_read_it(hospital: Hospital):
    hospital.remove_routes()

    with pytest.raises(InvalidTransition, match="Its route is not in the site file"):
        retry(hospital)

    assert len(listed(hospital)) == 1


def test_what_is_marked_as_an_error_goes_to_no_ehr(hospital: Hospital):
    (item,) = listed(hospital)
    with hospital.store.write() as uow:
        uow.retractions.add(item.delivery.id, item.delivery.patient_key, "Corrected.")

    with pytest.raises(InvalidTransition, match="entered in error"):
        retry(hospital)


# -- taken off -------------------------------------------------------------------------------


def test_a_withdrawn_consent_takes_it_off_the_list(hospital: Hospital):
    hospital.push(consent_of("p1", "deny", "2"))
    key = hospital.store.sealer.patient_key("ehr", "Patient/p1")
    with hospital.store.write() as uow:
        withdraw(uow, hospital.site, RAO.source, {key: "Patient/p1"})

    assert listed(hospital) == []
    job = hospital.job()
    assert (job.state, job.business_status) == (
        JobState.CANCELLED,
        BusinessStatus.CONSENT_WITHDRAWN,
    )
    assert "may have reached" not in job.reason
    assert findings(hospital) == []
    for change in (sign, retry):
        with pytest.raises(InvalidTransition):
            change(hospital)


def test_a_consent_that_is_withdrawn_on_the_way_keeps_it_off_the_list(hospital: Hospital):
    retry(hospital)
    ask = hospital.ehr.capabilities

    def withdrawn_meanwhile() -> EhrCapabilities:
        hospital.push(consent_of("p1", "deny", "2"))
        return ask()

    hospital.ehr.capabilities = withdrawn_meanwhile

    hospital.deliver()

    assert listed(hospital) == []
    assert hospital.job().business_status is BusinessStatus.CONSENT_WITHDRAWN


def test_an_erased_patient_has_nothing_on_the_list(hospital: Hospital):
    job_id = hospital.job().id
    key = hospital.store.sealer.patient_key("ehr", "Patient/p1")
    with hospital.store.write() as uow:
        erase(uow, Order(patient_key=key, reason="She asked.", law="s.12"), frozenset(), RAO)

    assert listed(hospital) == []
    job = hospital.job()
    assert (job.id, job.business_status) == (job_id, BusinessStatus.ERASED)
    assert "may have reached" not in job.reason
    with pytest.raises(InvalidTransition):
        sign(hospital)


def test_what_has_had_its_time_can_not_be_signed_off(hospital: Hospital):
    with hospital.store.write() as uow:
        uow.connection.exec_driver_sql("update deliveries set body = x''")

    assert listed(hospital) == []
    with pytest.raises(Erased):
        sign(hospital)


def test_there_is_no_item_of_a_job_that_has_no_result(hospital: Hospital):
    with hospital.store.read() as uow, pytest.raises(NotFound, match="nadi worklist list"):
        worklist.find(uow, "no-such-job")
