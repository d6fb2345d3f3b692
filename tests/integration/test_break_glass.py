"""The glass broken for one patient: run, labelled, told, and reviewed by somebody else."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import sqlalchemy as sa
from orjson import dumps, loads
from typer.testing import CliRunner, Result

from gateway.cli.main import app
from gateway.core.jobs import BusinessStatus, JobState
from gateway.core.principal import Role
from gateway.store.audit_log import AuditFilter
from tests.people import versioned
from tests.revoking import Ward, ward
from tests.sandbox import SandboxEhr

pytestmark = pytest.mark.integration

REASON = "Unconscious; ZZCANARY-REASON"


class _Pager(BaseHTTPRequestHandler):
    told: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.told.append(json.loads(body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep the terminal quiet."""


@pytest.fixture(scope="module")
def pager() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Pager)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/page"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def ehr(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxEhr]:
    started = SandboxEhr(journal=tmp_path_factory.mktemp("ehr") / "journal.ndjson")
    started.start()
    yield started
    started.stop()


@pytest.fixture
def here(tmp_path: Path, database_url: str, ehr: SandboxEhr, pager: str) -> Iterator[Ward]:
    rules = f"break_glass:\n  clinicians: [dr-rao]\n  alert: {{url: '{pager}'}}\n"
    with ward(tmp_path, database_url, ehr, site=rules) as made:
        with made.api.store.write() as uow:
            tokens = {
                name: uow.credentials.add(name, role)[1]
                for name, role in (
                    ("dr-rao", Role.CLINICIAN),
                    ("dr-roy", Role.CLINICIAN),
                    ("officer", Role.COMPLIANCE),
                )
            }
        made.api.tokens.update(tokens)
        _Pager.told.clear()
        yield made


def denied(here: Ward, consent: dict[str, Any] | None = None) -> None:
    """Push the chart of a patient whose consent denies, and the result that starts the route."""
    someone = here.patient
    here.push(someone.patient, versioned(consent or someone.consent("deny"), 1))
    here.push(*someone.labs, someone.creatinine())
    assert here.job().business_status is BusinessStatus.CONSENT_DENIED


def ask(here: Ward, who: str = "dr-rao", **changed: str) -> Any:
    body = {"patient": here.patient.reference, "route": "ckd-risk", "reason": REASON, **changed}
    return here.api.client.post("/break-glass", content=dumps(body), headers=here.api.headers(who))


def review(here: Ward, use_id: str, who: str = "officer", **changed: str) -> Any:
    body = {"verdict": "justified", "comment": "Confirmed; ZZCANARY-REMARK", **changed}
    path = f"/break-glass/{use_id}/review"
    return here.api.client.post(path, content=dumps(body), headers=here.api.headers(who))


def events(here: Ward, event: str) -> list[dict[str, Any]]:
    with here.api.store.read() as uow:
        rows = uow.audit_log.search(AuditFilter(limit=1000))
        return [loads(row.body) for row in rows if row.event == event]


def test_an_emergency_runs_although_consent_denies_and_its_result_says_so(here: Ward) -> None:
    denied(here)

    answer = ask(here)
    here.infer()
    here.deliver()

    assert answer.status_code == 202, answer.text
    states = {(job.route, job.state) for job in here.jobs()}
    assert states == {("ckd-risk", JobState.REJECTED), ("ckd-risk+btg", JobState.COMPLETED)}
    (result,) = here.versions()
    assert [each["code"] for each in result["meta"]["security"]] == ["AIAST", "BTG"]
    (provenance,) = [
        each
        for each in here.written("Provenance")
        if {"reference": f"Observation/{result['id']}"} in each["target"]
    ]
    codes = [coding["code"] for reason in provenance["reason"] for coding in reason["coding"]]
    assert codes == ["AIAST", "BTG"]


def test_it_is_told_at_once_and_on_record_without_reason_or_patient(
    here: Ward, capsys: pytest.CaptureFixture[str]
) -> None:
    denied(here)

    answer = ask(here).json()

    (told,) = _Pager.told
    assert (told["clinician"], told["review"]) == ("dr-rao", answer["review"])
    (used,) = events(here, "break-glass")
    assert used["subtype"][0]["code"] == "110127"
    assert "An emergency: nobody forbade it." in used["outcomeDesc"]
    assert "BTG" in json.dumps(used["agent"])
    everything = json.dumps([told, *events(here, "break-glass"), *events(here, "consent")])
    with here.api.store.read() as uow:
        rows = uow.connection.execute(sa.text("select * from break_glass_uses")).mappings()
        everything += str([dict(row) for row in rows])
    assert "ZZCANARY" not in everything + capsys.readouterr().out
    assert here.patient.id not in json.dumps(told)


def test_a_second_person_closes_the_review_once(here: Ward) -> None:
    denied(here)
    use = ask(here).json()["review"]

    (waiting,) = here.api.get("/break-glass?open=true", "officer").json()
    first, again = review(here, use), review(here, use, verdict="not-justified")

    assert (waiting["id"], waiting["reason"], waiting["verdict"]) == (use, REASON, None)
    assert first.status_code == 200, first.text
    assert (first.json()["verdict"], first.json()["reviewer"]) == ("justified", "officer")
    assert again.status_code == 409
    assert here.api.get("/break-glass?open=true", "officer").json() == []
    (closed,) = events(here, "break-glass-review")
    assert closed["subtype"][0]["code"] == "110138"
    assert "ZZCANARY" not in json.dumps(closed)


