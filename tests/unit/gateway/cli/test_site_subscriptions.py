"""`nadi site apply` and `nadi doctor` where a site keeps Subscriptions in an EHR."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import Run
from tests.installation import Installation
from tests.sandbox import TOKEN, SandboxEhr

ITEM = "subscription: {types: [Observation, Consent], endpoint: 'http://127.0.0.1:9/fhir'}"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxEhr]:
    made = SandboxEhr()
    made.start()
    yield made
    made.stop()


@pytest.fixture
def site_of(nadi: Installation, tmp_path: Path, sandbox: SandboxEhr):
    """Give a site file of the sandbox's EHR, with these items in its `receive`."""
    (tmp_path / "token").write_text(TOKEN)

    with nadi.store.read() as uow:
        row = uow.sites.current()
    first = row.yaml if row else ""

    def make(*items: str, origin: str = sandbox.origin) -> str:
        text = first.replace(
            "base_url: http://127.0.0.1:${NADI_SANDBOX_PORT:-8090}/fhir",
            f"base_url: {origin}/fhir",
        )
        text = text.replace(
            "auth: {kind: none}", f"auth: {{kind: bearer, token: 'file:{tmp_path}/token'}}"
        )
        listed = "".join(f"\n      - {each}" for each in ("push", *items))
        file = tmp_path / f"site-{len(items)}.yaml"
        file.write_text(text.replace("receive: [push]", f"receive:{listed}"))
        return str(file)

    return make


def credentials(nadi: Installation) -> int:
    with nadi.store.read() as uow:
        listed = uow.credentials.list()
    return sum(each.revoked_ms is None and "subscription" in each.name for each in listed)


def test_applying_tells_what_was_made_and_what_was_ended(nadi: Installation, run: Run, site_of):
    plain, subscribing = site_of(), site_of(ITEM)

    said = run("site", "apply", subscribing).stdout
    assert said.count("made") == 2
    assert credentials(nadi) == 2

    assert "made" not in run("site", "apply", plain).stdout
    assert credentials(nadi) == 0


def test_an_ehr_that_is_away_does_not_undo_the_site_and_is_told(
    nadi: Installation, run: Run, site_of
):
    said = run("site", "apply", site_of(ITEM, origin="http://127.0.0.1:9")).stdout

    assert "could not be seen to" in said
    assert "is in force" in said
    assert credentials(nadi) == 0


def test_doctor_tells_that_subscriptions_are_missing_and_delivery_is_not_proved(
    run: Run, site_of, sandbox: SandboxEhr
):
    run("site", "apply", site_of(ITEM, origin="http://127.0.0.1:9"))
    run("site", "apply", site_of(ITEM))
    sandbox.faults(unsupported_types=["Subscription"])

    said = json.loads(run("doctor", "--json", code=1).stdout)

    sandbox.faults(unsupported_types=[])
    found = {each["check"]: each for each in said}
    assert found["subscriptions ehr/subscription"]["verdict"] == "failed"
    assert "gone" in found["subscriptions ehr/subscription"]["says"]
    assert found["delivery ehr/subscription"]["verdict"] == "warning"
    assert "test_patient" in found["delivery ehr/subscription"]["says"]
    assert found["listener ehr/subscription"]["verdict"] == "failed"


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ("subscription: {types: [Observation]}", "endpoint"),
        ("subscription: {types: [observation], endpoint: 'http://a/b'}", "must be a resource type"),
        (
            "subscription: {types: [Consent], endpoint: 'http://a/b', content: id-only}",
            "needs a topic",
        ),
        ("poll: {types: [], every_s: 10}", "types"),
        ("poll: {types: [Consent], evry_s: 10}", "did you mean 'every_s'"),
        ("poll: {types: [Consent], include: [Subject]}", "such as Observation:subject"),
        ("atom: {base_url: 'https://a/b', feeds: [patients]}", "must be"),
        (
            "atom: {base_url: 'https://a/b', feeds: [encounter, drug]}",
            "the feed drug tells of the catalogue",
        ),
    ],
)
def test_a_mistake_in_a_feed_is_told_with_its_place(run: Run, site_of, item: str, says: str):
    told = run("site", "validate", site_of(item), code=1).stderr

    assert says in told
    assert "systems.ehr.receive" in told
