"""Feedback is kept once, sealed under its patient's key; a token is used once."""

from datetime import UTC, datetime

import pytest

from gateway.core.cds.feedback import Feedback
from gateway.core.errors import Unsealable
from gateway.core.jobs import BusinessStatus, EventId, Job, JobState, NewJob
from gateway.core.lanes import Lane
from gateway.store.cds import TokenUse
from gateway.store.unit_of_work import Store

AT = datetime(2026, 11, 26, 10, tzinfo=UTC)
LATER_MS = 4_000_000_000_000
KEYS = ("a" * 64, "b" * 64)


def job(store: Store, patient: str = KEYS[0], route: str = "ckd-risk") -> Job:
    made = NewJob(
        event_id=EventId("e1"),
        route=route,
        model="ckd-risk@1",
        model_digest=route + patient[0],
        patient_key=patient,
        state=JobState.REJECTED,
        business_status=BusinessStatus.INPUT_MISSING,
    )
    with store.write() as uow:
        uow.jobs.add([made])
        found = uow.jobs.get(made.id)
    assert found is not None
    return found


def said(of: Job, text: bytes = b'{"a": 1}', at: datetime = AT) -> tuple[Feedback, Job]:
    return Feedback(of.id, "overridden", at, "disagree", text), of


def test_the_same_feedback_is_kept_once(store: Store):
    of = job(store)

    with store.write() as uow:
        first = uow.cds.add("ehr/cds-hooks", [said(of), said(of)])
    with store.write() as uow:
        again = uow.cds.add("ehr/cds-hooks", [said(of), said(of, b"{}")])

    assert (first, again) == ([True, False], [False, True])


def test_what_was_said_is_opened_in_its_place_only(store: Store):
    of = job(store)
    with store.write() as uow:
        uow.cds.add("ehr", [said(of)])

    with store.read() as uow:
        (kept,) = uow.cds.listed()
        assert uow.cds.said(kept) == b'{"a": 1}'
        assert b'"a"' not in kept.said
        with pytest.raises(Unsealable):
            uow.cds.said(type(kept)(**{**vars(kept), "id": "0" * 64}))


def test_feedback_is_listed_newest_first_and_by_route(store: Store):
    one, two = job(store), job(store, route="liver-risk")
    with store.write() as uow:
        uow.cds.add("ehr", [said(one), said(two)])

    with store.read() as uow:
        assert len(uow.cds.listed()) == 2
        assert [each.route for each in uow.cds.listed(route="liver-risk")] == ["liver-risk"]
        assert len(uow.cds.listed(limit=1)) == 1


def test_feedback_goes_with_its_patient_or_with_its_result(store: Store):
    mine, other = job(store), job(store, KEYS[1])
    with store.write() as uow:
        uow.cds.add("ehr", [said(mine), said(other)])

    with store.write() as uow:
        assert uow.cds.forget(KEYS[0]) == 1
        assert uow.cds.forget_results([mine.id, other.id]) == 1

    with store.read() as uow:
        assert uow.cds.listed() == []


def test_what_was_said_of_one_patient_is_given_alone(store: Store):
    mine, other = job(store), job(store, KEYS[1])
    with store.write() as uow:
        uow.cds.add("ehr", [said(mine), said(other)])

    with store.read() as uow:
        assert [each.job_id for each in uow.cds.of_patient(KEYS[0])] == [mine.id]


def test_a_job_that_waits_is_moved_up_and_never_down(store: Store):
    waiting, ended = job(store), job(store, KEYS[1])
    with store.write() as uow:
        uow.connection.exec_driver_sql(f"update jobs set state = 'ready' where id = '{waiting.id}'")  # noqa: S608 - an id of ours
        moved = uow.jobs.hasten([waiting.id, ended.id], Lane.STAT)
        again = uow.jobs.hasten([waiting.id], Lane.ASAP)

    with store.read() as uow:
        lanes = {key: each.lane for key, each in uow.jobs.get_many([waiting.id, ended.id]).items()}
    assert (moved, again) == (1, 0)
    assert lanes == {waiting.id: Lane.STAT, ended.id: Lane.ROUTINE}


def test_a_token_is_used_once_until_it_expires(store: Store):
    use, over = TokenUse("c" * 64, LATER_MS), TokenUse("d" * 64, 1)

    with store.write() as uow:
        first = uow.cds.use([use, use, over])
    with store.write() as uow:
        again = uow.cds.use([use, over])

    assert (first, again) == ([True, False, True], [False, True])
