"""A follower beside the sandbox EHR and the API: whatever is lost, each event comes once."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapters.authorization import GivenLogin
from adapters.feeds.numbers import Numbers
from adapters.feeds.subscription import Wanted
from adapters.feeds.watch import Patience, Watched
from adapters.fhir_rest.client import FhirClient
from gateway.core.clock import to_ms, utc_now
from gateway.core.notice import Notice
from gateway.listeners.following import Follower
from tests.conftest import shared_data
from tests.factories import raw
from tests.feeding import Feeding, fed
from tests.notifications import notification
from tests.sandbox import TOKEN

pytestmark = pytest.mark.integration


@pytest.fixture
def feeding(sqlite_url: str, tmp_path: Path) -> Iterator[Feeding]:
    with fed(sqlite_url, tmp_path) as made:
        yield made


def lab(number: int, value: float = 1.5) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": f"o{number}",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "718-7"}]},
        "subject": {"reference": "Patient/p1"},
        "valueQuantity": {"value": value},
    }


def watched(feeding: Feeding) -> Watched:
    with feeding.store.read() as uow:
        (kept,) = uow.listener_state.with_prefix("ehr/subscription", "subscription/").values()
    return Watched.from_json(kept)


def each_once(feeding: Feeding, count: int) -> None:
    events = feeding.events()
    assert (len(events), len(set(events))) == (count, count)


def test_a_source_without_faults_needs_no_recovery(feeding: Feeding):
    feeding.subscribe("Observation?")
    feeding.put(*map(lab, range(10)))
    feeding.settle()

    assert feeding.follower().turn()

    each_once(feeding, 10)
    assert feeding.handed_over == []
    assert (watched(feeding).numbers.settled, watched(feeding).status) == (10, "active")


def asked(feeding: Feeding, follower: Follower, turns: int = 3) -> int:
    """Let a follower do what is due; say how often it handed something in."""
    before = len(feeding.handed_over)
    for _ in range(turns):
        assert follower.turn()
    return len(feeding.handed_over) - before


@pytest.mark.parametrize("no_events", [False, True], ids=["events", "query"])
def test_what_every_tenth_loss_left_out_is_recovered_once(feeding: Feeding, no_events: bool):
    feeding.subscribe("Observation?")
    follower = feeding.follower("Observation")
    follower.turn()
    feeding.sandbox.faults(lose_every=10, no_events_operation=no_events)
    feeding.put(*map(lab, range(35)))
    feeding.settle()
    each_once(feeding, 32)

    assert asked(feeding, follower) == 1

    each_once(feeding, 35)
    assert watched(feeding).numbers == Numbers.starting_after(35)


def test_the_last_event_lost_is_found_by_the_next_heartbeat(feeding: Feeding):
    feeding.subscribe("Observation?", heartbeat_s=1)
    follower = feeding.follower()
    follower.turn()
    feeding.sandbox.faults(push_loss_rate=1)
    feeding.put(lab(1))
    feeding.settle()
    feeding.sandbox.faults(push_loss_rate=0)

    feeding.until(lambda: follower.turn() and len(feeding.events()) == 1)

    assert watched(feeding).numbers.settled == 1


def test_a_silent_source_is_asked_for_its_status_and_gives_what_it_kept_back(feeding: Feeding):
    feeding.subscribe("Observation?", heartbeat_s=60)
    patience = Patience(grace_ms=0, heartbeat_ms=60_000, retry_ms=1000)
    follower = feeding.follower(patience=patience)
    follower.turn()
    feeding.sandbox.faults(push_loss_rate=1)
    feeding.put(*map(lab, range(7)))
    feeding.settle()
    follower.turn()
    assert feeding.events() == []

    for feeding.seconds in (121, 123, 125):
        follower.turn()

    each_once(feeding, 7)
    assert watched(feeding).numbers.missing is None


def test_nineteen_copies_in_any_order_are_one_event_each(feeding: Feeding):
    feeding.subscribe("Observation?")
    follower = feeding.follower("Observation")
    follower.turn()
    feeding.sandbox.faults(duplicate_rate=1, push_copies=19, reorder_rate=0.5)
    feeding.put(*map(lab, range(6)))
    feeding.settle()

    assert asked(feeding, follower) == 0
    each_once(feeding, 6)


@pytest.mark.parametrize("content", ["id-only", "empty"])
def test_what_is_only_pointed_at_is_fetched(feeding: Feeding, content: str):
    feeding.subscribe("Observation?", content=content)
    feeding.sandbox.faults(duplicate_rate=1, push_copies=3)
    follower = feeding.follower("Observation")
    follower.turn()
    feeding.put(*map(lab, range(5)))
    feeding.settle()

    assert asked(feeding, follower, turns=1) == 1
    assert asked(feeding, follower) == 0

    each_once(feeding, 5)


@pytest.mark.parametrize(
    "name",
    ["full-resource", "full-resource-with-query", "id-only", "empty-with-auth", "heartbeat"],
)
def test_a_gap_before_each_published_notification_is_recovered_exactly_once(
    feeding: Feeding, name: str
):
    """Each says that it is of the second event, or that there were two; the first never came."""
    asked: list[tuple[str, str]] = []

    class Counting(FhirClient):
        def ask(
            self, reference: str, operation: str, params: Sequence[tuple[str, str]] = ()
        ) -> bytes:
            asked.append((f"{reference}/{operation}", dict(params)["eventsSinceNumber"]))
            return super().ask(reference, operation, params)

    feeding.ehr = Counting(
        feeding.base,
        login=GivenLogin(f"Bearer {TOKEN}"),
        timeout_s=5,
        max_response_bytes=2**24,
    )
    feeding.closing.append(feeding.ehr.close)
    follower = feeding.follower("Observation")
    file = shared_data("subscriptions-backport") / f"Bundle-r4-notification-{name}.json"
    feeding.push(raw(notification("handshake", status="requested", total=0)))
    follower.turn()
    feeding.put(lab(1))
    feeding.push(file.read_bytes())
    feeding.push(file.read_bytes())

    for _ in range(4):
        assert follower.turn()

    since = "1"
    assert asked == [("Subscription/admission/$events", since)]
    assert watched(feeding).numbers == Numbers.starting_after(2)
    each_once(feeding, 1)


def test_a_number_as_the_ehr_wrote_it_stays_as_it_was(feeding: Feeding):
    feeding.subscribe("Observation?", content="id-only")
    follower = feeding.follower()
    feeding.put(lab(1, value=0.1))
    feeding.settle()

    follower.turn()

    ehr = feeding.ehr.read_bytes("Observation/o1")
    assert ehr is not None
    assert ehr in feeding.handed_over[0]


def test_what_could_not_be_handed_in_waits_with_its_notice(feeding: Feeding):
    feeding.subscribe("Observation?", content="id-only")
    follower = feeding.follower()
    feeding.put(*map(lab, range(3)))
    feeding.settle()
    feeding.is_api_away = True
    assert not follower.turn()
    feeding.is_api_away = False
    assert not follower.turn(), "it waits a while before it tries again"

    feeding.seconds = 2
    assert feeding.follower().turn(), "one that was started anew goes on"

    each_once(feeding, 3)


def test_a_count_that_begins_anew_makes_the_follower_ask_what_changed(feeding: Feeding):
    reference = feeding.subscribe("Observation?")
    feeding.put(*map(lab, range(3)))
    feeding.settle()
    follower = feeding.follower("Observation")
    follower.turn()
    with feeding.store.write() as uow:
        old = replace(watched(feeding), numbers=Numbers.starting_after(900))
        uow.listener_state.put("ehr/subscription", {f"subscription/{reference}": old.as_json()})
    feeding.sandbox.faults(push_loss_rate=1)
    feeding.put(lab(3))
    feeding.settle()
    feeding.sandbox.faults(push_loss_rate=0)
    feeding.set_status(reference, "requested")
    feeding.until(lambda: feeding.status(reference) == "active")

    follower.turn()

    each_once(feeding, 4)
    assert watched(feeding).numbers == Numbers.starting_after(4)


def test_a_subscription_in_error_is_set_to_requested_and_what_was_lost_comes(feeding: Feeding):
    reference = feeding.subscribe("Observation?")
    follower = feeding.follower(reactivate=lambda each: feeding.set_status(each, "requested"))
    follower.turn()
    feeding.set_status(reference, "error")
    feeding.put(*map(lab, range(4)))
    with feeding.store.write() as uow:
        uow.notices.add([("ehr", Notice("query-status", reference, "error", 4))])

    feeding.until(lambda: follower.turn() and len(feeding.events()) == 4)

    feeding.until(lambda: feeding.status(reference) == "active")
    each_once(feeding, 4)


def test_a_subscription_that_the_ehr_lost_is_forgotten_after_it_was_made_up_for(feeding: Feeding):
    reference = feeding.subscribe("Observation?", heartbeat_s=60)
    patience = Patience(grace_ms=0, heartbeat_ms=60_000, retry_ms=1000)
    follower = feeding.follower("Observation", patience=patience)
    follower.turn()
    feeding.delete(reference)
    feeding.put(lab(1))

    feeding.seconds = 121
    follower.turn()

    each_once(feeding, 1)
    with feeding.store.read() as uow:
        assert uow.listener_state.with_prefix("ehr/subscription", "subscription/") == {}


def test_a_server_without_the_operation_is_asked_what_changed(feeding: Feeding):
    reference = feeding.subscribe("Observation?", heartbeat_s=60)
    patience = Patience(grace_ms=0, heartbeat_ms=60_000, retry_ms=1000)
    follower = feeding.follower("Observation", patience=patience)
    follower.turn()
    plain = httpx.get(
        f"{feeding.base}/{reference}", headers={"Authorization": f"Bearer {TOKEN}"}
    ).json()
    del plain["_criteria"], plain["channel"]["_payload"]
    feeding.put({**plain, "criteria": "Patient?"}, lab(1))

    feeding.seconds = 121
    follower.turn()
    feeding.seconds = 125
    follower.turn()

    each_once(feeding, 1)
    assert watched(feeding).heard_ms > to_ms(utc_now()) + 100_000


def test_a_reference_at_which_the_ehr_fails_holds_up_the_others_for_an_hour_at_most(
    feeding: Feeding,
):
    feeding.subscribe("Observation?", content="id-only")
    follower = feeding.follower()
    feeding.put(lab(1))
    feeding.settle()
    feeding.sandbox.faults(error_rate=1, error_statuses=[500])
    assert not follower.turn()

    feeding.seconds = 3601
    assert follower.turn()

    with feeding.store.read() as uow:
        assert uow.notices.depths() == {}


def test_plain_r4_that_loses_pushes_is_made_up_for_by_the_cursor(feeding: Feeding):
    headers = {"Authorization": f"Bearer {TOKEN}"}
    wanted = Wanted("Observation", f"{feeding.address}/fhir", "test")
    httpx.post(
        f"{feeding.base}/Subscription", json=wanted.resource(feeding.token), headers=headers
    ).raise_for_status()
    follower = feeding.follower("Observation", every_ms=0)
    follower.turn()
    feeding.sandbox.faults(lose_every=10, duplicate_rate=0.3, push_copies=19)
    feeding.put(*map(lab, range(30)))
    feeding.settle()
    each_once(feeding, 27)

    follower.turn()

    each_once(feeding, 30)


# -- polling -------------------------------------------------------------------------------------


def test_a_poll_reads_page_by_page_and_everything_once(feeding: Feeding):
    feeding.put(*map(lab, range(23)))
    follower = feeding.follower("Observation", feed="ehr/poll", count=5, every_ms=0)

    assert asked(feeding, follower) == 5

    each_once(feeding, 23)


def test_what_is_included_comes_along_once_and_its_changes_are_not_followed(feeding: Feeding):
    feeding.put({"resourceType": "Patient", "id": "p1"}, *map(lab, range(7)))
    including = ("Observation:subject",)
    follower = feeding.follower(
        "Observation", feed="ehr/poll", count=3, every_ms=0, includes=including
    )

    follower.turn()
    follower.turn()

    each_once(feeding, 7)
    assert len(feeding.events("Patient")) == 1


def test_a_poll_that_was_cut_short_begins_again_and_loses_nothing(feeding: Feeding):
    feeding.put(*map(lab, range(12)))
    feeding.is_api_away = True
    feeding.follower("Observation", feed="ehr/poll", count=5).turn()
    feeding.is_api_away = False

    follower = feeding.follower("Observation", feed="ehr/poll", count=5, every_ms=0)
    follower.turn()
    feeding.put(lab(3, value=2.0), lab(12))
    follower.turn()

    each_once(feeding, 14)


def test_an_outage_of_the_ehr_is_waited_for_longer_and_longer(feeding: Feeding):
    feeding.sandbox.faults(down="503", retry_after_s=30)
    follower = feeding.follower("Observation", feed="ehr/poll", every_ms=0)
    assert not follower.turn()
    feeding.sandbox.faults(down="no")
    feeding.put(*map(lab, range(3)))

    feeding.seconds = 29
    assert not follower.turn()
    feeding.seconds = 31
    assert follower.turn()

    each_once(feeding, 3)


def test_an_ehr_that_ignores_the_time_asked_for_is_not_handed_in_again_and_again(feeding: Feeding):
    feeding.put(*map(lab, range(4)))
    follower = feeding.follower("Observation", feed="ehr/poll", every_ms=0, overlap_ms=1000)
    follower.turn()
    feeding.sandbox.faults(ignored_params=["_lastUpdated"])

    assert asked(feeding, follower) == 0

    each_once(feeding, 4)


def test_what_changes_while_the_ehr_is_away_from_the_first_is_not_lost(feeding: Feeding):
    feeding.sandbox.faults(down="503")
    follower = feeding.follower(
        "Observation", feed="ehr/poll", every_ms=0, lookback_ms=0, overlap_ms=1000
    )
    follower.turn()
    feeding.sandbox.faults(down="no")
    feeding.put(lab(1))

    feeding.seconds = 3600
    follower.turn()

    each_once(feeding, 1)


def test_an_ehr_that_refuses_the_question_is_told_and_holds_up_no_other(feeding: Feeding):
    feeding.sandbox.faults(unsupported_types=["Consent"])
    feeding.put(lab(1))
    follower = feeding.follower("Consent", "Observation", feed="ehr/poll", every_ms=0)

    assert follower.turn()
    assert "Consent can't be asked for" in follower.problem
    each_once(feeding, 1)

    feeding.sandbox.faults(unsupported_types=[])
    feeding.seconds = 61
    follower.turn()
    assert follower.problem == ""


def test_a_ping_makes_the_follower_ask_at_once(feeding: Feeding):
    follower = feeding.follower("Observation", feed="ehr/poll")
    follower.turn()
    feeding.put(lab(1))
    follower.turn()
    assert feeding.events() == []
    headers = {"Authorization": f"Bearer {feeding.token}"}
    assert httpx.post(f"{feeding.address}/fhir", headers=headers).status_code == 200

    follower.turn()

    each_once(feeding, 1)


def test_a_resource_that_is_refused_does_not_hold_up_the_others(feeding: Feeding):
    deep: dict[str, Any] = {"url": "http://x.test", "valueString": "x"}
    for _ in range(60):
        deep = {"url": "http://x.test", "extension": [deep]}
    feeding.put(lab(1), {**lab(2), "extension": [deep]}, lab(3))
    follower = feeding.follower("Observation", feed="ehr/poll", every_ms=0)

    assert follower.turn()

    each_once(feeding, 2)
    with feeding.store.read() as uow:
        kept = uow.listener_state.get("ehr/poll", "cursor/Observation")
    assert kept["ms"] > to_ms(utc_now()) - 60_000


def test_it_is_so_on_postgresql_too(postgresql_url: str, tmp_path: Path):
    with fed(postgresql_url, tmp_path) as feeding:
        feeding.subscribe("Observation?", content="id-only")
        follower = feeding.follower("Observation")
        follower.turn()
        feeding.sandbox.faults(lose_every=10, duplicate_rate=0.5, push_copies=3)
        feeding.put(*map(lab, range(25)))
        feeding.settle()

        for _ in range(2):
            assert feeding.follower("Observation").turn()

        each_once(feeding, 25)
        assert watched(feeding).numbers == Numbers.starting_after(25)
