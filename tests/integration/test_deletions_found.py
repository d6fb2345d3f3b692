"""A deletion whose notification was lost is found: what the EHR does not have permits nothing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from adapters.site import load_site
from gateway.core.consent.decision import decide
from gateway.core.consent.request import ConsentRequest
from gateway.listeners.deletions import DeletionPlan
from gateway.listeners.following import Follower
from gateway.store.listener_credentials import ListenerCredentials
from tests.factories import SITE, consent, creatinine, patient, raw
from tests.feeding import Feeding, fed

pytestmark = pytest.mark.integration

_MINUTE = 60.0
#: With a history, without one, and without one in an EHR that searches badly and forgets.
WAYS = {
    "history": {},
    "held": {"no_history": True},
    "badly": {
        "no_history": True,
        "forgets_deleted": True,
        "ignored_params": ["_id"],
        "page_size": 1,
    },
}


@pytest.fixture
def feeding(sqlite_url: str, tmp_path: Path) -> Iterator[Feeding]:
    with fed(sqlite_url, tmp_path) as made:
        yield made


def follower(
    feeding: Feeding, *types: str, every_s: float = 300, feed: str = "ehr/poll"
) -> Follower:
    plan = DeletionPlan(
        types=types or ("Consent", "Patient", "Observation"),
        every_ms=int(every_s * 1000),
        overlap_ms=2000,
        site=lambda: load_site(SITE),
    )
    return feeding.follower("Observation", feed=feed, deletions=plan)


def both(feeding: Feeding, *resources: dict[str, Any]) -> None:
    """Write resources into the EHR, and push them to the gateway as it would."""
    feeding.put(*resources)
    entries = [{"resource": each} for each in resources]
    feeding.push(raw({"resourceType": "Bundle", "type": "collection", "entry": entries}))


def permits(feeding: Feeding, number: int = 1) -> bool:
    name = f"Patient/p{number}"
    with feeding.store.read() as uow:
        key = uow.sealer.patient_key("ehr", name)
        request = ConsentRequest(name, "TREAT", uow.now)
        return decide(request, uow.consents.of([key])[key]).is_permitted


def turns(feeding: Feeding, following: Follower, count: int = 2, after_s: float = 0) -> None:
    feeding.seconds += after_s
    for _ in range(count):
        assert following.turn()


@pytest.mark.parametrize("faults", WAYS.values(), ids=WAYS.keys())
def test_a_deleted_consent_permits_nothing_though_nobody_said_so(
    feeding: Feeding, faults: dict[str, Any]
):
    feeding.sandbox.faults(**faults)
    both(feeding, patient(1), consent(1), consent(2, "Patient/p2"))
    following = follower(feeding)
    turns(feeding, following, after_s=10)
    assert (permits(feeding, 1), permits(feeding, 2)) == (True, True)

    feeding.delete("Consent/c1")
    turns(feeding, following, after_s=5 * _MINUTE)

    assert (permits(feeding, 1), permits(feeding, 2)) == (False, True)
    assert following.problem == ""


@pytest.mark.parametrize("faults", [WAYS["history"], WAYS["held"]], ids=["history", "held"])
def test_a_deleted_result_is_found_too_and_once(feeding: Feeding, faults: dict[str, Any]):
    feeding.sandbox.faults(**faults)
    feeding.put(patient(1), creatinine(1), creatinine(2))
    following = follower(feeding)
    turns(feeding, following, after_s=10)
    feeding.delete("Observation/o1")

    turns(feeding, following, after_s=86_401)
    turns(feeding, following, after_s=86_401)

    query = "select count(*) from events where resource_type = 'Observation'"
    with feeding.store.read() as uow:
        assert uow.connection.scalar(sa.text(query)) == 3
    assert sum(b'"DELETE"' in each for each in feeding.handed_over) == 1


def test_what_was_deleted_while_nobody_followed_is_found_by_a_follower_started_anew(
    feeding: Feeding,
):
    both(feeding, consent(1))
    turns(feeding, follower(feeding), after_s=10)
    feeding.delete("Consent/c1")
    feeding.put(*(consent(n) for n in range(10, 20)))

    turns(feeding, follower(feeding), after_s=7 * 86_400)

    assert not permits(feeding)


def test_what_was_deleted_and_made_again_is_there(feeding: Feeding):
    both(feeding, consent(1))
    following = follower(feeding)
    turns(feeding, following, after_s=10)
    feeding.delete("Consent/c1")
    feeding.put(consent(1))

    turns(feeding, following, after_s=5 * _MINUTE)

    assert permits(feeding)


def test_an_ehr_that_does_not_say_changes_nothing_and_is_told(feeding: Feeding):
    feeding.sandbox.faults(no_history=True)
    both(feeding, consent(1))
    following = follower(feeding, "Consent")
    turns(feeding, following, after_s=10)

    for status in (401, 403, 500):
        feeding.sandbox.faults(error_rate=1, error_statuses=[status])
        turns(feeding, following, after_s=5 * _MINUTE)
        assert permits(feeding)
        assert following.problem.startswith("Whether each Consent is still there can't be asked")
        feeding.sandbox.faults(error_rate=0)
        turns(feeding, following, after_s=5 * _MINUTE)
        assert following.problem == ""


def test_an_ehr_that_is_away_is_asked_when_it_is_back(feeding: Feeding):
    feeding.sandbox.faults(no_history=True)
    both(feeding, consent(1))
    following = follower(feeding, every_s=3600)
    turns(feeding, following, after_s=10)
    feeding.delete("Consent/c1")
    feeding.push(b"")
    feeding.sandbox.faults(down="close")
    assert not following.turn()
    assert permits(feeding)

    feeding.sandbox.faults(down="no")
    turns(feeding, following, after_s=2, count=3)

    assert not permits(feeding)


def test_an_ehr_that_has_none_of_many_and_does_not_say_why_is_doubted(feeding: Feeding):
    feeding.sandbox.faults(no_history=True, forgets_deleted=True)
    both(feeding, *(consent(n, f"Patient/p{n}") for n in range(12)))
    following = follower(feeding)
    turns(feeding, following, after_s=10)
    for number in range(12):
        feeding.delete(f"Consent/c{number}")

    turns(feeding, following, after_s=5 * _MINUTE)

    assert permits(feeding, 3)
    assert following.problem.startswith("The EHR has none of 12 Consents that Nadi holds")
    feeding.put(consent(0, "Patient/p0"))
    turns(feeding, following, after_s=5 * _MINUTE)
    assert [permits(feeding, n) for n in range(12)] == [True] + [False] * 11
    assert following.problem == ""


def test_an_ehr_without_consents_is_not_asked_for_those_that_others_pushed(feeding: Feeding):
    feeding.sandbox.faults(unsupported_types=["Consent"])
    feeding.push(raw(consent(1)))

    following = follower(feeding)
    turns(feeding, following, after_s=5 * _MINUTE)

    assert permits(feeding)
    assert following.problem == ""


def test_what_a_folder_brought_is_not_looked_for_in_the_ehr(feeding: Feeding):
    feeding.sandbox.faults(no_history=True)
    feeding.push(raw(consent(1)))
    with feeding.store.write() as uow:
        drop = ListenerCredentials(uow.sealer).credential_id("ehr/drop")
        uow.connection.execute(sa.text("update events set principal_id = :by"), {"by": drop})
    text = SITE.replace("[push]", "[push, {drop: {folder: /srv/in}}]")
    plan = DeletionPlan(("Consent",), 300_000, 2000, lambda: load_site(text))
    following = feeding.follower("Observation", deletions=plan)

    turns(feeding, following, after_s=5 * _MINUTE)

    assert permits(feeding)


def test_many_are_asked_for_batch_by_batch_on_postgresql_too(postgresql_url: str, tmp_path: Path):
    with fed(postgresql_url, tmp_path) as feeding:
        feeding.sandbox.faults(no_history=True)
        both(feeding, *(consent(n, f"Patient/p{n}") for n in range(120)))
        following = follower(feeding)
        turns(feeding, following, after_s=10, count=4)
        for number in (3, 77, 119):
            feeding.delete(f"Consent/c{number}")

        turns(feeding, following, after_s=5 * _MINUTE, count=4)

        refused = [n for n in range(120) if not permits(feeding, n)]
        assert refused == [3, 77, 119]


# -- what decides comes first ----------------------------------------------------------------


PERMITTED, DENIED = "ready queued", "rejected consent-denied"


def judged(feeding: Feeding) -> list[str]:
    """Give what became of each job at its admission."""
    with feeding.store.read() as uow:
        rows = uow.connection.execute(sa.text("select state, business_status from jobs"))
        return [f"{row.state} {row.business_status}" for row in rows]


def in_bad_order(feeding: Feeding, **changed: Any) -> Follower:
    plan = DeletionPlan(
        types=("Consent", "Patient", "Observation"),
        every_ms=300_000,
        overlap_ms=2000,
        site=lambda: load_site(SITE),
    )
    types = ("Observation", "Patient", "Consent")
    return feeding.follower(*types, feed="ehr/poll", deletions=plan, every_ms=0, **changed)


def test_a_result_is_judged_by_a_consent_that_came_before_it_whatever_the_order_of_the_types(
    feeding: Feeding,
):
    feeding.put(patient(1), consent(1), creatinine(1))

    assert in_bad_order(feeding).turn()

    assert judged(feeding) == [PERMITTED]


def test_a_consent_that_comes_while_results_are_read_counts_for_those_of_the_next_page(
    feeding: Feeding,
):
    feeding.put(patient(1), consent(1), *(creatinine(number) for number in range(3)))
    hand_over = feeding.hand_over

    def withdrawing(bundle: bytes) -> Any:
        if b"/o0" in bundle:
            feeding.put(consent(1, status="inactive"))
        return hand_over(bundle)

    feeding.hand_over = withdrawing  # type: ignore[method-assign]
    following = in_bad_order(feeding, count=1)
    assert following.turn()

    assert sorted(judged(feeding)) == ["cancelled consent-withdrawn", DENIED, DENIED]


def test_a_consent_that_was_withdrawn_while_nobody_listened_permits_nothing_that_came_after(
    feeding: Feeding,
):
    both(feeding, patient(1), consent(1))
    feeding.put(consent(1, status="inactive"), creatinine(1))

    assert in_bad_order(feeding).turn()

    assert judged(feeding) == [DENIED]


@pytest.mark.parametrize("faults", WAYS.values(), ids=WAYS.keys())
def test_a_consent_that_was_deleted_while_nobody_listened_permits_nothing_that_came_after(
    feeding: Feeding, faults: dict[str, Any]
):
    feeding.sandbox.faults(**faults)
    held = [(patient(number), consent(number, f"Patient/p{number}")) for number in range(60)]
    both(feeding, *(each for pair in held for each in pair))
    feeding.delete("Consent/c59")
    feeding.put(creatinine(1, "Patient/p59"))
    feeding.seconds += 10

    assert in_bad_order(feeding).turn()

    assert judged(feeding) == [DENIED]
