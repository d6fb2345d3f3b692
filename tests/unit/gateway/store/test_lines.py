"""What waits is found by leaps through an index, however much waits."""

import sqlalchemy as sa

from gateway.core.jobs import JobState
from gateway.core.lanes import Lane
from gateway.store import deliveries as delivery_store
from gateway.store import jobs as job_store
from gateway.store.deliveries import Deliveries
from gateway.store.jobs import Jobs
from gateway.store.unit_of_work import Store, UnitOfWork
from tests.filling import fill_deliveries, fill_jobs

MANY = 10_000


def test_lines_are_named_with_their_lanes_and_give_their_own_rows(store: Store) -> None:
    with store.write() as uow:
        fill_jobs(uow, 3, route="b", lane=Lane.ROUTINE)
        fill_jobs(uow, 2, route="a", lane=Lane.ROUTINE)
        fill_jobs(uow, 1, route="b", lane=Lane.STAT)
        fill_deliveries(uow, 2, line="ehr/a", lane=Lane.URGENT)

        lines = uow.jobs.lines()

        assert sorted(lines) == [(Lane.STAT, "b"), (Lane.ROUTINE, "a"), (Lane.ROUTINE, "b")]
        assert [len(uow.jobs.head(line, 10)) for line in sorted(lines)] == [1, 2, 3]
        assert uow.deliveries.lines() == [(Lane.URGENT, "ehr/a")]
        assert len(uow.deliveries.head((Lane.URGENT, "ehr/a"), 1)) == 1


def test_an_empty_queue_has_no_lines(store: Store) -> None:
    with store.read() as uow:
        assert (uow.jobs.lines(), uow.deliveries.lines()) == ([], [])
        assert uow.jobs.oldest_ready_ms() is None


def test_no_statement_of_the_relay_reads_the_backlog(store: Store) -> None:
    with store.write() as uow:
        fill_jobs(uow, MANY, route="toy", lane=Lane.ROUTINE)
        fill_jobs(uow, MANY, route="toy", lane=Lane.ROUTINE, state=JobState.IN_PROGRESS)
        fill_deliveries(uow, MANY, line="ehr/ehr", lane=Lane.ROUTINE)
    analyzed(store)

    with store.read() as uow:
        plans = [
            (name, plan_of(uow, statement, values))
            for name, statement, values in (
                ("ix_jobs_open", job_store._LINES, {}),
                ("ix_jobs_open", job_store._HEAD, head_of(uow, "toy")),
                ("ix_jobs_leased", job_store._EXPIRED, {"now": uow.now_ms}),
                ("ix_deliveries_open", delivery_store._LINES, {}),
                ("ix_deliveries_open", delivery_store._HEAD, head_of(uow, "ehr/ehr")),
                ("ix_deliveries_open", delivery_store._LOST, {"now": uow.now_ms}),
            )
        ]

        for index, plan in plans:
            assert index in plan, plan
            assert "SCAN jobs" not in plan, plan
            assert "SCAN deliveries" not in plan, plan
            assert "Seq Scan on jobs" not in plan, plan
            assert "Seq Scan on deliveries" not in plan, plan
            assert "TEMP B-TREE" not in plan, plan
            assert "Sort" not in plan, plan
        assert len(Jobs(uow).head((Lane.ROUTINE, "toy"), 10)) == 10
        assert len(Deliveries(uow).head((Lane.ROUTINE, "ehr/ehr"), 10)) == 10


def head_of(uow: UnitOfWork, name: str) -> dict[str, object]:
    return {"lane": 3, "name": name, "now": uow.now_ms, "most": 128}


def analyzed(store: Store) -> None:
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("analyze"))


def plan_of(uow: UnitOfWork, statement: sa.Select, values: dict[str, object]) -> str:
    """Give the plan that the database makes for a statement."""
    dialect = uow.connection.dialect
    bound = statement.params(**values).compile(
        dialect=dialect, compile_kwargs={"literal_binds": True}
    )
    word = "explain query plan" if dialect.name == "sqlite" else "explain"
    rows = uow.connection.exec_driver_sql(f"{word} {bound}")
    return "\n".join(str(row) for row in rows)
