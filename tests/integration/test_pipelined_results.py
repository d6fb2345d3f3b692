"""An EHR without transactions gets its results over several connections, each of them once."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from adapters.fhir_rest.answers import WriteOutcome
from adapters.fhir_rest.client import FhirClient
from gateway.core.findings import ResultContext, RuntimeFacts, report, result_identifier
from gateway.core.write_back import StoredReport
from models.manifest import parse
from tests.hospital import MANIFEST
from tests.sandbox import TOKEN, SandboxEhr
from workers.result_recipient import ResultRecipient, Written

pytestmark = pytest.mark.integration

SLOW_MS, COUNT, CONNECTIONS = 40, 24, 4


class CountingClient(FhirClient):
    """The real client, which also counts how many creations are under way at once."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._lock = threading.Lock()
        self._under_way = 0
        self.most_at_once = 0

    def create(self, *arguments: Any, **options: Any) -> WriteOutcome:
        with self._lock:
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
def client() -> Iterator[CountingClient]:
    sandbox = SandboxEhr()
    sandbox.start()
    sandbox.faults(no_transaction=True, slow_ms=SLOW_MS)
    with CountingClient(
        f"{sandbox.origin}/fhir",
        auth_header=lambda: f"Bearer {TOKEN}",
        timeout_s=10,
        max_response_bytes=10_000_000,
    ) as connected:
        yield connected
    sandbox.stop()


def test_results_that_go_alone_go_side_by_side_and_share_one_device(client: CountingClient) -> None:
    reports = [make(number) for number in range(COUNT)]
    recipient = ResultRecipient(client, connections=CONNECTIONS)

    fates = recipient.write(reports, repeated=frozenset())

    assert all(isinstance(fates[each.identifier], Written) for each in reports)
    assert len(client.search("Device", [], max_pages=9)) == 1
    assert len(client.search("Observation", [], max_pages=9)) == COUNT
    assert len(client.search("Provenance", [], max_pages=9)) == COUNT
    assert 1 < client.most_at_once <= CONNECTIONS
