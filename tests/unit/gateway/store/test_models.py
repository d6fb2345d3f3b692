"""The register: a digest is registered once, retired once, and never runs again."""

import threading
from collections.abc import Sequence
from datetime import UTC, date, datetime

import pytest

from gateway.core.audit import read_record
from gateway.core.delivery import DeliveryState, NewDelivery
from gateway.core.errors import NotFound, StoreConflict
from gateway.core.jobs import Advance, BusinessStatus, Job, JobState, NewJob
from gateway.core.model_register import (
    BUILT_IN,
    Card,
    ModelConflict,
    ModelRetired,
    ModelState,
    Standing,
    card_of,
)
from gateway.store.audit_log import AuditFilter
from gateway.store.jobs import JobFilter
from gateway.store.model_watch import ModelWatch
from gateway.store.registering import Entry, register, retire
from gateway.store.sealing import Sealer
from gateway.store.unit_of_work import Store
from models.manifest import parse
from tests.conftest import MASTER
from tests.packages import files
from tests.registered import ACTOR
from tests.unit.gateway.store.test_jobs import make

TEXT = files()["manifest.toml"].decode()
DIGEST, OTHER = "d" * 64, "e" * 64
LEASE_MS = 60_000


def card(
    digest: str = DIGEST,
    *,
    version: str = "1.0.0",
    signer: str = "the-makers",
    last: date | None = None,
) -> Card:
    text = TEXT.replace('version = "1.0.0"', f'version = "{version}"', 1)
    if last:
        text = text.replace("[weights]", f"[validity]\nnot_after = {last}\n\n[weights]", 1)
    return card_of(parse(text), digest, signer=signer, signer_key="ed25519:x")


def registered(store: Store, *cards: Card) -> list[Entry]:
    with store.write() as uow:
        return [register(uow, each, ACTOR) for each in cards]


def retired(store: Store, digest: str = DIGEST, reason: str = "Found wanting.") -> int:
    with store.write() as uow:
        return retire(uow, digest, reason, ACTOR)


def events(store: Store) -> list[tuple[str, str]]:
    with store.read() as uow:
        rows = uow.audit_log.search(AuditFilter(limit=9))
    found = [read_record(row.body) for row in reversed(rows)]
    return [(record.event, record.action) for record in found]


def retired_in_a_power_cut(store: Store) -> None:
    with store.write() as uow:
        retire(uow, DIGEST, "Found wanting.", ACTOR)
        raise RuntimeError("power cut")


def queued(store: Store, *new: NewJob) -> list[Job]:
    with store.write() as uow:
        uow.jobs.add(new)
    return jobs(store)


def jobs(store: Store) -> list[Job]:
    with store.read() as uow:
        return list(reversed(uow.jobs.find(JobFilter(limit=5000))))


def states(found: Sequence[Job]) -> list[tuple[JobState, BusinessStatus]]:
    return [(job.state, job.business_status) for job in found]


STOPPED = (JobState.CANCELLED, BusinessStatus.MODEL_RETIRED)


def test_a_registered_model_is_read_back_as_it_was_and_is_in_service(store: Store) -> None:
    (entry,) = registered(store, card(last=date(2099, 1, 1)))

    with store.read() as uow:
        line = uow.models.get(DIGEST)
        assert line == entry.line
        assert uow.models.lines() == [line]
        assert uow.models.in_service() == [("ckd-risk", "1.0.0", DIGEST)]
        assert uow.models.get(OTHER) is None
    assert line is not None
    assert line.card == card(last=date(2099, 1, 1))
    assert (line.state, line.registered_by, line.reason) == (ModelState.ACTIVE, "tester", "")
    assert entry.is_new
    assert events(store) == [("model", "C")]


def test_registering_again_changes_nothing(store: Store) -> None:
    registered(store, card())

    (entry,) = registered(store, card())

    assert not entry.is_new
    assert events(store) == [("model", "C")]


def test_a_retired_model_is_out_of_service_for_good(store: Store) -> None:
    registered(store, card())

    assert retired(store) == 0

    with store.read() as uow:
        line = uow.models.get(DIGEST)
        assert uow.models.in_service() == []
        assert uow.models.standings([DIGEST])[DIGEST].standing is Standing.RETIRED
    assert line is not None
    assert (line.state, line.retired_by, line.reason) == ("retired", "tester", "Found wanting.")
    assert line.retired_ms is not None
    assert events(store) == [("model", "C"), ("model", "D")]
    with pytest.raises(ModelRetired, match=r"retired \(Found wanting\.\) and never runs again"):
        registered(store, card())
    with pytest.raises(ModelRetired, match="retired before"):
        retired(store)


def test_what_was_never_registered_can_not_be_retired(store: Store) -> None:
    with pytest.raises(NotFound, match="not on the register"):
        retired(store)


def test_a_version_means_one_content_until_it_is_retired(store: Store) -> None:
    registered(store, card())

    with pytest.raises(ModelConflict, match="A version means one content"):
        registered(store, card(OTHER))
    with pytest.raises(ModelConflict):
        registered(store, card(OTHER, signer=BUILT_IN))
    retired(store)

    assert registered(store, card(OTHER))[0].is_new


def test_a_newer_nadi_replaces_the_model_it_brought_before(store: Store) -> None:
    registered(store, card(signer=BUILT_IN))

    (entry,) = registered(store, card(OTHER, signer=BUILT_IN))

    assert entry.replaced is not None
    assert entry.replaced.card.digest == DIGEST
    with store.read() as uow:
        assert uow.models.in_service() == [("ckd-risk", "1.0.0", OTHER)]
        line = uow.models.get(DIGEST)
    assert line is not None
    assert "Replaced by eeeeeeee" in line.reason
    with pytest.raises(ModelConflict):
        registered(store, card("f" * 64))


