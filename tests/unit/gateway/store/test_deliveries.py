from collections.abc import Iterator
from dataclasses import replace

import pytest

from gateway.core.delivery import FAILURES_TO_OPEN, Circuit, DeliveryState, NewDelivery, Passage
from gateway.core.errors import Unsealable
from gateway.core.jobs import JobId
from gateway.store.deliveries import Deliveries, Settlement
from gateway.store.unit_of_work import Store
from gateway.store.unit_of_work import UnitOfWork as Work
from tests.waiting import due

LEASE_MS = 60_000
BODY = b'[{"resourceType":"Observation"}]'


@pytest.fixture
def work(store: Store) -> Iterator[Work]:
    with store.write() as unit:
        unit.now_ms = 1_000_000
        yield unit


def make(number: int = 1, system: str = "ehr") -> NewDelivery:
    return NewDelivery(
        job_id=JobId(f"job-{number}"),
        system=system,
        patient_key=f"{number % 3:064d}",
        identifier=f"result-{number}",
        body=BODY,
    )


def claimed(work: Work, *new: NewDelivery, owner: str = "deliver@one"):
    deliveries = Deliveries(work)
    deliveries.add(new)
    return deliveries.claim([each.id for each in new], owner, lease_ms=LEASE_MS)


def test_the_body_is_sealed_in_the_table_and_opens_as_it_was(work: Work) -> None:
    (held,) = claimed(work, make())

    assert BODY not in held.body
    assert Deliveries(work).body(held) == BODY
    assert BODY.decode() not in repr(held)


def test_a_body_moved_to_another_row_does_not_open(work: Work) -> None:
    one, two = claimed(work, make(1), make(4))

    with pytest.raises(Unsealable):
        Deliveries(work).body(replace(one, body=two.body))


def test_a_result_added_twice_is_one_delivery(work: Work) -> None:
    Deliveries(work).add([make()])
    Deliveries(work).add([make()])
    Deliveries(work).add([])

    assert len(due(Deliveries(work))) == 1


def test_a_given_up_result_of_a_job_that_ran_again_takes_its_place_and_keeps_its_attempts(
    work: Work,
) -> None:
    deliveries = Deliveries(work)
    (held,) = claimed(work, make())
    deliveries.settle([Settlement(delivery=held, state=DeliveryState.FAILED, answer="422")])
    work.now_ms += 1000

    (again,) = claimed(work, replace(make(), body=b"new"))

    assert deliveries.body(again) == b"new"
    assert (again.attempt, again.created_ms, again.job_id) == (2, work.now_ms, held.job_id)
    assert again.id != held.id


def test_deliveries_that_may_be_tried_are_sorted_by_system(work: Work) -> None:
    new = [make(1), make(2, "other"), make(3)]
    Deliveries(work).add(new)
    Deliveries(work).claim([new[2].id], "deliver@two", lease_ms=LEASE_MS)

    pending = Deliveries(work).pending_by_system([each.id for each in new])

    assert pending == {"ehr": [new[0].id], "other": [new[1].id]}


def test_what_is_due_waits_in_a_line_for_each_system(work: Work) -> None:
    Deliveries(work).add([make(1), make(2, system="away")])

    lines = Deliveries(work).lines()

    assert sorted(name for _, name in lines) == ["away/", "ehr/"]
    assert [len(Deliveries(work).head(line, 10)) for line in lines] == [1, 1]


def test_a_claim_takes_what_is_due_and_only_once(work: Work) -> None:
    (held,) = claimed(work, make())

    assert (held.state, held.attempt) == (DeliveryState.IN_FLIGHT, 1)
    assert Deliveries(work).claim([held.id], "deliver@two", lease_ms=LEASE_MS) == []
    assert due(Deliveries(work)) == []


def test_a_delivery_that_failed_waits_for_its_next_attempt(work: Work) -> None:
    deliveries = Deliveries(work)
    (held,) = claimed(work, make())
    later = work.now_ms + 5_000

    deliveries.settle(
        [
            Settlement(
                delivery=held,
                state=DeliveryState.PENDING,
                answer="EhrTimeout",
                next_attempt_ms=later,
            )
        ]
    )

    assert due(deliveries) == []

    assert deliveries.claim([held.id], "deliver@one", lease_ms=LEASE_MS) == []
    work.now_ms = later
    (again,) = deliveries.claim([held.id], "deliver@one", lease_ms=LEASE_MS)
    assert (again.attempt, again.last_answer) == (2, "EhrTimeout")


