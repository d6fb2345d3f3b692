"""Consent withdrawn at every point of a job's life: after the answer nothing arrives in the EHR.

Each point is a real moment of a real run (`tests.revoking`). The withdrawal is posted to the API;
what the EHR holds of the patient when the API acknowledges it is what it holds at the end, after
everything that was left to do has been done.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.cli.jobs import put_back as retried
from gateway.core.audit import Source
from gateway.core.jobs import BusinessStatus, JobState
from gateway.store.jobs import rescue
from tests.factories import bundle, raw
from tests.people import person, versioned
from tests.revoking import Ward, spent, ward
from tests.sandbox import SandboxEhr
from workers.delivery import deliver
from workers.inference import infer
from workers.rescue import put_back

pytestmark = pytest.mark.integration

WITHDRAWN = (JobState.CANCELLED, BusinessStatus.CONSENT_WITHDRAWN)
REFUSED = (JobState.REJECTED, BusinessStatus.CONSENT_DENIED)
DELIVERED = (JobState.COMPLETED, BusinessStatus.DELIVERED)


@pytest.fixture(scope="module")
def ehr(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxEhr]:
    started = SandboxEhr(journal=tmp_path_factory.mktemp("ehr") / "journal.ndjson")
    started.start()
    yield started
    started.stop()


@pytest.fixture
def here(tmp_path: Path, database_url: str, ehr: SandboxEhr) -> Iterator[Ward]:
    with ward(tmp_path, database_url, ehr) as made:
        yield made
    ehr.faults(down="no", slow_ms=0, drop_after_commit_rate=0, no_transaction=False, no_batch=False)


# --- the points -----------------------------------------------------------------------------


def before_the_event_arrives(here: Ward) -> None:
    here.push(here.patient.patient, versioned(here.patient.consent(), 1))
    here.revoke()
    here.push(*here.patient.labs, here.patient.creatinine())


def in_one_bundle_with_the_event(here: Ward) -> None:
    someone = here.patient
    here.push(someone.patient, versioned(someone.consent(), 1), *someone.labs)
    answer = here.api.post(raw(bundle(someone.creatinine(), here.denial)))
    assert answer.status_code == 200
    here.revoke()


def queued(here: Ward) -> None:
    here.admit()
    here.revoke()


def rung(here: Ward) -> None:
    here.admit()
    ids = here.rung()
    here.revoke()
    assert infer(ids, here.ports) == 0


def about_to_be_claimed(here: Ward) -> None:
    here.admit()
    here.hooks.at("write", here.revoke_beside)
    assert here.infer() == 0


def after_the_claim_began(here: Ward, point: str) -> None:
    """Withdraw at a seam that is passed after the claim began; the site is read before."""
    here.hooks.at("write", lambda: here.hooks.at(point, here.revoke_beside))


def infer_with(point: str) -> Callable[[Ward], None]:
    """Withdraw when the worker that infers passes a seam."""

    def run(here: Ward) -> None:
        here.admit()
        after_the_claim_began(here, point)
        assert here.infer() == 1

    return run


def while_the_chart_is_fetched(here: Ward) -> None:
    here.store_in_ehr(here.patient.patient, *here.patient.labs)
    here.admit(labs=False)
    here.hooks.at("search Observation", here.revoke_beside)
    here.infer()


def before_it_is_persisted(here: Ward) -> None:
    here.admit()
    here.hooks.at("predicted", lambda: here.hooks.at("write", here.revoke_beside))
    here.infer()


def persisted(here: Ward) -> None:
    here.admit()
    here.infer()
    here.revoke()


def delivery_rung(here: Ward) -> None:
    here.admit()
    here.infer()
    ids = here.due()
    here.revoke()
    assert deliver(ids, here.ports) == 0


def deliver_with(point: str) -> Callable[[Ward], None]:
    """Withdraw when the worker that delivers passes a seam."""

    def run(here: Ward) -> None:
        here.admit()
        here.infer()
        after_the_claim_began(here, point)
        assert here.deliver() == 1

    return run


def before_the_last_look(here: Ward) -> None:
    here.admit()
    here.infer()
    here.hooks.at("search Device", lambda: here.hooks.at("read", here.revoke_beside))
    here.deliver()


def while_the_ehr_thinks(here: Ward) -> None:
    here.admit()
    here.infer()
    here.hooks.at("transaction", lambda: (here.ehr.faults(slow_ms=700), here.revoke_beside()))
    here.deliver()


def while_the_ehr_hangs(here: Ward) -> None:
    """The EHR takes the request and answers after its client has given up."""
    here.admit()
    here.infer()
    here.hooks.at("transaction", lambda: (here.ehr.faults(down="close"), here.revoke_beside()))
    here.deliver()


def after_the_answer_was_lost(here: Ward) -> None:
    here.admit()
    here.infer()
    here.ehr.faults(drop_after_commit_rate=1)
    here.deliver()
    assert len(here.held()) == 1
    here.revoke()


def while_the_answer_is_lost(here: Ward) -> None:
    here.admit()
    here.infer()
    lose = here.ehr.faults
    here.hooks.at("transaction", lambda: (lose(drop_after_commit_rate=1), here.revoke_beside()))
    here.deliver()


def retry_waiting(here: Ward) -> None:
    here.admit()
    here.infer()
    here.ehr.faults(down="503")
    here.deliver()
    here.revoke()


def circuit_open(here: Ward) -> None:
    here.admit()
    here.infer()
    here.ehr.faults(down="close")
    for _ in range(4):
        with here.api.store.write() as uow:
            uow.deliveries.wake("ehr")
        here.deliver()
    with here.api.store.read() as uow:
        assert uow.deliveries.circuits()["ehr"].open_until_ms > uow.now_ms
    here.revoke()


def given_up_and_retried_by_a_person(here: Ward) -> None:
    here.admit()
    here.infer()
    here.ehr.faults(down="close")
    here.ports = spent(here.ports)
    here.deliver()
    assert here.job().state is JobState.FAILED
    here.revoke()
    _retry(here)


def _retry(here: Ward) -> None:
    """Do what `nadi jobs retry` does."""
    with here.api.store.write() as uow:
        retried(uow, here.job().id, Source("revoking", "cli"))


def delivered(here: Ward) -> None:
    here.admit()
    here.infer()
    here.deliver()
    assert len(here.held()) == 1
    here.revoke()


def worker_died_holding_the_job(here: Ward) -> None:
    here.admit()
    with here.api.store.write() as uow:
        assert uow.jobs.claim(here.rung(), "dead", lease_ms=100)
    here.revoke()
    _rescue(here)


def worker_died_holding_the_result(here: Ward) -> None:
    here.admit()
    here.infer()
    ids = here.due()
    with here.api.store.write() as uow:
        assert uow.deliveries.claim(ids, "dead", lease_ms=1500)
    here.revoke()
    _rescue(here)


def _rescue(here: Ward) -> None:
    """Do what the relay does for what dead workers held."""
    time.sleep(0.2)
    with here.api.store.write() as uow:
        changes = rescue(uow.jobs.expired(), now_ms=uow.now_ms, budget_s=3600)
        put_back(uow, changes, Source("revoking", "relay"))
        uow.deliveries.rescue()


#: Point → what happens, how the job ends, how many results the EHR holds when it is acknowledged.
POINTS: dict[str, tuple[Callable[[Ward], None], tuple[JobState, BusinessStatus], int]] = {
    "before the event arrives": (before_the_event_arrives, REFUSED, 0),
    "in one Bundle with the event": (in_one_bundle_with_the_event, REFUSED, 0),
    "queued": (queued, WITHDRAWN, 0),
    "rung": (rung, WITHDRAWN, 0),
    "about to be claimed": (about_to_be_claimed, WITHDRAWN, 0),
    "claimed": (infer_with("model"), WITHDRAWN, 0),
    "before anything is unsealed": (infer_with("read"), WITHDRAWN, 0),
    "while the chart is fetched": (while_the_chart_is_fetched, WITHDRAWN, 0),
    "features made": (infer_with("predict"), WITHDRAWN, 0),
    "model asked": (infer_with("predicted"), WITHDRAWN, 0),
    "before it is persisted": (before_it_is_persisted, WITHDRAWN, 0),
    "persisted": (persisted, WITHDRAWN, 0),
    "delivery rung": (delivery_rung, WITHDRAWN, 0),
    "delivery claimed": (deliver_with("read"), WITHDRAWN, 0),
    "after consent was asked": (deliver_with("search Device"), WITHDRAWN, 0),
    "before the last look": (before_the_last_look, WITHDRAWN, 0),
    "after the last look": (deliver_with("transaction"), DELIVERED, 1),
    "while the EHR thinks": (while_the_ehr_thinks, DELIVERED, 1),
    "while the EHR hangs up": (while_the_ehr_hangs, WITHDRAWN, 0),
    "while the answer is lost": (while_the_answer_is_lost, WITHDRAWN, 1),
    "after the answer was lost": (after_the_answer_was_lost, WITHDRAWN, 1),
    "retry waiting": (retry_waiting, WITHDRAWN, 0),
    "circuit open": (circuit_open, WITHDRAWN, 0),
    "given up, then retried": (given_up_and_retried_by_a_person, WITHDRAWN, 0),
    "delivered": (delivered, DELIVERED, 1),
    "worker died with the job": (worker_died_holding_the_job, WITHDRAWN, 0),
    "worker died with the result": (worker_died_holding_the_result, WITHDRAWN, 0),
}


@pytest.mark.parametrize("point", POINTS)
def test_nothing_arrives_in_the_ehr_after_the_withdrawal_was_acknowledged(
    here: Ward, point: str
) -> None:
    run, ending, arrived = POINTS[point]

    run(here)
    acknowledged = here.acknowledged()
    here.work_on()

    assert not here.hooks.unused, "the point was never reached"
    assert acknowledged.statuses[-1] == 202
    assert len(acknowledged.seen) == arrived
    assert here.held() == acknowledged.seen
    job = here.job()
    assert (job.state, job.business_status) == ending
    if ending == WITHDRAWN:
        assert _last_two(here) == [("consent", "8"), ("cancel", "0")]
        assert job.decisions[-1]["decision"] == "deny"


def _last_two(here: Ward) -> list[tuple[str, str]]:
    """Give the last consent decision and the last change of the job."""
    steps = here.steps()
    decided = [each for each in steps if each[0] == "consent"][-1]
    changed = [("cancel", "0") for each in steps[-1:] if each[0] == "cancel"]
    return [decided, *changed]


# --- several results, slow EHRs, lost leases ------------------------------------------------


@pytest.mark.parametrize(
    "lacks",
    [{}, {"no_transaction": True}, {"no_transaction": True, "no_batch": True}],
    ids=["transaction", "batch", "one-by-one"],
)
def test_of_a_batch_only_the_results_of_who_withdrew_are_held_back(
    here: Ward, lacks: dict[str, bool]
) -> None:
    here.ehr.faults(**lacks)
    others = [person("stays") for _ in range(3)]
    for each in (others[0], here.patient, *others[1:]):
        here.admit(each)
    here.infer()
    here.hooks.at("search Device", here.revoke_beside)

    assert here.deliver() == 4
    acknowledged = here.acknowledged()
    here.work_on()

    assert here.held() == acknowledged.seen == []
    assert [len(here.held(each)) for each in others] == [1, 1, 1]
    assert (here.job().state, here.job().business_status) == WITHDRAWN


def test_a_withdrawal_is_not_acknowledged_while_an_ehr_hangs_with_a_result(
    tmp_path: Path, sqlite_url: str, ehr: SandboxEhr
) -> None:
    with ward(tmp_path, sqlite_url, ehr, wait_s=0.3) as here:
        here.admit()
        here.infer()
        here.hooks.at("transaction", lambda: (ehr.faults(slow_ms=1200), here.revoke_beside()))

        here.deliver()
        acknowledged = here.acknowledged()
        ehr.faults(slow_ms=0)
        here.work_on()

        assert len(acknowledged.statuses) > 1
        assert set(acknowledged.statuses[:-1]) == {503}
        assert "on its way to an EHR" in acknowledged.refusals[0]
        assert here.held() == acknowledged.seen


def test_a_permit_is_acknowledged_at_once_although_an_ehr_hangs_with_a_result(
    here: Ward,
) -> None:
    here.admit()
    here.infer()
    with here.api.store.write() as uow:
        assert uow.deliveries.claim(here.due(), "worker", lease_ms=60_000)

    began = time.monotonic()
    here.push(versioned(here.patient.consent(), 2))

    assert time.monotonic() - began < 8, "it did not wait for the EHR, which may take 20 s"


def test_a_worker_that_lost_its_lease_sends_nothing_more(here: Ward) -> None:
    here.admit()
    here.infer()

    def lose() -> None:
        with here.api.store.write() as uow:
            uow.deliveries.release(here.ports.owner)
        here.revoke()

    here.hooks.at("search Device", lose)

    here.deliver()
    here.work_on()

    assert here.held() == here.acknowledged().seen == []
    assert (here.job().state, here.job().business_status) == WITHDRAWN


def test_a_lease_that_is_nearly_over_is_renewed_before_anything_is_sent(
    tmp_path: Path, sqlite_url: str, ehr: SandboxEhr
) -> None:
    with ward(tmp_path, sqlite_url, ehr, lease_ms=1000) as here:
        here.admit()
        here.infer()
        here.hooks.at("search Device", lambda: time.sleep(0.7))

        here.deliver()

        # claim, renewal, settlement
        assert here.hooks.passed.count("write") == 5
        assert len(here.held()) == 1
