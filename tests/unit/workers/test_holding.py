"""While it is not known what an EHR changed of its Consents, what came from it is not claimed."""

from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from adapters.fhir_rest.errors import EhrUnreachable
from adapters.site import load_site
from gateway.catching_up import STALE_AFTER_MS, WAITS, lag, say_current
from gateway.core.clock import to_ms
from gateway.core.jobs import BusinessStatus, JobState
from tests.hospital import SITE, Hospital, consent_of, observation

WAIT_S = 60
FOLLOWED = SITE.replace("REFUSALS", "none").replace(
    "base_url: http://ehr.test/fhir",
    "base_url: http://ehr.test/fhir\n    receive: RECEIVE",
)
POLL = "{poll: {types: [Observation, Patient, Consent], consents_wait_s: 60}}"
WITHDRAWN = (JobState.CANCELLED, BusinessStatus.CONSENT_WITHDRAWN)
QUEUED = (JobState.READY, BusinessStatus.QUEUED)


@pytest.fixture
def hospital(tmp_path: Path) -> Hospital:
    made = Hospital(tmp_path, site=load_site(FOLLOWED.replace("RECEIVE", f"[push, {POLL}]")))
    made.admit_patient()
    return made


def caught_up(hospital: Hospital, feed: str = "ehr/poll") -> None:
    """Let a feed say what it says when it has asked for everything."""
    with hospital.store.write() as uow:
        say_current(uow, feed)


def stands(hospital: Hospital) -> tuple[JobState, BusinessStatus]:
    return hospital.job().state, hospital.job().business_status


def held(hospital: Hospital) -> tuple[bool, bool]:
    """Say whether the event of the one job waits, and whether it would in an emergency."""
    (route,), event_id = hospital.site.routes, hospital.job().event_id
    with hospital.store.read() as uow:
        event = uow.events.get_many([event_id])[event_id]
        behind = lag(uow, hospital.site, began_ms=0)
    emergency = replace(route, breaks_glass=True)
    ordinary_ms, emergency_ms = (behind.look_again_ms(event, each) for each in (route, emergency))
    return ordinary_ms is not None, emergency_ms is not None


def test_a_job_stays_ready_and_says_why_until_the_feed_has_caught_up(hospital: Hospital) -> None:
    hospital.push(observation())

    hospital.infer()

    job = hospital.job()
    assert (stands(hospital), job.reason, job.attempt) == (QUEUED, WAITS, 0)
    caught_up(hospital)
    hospital.pass_time(2)
    hospital.infer()
    assert stands(hospital) == (JobState.IN_PROGRESS, BusinessStatus.DELIVERY_PENDING)
    assert hospital.job().reason == ""


def test_a_withdrawal_that_is_caught_up_with_ends_it_unread(hospital: Hospital) -> None:
    hospital.push(observation())
    hospital.infer()

    hospital.push({**consent_of(version="2"), "status": "inactive"})
    caught_up(hospital)
    hospital.pass_time(2)
    hospital.infer()

    assert stands(hospital) == WITHDRAWN
    assert hospital.models.model.batches == []


def test_it_waits_no_longer_than_the_site_says(hospital: Hospital) -> None:
    hospital.push(observation())
    hospital.infer()

    hospital.pass_time(WAIT_S - 1)
    hospital.infer()
    assert stands(hospital) == QUEUED
    hospital.pass_time(1)
    hospital.infer()

    assert stands(hospital) == (JobState.IN_PROGRESS, BusinessStatus.DELIVERY_PENDING)


@pytest.fixture
def slow_hospital(tmp_path: Path) -> Hospital:
    """Give one that lets results wait for a day, which is longer than they are tried for."""
    receive = f"[push, {POLL.replace('60', '86400')}]"
    made = Hospital(tmp_path, site=load_site(FOLLOWED.replace("RECEIVE", receive)))
    made.admit_patient()
    return made


def test_what_waits_for_hours_is_looked_at_once_a_minute(slow_hospital: Hospital) -> None:
    hospital = slow_hospital
    hospital.push(observation())
    hospital.pass_time(7200)
    hospital.infer()
    caught_up(hospital)

    hospital.pass_time(50)
    hospital.infer()
    too_soon = stands(hospital)
    hospital.pass_time(10)
    caught_up(hospital)
    hospital.infer()

    assert too_soon == QUEUED
    assert stands(hospital) == (JobState.IN_PROGRESS, BusinessStatus.DELIVERY_PENDING)


