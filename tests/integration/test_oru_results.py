"""Results by HL7 v2 through all of Nadi: into a poor EHR, a site without FHIR, our listener."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from adapters.site import load_site
from adapters.site_oru import OruDestination
from gateway.core.delivery import DeliveryState
from gateway.core.jobs import BusinessStatus, JobState
from gateway.core.ladder import Rung
from gateway.store.audit_log import AuditFilter
from tests.cds import OTHERS, ports_of
from tests.conftest import Api
from tests.hospital import NOW, FakeConnection, Hospital, observation
from tests.listening import FED_SITE, free_port, listening
from tests.receiving import CLOSES, Receiver, receiving
from tests.result_models import RISK, made
from tests.unit.adapters.hl7v2.test_oru import PATIENT, TO
from tests.unit.workers.test_oru_sending import REPORT, sender, yes
from tests.waiting import due
from tests.waiting import ready as waiting
from workers.climbing import ladder_recipient
from workers.delivery import deliver
from workers.ehr_abilities import EhrAbilities
from workers.ehrs import Ehrs
from workers.fates import Written
from workers.inference import infer
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


#: Where the hospital system of `SPEAKING_HL7` takes results.
TAKES_AT = free_port()
SPEAKING_HL7 = f"""
site: test-hospital
systems:
  his:
    kind: hl7v2
    patients: {{identifier: "{MRN}"}}
    receive:
      - mllp: {{port: 2575, timezone: UTC, authorities: {{HOSP: "{MRN}"}}}}
    oru: {{host: 127.0.0.1, port: {TAKES_AT}, application: HIS, facility: HOSP, authority: HOSP}}
routes:
  ckd-risk:
    source: his
    match: "Observation.where(code.coding.exists(system='http://loinc.org' and code='2160-0'))"
    consent: {{purpose: TREAT, default: permit}}
    model: ckd-risk@1
    sink: {{system: his}}
"""


def panel(at: datetime) -> bytes:
    """Give an ORU of a hospital system with all that the model reads."""
    inputs = [("2160-0", 3.1, "mg/dL"), *((code, value, unit) for _, code, value, unit in OTHERS)]
    told = [
        f"OBX|{number}|NM|{code}^x^LN||{value}|{unit}^{unit}^UCUM|||||F|||{at:%Y%m%d%H%M%S}"
        for number, (code, value, unit) in enumerate(reversed(inputs), 1)
    ]
    head = f"MSH|^~\\&|HIS|HOSP|NADI|x|{at:%Y%m%d%H%M%S}||ORU^R01^ORU_R01|M1|P|2.5.1"
    pid = "PID|1||MR-0077^^^HOSP^MR||Müller^Eva||19510101|F"
    return "\r".join([head, pid, "OBR|1|P1|F1|panel^Panel^L", *told, ""]).encode()


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
    ehrs = Ehrs(lambda: hospital.site, store=hospital.store, timeout_s=1)
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
        senders = {Rung.HL7V2_ORU: OruSender(to, ehr.read, timeout_s=10)}
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


@pytest.mark.parametrize("api", [SPEAKING_HL7], indirect=True)
def test_a_hospital_that_speaks_hl7_v2_alone_is_answered_in_hl7_v2(
    api: Api, tmp_path: Path
) -> None:
    ports = ports_of(api.store, tmp_path / "imported")
    with receiving(port=TAKES_AT) as receiver:
        with listening(api, SPEAKING_HL7, "his/mllp") as feed:
            (answer,) = feed.send(panel(datetime.now(UTC)))
        with api.store.read() as uow:
            jobs = [job_id for job_id, _ in waiting(uow.jobs)]
        infer(jobs, ports)
        with api.store.read() as uow:
            results = [delivery_id for delivery_id, _ in due(uow.deliveries, 10)]
        deliver(results, ports)

    assert "MSA|AA|M1" in answer
    (message,) = receiver.messages
    pid, obx = message.first("PID"), message.first("OBX")
    assert (pid.text(3), pid.text(3, 4), pid.text(5), pid.text(7)) == (
        "MR-0077",
        "HOSP",
        "Müller",
        "19510101",
    )
    assert (obx.text(2), obx.text(6, 3), obx.text(11)) == ("NM", "UCUM", "P")
    assert 0 < float(obx.text(5)) <= 1
    with api.store.read() as uow:
        ended = "select rung, last_answer from deliveries"
        assert list(uow.connection.exec_driver_sql(ended)) == [("hl7v2-oru", "AA")]