def test_a_delivered_result_says_where_it_is_and_never_comes_back(work: Work) -> None:
    deliveries = Deliveries(work)
    (held,) = claimed(work, make())
    assert deliveries.location(held) is None

    done = Settlement(
        delivery=held,
        state=DeliveryState.DELIVERED,
        answer="201",
        location="Observation/7",
        delivered_ms=work.now_ms,
    )

    assert deliveries.settle([done]) == 1
    after = deliveries.of_jobs([held.job_id])[held.job_id]
    assert deliveries.location(after) == "Observation/7"
    assert (after.state, after.delivered_ms) == (DeliveryState.DELIVERED, work.now_ms)

    stored = work.connection.exec_driver_sql("select location from deliveries").scalar_one()
    assert b"Observation" not in stored

    ours, other = (work.written.key(held.system, f"Observation/{each}") for each in (7, 8))
    assert work.written.among([str(ours), str(other)]) == {ours}


def test_a_worker_that_woke_late_changes_nothing(work: Work) -> None:
    deliveries = Deliveries(work)
    (late,) = claimed(work, make())
    work.now_ms += LEASE_MS + 1
    assert deliveries.lost() == 1
    assert deliveries.rescue() == 1
    (successor,) = deliveries.claim([late.id], "deliver@two", lease_ms=LEASE_MS)

    settled = deliveries.settle([Settlement(delivery=late, state=DeliveryState.FAILED)])

    assert settled == 0
    assert deliveries.settle([]) == 0
    assert deliveries.still_held([late]) == []
    assert deliveries.still_held([successor]) == [successor]


def test_a_lease_that_runs_is_not_rescued_but_released_by_its_owners_name(work: Work) -> None:
    deliveries = Deliveries(work)
    claimed(work, make(1), owner="deliver@one")
    claimed(work, make(2), owner="deliver@two")

    assert deliveries.rescue() == 0
    assert deliveries.release("deliver@one") == 1
    assert len(due(deliveries)) == 1


def test_counts_tell_system_and_state(work: Work) -> None:
    Deliveries(work).add([make(1), make(2), make(3, "other")])

    assert Deliveries(work).counts() == {
        ("ehr", DeliveryState.PENDING): 2,
        ("other", DeliveryState.PENDING): 1,
    }


def test_a_circuit_opens_probes_once_and_closes_and_wakes_what_waited(work: Work) -> None:
    deliveries = Deliveries(work)
    (held,) = claimed(work, make())
    waiting = Settlement(
        delivery=held, state=DeliveryState.PENDING, next_attempt_ms=work.now_ms + 300_000
    )
    deliveries.settle([waiting])

    for _ in range(FAILURES_TO_OPEN):
        assert deliveries.pass_through("ehr", lease_ms=LEASE_MS) is Passage.ALL
        deliveries.circuit_failed("ehr", delay_s=10, is_asked=False)

    assert deliveries.pass_through("ehr", lease_ms=LEASE_MS) is Passage.NONE
    assert deliveries.pass_through("other", lease_ms=LEASE_MS) is Passage.ALL
    work.now_ms += 10_000
    assert deliveries.pass_through("ehr", lease_ms=LEASE_MS) is Passage.ONE
    assert deliveries.pass_through("ehr", lease_ms=LEASE_MS) is Passage.NONE
    deliveries.circuit_succeeded("ehr")
    assert deliveries.circuits() == {"ehr": Circuit()}
    assert due(deliveries) == [(held.id, "ehr")]


def test_success_of_a_closed_circuit_writes_nothing(work: Work) -> None:
    Deliveries(work).circuit_succeeded("ehr")

    assert Deliveries(work).circuits() == {}


def test_the_places_of_a_patient_s_results_are_known_and_nobody_else_s(work: Work) -> None:
    deliveries = Deliveries(work)
    mine, other, waiting = claimed(work, make(1), make(2), make(4))
    for each, place in ((mine, "Observation/1"), (other, "Observation/2")):
        done = Settlement(delivery=each, state=DeliveryState.DELIVERED, location=place)
        deliveries.settle([done])

    assert deliveries.places_of(mine.patient_key) == {"Observation/1"}
    assert waiting.patient_key == mine.patient_key


def test_long_answers_and_losses_are_cut_to_what_is_kept(work: Work) -> None:
    deliveries = Deliveries(work)
    (held,) = claimed(work, make())
    long = Settlement(
        delivery=held, state=DeliveryState.DELIVERED, answer="x" * 999, lost="y" * 999
    )

    deliveries.settle([long])

    (kept,) = deliveries.get_many([held.id])
    assert (len(kept.last_answer), len(kept.lost)) == (128, 255)
