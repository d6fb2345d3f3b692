"""An EHR without transactions gets its results in batches, or over several connections, once."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from adapters.authorization import GivenLogin
from adapters.fhir_rest.answers import WriteOutcome
from adapters.fhir_rest.client import FhirClient
from gateway.core.findings import ResultContext, RuntimeFacts, report, result_identifier
from gateway.core.write_back import StoredReport
from models.manifest import parse
from tests.hospital import MANIFEST
from tests.sandbox import TOKEN, SandboxEhr
from workers.fates import NotReached, Written
from workers.result_recipient import ResultRecipient

pytestmark = pytest.mark.integration

SLOW_MS, COUNT, CONNECTIONS = 40, 24, 4


class CountingClient(FhirClient):
    """The real client, which also counts how many creations are under way at once."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._lock = threading.Lock()
        self._under_way = 0
        self.most_at_once = 0
        self.created: list[str] = []

    def create(self, *arguments: Any, **options: Any) -> WriteOutcome:
        with self._lock:
            self.created.append(arguments[0])
            self._under_way += 1
            self.most_at_once = max(self.most_at_once, self._under_way)
        try:
            return super().create(*arguments, **options)
        finally:
            with self._lock:
                self._under_way -= 1


def make(number: int) -> StoredReport:
    context = ResultContext(
        identifier=result_identifier("ehr", str(number), "route", "d" * 64),
        subject="Patient/p1",
        encounter=None,
        effective={"effectiveDateTime": "2026-11-20"},
        issued=datetime(2026, 11, 23, tzinfo=UTC),
        trigger=None,
        with_provenance=True,
    )
    runtime = RuntimeFacts(model_digest="d" * 64, runtime="toy 1", kernel_class="none")
    made = report(parse(MANIFEST), (0.5,), inputs=(), context=context, runtime=runtime)
    return StoredReport.read(made.to_json())


@pytest.fixture
def sandbox() -> Iterator[SandboxEhr]:
    running = SandboxEhr()
    running.start()
    yield running
    running.stop()


@pytest.fixture
def client(sandbox: SandboxEhr) -> Iterator[CountingClient]:
    with CountingClient(
        f"{sandbox.origin}/fhir",
        login=GivenLogin(f"Bearer {TOKEN}"),
        timeout_s=10,
        max_response_bytes=10_000_000,
    ) as connected:
        yield connected


def held(client: CountingClient) -> list[int]:
    kinds = ("Device", "Observation", "Provenance")
    return [len(client.search(kind, [], max_pages=9)) for kind in kinds]


def test_results_that_go_alone_go_side_by_side_and_share_one_device(
    sandbox: SandboxEhr, client: CountingClient
) -> None:
    sandbox.faults(no_transaction=True, no_batch=True, slow_ms=SLOW_MS)
    reports = [make(number) for number in range(COUNT)]
    recipient = ResultRecipient(client, connections=CONNECTIONS)

    fates = recipient.write(reports, repeated=frozenset())

    assert all(isinstance(fates[each.identifier], Written) for each in reports)
    assert held(client) == [1, COUNT, COUNT]
    assert 1 < client.most_at_once <= CONNECTIONS


def test_an_ehr_that_says_it_takes_batches_gets_them(
    sandbox: SandboxEhr, client: CountingClient
) -> None:
    sandbox.faults(no_transaction=True)
    reports = [make(number) for number in range(COUNT)]
    recipient = ResultRecipient(client, connections=CONNECTIONS)

    fates = recipient.write(reports, repeated=frozenset())

    assert all(isinstance(fates[each.identifier], Written) for each in reports)
    assert held(client) == [1, COUNT, COUNT]
    assert client.created == ["Device"]


def test_batches_whose_answers_were_lost_leave_nothing_twice(
    sandbox: SandboxEhr, client: CountingClient
) -> None:
    sandbox.faults(no_transaction=True, no_conditional_create=True, drop_after_commit_rate=1.0)
    reports = [make(number) for number in range(COUNT)]
    tried = frozenset(each.identifier for each in reports)
    recipient = ResultRecipient(client, connections=CONNECTIONS)
    first = set(map(type, recipient.write(reports, repeated=frozenset()).values()))
    second = set(map(type, recipient.write(reports, repeated=tried).values()))
    sandbox.faults(drop_after_commit_rate=0)

    last = set(map(type, recipient.write(reports, repeated=tried).values()))

    assert first == second == {NotReached}
    assert last == {Written}
    assert held(client) == [1, COUNT, COUNT]
