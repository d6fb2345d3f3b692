"""Whether every trigger that refuses to change what is on record is in force, on both databases."""

import pytest
import sqlalchemy as sa

from gateway.store.guards import not_in_force, tell_of_guards
from gateway.store.unit_of_work import Store, UnitOfWork
from gateway.store.verification_report import Verification

_ALL = {
    "sqlite": "select name, tbl_name from sqlite_master where type = 'trigger'",
    "postgresql": "select tgname, tgrelid::regclass::text from pg_trigger where not tgisinternal",
}
_AFTER = {
    "sqlite": ("", "drop trigger {0}"),
    "postgresql": ("alter table {1} disable trigger {0}", "drop trigger {0} on {1}"),
}
#: A trigger of the same name that refuses nothing, or nothing that happens.
_TAME = {
    "sqlite": (
        "create trigger {0} before update on {1} begin select 1; end",
        "create trigger {0} before update on {1} when 0 begin select raise(abort, 'no'); end",
    ),
    "postgresql": (
        "create trigger {0} before update on {1} execute function tame()",
        (
            "create trigger {0} before update on {1} for each row when (false) "
            "execute function refuse_change()"
        ),
    ),
}
_TAME_FUNCTION = (
    "create function tame() returns trigger language plpgsql as 'begin return new; end'"
)


def _triggers(uow: UnitOfWork) -> dict[str, str]:
    return dict(uow.connection.exec_driver_sql(_ALL[_kind(uow)]).all())  # type: ignore[arg-type]  # pairs


def _kind(uow: UnitOfWork) -> str:
    return uow.connection.dialect.name


def _run(uow: UnitOfWork, statement: str, name: str, table: str) -> None:
    if statement:
        uow.connection.exec_driver_sql(statement.format(name, table))


def test_in_a_new_database_every_guard_is_in_force_and_each_that_goes_is_told(store: Store) -> None:
    with store.write() as uow:
        assert not_in_force(uow.connection) == []
        every = _triggers(uow)
        for name, table in every.items():
            _run(uow, _AFTER[_kind(uow)][1], name, table)

        assert set(not_in_force(uow.connection)) == set(every)


@pytest.mark.parametrize("way", [0, 1], ids=["refuses-nothing", "refuses-never"])
def test_a_trigger_that_bears_the_name_and_refuses_nothing_is_no_guard(
    store: Store, way: int
) -> None:
    with store.write() as uow:
        name, table = next(each for each in _triggers(uow).items() if each[1] == "audit_events")
        if _kind(uow) == "postgresql":
            uow.connection.execute(sa.text(_TAME_FUNCTION))
        _run(uow, _AFTER[_kind(uow)][1], name, table)
        _run(uow, _TAME[_kind(uow)][way], name, table)

        assert not_in_force(uow.connection) == [name]


def test_a_disabled_guard_is_told_in_a_verification(store: Store) -> None:
    report = Verification()
    with store.write() as uow:
        name, table = next(iter(_triggers(uow).items()))
        disable, drop = _AFTER[_kind(uow)]
        _run(uow, disable or drop, name, table)

        tell_of_guards(uow.connection, report)

    assert report.findings == []
    assert name in report.notes[0]
    assert "1 of the triggers" in report.notes[0]
