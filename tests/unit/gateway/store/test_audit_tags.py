from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.core.audit import Source, Step, noted
from gateway.core.clock import new_id, to_ms
from gateway.store import audit_tags
from gateway.store.audit_tags import FalseOnes, false_ones
from gateway.store.tables import audit_events
from gateway.store.unit_of_work import Store

NOW = datetime(2026, 11, 26, 6, 0, tzinfo=UTC)
KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))


def write(store: Store, *, tag: bytes | None = None, is_ours: bool = True) -> int:
    """Add one event, ours or with the given tag; give its number."""
    step = Step(id=new_id(), recorded=NOW, source=Source("site", "test"))
    record = noted(step, "note")
    with store.write() as uow:
        if is_ours:
            uow.audit(record)
        else:
            uow.connection.execute(
                sa.insert(audit_events).values(
                    id=record.id,
                    recorded_ms=to_ms(NOW),
                    event=record.event,
                    action=record.action,
                    outcome=record.outcome,
                    body=record.body,
                    tag=tag,
                )
            )
    with store.read() as uow:
        return uow.connection.execute(sa.select(sa.func.max(audit_events.c.seq))).scalar_one()


def place(store: Store) -> None:
    with store.write() as uow:
        uow.audit_log.integrate(KEY, "nadi.test/log")


def found(store: Store) -> FalseOnes:
    with store.read() as uow:
        return false_ones(uow)


def test_what_waits_for_its_place_is_not_false(store: Store) -> None:
    write(store)
    place(store)
    write(store)

    assert found(store) == FalseOnes((), is_all=True)


def test_false_ones_are_found_before_and_behind_the_last_leaf(store: Store) -> None:
    write(store)
    between = write(store, is_ours=False)
    write(store)
    place(store)
    behind = write(store, is_ours=False, tag=bytes(16))
    write(store)

    assert found(store) == FalseOnes((between, behind), is_all=True)


def test_what_an_earlier_nadi_wrote_is_not_false(store: Store) -> None:
    write(store, is_ours=False)
    write(store)

    assert found(store) == FalseOnes((), is_all=True)


def test_where_not_all_were_compared_it_is_said(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_tags, "MOST_COMPARED", 2)
    write(store)
    place(store)
    numbers = [write(store, is_ours=False) for _ in range(3)]

    assert found(store) == FalseOnes(tuple(numbers[:2]), is_all=False)