def test_nobody_reviews_their_own_use(here: Ward) -> None:
    denied(here)
    use = ask(here).json()["review"]
    with here.api.store.write() as uow:
        # the same person, with a credential of the other role
        here.api.tokens["dr-rao-as-officer"] = uow.credentials.add("dr-rao", Role.COMPLIANCE)[1]

    answer = review(here, use, "dr-rao-as-officer")

    assert answer.status_code == 403
    assert "their own" in answer.json()["issue"][0]["diagnostics"]


@pytest.mark.parametrize("who", ["dr-roy", "officer", "operator", "ehr"])
def test_nobody_else_may_break_the_glass(here: Ward, who: str) -> None:
    denied(here)

    answer = ask(here, who)

    assert answer.status_code == 403
    assert len(here.jobs()) == 1
    assert _Pager.told == []


def test_a_consent_that_forbids_it_for_emergencies_holds(here: Ward) -> None:
    consent = here.patient.consent("deny")
    purposes = [{**consent["provision"]["purpose"][0], "code": code} for code in ("TREAT", "BTG")]
    denied(here, {**consent, "provision": {"type": "deny", "purpose": purposes}})

    answer = ask(here)

    assert answer.status_code == 403, answer.text
    assert len(here.jobs()) == 1
    (tried,) = events(here, "break-glass")
    assert tried["outcome"] == "8"
    (asked,) = [each for each in events(here, "consent") if "BTG" in json.dumps(each)]
    assert tried["outcomeDesc"] == asked["outcomeDesc"]
    assert tried["outcomeDesc"].startswith("Consent/")


def test_a_denial_of_emergencies_that_arrives_later_stops_it(here: Ward) -> None:
    denied(here)
    ask(here)
    consent = here.patient.consent("deny")
    purpose = {**consent["provision"]["purpose"][0], "code": "BTG"}
    here.push(versioned({**consent, "provision": {"type": "deny", "purpose": [purpose]}}, 2))

    here.infer()

    (btg,) = [job for job in here.jobs() if job.route == "ckd-risk+btg"]
    assert (btg.state, btg.business_status) == (
        JobState.CANCELLED,
        BusinessStatus.CONSENT_WITHDRAWN,
    )


def test_the_glass_breaks_once_for_one_event(here: Ward) -> None:
    denied(here)

    assert [ask(here).status_code, ask(here).status_code] == [202, 409]
    assert len(here.jobs()) == 2


def test_a_patient_of_whom_nothing_was_received_can_t_be_run_for(here: Ward) -> None:
    answer = ask(here)

    assert answer.status_code == 404


@pytest.mark.parametrize(
    "changed",
    [
        {"reason": " "},
        {"route": "no-such-route"},
        {"patient": "ZZ CANARY"},
        {"ZZ CANARY\u0014": "x"},
    ],
)
def test_what_is_asked_wrongly_is_refused_without_its_values(
    here: Ward, changed: dict[str, str]
) -> None:
    denied(here)

    answer = ask(here, **changed)

    assert answer.status_code in (400, 422), answer.text
    assert "CANARY" not in answer.text


def environment(here: Ward, who: str) -> dict[str, str]:
    """Give what a command needs that speaks with the credential of somebody."""
    file = here.settings.data_dir / f"{who}.token"
    file.write_text(here.api.tokens[who])
    return {
        "NADI_DATA_DIR": str(here.settings.data_dir),
        "NADI_DATABASE_URL": str(here.settings.database_url),
        "NADI_BROKER_URL": str(here.settings.broker_url),
        "NADI_CREDENTIAL_FILE": str(file),
    }


def nadi(here: Ward, who: str, *arguments: str) -> Result:
    """Run a command in this process: one of its own takes a second to start."""
    return CliRunner().invoke(app, arguments, env=environment(here, who))


def nadi_of_its_own(here: Ward, who: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command as somebody's terminal does."""
    told = {**os.environ, **environment(here, who)}
    command = [sys.executable, "-m", "gateway.cli.main", *arguments]
    return subprocess.run(command, env=told, capture_output=True, text=True, check=False)


def test_the_command_line_asks_for_the_credential_of_a_person(here: Ward) -> None:
    denied(here)
    asked = ("break-glass", "run", here.patient.reference, "--route", "ckd-risk")
    asked = (*asked, "--reason", REASON, "--json")

    stranger = nadi(here, "officer", *asked)
    used = nadi_of_its_own(here, "dr-rao", *asked)
    use = json.loads(used.stdout)["review"]
    own = nadi(here, "dr-rao", "break-glass", "list")
    listed = nadi(here, "officer", "break-glass", "list", "--open", "--json")
    said = ("--verdict", "not-justified", "--comment", "There was time to ask her.")
    closed = nadi(here, "officer", "break-glass", "review", use, *said)

    assert (stranger.exit_code, own.exit_code) == (1, 1)
    assert "takes role clinician" in stranger.stderr.replace("\n", " ")
    assert [each["reason"] for each in json.loads(listed.stdout)] == [REASON]
    assert closed.exit_code == 0, closed.stderr
    assert "not-justified" in nadi(here, "officer", "break-glass", "list").stdout
