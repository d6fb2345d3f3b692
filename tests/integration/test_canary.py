"""A patient with a marker in every field leaves no trace outside of sealed columns and the EHR.

The markers run through everything that can happen to an event: delivered, refused at the door,
refused by the model, denied, revoked, undeliverable.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import redis

from gateway.settings import Settings
from tests.people import Person, person, versioned
from tests.running import DATABASES, RunningNadi, push_chart, running_nadi

pytestmark = pytest.mark.integration

MARK = "KANARIENVOGEL"
VALUE = 3.8271946
#: Anything of these in the wrong place is a leak; the value as it stands in JSON.
MARKERS = (MARK.encode(), MARK.lower().encode(), b"3.8271946", b"1949-07-13", b"9876504321")


def marked(someone: Person) -> dict[str, Any]:
    """A Patient that says something about itself wherever it can."""
    return {
        **someone.patient,
        "birthDate": "1949-07-13",
        "text": {
            "status": "generated",
            "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{MARK}</div>',
        },
        "identifier": [{"system": f"https://{MARK.lower()}.example/mrn", "value": f"{MARK}-MRN"}],
        "name": [{"family": MARK, "given": [f"{MARK}-given"], "text": f"{MARK} as text"}],
        "telecom": [{"system": "phone", "value": "9876504321"}],
        "address": [{"line": [f"{MARK} street"], "city": MARK, "postalCode": f"{MARK}-1"}],
        "contact": [{"name": {"text": f"{MARK} mother"}}],
        "managingOrganization": {"display": f"{MARK} hospital"},
    }


def annotated(observation: dict[str, Any]) -> dict[str, Any]:
    """An Observation with a marker in every free text."""
    return {
        **observation,
        "code": {**observation["code"], "text": f"{MARK} code"},
        "note": [{"text": f"{MARK} note"}],
        "performer": [{"display": f"{MARK} laboratory"}],
        "identifier": [{"system": f"https://{MARK.lower()}.example/lab", "value": f"{MARK}-LAB"}],
        "bodySite": {"text": f"{MARK} body site"},
    }


@pytest.fixture(scope="module")
def nadi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNadi]:
    folder = tmp_path_factory.mktemp("canary") / "nadi"
    settings = {"NADI_LOG_LEVEL": "debug", "NADI_RETRY_BASE_S": "0.2", "NADI_RETRY_MAX_S": "0.5"}
    with running_nadi(folder, environment=settings) as running:
        run_canaries(running)
        yield running


def run_canaries(nadi: RunningNadi) -> None:
    """Let canaries meet with everything that can happen."""
    people = [person(MARK) for _ in range(6)]
    unknown = {"value": VALUE, "unit": f"{MARK} units"}
    impossible = {"value": 4e6 + VALUE, "unit": "mg/dL"}
    delivered, denied, implausible, unit, revoked, fetched = people
    for each in people:
        consent = versioned(each.consent("deny" if each is denied else "permit"), 1)
        consent["policyRule"] = {"text": f"{MARK} policy"}
        labs = [] if each is fetched else [annotated(lab) for lab in each.labs]
        push_chart(nadi, marked(each), consent, *labs)
        nadi.store_in_ehr(marked(each), *each.labs)
    for each in (delivered, denied, fetched):
        push_chart(nadi, annotated(each.creatinine(VALUE)))
    push_chart(nadi, annotated(implausible.creatinine(valueQuantity=impossible)))
    push_chart(nadi, annotated(unit.creatinine(valueQuantity=unknown)))
    nadi.settle()
    with nadi.faulty_ehr(down="503", retry_after_s=0):
        (task,) = push_chart(nadi, annotated(revoked.creatinine(VALUE)))
        nadi.wait_for_status(task, "delivery-pending")
        push_chart(nadi, versioned(revoked.consent(status="inactive"), 2))
        with nadi.frozen("deliver"):
            push_chart(nadi, versioned(annotated(delivered.creatinine(VALUE)), 2))
            for role in ("infer", "relay"):
                nadi.kill(role)
    nadi.settle()


def test_the_canaries_met_with_what_they_were_meant_for(nadi: RunningNadi) -> None:
    found = {row["business_status"] for row in nadi.rows("select business_status from jobs")}

    assert found == {
        "delivered",
        "consent-denied",
        "input-implausible",
        "unit-unknown",
        "consent-withdrawn",
    }
    assert any(MARK in str(each) for each in nadi.results()), "the EHR itself knows its patients"


def test_no_file_of_nadi_holds_a_marker(nadi: RunningNadi) -> None:
    looked_at = []
    for path in [*nadi.folder.rglob("*"), nadi.log]:
        # The journal is the stand-in EHR's own memory.
        if path.is_file() and path.name != "sandbox-ehr.journal":
            content = path.read_bytes()
            looked_at.append(path.name)
            assert [m for m in MARKERS if m in content] == [], path

    assert [m for m in MARKERS for body in nadi.audit_bodies() if m in body] == []
    database = {"nadi.db"} if DATABASES.make is None else set()
    assert {*database, "api.log", "infer.log", "deliver.log", "relay.log"} <= set(looked_at)


def test_no_metric_holds_a_marker(nadi: RunningNadi) -> None:
    with nadi.client("operator") as client:
        metrics = client.get("/metrics")

    assert metrics.status_code == 200
    assert b"nadi" in metrics.content
    assert [m for m in MARKERS if m in metrics.content] == []


def test_the_broker_holds_no_marker(nadi: RunningNadi) -> None:
    socket = Settings(data_dir=nadi.folder).broker_socket
    with redis.Redis(unix_socket_path=str(socket)) as broker:
        for key in broker.scan_iter():
            content = key + (broker.dump(key) or b"")
            assert [m for m in MARKERS if m in content] == [], key


def test_no_process_shows_a_marker_in_its_command_line_or_environment(nadi: RunningNadi) -> None:
    children = psutil.Process(nadi.process.pid).children(recursive=True)

    for child in children:
        shown = str([child.cmdline(), child.environ()]).encode()
        assert [m for m in MARKERS if m in shown] == [], child.name()


@pytest.mark.parametrize(
    "body",
    [
        f'{{"resourceType": "Patient", "name": [{{"family": "{MARK}"}}',
        f'{{"resourceType": "Patient", "gender": "{MARK}"}}',
        f'{{"resourceType": "Patient", "nickname": "{MARK}"}}',
        f'{{"resourceType": "{MARK}"}}',
        f'{{"resourceType": "Patient", "birthDate": "{MARK}"}}',
        (
            f'{{"resourceType": "Observation", "status": "final", "code": {{"text": "{MARK}"}}, '
            f'"valueQuantity": {{"value": "{MARK}"}}}}'
        ),
    ],
    ids=["cut", "code", "element", "type", "date", "number"],
)
def test_no_refusal_repeats_a_marker(nadi: RunningNadi, body: str) -> None:
    with nadi.client() as client:
        answer = client.post(
            "/fhir", content=body, headers={"Content-Type": "application/fhir+json"}
        )

    assert 400 <= answer.status_code < 500
    assert answer.json()["resourceType"] == "OperationOutcome"
    assert [m for m in MARKERS if m in answer.content] == []
    test_no_file_of_nadi_holds_a_marker(nadi)


def test_no_task_and_no_audit_event_holds_a_marker(nadi: RunningNadi) -> None:
    with nadi.client("compliance") as client:
        events = client.get("/fhir/AuditEvent?_count=1000")
    with nadi.client("integrator") as client:
        tasks = client.get("/fhir/Task?_count=1000")

    for answer in (events, tasks):
        assert answer.status_code == 200
        assert [m for m in MARKERS if m in answer.content] == []


@pytest.mark.parametrize(
    "path",
    [f"/fhir/Task/{MARK}", f"/fhir/{MARK}/1", f"/fhir/Observation?patient={MARK}", f"/{MARK}"],
)
def test_an_address_with_a_marker_is_not_logged(nadi: RunningNadi, path: str) -> None:
    with nadi.client() as client:
        client.get(path)
    httpx.get(f"{nadi.base}{path}", headers={"Authorization": f"Bearer {MARK}"})

    for log in (nadi.folder / "logs").iterdir():
        assert MARK not in Path(log).read_text(), log
