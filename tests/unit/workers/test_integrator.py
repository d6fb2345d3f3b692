"""However much is put into the log without the key, what was written with it gets its place."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway import telemetry
from gateway.core.audit import Source, Step, noted
from gateway.core.clock import new_id, to_ms
from gateway.store import audit_log
from gateway.store.packing import unpacked
from gateway.store.tables import audit_events, audit_leaves
from gateway.store.unit_of_work import Store
from workers.integrator import FRUITLESS_ROUNDS, Integrator

NOW = datetime(2026, 11, 26, 6, 0, tzinfo=UTC)
LIMIT = 10

Integrate = Callable[[], Integrator]


@pytest.fixture
def new(store: Store, tmp_path: Path) -> Integrate:
    """Gives an integrator as a relay that starts has it."""
    key = Ed25519PrivateKey.from_private_bytes(b"s" * 32)
    return lambda: Integrator(store, key, "nadi.test/log", tmp_path)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a round look at `LIMIT` records."""
    monkeypatch.setattr(audit_log, "INTEGRATION_LIMIT", LIMIT)


def write(store: Store, count: int = 1) -> None:
    with store.write() as uow:
        for _ in range(count):
            step = Step(id=new_id(), recorded=NOW, source=Source("site", "test"))
            uow.audit(noted(step, "note"))


def invent(store: Store, count: int, *, tag: bytes | None = None, first: int | None = None) -> None:
    """Put events into the table as somebody does who has the database and no key."""
    step = Step(id="invented", recorded=NOW, source=Source("site", "test"))
    body = noted(step, "note").body
    event = {"recorded_ms": to_ms(NOW), "event": "note", "action": "R", "outcome": "0"}
    rows = [{**event, "id": new_id(), "body": body, "tag": tag} for _ in range(count)]
    if first is not None:
        rows = [{**row, "seq": first + index} for index, row in enumerate(rows)]
    with store.engine.begin() as connection:
        connection.execute(sa.insert(audit_events), rows)


def unplaced(store: Store) -> list[bool]:
    """Say of each event without a leaf whether its tag is true."""
    has_leaf = sa.exists().where(audit_leaves.c.audit_seq == audit_events.c.seq)
    query = sa.select(audit_events.c.id, audit_events.c.body, audit_events.c.tag).where(~has_leaf)
    with store.read() as uow:
        rows: Sequence[sa.Row] = uow.connection.execute(query).all()
        return [row.tag == uow.sealer.audit_tag(row.id, unpacked(row.body)) for row in rows]


def named(logs: list[dict[str, object]]) -> list[object]:
    return [each["count"] for each in logs if each["event"] == "audit-events-not-ours"]


def test_more_false_events_than_one_round_looks_at_do_not_hold_up_the_true_one_behind_them(
    store: Store, new: Integrate, logs: list[dict[str, object]]
) -> None:
    write(store, 3)
    invent(store, audit_log.INTEGRATION_LIMIT + 1, tag=bytes(16))
    write(store)

    new().turn()

    assert unplaced(store) == [False] * (audit_log.INTEGRATION_LIMIT + 1)
    assert sum(named(logs)) == audit_log.INTEGRATION_LIMIT + 1  # type: ignore[arg-type] # counts


@pytest.mark.usefixtures("few")
def test_a_turn_looks_at_so_many_and_the_next_goes_on_behind_them(
    store: Store, new: Integrate
) -> None:
    write(store)
    invent(store, 2 * FRUITLESS_ROUNDS * LIMIT)
    write(store)
    integrator = new()
    integrator.turn()  # places the first event, which stands before the false ones

    was_waiting = True in unplaced(store)
    for _ in range(2):
        integrator.turn()

    assert was_waiting, "the true one stands behind more than one turn looks at"
    assert unplaced(store) == [False] * 2 * FRUITLESS_ROUNDS * LIMIT


@pytest.mark.usefixtures("few")
def test_what_comes_later_is_placed_too_and_each_false_event_is_told_once(
    store: Store, new: Integrate, logs: list[dict[str, object]]
) -> None:
    before = counted()
    integrator = new()
    write(store)
    for count in (LIMIT, 2 * LIMIT, 3):
        invent(store, count)
        for _ in range(5):
            integrator.turn()
        write(store)
        for _ in range(5):
            integrator.turn()
        assert True not in unplaced(store)

    assert sum(named(logs)) == 3 * LIMIT + 3  # type: ignore[arg-type] # counts
    assert counted() - before == 3 * LIMIT + 3


def counted() -> float:
    name = "nadi_audit_not_ours_total "
    lines = telemetry.render_metrics().decode().splitlines()
    return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))


@pytest.mark.usefixtures("few")
def test_a_false_event_with_a_number_far_ahead_hides_nothing(store: Store, new: Integrate) -> None:
    write(store)
    integrator = new()
    invent(store, 2 * LIMIT, first=10**9)

    for _ in range(3):
        write(store, LIMIT)
        integrator.turn()
        integrator.turn()

    assert True not in unplaced(store)


@pytest.mark.usefixtures("few")
def test_a_relay_that_ends_leaves_no_true_event_behind_however_many_are_false(
    store: Store, new: Integrate
) -> None:
    write(store)
    invent(store, 3 * FRUITLESS_ROUNDS * LIMIT)
    write(store)

    new().turn(fruitless_rounds=None)

    assert True not in unplaced(store)


def test_once_a_tagged_event_has_its_place_none_without_a_tag_gets_one_whatever_its_number(
    store: Store, new: Integrate
) -> None:
    write(store, 2)
    integrator = new()
    integrator.turn()
    invent(store, 3, first=-5)
    write(store)

    integrator.turn()

    assert unplaced(store) == [False] * 3
