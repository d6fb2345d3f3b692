"""A whole Nadi that keeps a Subscription in its EHR: nothing is lost, whoever is killed."""

import json
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
