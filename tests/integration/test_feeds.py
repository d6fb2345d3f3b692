"""A whole Nadi with a laboratory's feed, a drop folder and CDS Hooks: from each to a result."""

import json
import threading
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from adapters.hl7v2.sender import NoAnswer, acknowledged, connected
from tests.cds import BASE, ISSUER, SERVICE, chart, key, request, token
from tests.factories import consent, patient
from tests.listening import free_port
from tests.people import person
from tests.running import RunningNadi, running_nadi, wait_until

pytestmark = pytest.mark.integration

MRN = "https://hospital.example/mrn"
LAB = """systems:
  lab:
    kind: hl7v2
    patients: {{of: ehr, identifier: "{mrn}"}}
    receive:
      - mllp: {{port: {port}, timezone: Asia/Kolkata}}
"""
MAY_FOLLOW = "a result may follow"
CDS = """
cds_hooks:
  base_url: {base}
  within_ms: 2000
  clients:
    ehr: {{system: ehr, issuer: "{issuer}", keys: [{key}]}}
"""
ORU = """\
MSH|^~\\&|LIS|CITY LAB|NADI|HOSPITAL|20261126123000||ORU^R01^ORU_R01|M-{n}|P|2.5.1
PID|1||MR-1^^^^MR||EVERYWOMAN^EVE||19610615|F
OBR|1|P-{n}|F-{n}|24323-8^Metabolic panel^LN|||20261126{hour:02}0000|||||||||||||||20261126|||F
OBX|1|NM|2160-0^Creatinine^LN||1.{n:02}|mg/dL^^UCUM|0.6-1.2|H|||F
OBX|2|NM|2823-3^Potassium^LN||4.4|mmol/L^^UCUM||N|||F
OBX|3|NM|2951-2^Sodium^LN||139|mmol/L^^UCUM||N|||F
OBX|4|NM|718-7^Hemoglobin^LN||11.2|g/dL^^UCUM||L|||F
OBX|5|NM|2345-7^Glucose^LN||102|mg/dL^^UCUM||N|||F
OBX|6|NM|22664-7^Urea^LN||47|mg/dL^^UCUM||N|||F
"""


def oru(number: int) -> bytes:
    return ORU.format(n=number, hour=number % 12).replace("\n", "\r").encode()


class Feed:
    """A Nadi whose site has the laboratory's feed."""

    def __init__(self, nadi: RunningNadi) -> None:
        self.nadi, self.port = nadi, free_port()
        text = files("adapters").joinpath("sites/sandbox.example.yaml").read_text()
        self.without = nadi.folder.parent / "without.yaml"
        self.without.write_text(text)
        self.with_lab = nadi.folder.parent / "with.yaml"
        self.with_lab.write_text(self._everything(text))

    def _everything(self, text: str) -> str:
        """Give a site with the laboratory, a drop folder of the EHR's, and CDS Hooks."""
        self.drop = self.nadi.folder.parent / "drop"
        self.drop.mkdir(mode=0o770)
        public = orjson.dumps(key().as_dict(private=False)).decode()
        folder = f"{{drop: {{folder: {self.drop}, settle_s: 0, every_s: 0.2}}}}"
        hooks = "    cds_hooks: {hooks: [patient-view]}\n# What patients"
        return text.replace("systems:\n", LAB.format(mrn=MRN, port=self.port)).replace(
            "receive: [push]", f"receive: [push, {folder}]"
        ).replace("# What patients", hooks, 1) + CDS.format(base=BASE, issuer=ISSUER, key=public)

    def apply(self) -> None:
        self.nadi.nadi("site", "apply", str(self.with_lab))
        wait_until(self.is_up, within_s=60, what="the feed is up")

    def is_up(self) -> bool:
        with self.nadi.client() as client:
            listeners = client.get("/health/ready").json()["listeners"]
        return listeners == {"lab/mllp": "up", "ehr/drop": "up"}

    def put(self, name: str, content: bytes) -> Path:
        """Put a file into the drop folder, as a system does that writes elsewhere on the disk."""
        written = self.nadi.folder.parent / name
        written.write_bytes(content)
        return written.rename(self.drop / name)

    def ended(self, name: str) -> tuple[str, dict[str, Any]]:
        """Wait until a file was taken; give where it ended, and its outcome."""
        outcomes = [self.drop / end / f"{name}.outcome.json" for end in ("done", "failed")]
        wait_until(lambda: any(e.exists() for e in outcomes), within_s=60, what="it was taken")
        (found,) = [each for each in outcomes if each.exists()]
        return found.parent.name, json.loads(found.read_bytes())

    def ask(self, number: int) -> dict[str, Any]:
        """Open a chart, as the EHR tells it by CDS Hooks; give the one card."""
        path = f"/cds-services/{SERVICE}"
        headers = {"Authorization": f"Bearer {token(path)}"}
        asked = httpx.post(
            f"{self.nadi.base}{path}", json=request(number), headers=headers, timeout=30
        )
        assert asked.status_code == 200, asked.text
        (card,) = asked.json()["cards"]
        return dict(card)

    def send(self, message: bytes) -> str:
        """Send a message as a laboratory's system does: again, until it is answered."""
        while True:
            try:
                with connected("127.0.0.1", self.port, timeout_s=5) as sender:
                    (answer,) = sender.send(message)
                    return acknowledged(answer)[0]
            except NoAnswer:
                threading.Event().wait(0.2)


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Feed]:
    with running_nadi(tmp_path_factory.mktemp("feed") / "nadi") as nadi:
        made = Feed(nadi)
        identified = {**patient(1), "identifier": [{"system": MRN, "value": "MR-1"}]}
        nadi.store_in_ehr(identified)
        with nadi.client() as client:
            client.post("/fhir/Consent", json=consent(1)).raise_for_status()
        made.apply()
        yield made


