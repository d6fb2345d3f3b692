"""A source that is silent is told, and so is a probe that does not arrive."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from adapters.authorization import GivenLogin
from adapters.fhir_rest.client import FhirClient
from adapters.site import load_site
from gateway.core.audit import Source
from gateway.core.event import is_unsettled
from gateway.core.fhir import parse_resource
from gateway.delivery_probe import DeliveryProbe, ObservationTrace, probe_resource
from gateway.listeners.watches import ProbeWatch, SilenceWatch
from tests.conftest import Api
from tests.factories import SITE, creatinine, raw
from tests.sandbox import TOKEN, SandboxEhr

FOLLOWED = SITE.replace("[push]", "[push, {poll: {types: [Observation]}}]")
SITE_OF = load_site(FOLLOWED)


@dataclass
class Clock:
    seconds: float = 0

    def __call__(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.seconds)


@dataclass
class DeskOf:
    """As much of a desk as a watch looks at."""

    api: Api
    feed: object = field(default_factory=lambda: SITE_OF.feeds["ehr/poll"])

    @property
    def store(self):
        return self.api.store

    def site(self):
        return SITE_OF


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxEhr]:
    made = SandboxEhr()
    made.start()
    yield made
    made.stop()


@pytest.fixture
def client(sandbox: SandboxEhr) -> Iterator[FhirClient]:
    sandbox.faults(down="no")
    with FhirClient(
        f"{sandbox.origin}/fhir",
        login=GivenLogin(f"Bearer {TOKEN}"),
        timeout_s=5,
        max_response_bytes=2**20,
    ) as made:
        yield made


def test_a_source_is_silent_when_nothing_came_for_long_enough(api: Api):
    clock = Clock()
    watch = SilenceWatch(DeskOf(api), 60, clock)
    assert watch.look() == ""

    clock.seconds = 61
    assert "Nothing new came for more than 60 s" in watch.look()

    api.post(raw(creatinine(1)))
    clock.seconds = 80
    assert "Nothing" in watch.look()
    clock.seconds = 20
    assert SilenceWatch(DeskOf(api), 60, clock).look() == ""


def test_what_came_by_push_counts_as_heard(api: Api):
    clock = Clock(seconds=-100)
    watch = SilenceWatch(DeskOf(api), 60, clock)
    api.post(raw(creatinine(1)))

    clock.seconds = 50
    assert watch.look() == ""
    clock.seconds = 70
    assert watch.look() != ""


def test_a_probe_is_valid_and_no_finding():
    probe = probe_resource("Patient/nadi-test", datetime.now(UTC))

    parse_resource(raw(probe), expected_type="Observation")
    assert is_unsettled(probe)


def probe_of(api: Api, client: FhirClient) -> DeliveryProbe:
    source = Source("test-hospital", "test")
    trace = ObservationTrace(client, "Patient/nadi-test")
    return DeliveryProbe(api.store, trace, ("ehr/poll", "ehr"), source)


def deliver(api: Api, client: FhirClient, reference: str) -> None:
    body = client.read_bytes(reference)
    assert body is not None
    assert api.put(body, f"/fhir/{reference}").status_code == 202


def test_a_probe_arrives_and_each_is_a_version_of_the_same_resource(api: Api, client: FhirClient):
    probe = probe_of(api, client)
    first = probe.send()
    assert probe.lag_ms(first) is None

    deliver(api, client, first.reference)
    lag_ms = probe.lag_ms(first)
    second = probe.send()

    assert lag_ms is not None
    assert 0 <= lag_ms < 10_000
    assert second.reference == first.reference
    assert client.read(second.reference)["meta"]["versionId"] == "2"


def test_a_probe_that_is_lost_is_told_until_one_arrives(api: Api, client: FhirClient):
    clock, probe = Clock(), probe_of(api, client)
    watch = ProbeWatch(probe, "ehr/poll", 60, clock)
    assert watch.look() == ""

    clock.seconds = 61
    assert "did not arrive" in watch.look()

    with api.store.read() as uow:
        reference = uow.listener_state.get("ehr/poll", "probe")["reference"]
    deliver(api, client, reference)
    assert watch.look() == ""


def test_an_ehr_that_is_away_is_no_lost_probe(api: Api, client: FhirClient, sandbox: SandboxEhr):
    sandbox.faults(down="503")

    assert ProbeWatch(probe_of(api, client), "ehr/poll", 60, Clock()).look() == ""


def test_an_ehr_that_refuses_a_probe_is_told(api: Api, client: FhirClient, sandbox: SandboxEhr):
    sandbox.faults(unsupported_types=["Observation"])

    says = ProbeWatch(probe_of(api, client), "ehr/poll", 60, Clock()).look()

    sandbox.faults(unsupported_types=[])
    assert "does not take a probe" in says
