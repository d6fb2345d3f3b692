"""Every client of a system with a rate cap stands in its line; without a cap nothing is written."""

from collections.abc import Callable
from contextlib import suppress

import pytest
import sqlalchemy as sa

from adapters.authorization import NO_LOGIN
from adapters.feeds.atom_client import AtomClient
from adapters.feeds.bulk import BulkClient
from adapters.fhir_rest.client import FhirClient
from adapters.site import System
from gateway.core.errors import GatewayError, RateTaken
from gateway.store.pacing_tables import paced_lines
from gateway.store.unit_of_work import Store
from tests.answering import Answering, answering
from workers.pacing import paced

Ask = Callable[[Answering, Callable[[], None]], object]


def by_fhir(ehr: Answering, pace: Callable[[], None]) -> object:
    client = FhirClient(ehr.base, login=NO_LOGIN, timeout_s=5, max_response_bytes=1000, pace=pace)
    return client.read("Patient/p1")


def by_atom(ehr: Answering, pace: Callable[[], None]) -> object:
    client = AtomClient(f"{ehr.base}/ws/atomfeed", login=NO_LOGIN, timeout_s=5, pace=pace)
    return client.page("patient", None)


def by_bulk(ehr: Answering, pace: Callable[[], None]) -> object:
    client = BulkClient(ehr.base, login=NO_LOGIN, timeout_s=5, pace=pace)
    return client.kick_off("", [])


@pytest.mark.parametrize("ask", [by_fhir, by_atom, by_bulk])
def test_what_has_no_place_in_the_line_is_not_sent(store: Store, ask: Ask) -> None:
    system = System(name="ehr", kind="fhir-rest", address=None, per_second=10)
    with store.write() as uow:
        uow.pacing.take("ehr", count=500, per_second=10, within_s=0)

    with answering() as ehr, pytest.raises(RateTaken):
        ask(ehr, paced(system, store, timeout_s=5))

    assert ehr.requests == []


@pytest.mark.parametrize("ask", [by_fhir, by_atom, by_bulk])
def test_without_a_cap_requests_leave_and_nothing_is_written(store: Store, ask: Ask) -> None:
    system = System(name="ehr", kind="fhir-rest", address=None)

    with answering() as ehr:
        ehr.answer(b"{}", status=404)
        with suppress(GatewayError):  # what a client makes of the answer is no matter here
            ask(ehr, paced(system, store, timeout_s=5))

    assert len(ehr.requests) == 1
    with store.read() as uow:
        assert uow.connection.execute(sa.select(paced_lines)).all() == []
