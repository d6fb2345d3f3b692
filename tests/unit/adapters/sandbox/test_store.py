from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.sandbox.journal import Journal
from adapters.sandbox.store import Record, Store

RESOURCES = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["x", "y", None])), max_size=12
)


def labelled(identifier: str | None, patient: str = "p") -> dict[str, object]:
    resource: dict[str, object] = {
        "resourceType": "Observation",
        "subject": {"reference": f"Patient/{patient}"},
    }
    if identifier:
        resource["identifier"] = [{"system": "s", "value": identifier}]
    return resource


def test_the_server_sets_version_and_time() -> None:
    ticks = count()
    store = Store(clock=lambda: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=next(ticks)))
    sent = labelled("x") | {"meta": {"versionId": "9", "tag": [{"code": "t"}]}}

    store.put(sent, "a")
    second = store.put(sent, "a")

    assert second.body.startswith(
        b'{"resourceType":"Observation","id":"a","meta":{"versionId":"2","tag":[{"code":"t"}],'
        b'"lastUpdated":"2026-01-01T00:00:01.000Z"}'
    )
    assert store.version("Observation", "a", "1").updated_ms == second.updated_ms - 1000


def test_time_never_runs_backwards_for_a_resource() -> None:
    ticks = count()
    store = Store(clock=lambda: datetime(2026, 1, 1, tzinfo=UTC) - timedelta(seconds=next(ticks)))

    first, second = store.put(labelled("x"), "a"), store.put(labelled("x"), "a")

    assert second.updated_ms == first.updated_ms


def test_a_failed_transaction_leaves_no_trace() -> None:
    store = Store()
    heard: list[Record] = []
    store.listen(heard.extend)
    before = store.put(labelled("x"), "a")
    store.put(labelled("y"), "b")
    heard.clear()

    def fail_halfway() -> None:
        with store.transaction():
            store.put(labelled("z"), "a")
            store.put(labelled("z"), "c")
            store.delete("Observation", "b")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()

    assert store.current("Observation", "a") is before
    assert store.current("Observation", "c") is None
    assert [each.id for each in store.newest_first("Observation")] == ["b", "a"]
    assert store.having("Observation", ("identifier", "s", "z")) == []
    assert [each.id for each in store.having("Observation", ("identifier", "s", "x"))] == ["a"]
    assert store.version("Observation", "a", "2") is None
    assert heard == []


def test_copies_with_the_same_identifier_are_counted() -> None:
    store = Store()
    for number, identifier in enumerate(["x", "x", "x", "y", None, None]):
        store.put(labelled(identifier), str(number))

    store.delete("Observation", "0")

    assert store.duplicates() == {"Observation": 1}
    assert store.counts() == {"Observation": 5}


@given(RESOURCES)
def test_a_journal_brings_everything_back(
    tmp_path_factory: pytest.TempPathFactory, writes: list[tuple[str, str | None]]
) -> None:
    path = tmp_path_factory.mktemp("ehr") / "journal.ndjson"
    journal = Journal(path)
    store = Store(journal=journal)
    for resource_id, identifier in writes:
        if identifier is None:
            store.delete("Observation", resource_id)
        else:
            store.put(labelled(identifier), resource_id)
    journal.close()

    reopened = Journal(path)
    again = Store(journal=reopened)
    reopened.close()

    assert list(again.newest_first("Observation")) == list(store.newest_first("Observation"))
    assert again.duplicates() == store.duplicates()
    for resource_id in "abc":
        for version in ("1", "2", "3"):
            found = again.version("Observation", resource_id, version)
            assert found == store.version("Observation", resource_id, version)


def test_a_line_cut_short_by_a_kill_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "journal.ndjson"
    journal = Journal(path)
    Store(journal=journal).put(labelled("x"), "a")
    journal.close()
    whole = path.read_bytes()
    path.write_bytes(whole + whole[: len(whole) // 2])

    reopened = Journal(path)
    store = Store(journal=reopened)
    store.put(labelled("y"), "b")
    reopened.close()

    assert store.counts() == {"Observation": 2}
    assert path.read_bytes().startswith(whole)
    assert path.read_bytes().count(b"\n") == 2
