import subprocess
import sys
import time

import pytest
import sqlalchemy as sa

from gateway.store.leadership import leadership
from gateway.store.unit_of_work import Store


def test_only_one_leads_until_it_lets_go(store: Store) -> None:
    first, second = leadership(store.engine), leadership(store.engine)

    assert first.acquire()
    assert first.acquire()
    assert not second.acquire()
    first.release()

    # PostgreSQL notices a closed session a moment later.
    until = time.monotonic() + 5
    while not second.acquire():
        assert time.monotonic() < until
        time.sleep(0.01)
    second.release()


def test_letting_go_of_what_is_not_held_changes_nothing(store: Store) -> None:
    first, second = leadership(store.engine), leadership(store.engine)
    assert first.acquire()

    second.release()

    assert not second.acquire()
    first.release()


def test_a_leader_that_is_killed_loses_the_lead(sqlite_url: str) -> None:
    leading = (
        "import sys, time\n"
        "from gateway.store.engine import open_engine\n"
        "from gateway.store.leadership import leadership\n"
        "held = leadership(open_engine(sys.argv[1]))\n"
        "print(held.acquire(), flush=True)\n"
        "time.sleep(60)\n"
    )
    engine = sa.create_engine(sqlite_url)
    with subprocess.Popen(
        [sys.executable, "-c", leading, sqlite_url], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "True\n"
        assert not leadership(engine).acquire()

        child.kill()
        child.wait()

    successor = leadership(engine)
    assert successor.acquire()
    successor.release()
    engine.dispose()


@pytest.mark.integration
def test_a_leader_whose_session_ends_loses_the_lead(postgresql_url: str) -> None:
    engine = sa.create_engine(postgresql_url)
    first, second = leadership(engine), leadership(engine)
    assert first.acquire()

    with engine.connect() as connection:
        connection.execute(
            sa.text(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where pid <> pg_backend_pid() and datname = current_database()"
            )
        )

    assert not first.acquire()
    assert second.acquire()
    assert not first.acquire()
    second.release()
    engine.dispose()
