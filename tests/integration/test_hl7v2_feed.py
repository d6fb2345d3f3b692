"""A whole Nadi with a laboratory's feed: from a message to a result in the EHR."""

import os
import threading
from collections.abc import Iterator
from importlib.resources import files

import pytest

from adapters.hl7v2.sender import NoAnswer, acknowledged, connected
from tests.factories import consent, patient
from tests.listening import free_port
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
        self.with_lab.write_text(text.replace("systems:\n", LAB.format(mrn=MRN, port=self.port)))

    def apply(self) -> None:
        self.nadi.nadi("site", "apply", str(self.with_lab))
        wait_until(self.is_up, within_s=20, what="the feed is up")

    def is_up(self) -> bool:
        with self.nadi.client() as client:
            return client.get("/health/ready").json()["listeners"] == {"lab/mllp": "up"}

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

    wait_until(lambda: len(feed.nadi.results_of("p1")) == 1, within_s=30, what="the result")
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


def test_the_listener_goes_with_the_site_that_wanted_it(feed: Feed):
    (pid,) = feed.nadi.pids("mllp")

    feed.nadi.nadi("site", "apply", str(feed.without))

    wait_until(lambda: not feed.nadi.pids("mllp"), within_s=20, what="the listener is gone")
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