def test_a_job_that_waited_for_longer_than_it_is_tried_is_tried_all_the_same(
    slow_hospital: Hospital,
) -> None:
    hospital = slow_hospital
    hospital.push(observation())
    hospital.infer()
    hospital.pass_time(7200)
    caught_up(hospital)
    hospital.ehr.away = EhrUnreachable()

    hospital.infer()

    assert (stands(hospital), hospital.job().attempt) == (QUEUED, 1)


def test_nor_is_a_result_given_up_for_having_waited(slow_hospital: Hospital) -> None:
    hospital = slow_hospital
    caught_up(hospital)
    hospital.push(observation())
    hospital.infer()
    hospital.pass_time(7200)
    hospital.deliver()
    caught_up(hospital)
    hospital.pass_time(50)
    caught_up(hospital)
    hospital.pass_time(10)
    hospital.ehr.away = EhrUnreachable()

    hospital.deliver()

    delivery = hospital.delivery()
    assert delivery is not None
    assert (delivery.state.value, delivery.attempt) == ("pending", 1)


def test_what_waited_already_before_the_outage_waits_from_the_start_of_the_worker(
    hospital: Hospital,
) -> None:
    hospital.push(observation())
    hospital.pass_time(7200)
    hospital.ports = replace(hospital.ports, began_ms=to_ms(hospital.now))

    hospital.pass_time(1)
    hospital.infer()

    assert stands(hospital) == QUEUED


def test_a_feed_that_has_not_said_anything_for_long_is_not_believed(hospital: Hospital) -> None:
    caught_up(hospital)
    hospital.pass_time(STALE_AFTER_MS / 1000 + 1)
    hospital.push(observation())

    hospital.infer()

    assert stands(hospital) == QUEUED


def test_what_a_feed_said_before_the_clock_was_set_back_is_not_believed(hospital: Hospital) -> None:
    caught_up(hospital)
    hospital.pass_time(-7200)
    hospital.push(observation(at=hospital.now))

    hospital.infer()

    assert stands(hospital)[0] is JobState.READY
    assert hospital.job().reason == WAITS


def test_a_clock_that_is_set_back_makes_nothing_wait_for_hours(hospital: Hospital) -> None:
    hospital.push(observation())
    before, _ = held(hospital)

    hospital.pass_time(-7200)

    assert (before, held(hospital)[0]) == (True, False)


def test_what_a_host_received_whose_clock_is_ahead_waits_as_well(hospital: Hospital) -> None:
    hospital.push(observation())

    hospital.pass_time(-5)

    assert held(hospital)[0]


def test_what_comes_after_the_clock_was_set_back_waits_though_the_worker_began_before(
    hospital: Hospital,
) -> None:
    began_ms = to_ms(hospital.now)
    hospital.pass_time(-7200)
    hospital.push(observation(at=hospital.now))
    hospital.ports = replace(hospital.ports, began_ms=began_ms)

    hospital.infer()

    assert (stands(hospital), hospital.job().reason) == (QUEUED, WAITS)


def test_a_result_that_waited_for_its_ehr_is_not_sent_either(hospital: Hospital) -> None:
    caught_up(hospital)
    hospital.push(observation())
    hospital.infer()
    hospital.pass_time(7200)
    hospital.ports = replace(hospital.ports, began_ms=to_ms(hospital.now))
    hospital.ehr.calls.clear()

    hospital.deliver()

    delivery = hospital.delivery()
    assert delivery is not None
    assert (delivery.state.value, delivery.attempt, delivery.last_answer) == ("pending", 0, "")
    assert hospital.ehr.calls == []
    caught_up(hospital)
    hospital.pass_time(2)
    hospital.deliver()
    assert len(hospital.ehr.results()) == 1


def tried_after_an_outage(hospital: Hospital) -> None:
    """Let a result wait for two hours for an EHR that is away; now it is back."""
    caught_up(hospital)
    hospital.push(observation())
    hospital.infer()
    hospital.ehr.away = EhrUnreachable()
    hospital.deliver()
    hospital.pass_time(7200)
    with hospital.store.write() as uow:
        uow.deliveries.circuit_failed("ehr", delay_s=30, is_asked=True)
    hospital.pass_time(31)
    hospital.ehr.away = None
    hospital.ehr.calls.clear()
    hospital.deliver()


