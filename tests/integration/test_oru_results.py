"""Results by HL7 v2 through all of Nadi: into a poor EHR, a site without FHIR, our listener."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from adapters.site import load_site
from adapters.site_oru import OruDestination
from gateway.core.delivery import DeliveryState
from gateway.core.jobs import BusinessStatus, JobState
from gateway.core.ladder import Rung
from gateway.store.audit_log import AuditFilter
from tests.conftest import Api
from tests.hospital import NOW, FakeConnection, Hospital, observation
from tests.listening import FED_SITE, listening
from tests.receiving import CLOSES, Receiver, receiving
from tests.result_models import RISK, made
from tests.unit.adapters.hl7v2.test_oru import PATIENT, TO
from tests.unit.workers.test_oru_sending import REPORT, sender, yes
from workers.climbing import ladder_recipient
from workers.ehr_abilities import EhrAbilities
from workers.ehrs import Ehrs
from workers.fates import Written
from workers.oru_sending import OruSender
from workers.retracting import Retractor

MRN = TO.numbers
WITHOUT_FHIR = """
site: test-hospital
systems:
  ehr:
    kind: hl7v2
    patients: {identifier: "https://hospital.example/mrn"}
    oru: {host: 127.0.0.1, port: PORT, application: HIS, facility: HOSP, authority: HOSP}
routes:
  toy:
    source: ehr
    match: "Observation.code.coding.where(system='http://loinc.org' and code='2160-0')"
    consent: {purpose: TREAT, default: deny}
    model: toy@1
    sink: {system: ehr, also: [provenance]}
revocation: {delivered: entered-in-error}
"""


def her(number: str = "MR-0077") -> dict[str, object]:
    identifier = [{"system": MRN, "value": number}]
    return {**PATIENT, "identifier": identifier, "birthDate": "1970-01-01"}


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    made = Hospital(tmp_path)
    yield made
    made.close()


def ready(hospital: Hospital) -> None:
    hospital.admit_patient()
    hospital.push(her(), observation())
    hospital.infer()


def without_fhir(hospital: Hospital, receiver: Receiver) -> Ehrs:
    """Put a site in force whose one system speaks HL7 v2 alone; give its real connections."""
    text = WITHOUT_FHIR.replace("PORT", str(receiver.port))
    hospital.site = load_site(text, version=1)
    ehrs = Ehrs(lambda: hospital.site, timeout_s=1)
    hospital.ports = replace(hospital.ports, ehrs=ehrs)
    return ehrs


def details(hospital: Hospital, event: str) -> dict[str, str]:
    """Give the details of the newest AuditEvent of a kind."""
    with hospital.store.read() as uow:
        rows = [r for r in uow.audit_log.search(AuditFilter(limit=1000)) if r.event == event]
    entities = orjson.loads(rows[0].body)["entity"]
    return {d["type"]: d["valueString"] for e in entities for d in e.get("detail", ())}


def test_an_ehr_that_can_only_be_read_gets_its_results_by_hl7_v2(hospital: Hospital) -> None:
    with receiving() as receiver:
        ehr = hospital.ehr
        ehr.types = ("Patient",)
        to = OruDestination(
            host="127.0.0.1", port=receiver.port, tls=None, addressed=TO, patients_of="ehr"
        )
        senders = {Rung.HL7V2_ORU: OruSender(to, ehr.read, timeout_s=2)}
        recipient = ladder_recipient(ehr, EhrAbilities(ehr), senders=senders)
        hospital.ehrs.known = FakeConnection(ehr, None, recipient)
        ehr.put(her())
        ready(hospital)
        hospital.deliver()

    job, delivery = hospital.job(), hospital.delivery()
    assert (job.state, job.business_status) == (JobState.COMPLETED, BusinessStatus.DELIVERED)
    assert delivery is not None
    assert (delivery.rung, delivery.last_answer) == ("hl7v2-oru", "AA")
    (message,) = receiver.messages
    assert message.first("PID").text(3) == "MR-0077"
    assert float(message.first("OBX").text(5)) == pytest.approx(0.18)
    told = details(hospital, "deliver")
    assert (told["rung"], told["lost"]) == ("hl7v2-oru", delivery.lost)


def test_a_lost_answer_is_one_result_and_its_refusal_is_on_record(hospital: Hospital) -> None:
    with receiving(CLOSES, "AE\rERR||PID^1^5|101^Required^HL70357|E|||Eva") as receiver:
        ehrs = without_fhir(hospital, receiver)
        ready(hospital)
        hospital.deliver()
        waiting = hospital.job().business_status
        hospital.pass_time(600)
        hospital.deliver()
        ehrs.close()

    delivery = hospital.delivery()
    assert delivery is not None
    assert waiting is BusinessStatus.DELIVERY_PENDING
    assert hospital.job().business_status is BusinessStatus.DELIVERY_FAILED
    assert hospital.job().reason == "The receiver refused the message: AE 101 PID-5."
    assert delivery.last_answer == "AE 101 PID-5"
    assert len(receiver.got) == 2
    assert len(receiver.kept) == 1


def test_a_withdrawal_is_followed_by_a_message_that_says_so(hospital: Hospital) -> None:
    with receiving() as receiver:
        ehrs = without_fhir(hospital, receiver)
        ready(hospital)
        hospital.deliver()
        with hospital.store.write() as uow:
            delivery = hospital.delivery()
            assert delivery is not None
            uow.retractions.add(delivery.id, delivery.patient_key, "The patient withdrew it.")
        retractor = Retractor(
            hospital.store,
            lambda: hospital.site,
            ehrs,
            process="relay",
            backoff=hospital.ports.backoff,
            clock=lambda: NOW,
        )
        assert retractor.turn() == 1
        ehrs.close()

    result, back = receiver.messages
    assert delivery.state is DeliveryState.DELIVERED
    assert back.first("OBR").text(3) == result.first("OBR").text(3)
    assert (back.first("OBX").text(11), back.first("OBX").text(5)) == ("W", "")
    assert "must not be used" in back.first("NTE").text(3)
    assert b"0.18" not in receiver.got[1]
    with hospital.store.read() as uow:
        (kept,) = uow.retractions.of([delivery.id]).values()
    assert kept.last_answer == "told AA"


@pytest.mark.parametrize("api", [FED_SITE], indirect=True)
def test_our_own_listener_takes_it_once_and_no_model_is_fed_by_it(api: Api) -> None:
    report = replace(REPORT)
    with listening(api) as feed:
        writer = sender(feed.port)
        fates = [writer.send(report, yes) for _ in range(2)]
        back = writer.take_back(report, NOW, "Entered in error.")
        found = [each for each in feed.events() if each["resourceType"] == "Observation"]
        with api.store.read() as uow:
            jobs = list(uow.connection.exec_driver_sql("select id from jobs"))

    assert fates == [Written(None, 0, answer="AA")] * 2
    assert back == "AA"
    assert len({each["id"] for each in found}) == 1
    assert [each["status"] for each in found] == ["preliminary", "entered-in-error"]
    assert found[0]["valueQuantity"]["value"] == made(RISK, 0.7).result["valueQuantity"]["value"]
    assert jobs == []
