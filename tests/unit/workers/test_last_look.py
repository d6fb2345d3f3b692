from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.core.delivery import DeliveryState
from gateway.core.jobs import BusinessStatus, JobState
from tests.hospital import FakeConnection, FakeConnections, FakeEhr, Hospital, consent_of
from tests.unit.workers.test_delivery import DONE, WAITING, states, with_result
from workers.result_recipient import ResultRecipient


class TellingEhr(FakeEhr):
    """Does something while it is searched, which is before a result is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: Callable[[], None] = lambda: None

    def search(self, resource_type, params, **how):
        self.meanwhile()
        return super().search(resource_type, params, **how)


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    made = Hospital(tmp_path)
    made.ehr = TellingEhr()
    connection = FakeConnection(made.ehr, None, ResultRecipient(made.ehr))
    made.ehrs.known = FakeConnections(connection).known
    yield made
    made.close()


def test_what_is_still_permitted_goes(hospital: Hospital) -> None:
    with_result(hospital)

    hospital.deliver()

    assert states(hospital) == DONE


def test_a_consent_withdrawn_after_it_was_asked_stops_the_result_at_the_last_moment(
    hospital: Hospital,
) -> None:
    with_result(hospital)
    hospital.ehr.meanwhile = lambda: hospital.push(consent_of("p1", "deny", version="2"))

    hospital.deliver()

    assert states(hospital) == (
        JobState.CANCELLED,
        BusinessStatus.CONSENT_WITHDRAWN,
        DeliveryState.CANCELLED,
    )
    assert hospital.ehr.results() == []
    assert hospital.job().decisions[-1]["decision"] == "deny"
    assert [event for event, _ in hospital.audited()[-2:]] == ["consent", "cancel"]


def test_nothing_goes_while_consent_can_t_be_asked(hospital: Hospital) -> None:
    with_result(hospital)

    def lose_consents() -> None:
        with hospital.store.write() as uow:
            uow.connection.exec_driver_sql("alter table events rename to events_away")

    hospital.ehr.meanwhile = lose_consents
    hospital.deliver()
    with hospital.store.write() as uow:
        uow.connection.exec_driver_sql("alter table events_away rename to events")

    assert states(hospital) == WAITING
    assert hospital.ehr.results() == []
    delivery = hospital.delivery()
    assert delivery is not None
    assert delivery.last_answer == "Withheld"

    hospital.ehr.meanwhile = lambda: None
    hospital.pass_time(60)
    hospital.deliver()
    assert states(hospital) == DONE


def test_a_removed_route_holds_its_result_back_and_the_next_attempt_stops_it(
    hospital: Hospital,
) -> None:
    with_result(hospital)
    hospital.ehr.meanwhile = hospital.remove_routes

    hospital.deliver()
    assert states(hospital) == WAITING
    hospital.pass_time(60)
    hospital.deliver()

    assert hospital.job().business_status is BusinessStatus.STOPPED
    assert hospital.ehr.results() == []