def test_a_result_that_waited_while_the_ehr_was_away_waits_for_what_it_changed_of_consents(
    tmp_path: Path,
) -> None:
    hospital = Hospital(tmp_path, site=load_site(FOLLOWED.replace("RECEIVE", f"[push, {POLL}]")))
    hospital.ports = replace(
        hospital.ports, backoff=replace(hospital.ports.backoff, budget_s=86_400)
    )
    hospital.admit_patient()

    tried_after_an_outage(hospital)

    assert hospital.ehr.calls == []
    hospital.push({**consent_of(version="2"), "status": "inactive"})
    caught_up(hospital)
    hospital.pass_time(30)
    hospital.deliver()
    assert (stands(hospital), hospital.ehr.results()) == (WITHDRAWN, [])


def test_so_does_a_job_that_was_put_off_since_the_ehr_was_away(hospital: Hospital) -> None:
    caught_up(hospital)
    hospital.push(observation())
    hospital.ehr.away = EhrUnreachable()
    hospital.infer()
    hospital.pass_time(1800)
    with hospital.store.write() as uow:
        uow.deliveries.circuit_failed("ehr", delay_s=30, is_asked=True)
    hospital.pass_time(31)
    hospital.ehr.away = None
    hospital.ehr.calls.clear()

    hospital.infer()

    assert (stands(hospital), hospital.job().reason) == (QUEUED, WAITS)
    assert hospital.ehr.calls == []


def test_but_no_longer_than_the_site_says(hospital: Hospital) -> None:
    tried_after_an_outage(hospital)

    hospital.pass_time(WAIT_S)
    hospital.deliver()

    assert hospital.ehr.calls


def test_a_withdrawal_that_is_caught_up_with_keeps_it_from_the_ehr(hospital: Hospital) -> None:
    caught_up(hospital)
    hospital.push(observation())
    hospital.infer()
    hospital.pass_time(7200)
    hospital.ports = replace(hospital.ports, began_ms=to_ms(hospital.now))
    hospital.deliver()

    hospital.push({**consent_of(version="2"), "status": "inactive"})
    caught_up(hospital)
    hospital.pass_time(2)
    hospital.deliver()

    assert stands(hospital) == WITHDRAWN
    assert hospital.ehr.results() == []


@pytest.mark.parametrize(
    "receive",
    [
        "[push]",
        "[push, {poll: {types: [Observation, Patient]}}]",
        "[push, {poll: {types: [Observation, Consent], consents_wait_s: 0}}]",
    ],
    ids=["pushes only", "consents are not followed", "not at all"],
)
def test_where_nobody_is_to_ask_nothing_waits(tmp_path: Path, receive: str) -> None:
    hospital = Hospital(tmp_path, site=load_site(FOLLOWED.replace("RECEIVE", receive)))
    hospital.admit_patient()
    hospital.push(observation())

    hospital.infer()

    assert stands(hospital) == (JobState.IN_PROGRESS, BusinessStatus.DELIVERY_PENDING)


def test_one_feed_that_has_caught_up_is_enough(tmp_path: Path) -> None:
    subscribed = "{subscription: {types: [Consent], endpoint: https://nadi.test/fhir}}"
    receive = f"[push, {POLL}, {subscribed}]"
    hospital = Hospital(tmp_path, site=load_site(FOLLOWED.replace("RECEIVE", receive)))
    caught_up(hospital, "ehr/subscription")

    with hospital.store.read() as uow:
        assert lag(uow, hospital.site, began_ms=0).waits_ms == {}


def test_it_is_asked_without_reading_all_that_listeners_remember(hospital: Hospital) -> None:
    asked: list[str] = []
    sa.event.listen(
        hospital.store.engine, "before_cursor_execute", lambda *told: asked.append(told[2])
    )

    with hospital.store.read() as uow:
        lag(uow, hospital.site, began_ms=0)
        (query,) = [each for each in asked if "listener_state" in each]
        values = ("?",) * query.count("?")
        plan = uow.connection.exec_driver_sql(f"explain query plan {query}", values).all()

    assert ["(listener=? AND key=?)" in str(step) for step in plan] == [True]


def test_an_emergency_does_not_wait(hospital: Hospital) -> None:
    hospital.push(observation())

    assert held(hospital) == (True, False)
