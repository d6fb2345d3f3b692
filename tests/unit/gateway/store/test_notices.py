"""Notices wait in the order in which they came, sealed, on either database."""

from gateway.core.notice import PING, Notice
from gateway.store.unit_of_work import Store

FULL = Notice("event-notification", "Subscription/s", "active", 2**62, (7, 2**62), ("Patient/p",))


def waiting(store: Store, system: str, limit: int = 10) -> list[Notice]:
    with store.read() as uow:
        return [each.notice for each in uow.notices.waiting(system, limit=limit)]


def test_notices_wait_by_system_in_their_order_and_are_read_as_they_were(store: Store):
    ping = Notice(PING, is_blind=True)
    with store.write() as uow:
        uow.notices.add([("ehr", FULL), ("lab", ping), ("ehr", ping)])

    assert waiting(store, "ehr") == [FULL, ping]
    assert waiting(store, "ehr", limit=1) == [FULL]
    assert waiting(store, "lab") == [ping]
    assert waiting(store, "other") == []


def test_what_was_done_is_removed_and_the_rest_counted(store: Store):
    with store.write() as uow:
        uow.notices.add([("ehr", FULL), ("ehr", FULL), ("lab", FULL)])
    with store.write() as uow:
        first, _ = uow.notices.waiting("ehr", limit=10)
        uow.notices.remove([first.id])
        uow.notices.remove([])

    with store.read() as uow:
        assert uow.notices.depths() == {"ehr": 1, "lab": 1}


def test_a_reference_does_not_lie_in_the_clear(store: Store):
    with store.write() as uow:
        uow.notices.add([("ehr", FULL)])

    with store.read() as uow:
        body = bytes(uow.connection.exec_driver_sql("select body from notices").scalar())
    assert b"Patient/p" not in body
