"""After an outage a pushed result waits until it is known what the EHR changed of Consents."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from adapters.authorization import GivenLogin
from adapters.fhir_rest.client import FhirClient
from adapters.fhir_rest.errors import EhrFailed
from adapters.site import SiteWatch, load_site
from gateway.catching_up import SAY_EVERY_MS, STALE_AFTER_MS, lag
from gateway.core.jobs import Job
from gateway.listeners.deletions import DeletionPlan
from gateway.listeners.following import Follower
from gateway.store.jobs import JobFilter
from tests.cds import ports_of
from tests.factories import SITE, consent, creatinine, patient
from tests.feeding import Feeding, fed
from tests.integration.test_deletions_found import WAYS, both
from tests.sandbox import TOKEN
from tests.waiting import ready
from workers.inference import infer
from workers.ports import Ports

pytestmark = pytest.mark.integration

FEED = "ehr/poll"
RECEIVE = "[push, {poll: {types: [Observation, Patient, Consent]}}]"


@pytest.fixture
def ports(feeding: Feeding, tmp_path: Path) -> Iterator[Ports]:
    """Give the outside of a worker with the models that come with Nadi."""
    made = ports_of(feeding.store, tmp_path)
    yield made
    made.ehrs.close()  # type: ignore[attr-defined]


@pytest.fixture
def feeding(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Feeding]:
    monkeypatch.setenv("NADI_TEST_TOKEN", TOKEN)
    with fed(sqlite_url, tmp_path) as made:
        text = SITE.replace("http://ehr.test/fhir", made.base).replace("[push]", RECEIVE)
        text = text.replace("{kind: none}", '{kind: bearer, token: "env:NADI_TEST_TOKEN"}')
        with made.store.write() as uow:
            uow.sites.apply(text, "test")
        both(made, patient(1), consent(1))
        yield made


def following(feeding: Feeding, *types: str) -> Follower:
    """Give what follows the EHR, as a process that was just started."""
    plan = DeletionPlan(
        types=("Consent", "Patient", "Observation"),
        every_ms=300_000,
        overlap_ms=2000,
        site=lambda: load_site(SITE),
    )
    types = types or ("Patient", "Consent")
    return feeding.follower(*types, feed=FEED, deletions=plan)


def work(feeding: Feeding, ports: Ports) -> Job:
    """Let a worker look once; give the one job."""
    with feeding.store.read() as uow:
        ids = [job_id for job_id, _ in ready(uow.jobs, 10)]
    infer(ids, ports)
    with feeding.store.read() as uow:
        (job,) = uow.jobs.find(JobFilter())
    return job


def is_known(feeding: Feeding) -> bool:
    site = SiteWatch(feeding.store).current()
    with feeding.store.read() as uow:
        return not lag(uow, site, began_ms=0).waits_ms


def test_what_was_pushed_before_a_withdrawal_was_caught_up_with_is_not_read(
    feeding: Feeding, ports: Ports
) -> None:
    feeding.put(consent(1, status="inactive"))
    both(feeding, creatinine(1))

    waiting = work(feeding, ports)
    assert following(feeding).turn()
    ended = work(feeding, ports)

    assert (waiting.state.value, waiting.attempt) == ("ready", 0)
    assert "what the EHR changed of Consents" in waiting.reason
    assert f"{ended.state} {ended.business_status}" == "cancelled consent-withdrawn"


@pytest.mark.parametrize("faults", WAYS.values(), ids=WAYS.keys())
def test_nor_what_was_pushed_before_a_deleted_consent_was_found(
    feeding: Feeding, ports: Ports, faults: dict[str, Any]
) -> None:
    feeding.sandbox.faults(**faults)
    both(feeding, *(consent(n, f"Patient/p{n}") for n in range(2, 60)))
    feeding.delete("Consent/c1")
    both(feeding, creatinine(1))
    feeding.seconds += 10

    waiting = work(feeding, ports)
    assert following(feeding).turn()
    ended = work(feeding, ports)

    assert waiting.state.value == "ready"
    assert f"{ended.state} {ended.business_status}" == "cancelled consent-withdrawn"


def test_what_is_permitted_still_goes_on_once_that_is_known(feeding: Feeding, ports: Ports) -> None:
    both(feeding, creatinine(1))
    assert work(feeding, ports).state.value == "ready"

    assert following(feeding).turn()
    feeding.until(lambda: work(feeding, ports).state.value != "ready")

    job = work(feeding, ports)
    assert job.decisions[-1]["stage"] == "infer"
    assert job.decisions[-1]["decision"] == "permit"


def test_it_is_not_known_while_the_ehr_is_away(feeding: Feeding) -> None:
    feeding.sandbox.faults(down="503")

    assert not following(feeding).turn()

    assert not is_known(feeding)


def test_an_ehr_that_comes_back_is_asked_before_anything_else(feeding: Feeding) -> None:
    follower = following(feeding, "Observation", "Patient", "Consent")
    assert follower.turn()
    feeding.sandbox.faults(down="503")
    feeding.seconds += STALE_AFTER_MS / 1000 + 1
    assert not follower.turn()
    feeding.sandbox.faults(down="no")
    feeding.put(consent(1, status="inactive"), creatinine(1))
    feeding.handed_over.clear()
    feeding.seconds += 60

    assert follower.turn()

    assert [b"Consent/" in each for each in feeding.handed_over[:1]] == [True]


def test_an_ehr_that_refuses_to_tell_of_consents_leaves_it_unknown(feeding: Feeding) -> None:
    feeding.sandbox.faults(unsupported_types=["Consent"])

    following(feeding).turn()

    assert not is_known(feeding)


class Failing(FhirClient):
    """An EHR that tells what changed, and fails when it is asked what is gone."""

    is_failing = True

    def history(
        self, resource_type: str, params: Sequence[tuple[str, str]]
    ) -> Iterator[tuple[bytes, datetime | None]]:
        self._fail(resource_type)
        return super().history(resource_type, params)

    def pages(
        self, resource_type: str, params: Sequence[tuple[str, str]]
    ) -> Iterator[tuple[bytes, datetime | None]]:
        if "_id" in dict(params):
            self._fail(resource_type)
        return super().pages(resource_type, params)

    def _fail(self, resource_type: str) -> None:
        if self.is_failing and resource_type == "Consent":
            raise EhrFailed


@pytest.mark.parametrize("faults", [WAYS["history"], WAYS["held"]], ids=["history", "held"])
def test_an_ehr_that_fails_to_say_which_consents_are_gone_leaves_it_unknown(
    feeding: Feeding, faults: dict[str, Any]
) -> None:
    feeding.sandbox.faults(**faults)
    feeding.ehr = failing = Failing(
        feeding.base,
        login=GivenLogin(f"Bearer {TOKEN}"),
        timeout_s=10,
        max_response_bytes=2**24,
    )
    feeding.closing.append(failing.close)
    feeding.seconds += 10
    follower = following(feeding)

    follower.turn()
    before = is_known(feeding)
    failing.is_failing = False
    feeding.seconds += 30
    assert follower.turn()

    assert (before, is_known(feeding)) == (False, True)


def test_it_is_said_again_while_the_feed_goes_on_and_not_at_every_turn(feeding: Feeding) -> None:
    follower, said = following(feeding), []
    for passed_s in (0, 1, SAY_EVERY_MS / 1000):
        feeding.seconds += passed_s
        assert follower.turn()
        with feeding.store.read() as uow:
            (kept,) = uow.listener_state.everywhere("caught-up")
        said.append(kept.updated_ms)

    assert said[0] == said[1] < said[2]


def test_a_feed_that_does_not_follow_consents_says_nothing_of_them(feeding: Feeding) -> None:
    assert following(feeding, "Observation").turn()

    assert not is_known(feeding)
