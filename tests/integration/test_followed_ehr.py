"""A whole Nadi that keeps a Subscription in its EHR: nothing is lost, whoever is killed."""

import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import httpx
import pytest

from tests.factories import consent, creatinine, patient
from tests.running import RunningNadi, running_nadi, wait_until

pytestmark = pytest.mark.integration

RECEIVE = """test_patient: Patient/p1
    receive:
      - push
      - subscription:
          types: [Observation, Patient, Consent]
          endpoint: http://127.0.0.1:${NADI_PORT:-8080}/fhir
          topic: http://nadi.test/SubscriptionTopic/any
          heartbeat_s: 2
          grace_s: 1
          catch_up_s: 3600"""


@pytest.fixture(scope="module")
def nadi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNadi]:
    folder = tmp_path_factory.mktemp("followed")
    text = files("adapters").joinpath("sites/sandbox.example.yaml").read_text()
    (folder / "site.yaml").write_text(text.replace("receive: [push]", RECEIVE))
    with running_nadi(folder / "nadi") as running:
        yield running


def write(nadi: RunningNadi, *resources: dict[str, Any]) -> None:
    for each in resources:
        url = f"{nadi.ehr_base}/fhir/{each['resourceType']}/{each['id']}"
        httpx.put(url, json=each).raise_for_status()


def received(nadi: RunningNadi) -> dict[str, int]:
    rows = nadi.rows("select resource_type as kind, count(*) as n from events group by 1")
    return {row["kind"]: row["n"] for row in rows}


def subscriptions(nadi: RunningNadi) -> list[str]:
    found = httpx.get(f"{nadi.ehr_base}/fhir/Subscription").json().get("entry", [])
    return [entry["resource"]["status"] for entry in found]


def test_applying_a_site_subscribes_and_every_event_comes_once(nadi: RunningNadi):
    site = nadi.folder.parent / "site.yaml"
    said = nadi.nadi("site", "apply", str(site)).stdout
    assert said.count("made") == 3
    wait_until(lambda: subscriptions(nadi) == ["active"] * 3, within_s=60, what="handshakes")

    write(nadi, patient(1), consent(1), *(creatinine(n) for n in range(20)))
    wait_until(lambda: received(nadi).get("Observation") == 20, within_s=60, what="pushes")

    # Both ends here are killed while the EHR writes on, and every tenth push is lost on its way.
    nadi.faults(lose_every=10)
    nadi.kill("api")
    nadi.kill("subscription")
    write(nadi, *(creatinine(n) for n in range(20, 60)))
    wait_until(lambda: received(nadi).get("Observation") == 60, within_s=60, what="catching up")
    nadi.faults(lose_every=0)

    assert received(nadi) == {"Patient": 1, "Consent": 1, "Observation": 60}
    listed = nadi.rows("select count(*) as n from jobs")
    assert listed[0]["n"] == 60


def test_a_backfill_finds_nothing_that_is_not_here(nadi: RunningNadi):
    said = nadi.nadi("backfill", "run", "ehr", "--types", "Observation,Patient", "--json").stdout

    assert json.loads(said)["by_type"] == {"Patient": 1, "Observation": 60}
    assert received(nadi) == {"Patient": 1, "Consent": 1, "Observation": 60}
    listed = json.loads(nadi.nadi("access", "list", "--json").stdout)
    ended = [each for each in listed if each["name"] == "ehr/backfill"]
    assert [each["revoked_at"] is not None for each in ended] == [True]


def backfill(nadi: RunningNadi, *more: str) -> subprocess.Popen[str]:
    """Begin to fill in from an EHR that takes its time over the export; come back when it waits."""
    nadi.faults(export_wait_s=600)
    command = [sys.executable, "-m", "gateway.cli.main", "backfill", "run", "ehr", *more]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    begun = subprocess.Popen(command, env=nadi.environment, text=True, **pipes)
    kept = "select key from listener_state where listener = 'ehr/backfill' and key = 'export'"
    wait_until(lambda: bool(nadi.rows(kept)), within_s=60, what="the export that is asked for")
    return begun


@pytest.mark.parametrize("more", [(), ("--json",)], ids=["for-people", "for-scripts"])
def test_ctrl_c_tells_what_was_done_and_how_to_go_on(nadi: RunningNadi, more: tuple[str, ...]):
    write(nadi, patient(1))
    begun = backfill(nadi, "--types", "Patient", *more)
    begun.send_signal(signal.SIGINT)
    stdout, said = begun.communicate(timeout=60)

    assert (begun.returncode, stdout) == (130, "")
    assert "The EHR was asked for the export; nothing of it is handed in yet." in said
    assert "Traceback" not in said
    go_on = shlex.split(said.partition("To go on:")[2].splitlines()[0])
    let_go = shlex.split(said.partition("To let go:")[2].splitlines()[0])
    asked = ["nadi", "backfill", "run", "ehr", "--types", "Patient"]
    assert go_on[: len(asked) + len(more)] == [*asked, *more]
    listed = json.loads(nadi.nadi("access", "list", "--json").stdout)
    assert all(each["revoked_at"] for each in listed if each["name"] == "ehr/backfill")
    # What is asked for in other words names the same two commands.
    refused = nadi.nadi("backfill", "run", "ehr", "--types", "Consent", check=False)
    assert (refused.returncode, "--types Patient" in refused.stderr) == (1, True)

    nadi.nadi(*let_go[1:])
    nadi.faults(export_wait_s=0)
    assert "1 lines read: 1 Patient" in nadi.nadi(*[w for w in go_on[1:] if w != "--json"]).stdout


def test_an_ehr_that_is_away_ends_it_with_how_to_go_on(nadi: RunningNadi):
    begun = backfill(nadi)
    nadi.faults(down="503")
    _, said = begun.communicate(timeout=60)
    nadi.faults(down="no", export_wait_s=0)

    assert begun.returncode == 1
    assert "To go on:" in said
    nadi.nadi("backfill", "forget", "ehr")


def test_doctor_proves_that_what_changes_in_the_ehr_arrives(nadi: RunningNadi):
    said = json.loads(nadi.nadi("doctor", "--json", check=False).stdout)

    found = {each["check"]: (each["verdict"], each["says"]) for each in said}
    assert found["subscriptions ehr/subscription"] == ("ok", "3 in the EHR, and at work")
    verdict, says = found["delivery ehr/subscription"]
    assert (verdict, says[:21]) == ("ok", "a probe arrived after")


def test_a_site_without_the_feed_ends_its_subscriptions(nadi: RunningNadi):
    text = (nadi.folder.parent / "site.yaml").read_text()
    plain = nadi.folder.parent / "plain.yaml"
    plain.write_text(text.replace(RECEIVE, "receive: [push]"))

    said = nadi.nadi("site", "apply", str(plain)).stdout

    assert said.count("ended") == 3
    assert subscriptions(nadi) == ["off"] * 3