def test_a_message_becomes_a_result_in_the_ehr_that_names_where_it_comes_from(feed: Feed):
    assert feed.send(oru(0)) == "AA"

    wait_until(lambda: len(feed.nadi.results_of("p1")) == 1, within_s=60, what="the result")
    (result,) = feed.nadi.results_of("p1")
    assert len(result["derivedFrom"]) >= 6
    for each in result["derivedFrom"]:
        assert set(each) == {"type", "identifier"}
        assert each["identifier"]["system"] == "https://nadi.health/fhir/feed/lab/mllp"


def test_whoever_is_killed_meanwhile_what_is_acknowledged_is_there_once(feed: Feed):
    killed = threading.Timer(0.3, lambda: (feed.nadi.kill("api"), feed.nadi.kill("mllp")))
    killed.start()

    codes = [feed.send(oru(number)) for number in range(1, 16)]
    repeats = [feed.send(oru(number)) for number in range(1, 6)]

    assert codes + repeats == ["AA"] * 20
    feed.nadi.settle(120)
    rows = feed.nadi.rows("select resource_type as kind, count(*) as n from events group by 1")
    counts = {row["kind"]: row["n"] for row in rows}
    assert (counts["Binary"], counts["Observation"]) == (16, 6 * 16)
    assert len(feed.nadi.results_of("p1")) == 16
    assert feed.nadi.duplicates() == 0


def test_a_document_in_the_drop_folder_becomes_a_result_in_the_ehr_once(feed: Feed):
    someone = person("dropped")
    composition = {
        "resourceType": "Composition",
        "id": f"{someone.id}-summary",
        "status": "final",
        "type": {"text": "Discharge summary"},
        "subject": {"reference": someone.reference},
        "date": someone.at.isoformat(),
        "author": [{"display": "Ward 3"}],
        "title": "Discharge summary",
    }
    entries = [composition, *someone.chart(someone.consent()), someone.creatinine()]
    document = {
        "resourceType": "Bundle",
        "type": "document",
        "identifier": {"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{someone.id}"},
        "timestamp": someone.at.isoformat(),
        "entry": [
            {"fullUrl": f"http://ehr.test/{each['resourceType']}/{each['id']}", "resource": each}
            for each in entries
        ],
    }

    feed.put("summary.json", orjson.dumps(document))
    feed.put("spoilt.json", b'{"resourceType": "Bundle"')

    assert feed.ended("summary.json")[0] == "done"
    end, outcome = feed.ended("spoilt.json")
    assert (end, outcome["issue"][0]["code"]) == ("failed", "structure")
    wait_until(lambda: bool(feed.nadi.results_of(someone.id)), within_s=60, what="the result")
    feed.put("again.json", orjson.dumps(document))
    assert feed.ended("again.json")[0] == "done"
    feed.nadi.settle()
    assert len(feed.nadi.results_of(someone.id)) == 1


def test_a_chart_that_is_opened_gets_a_card_and_the_ehr_the_result(feed: Feed):
    feed.nadi.store_in_ehr(*(patient(number) for number in (7, 8)))
    with feed.nadi.client() as client:
        permit, deny = consent(7, "Patient/p7"), consent(8, "Patient/p8")
        deny["provision"]["type"] = "deny"
        for each in (permit, deny):
            client.post("/fhir/Consent", json=each).raise_for_status()

    card = next(card for _ in range(10) if MAY_FOLLOW not in (card := feed.ask(7))["summary"])
    again, withheld = feed.ask(7), feed.ask(8)

    assert card["extension"]["health.nadi.ai"]["status"] == "preliminary"
    assert again["summary"] == card["summary"]
    assert MAY_FOLLOW in withheld["summary"]
    feed.nadi.settle()
    (result,) = feed.nadi.results_of("p7")
    assert len(result["derivedFrom"]) >= len(chart()) - 1
    assert feed.nadi.results_of("p8") == []


def test_the_listener_goes_with_the_site_that_wanted_it(feed: Feed):
    (pid,) = feed.nadi.pids("mllp")

    feed.nadi.nadi("site", "apply", str(feed.without))

    wait_until(lambda: not feed.nadi.pids("mllp"), within_s=60, what="the listener is gone")
    # Its parent takes note of its end a moment later.
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), within_s=60, what="nothing is left of it")
