"""`nadi hl7 send` and `nadi route explain` with messages as a laboratory writes them."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli.main import app
from tests.listening import FED_SITE
from tests.unit.adapters.hl7v2.test_server import MESSAGE, served

ORU = b"""\
MSH|^~\\&|LIS|CITY LAB|NADI|HOSPITAL|20250126123000||ORU^R01^ORU_R01|M-1|P|2.5.1
PID|1||p1^^^HOSP^MR||EVERYWOMAN^EVE||19610615|F
OBR|1|P-7|F-7|24323-8^Metabolic panel^LN|||20250126090000|||||||||||||||20250126092500|||F
OBX|1|NM|CREA^Kreatinin^L||1.50|mg/dl|0.6-1.2|H|||F
OBX|2|DT|8665-2^Last period^LN||unknown||||||F
"""
SITE = FED_SITE.replace(
    "timezone: Asia/Kolkata", 'timezone: Asia/Kolkata, code_systems: {L: "urn:lab"}'
).replace("default: deny", "default: permit")
CODES = """
codes:
  map:
    - {system: "urn:lab", code: CREA, loinc: 2160-0}
"""


def send(port: int, *files: Path, code: int = 0) -> list[dict]:
    arguments = ["hl7", "send", *map(str, files), "--port", str(port), "--json"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


def answer(code: str):
    text = f"MSH|^~\\&|a\rMSA|{code}|M-1\rERR||PID^1^3|101^Missing^HL70357|E||||PID-3 is empty.\r"
    return lambda _block, _peer: [text.encode()]


@pytest.fixture
def message(tmp_path: Path) -> Path:
    file = tmp_path / "oru.hl7"
    file.write_bytes(b"\x0b" + ORU + b"\x1c\r")
    return file


def test_what_is_acknowledged_is_shown(message: Path):
    with served(lambda _block, _peer: [MESSAGE]) as port:
        rows = send(port, message, message)

    assert [(row["kind"], row["control_id"], row["codes"]) for row in rows] == [
        ("ORU^R01", "M-1", ["AA"])
    ] * 2


def test_what_is_refused_is_shown_with_its_place_and_ends_with_1(message: Path):
    with served(answer("AE")) as port:
        (row,) = send(port, message, code=1)

    assert (row["is_taken"], row["says"]) == (False, "PID-3: PID-3 is empty.")


def test_a_connection_that_is_closed_is_said(message: Path):
    with served(lambda _block, _peer: None) as port:
        (row,) = send(port, message, code=1)

    assert row["says"] == "The connection was closed without an answer."


def test_a_file_that_is_no_message_is_refused(tmp_path: Path):
    file = tmp_path / "no.hl7"
    file.write_text("hello")

    with served() as port:
        done = CliRunner().invoke(app, ["hl7", "send", str(file), "--port", str(port)])

    assert done.exit_code == 1
    assert "is no HL7 v2 message" in done.output


def explain(site: str, message: Path, *more: str, code: int = 0) -> tuple[dict, str]:
    file = message.parent / "site.yaml"
    file.write_text(site)
    arguments = ["route", "explain", "--route", "ckd-risk", "--sample", str(message)]
    data = ["--data-dir", str(message.parent / "none"), "--site", str(file), "--json"]
    done = CliRunner().invoke(app, [*arguments, *data, *more])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout) if done.stdout else {}, " ".join(done.stderr.split())


def test_a_route_is_explained_on_a_message_with_a_local_code(message: Path):
    found, told = explain(SITE + CODES, message)

    (matching,) = [each for each in found["resources"] if each["matches"]]
    assert matching["resource"].startswith("Observation/")
    assert matching["patient"] == "Patient/p1"
    assert matching["consent"]["permitted"]
    assert "OBX[2]-5: It is no date or time and was left out." in told


def test_without_a_map_of_codes_nothing_matches(message: Path):
    found, _ = explain(SITE, message, code=1)

    assert not any(each["matches"] for each in found["resources"])


def test_a_message_that_is_not_taken_is_refused_with_its_place(message: Path):
    message.write_bytes(ORU.replace(b"ORU^R01^ORU_R01", b"RDE^O11"))

    _, told = explain(SITE, message, code=1)

    assert "MSH[1]-9: This kind of message is not taken" in told


def test_the_feed_has_to_be_one_of_the_site(message: Path):
    _, told = explain(SITE, message, "--feed", "ward/mllp", code=1)

    assert (
        "There is no HL7 v2 feed 'ward/mllp'; of the feeds about the patients of 'ehr': lab/mllp"
        in told
    )


def test_what_would_be_written_names_the_feeds_results_as_it_is_delivered(message: Path):
    more = ("22664-7|47|mg/dL", "2951-2|139|mmol/L", "2823-3|4.4|mmol/L", "718-7|11.2|g/dL")
    results = "".join(
        "OBX|{}|NM|{}^x^LN||{}|{}^^UCUM|||||F\n".format(number, *each.split("|"))
        for number, each in enumerate((*more, "2345-7|102|mg/dL"), start=3)
    )
    message.write_bytes(ORU + results.encode())

    found, _ = explain(SITE + CODES, message)

    (matching,) = [each for each in found["resources"] if each["matches"]]
    sources = matching["result"]["derivedFrom"]
    assert {each["identifier"]["system"].rpartition("/fhir/")[2] for each in sources} == {
        "feed/lab/mllp"
    }