def test_what_is_asked_of_the_register_says_which_digests_may_run_today(store: Store) -> None:
    registered(store, card(), card(OTHER, version="1.1.0", last=date(2020, 1, 1)))

    with store.read() as uow:
        found = uow.models.standings([DIGEST, OTHER, "f" * 64])
        assert uow.models.in_service() == [("ckd-risk", "1.0.0", DIGEST)]

    assert {digest: each.standing for digest, each in found.items()} == {
        DIGEST: Standing.ACTIVE,
        OTHER: Standing.EXPIRED,
    }


def test_retiring_stops_the_waiting_jobs_of_this_model_only(store: Store) -> None:
    registered(store, card())
    mine = [make(number, model_digest=DIGEST) for number in range(3)]
    others = make(9, model_digest=OTHER)
    queued(store, *mine, others)
    with store.write() as uow:
        uow.jobs.claim([mine[0].id], "infer@one", lease_ms=LEASE_MS)

    assert retired(store) == 2

    found = {job.id: job for job in jobs(store)}
    assert states([found[each.id] for each in mine]) == [
        (JobState.IN_PROGRESS, BusinessStatus.RUNNING),
        STOPPED,
        STOPPED,
    ]
    assert found[others.id].state is JobState.READY
    assert found[mine[1].id].reason == "Model ckd-risk@1.0.0 was retired: Found wanting."
    assert events(store)[1:] == [("model", "D"), ("cancel", "U"), ("cancel", "U")]


def test_retiring_stops_more_jobs_than_are_read_at_once(store: Store) -> None:
    registered(store, card())
    queued(store, *(make(number, model_digest=DIGEST) for number in range(1203)))

    assert retired(store) == 1203
    assert set(states(jobs(store))) == {STOPPED}


@pytest.mark.parametrize("attempt", [0, 1])
def test_retiring_stops_results_that_wait_for_the_ehr(store: Store, attempt: int) -> None:
    registered(store, card())
    new = make(model_digest=DIGEST)
    queued(store, new)
    sent = NewDelivery(
        job_id=new.id, system="ehr", patient_key="p" * 64, identifier="i", body=b"[]"
    )
    with store.write() as uow:
        (job,) = uow.jobs.claim([new.id], "infer@one", lease_ms=LEASE_MS)
        uow.deliveries.add([sent])
        uow.jobs.advance(
            [
                Advance(
                    job=job,
                    state=JobState.IN_PROGRESS,
                    business_status=BusinessStatus.DELIVERY_PENDING,
                )
            ]
        )
    if attempt:
        with store.write() as uow:
            uow.deliveries.claim([sent.id], "deliver@one", lease_ms=LEASE_MS)
        with store.write() as uow:
            uow.deliveries.release("deliver@one")

    assert retired(store) == 1

    assert states(jobs(store)) == [STOPPED]
    assert ("may have reached the EHR" in jobs(store)[0].reason) == bool(attempt)
    with store.read() as uow:
        assert uow.deliveries.of_jobs([new.id])[new.id].state is DeliveryState.CANCELLED


def test_nothing_of_a_retirement_is_kept_when_it_can_not_be_finished(store: Store) -> None:
    registered(store, card())
    queued(store, make(model_digest=DIGEST))

    with pytest.raises(RuntimeError):
        retired_in_a_power_cut(store)

    with store.read() as uow:
        assert uow.models.in_service()
    assert states(jobs(store)) == [(JobState.READY, BusinessStatus.QUEUED)]
    assert events(store) == [("model", "C")]


def test_of_many_that_register_at_once_one_does_and_the_others_learn_of_it(
    database_url: str, store: Store
) -> None:
    entries: list[Entry] = []
    begin = threading.Barrier(6)

    def one() -> None:
        mine = Store(database_url, Sealer(MASTER))
        begin.wait()
        try:
            entries.extend(registered(mine, card()))
        except StoreConflict:
            entries.extend(registered(mine, card()))
        finally:
            mine.close()

    threads = [threading.Thread(target=one) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [entry.is_new for entry in entries].count(True) == 1
    assert len(entries) == 6
    assert events(store) == [("model", "C")]


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_the_watch_sees_what_is_registered_and_retired_within_its_second(store: Store) -> None:
    clock = Clock()
    watch = ModelWatch(store, monotonic=clock)
    assert watch.current() == {}
    registered(store, card(), card(OTHER, version="1.2.0"))
    assert watch.current() == {}

    clock.now_s = 1.0
    assert watch.current()["ckd-risk@1"] == OTHER
    assert watch.current()["ckd-risk@1.0.0"] == DIGEST

    retired(store, OTHER)
    clock.now_s = 2.0
    assert watch.current()["ckd-risk@1"] == DIGEST
    assert "ckd-risk@1.2" not in watch.current()


def test_the_watch_forgets_a_model_on_the_day_after_its_last(database_url: str) -> None:
    now = [datetime(2026, 11, 30, 23, 59, tzinfo=UTC)]
    store = Store(database_url, Sealer(MASTER), clock=lambda: now[0])
    watch = ModelWatch(store, every_s=0)
    registered(store, card(last=date(2026, 11, 30)))
    assert "ckd-risk@1" in watch.current()

    now[0] = datetime(2026, 12, 1, tzinfo=UTC)

    assert watch.current() == {}
    store.close()
