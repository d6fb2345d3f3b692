"""The Subscriptions that Nadi keeps in an EHR: made, taken over, begun again, ended."""

from collections.abc import Iterator

import pytest

from adapters.authorization import GivenLogin
from adapters.fhir_rest.client import FhirClient
from adapters.fhir_rest.errors import EhrOverloaded
from adapters.site import load_site
from gateway.core.audit import AgentKind, AuditAgent, Source
from gateway.listeners.keeping import Keeper
from gateway.store.unit_of_work import Store
from tests.factories import SITE
from tests.sandbox import TOKEN, SandboxEhr

pytestmark = pytest.mark.integration

PLAIN = "{types: [Observation, 'Consent?status=active'], endpoint: 'http://127.0.0.1:9/fhir'}"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxEhr]:
    made = SandboxEhr()
    made.start()
    yield made
    made.stop()


class Kept:
    def __init__(self, sandbox: SandboxEhr, store: Store) -> None:
        self.store = store
        self.sandbox = sandbox
        self.client = FhirClient(
            f"{sandbox.origin}/fhir",
            login=GivenLogin(f"Bearer {TOKEN}"),
            timeout_s=5,
            max_response_bytes=2**22,
        )

    def keeper(self, entry: str = PLAIN) -> Keeper:
        text = SITE.replace("receive: [push]", f"receive:\n      - subscription: {entry}")
        by = AuditAgent("os-user:test", "test", AgentKind.USER)
        feed = load_site(text).feeds["ehr/subscription"]
        source = Source("test-hospital", "test")
        return Keeper(self.store, feed, self.client, source=source, by=by)

    def done(self, entry: str = PLAIN) -> list[str]:
        return [each.was for each in self.keeper(entry).keep()]

    def there(self) -> list[dict]:
        return self.client.search("Subscription", [("_count", "100")])

    def in_force(self) -> int:
        with self.store.read() as uow:
            return sum(each.revoked_ms is None for each in uow.credentials.list())

    def token_of(self, resource: dict) -> str:
        (line,) = resource["channel"]["header"]
        return line.removeprefix("Authorization: Bearer ")


@pytest.fixture
def kept(sandbox: SandboxEhr, store: Store) -> Iterator[Kept]:
    made = Kept(sandbox, store)
    yield made
    for each in made.there():
        made.client._transport.send("DELETE", f"{sandbox.origin}/fhir/Subscription/{each['id']}")
    made.client.close()


def test_each_is_made_once_with_a_credential_of_its_own(kept: Kept):
    assert kept.done() == ["made", "made"]
    assert kept.done() == ["kept", "kept"]

    tokens = {kept.token_of(each) for each in kept.there()}
    assert (len(tokens), kept.in_force()) == (2, 2)


def test_one_that_the_ehr_lost_is_made_again_and_the_old_credential_ends(kept: Kept):
    kept.done()
    gone, left = kept.there()
    kept.client._transport.send("DELETE", f"{kept.sandbox.origin}/fhir/Subscription/{gone['id']}")

    assert sorted(kept.done()) == ["kept", "made"]

    assert (len(kept.there()), kept.in_force()) == (2, 2)
    assert left["id"] in {each["id"] for each in kept.there()}


def test_one_that_a_broken_start_left_is_taken_over(kept: Kept):
    kept.done()
    with kept.store.write() as uow:
        for key in uow.listener_state.with_prefix("ehr/subscription", "own/"):
            uow.listener_state.remove("ehr/subscription", key)

    assert kept.done() == ["renewed", "renewed"]

    assert len(kept.there()) == 2


def test_what_the_site_file_changes_is_written_again(kept: Kept):
    kept.done()

    changed = PLAIN.replace("}", ", content: empty}")

    assert kept.done(changed) == ["renewed", "renewed"]
    assert all("payload" not in each["channel"] for each in kept.there())


def test_what_the_site_file_does_not_name_any_more_is_ended(kept: Kept):
    kept.done()

    assert kept.done("{types: [Observation], endpoint: 'http://127.0.0.1:9/fhir'}") == [
        "kept",
        "ended",
    ]

    assert sorted(each["status"] for each in kept.there()) == ["active", "off"]
    assert kept.in_force() == 1
    assert [each.was for each in kept.keeper().end()] == ["ended"]
    assert kept.in_force() == 0


def test_one_that_ended_is_begun_again_and_another_system_s_is_left_alone(kept: Kept):
    kept.done()
    first = kept.there()[0]

    assert kept.keeper().renew(f"Subscription/{first['id']}")
    assert not kept.keeper().renew("Subscription/of-somebody-else")

    again = next(each for each in kept.there() if each["id"] == first["id"])
    assert kept.token_of(again) != kept.token_of(first)
    assert kept.in_force() == 2


def test_an_ehr_that_is_away_leaves_no_credential_behind(kept: Kept):
    kept.sandbox.faults(down="503")
    with pytest.raises(EhrOverloaded):
        kept.keeper().keep()
    kept.sandbox.faults(down="no")

    assert kept.in_force() == 0
    assert kept.done() == ["made", "made"]


def test_every_credential_made_and_revoked_is_on_record(kept: Kept):
    kept.done()
    kept.keeper().end()

    with kept.store.read() as uow:
        rows = uow.connection.exec_driver_sql(
            "select action, count(*) from audit_events where event = 'credential' "
            "group by action order by action"
        ).all()
    assert [tuple(row) for row in rows] == [("C", 2), ("D", 2)]
