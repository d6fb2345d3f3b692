"""The whole of Nadi on PostgreSQL; and two API processes with two relays on one database."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import httpx
import pytest
from sqlalchemy.exc import DBAPIError

from tests.conftest import create_database
from tests.people import Person, person, versioned
from tests.running import TLS, RunningNadi, free_ports, push, push_chart, running_nadi, wait_until

pytestmark = pytest.mark.integration

PATIENTS = 24


@pytest.fixture(scope="module")
def owner_url(postgresql: str) -> str:
    """A database, as its owner comes to it."""
    return create_database(postgresql)


@pytest.fixture(scope="module")
def nadi(tmp_path_factory: pytest.TempPathFactory, owner_url: str) -> Iterator[RunningNadi]:
    """It serves as a role that can only add to the audit log; the owner prepares the database."""
    role = f"service_{owner_url.rpartition('/nadi_')[2].partition('?')[0]}"
    settings = {
        "NADI_DATABASE_URL": owner_url.replace("nadi@", f"{role}@"),
        "NADI_DATABASE_OWNER_URL": owner_url,
        "NADI_RING_AGAIN_S": "2",
        "NADI_LEASE_S": "10",
    }
    with running_nadi(tmp_path_factory.mktemp("pg") / "nadi", environment=settings) as running:
        yield running


def test_the_whole_path_runs_on_postgresql(nadi: RunningNadi) -> None:
    permits, denies, revokes = (person("pg") for _ in range(3))
    push_chart(nadi, *permits.chart(permits.consent()), permits.creatinine())
    push_chart(nadi, *denies.chart(denies.consent("deny")), denies.creatinine())
    push_chart(nadi, *revokes.chart(versioned(revokes.consent(), 1)))
    with nadi.frozen("infer"):
        (task,) = push_chart(nadi, revokes.creatinine())
        push_chart(nadi, versioned(revokes.consent(status="inactive"), 2))
    nadi.settle()

    assert [len(nadi.results_of(each.id)) for each in (permits, denies, revokes)] == [1, 0, 0]
    assert nadi.jobs_of(task)[0]["business_status"] == "consent-withdrawn"
    assert not (nadi.folder / "nadi.db").exists()
    verified = nadi.nadi("audit", "verify", check=False)
    assert verified.returncode == 0, verified.stdout


@pytest.mark.parametrize(
    "statement",
    [
        "update audit_events set outcome = '0'",
        "delete from audit_leaves",
        "truncate audit_checkpoints",
        "alter table audit_events disable trigger all",
        "drop trigger audit_events_append_only on audit_events",
        "drop function refuse_change() cascade",
    ],
)
def test_the_role_that_serves_can_only_add_to_the_audit_log(
    nadi: RunningNadi, statement: str
) -> None:
    with pytest.raises(DBAPIError, match=r"permission denied|must be owner"):
        nadi.change(statement)


def test_two_apis_and_two_relays_on_one_database_do_everything_once(nadi: RunningNadi) -> None:
    with ExitStack() as stack:
        second = stack.enter_context(another_api(nadi))
        stack.enter_context(another_relay(nadi))
        people = [person("pg") for _ in range(PATIENTS)]

        with ThreadPoolExecutor(4) as pool:
            for each in people:
                pool.submit(push_chart, nadi, *each.chart(each.consent()))
        with ThreadPoolExecutor(8) as pool:
            both = [
                (
                    pool.submit(push_to, nadi.base, nadi.token("ehr"), each),
                    pool.submit(push_to, second, nadi.token("ehr"), each),
                )
                for each in people
            ]
        nadi.kill("relay")
        nadi.settle()

    assert all(one.result() == other.result() for one, other in both), "the same Task"
    found = [each["subject"]["reference"] for each in nadi.results()]
    assert [found.count(each.reference) for each in people] == [1] * PATIENTS
    assert nadi.duplicates() == 0
    verified = nadi.nadi("audit", "verify", check=False)
    assert verified.returncode == 0, verified.stdout


def test_a_changed_row_is_named(nadi: RunningNadi) -> None:
    someone = person("pg")
    task = push_chart(nadi, *someone.chart(someone.consent("deny")), someone.creatinine())[-1]
    (job,) = nadi.jobs_of(task)
    change = "update jobs set state = :state where id = :id"

    nadi.change(change, id=job["id"], state="completed")
    verified = nadi.nadi("audit", "verify", check=False)
    nadi.change(change, id=job["id"], state=job["state"])

    assert verified.returncode == 1
    assert f"jobs {job['id']}" in verified.stdout


def push_to(base: str, token: str, someone: Person) -> str:
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=base, headers=headers, timeout=30, verify=TLS) as client:
        return push(client, someone.creatinine())


@contextmanager
def another_api(nadi: RunningNadi) -> Iterator[str]:
    """Run a second API process on the same database."""
    (port,) = free_ports(1)
    base = f"http://127.0.0.1:{port}"
    with another_process(nadi, "gateway.app", NADI_PORT=str(port)):
        wait_until(lambda: _is_up(base), within_s=60, what="the second API is ready")
        yield base


@contextmanager
def another_relay(nadi: RunningNadi) -> Iterator[None]:
    """Run a second relay on the same database: it stands by."""
    with another_process(nadi, "workers.relay", NADI_WORKER_NAME="second-relay"):
        yield


@contextmanager
def another_process(nadi: RunningNadi, module: str, **settings: str) -> Iterator[None]:
    log = (nadi.folder.parent / f"{module}.log").open("ab")
    process = subprocess.Popen(
        [sys.executable, "-m", module],
        env={**nadi.environment, **settings},
        stdout=log,
        stderr=log,
    )
    try:
        yield
        assert process.poll() is None, "it is still running"
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGTERM)
        process.wait(20)
        log.close()


def _is_up(base: str) -> bool:
    try:
        return httpx.get(f"{base}/health/ready", timeout=2, verify=TLS).status_code == 200
    except httpx.HTTPError:
        return False
