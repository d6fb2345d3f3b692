from hashlib import sha256

import pytest

from gateway.core.errors import NotFound
from gateway.store.unit_of_work import Store


def test_before_the_first_site_there_is_none(store: Store):
    with store.read() as uow:
        assert (uow.sites.version(), uow.sites.current(), uow.sites.history()) == (0, None, [])


def test_the_newest_version_is_in_force_and_all_are_kept(store: Store):
    with store.write() as uow:
        uow.sites.apply("site: eins", "ana")
        uow.sites.apply("site: zwei ü", "ben")

    with store.read() as uow:
        current = uow.sites.current()
        assert current is not None
        assert (current.version, current.yaml, current.applied_by) == (2, "site: zwei ü", "ben")
        assert current.sha256 == sha256("site: zwei ü".encode()).hexdigest()
        assert [row.version for row in uow.sites.history()] == [2, 1]
        assert uow.sites.get(1).yaml == "site: eins"


def test_a_version_that_was_never_applied_is_not_found(store: Store):
    with store.read() as uow, pytest.raises(NotFound, match="version 7"):
        uow.sites.get(7)
