from datetime import UTC, datetime, timedelta

import pytest

from gateway.store.listener_state import ListenerState
from gateway.store.schema import metadata
from gateway.store.sealing import Sealer
from gateway.store.unit_of_work import Store
from tests.conftest import MASTER


def test_a_value_is_kept_until_another_takes_its_place(store: Store) -> None:
    with store.write() as uow:
        uow.listener_state.put("lab/mllp", {"cursor": {"at": "2026-11-26T06:00:00Z", "n": "18446"}})
    with store.write() as uow:
        uow.listener_state.put("lab/mllp", {"cursor": [1.5, None], "other": True})

    with store.read() as uow:
        state = uow.listener_state
        assert state.get("lab/mllp", "cursor") == [1.5, None]
        assert state.get_many("lab/mllp", ["cursor", "other", "none"]) == {
            "cursor": [1.5, None],
            "other": True,
        }
        assert state.get("lab/poll", "cursor") is None


def _keep_and_fail(store: Store) -> None:
    with store.write() as uow:
        uow.listener_state.put("lab/mllp", {"cursor": 1})
        raise ConnectionError


def test_what_was_not_committed_is_not_remembered(store: Store) -> None:
    with pytest.raises(ConnectionError):
        _keep_and_fail(store)

    with store.read() as uow:
        assert uow.listener_state.get("lab/mllp", "cursor") is None


def test_values_are_found_by_the_beginning_of_their_keys(store: Store) -> None:
    with store.write() as uow:
        uow.listener_state.put("lab/mllp", {"seen/b": 2, "seen/a": 1, "seen_c": 3})

    with store.read() as uow:
        assert uow.listener_state.with_prefix("lab/mllp", "seen/") == {"seen/a": 1, "seen/b": 2}
        assert uow.listener_state.with_prefix("lab/mllp", "seen_") == {"seen_c": 3}


def test_how_all_listeners_are_is_read_at_once(store: Store) -> None:
    with store.write() as uow:
        uow.listener_state.put("lab/mllp", {"status": "up"})
        uow.listener_state.put("ehr/poll", {"status": "down", "cursor": 1})

    with store.read() as uow:
        found = uow.listener_state.everywhere("status")
        assert [(each.listener, each.key, each.value) for each in found] == [
            ("ehr/poll", "status", "down"),
            ("lab/mllp", "status", "up"),
        ]
        assert all(each.updated_ms == found[0].updated_ms > 0 for each in found)


def test_it_is_known_when_each_of_some_kept_something(store: Store) -> None:
    with store.write() as uow:
        uow.listener_state.put("ehr/poll", {"status": "up", "cursor": 1})
        uow.listener_state.put("lab/mllp", {"status": "up"})
        kept_ms = uow.now_ms

    with store.read() as uow:
        found = uow.listener_state.kept_ms(["ehr/poll", "ehr/subscription"], "status")
        assert found == {"ehr/poll": kept_ms}


def test_old_values_are_forgotten_and_fresh_ones_stay(database_url: str) -> None:
    now = datetime(2026, 11, 26, tzinfo=UTC)
    times = iter([now - timedelta(days=8), now, now])
    store = Store(database_url, Sealer(MASTER), clock=lambda: next(times))
    with store.write() as uow:
        uow.listener_state.put("lab/mllp", {"seen/old": 1, "cursor": 1})

    with store.write() as uow:
        uow.listener_state.put("lab/mllp", {"seen/new": 1})
        week_ago_ms = uow.now_ms - 7 * 86_400_000
        assert uow.listener_state.remove_older("lab/mllp", "seen/", week_ago_ms) == 1

    with store.read() as uow:
        kept = _all(uow.listener_state)
    store.close()
    assert kept == {"cursor": 1, "seen/new": 1}


def test_one_value_is_forgotten(store: Store) -> None:
    with store.write() as uow:
        uow.listener_state.put("lab/mllp", {"a": 1, "b": 2})
        uow.listener_state.remove("lab/mllp", "a")
        uow.listener_state.put("lab/mllp", {})

        assert _all(uow.listener_state) == {"b": 2}


def test_every_table_of_the_migrations_is_among_all_tables() -> None:
    assert {"listener_state", "consent_acts", "rights_requests", "events"} <= metadata.tables.keys()


def _all(state: ListenerState) -> dict[str, object]:
    return state.with_prefix("lab/mllp", "")
