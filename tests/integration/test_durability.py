"""2xx means durable, 503 means nothing was stored, and many requests share one commit."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Self

import httpx
import pytest
import sqlalchemy as sa

from gateway.app import build
from gateway.core.fhir import parse_resource
from gateway.core.principal import Role
from gateway.store.engine import migrate
from gateway.store.keys import load_or_create
from gateway.store.sealing import Sealer
from gateway.store.unit_of_work import Store
from tests.asgi import AsgiClient
from tests.chaos.disk import Disk
from tests.conftest import Api, credentials, settings_for
from tests.factories import SITE, consent, creatinine, meta, raw
from tests.running import TLS, wait_until

pytestmark = pytest.mark.integration

FHIR = {"Content-Type": "application/fhir+json"}
#: So long that requests gather meanwhile, however busy this machine is.
SLOW_COMMIT_S = 0.3


def prepared(folder: Path, url: str) -> tuple[Store, dict[str, str]]:
    """Make keys, schema, site and credentials, before any process starts."""
    keys = load_or_create(folder, master_key_file=None, audit_key_file=None)
    migrate(url)
    store = Store(url, Sealer(keys.master))
    with store.write() as uow:
        uow.sites.apply(SITE, "test")
    return store, credentials(store)


@contextmanager
def process(folder: Path, url: str, **chosen: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run the API process as `nadi up` would; give it with its address.

    Args:
        folder: Of its data.
        url: Of its database.
        chosen: Settings.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "NADI_DATA_DIR": str(folder),
        "NADI_DATABASE_URL": url,
        "NADI_PORT": str(port),
        "NADI_BROKER_URL": f"redis+socket://{folder}/no-broker.sock",
        # Her events would be counted too.
        "NADI_CANARY_EVERY_S": "0",
        **chosen,
    }
    command = [sys.executable, "-m", "gateway.app"]
    running = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    base = f"http://127.0.0.1:{port}"
    try:
        _await_ready(base)
        yield running, base
    finally:
        running.kill()
        running.wait(10)


def _await_ready(base: str) -> None:
    for _ in range(300):
        try:
            if httpx.get(f"{base}/health/ready", timeout=5, verify=TLS).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError("the API did not become ready")


def test_what_was_answered_2xx_survives_a_kill(database_url: str, tmp_path: Path):
    store, tokens = prepared(tmp_path, database_url)
    headers = {**FHIR, "Authorization": f"Bearer {tokens['ehr']}"}
    sent = {}
    with (
        process(tmp_path, database_url) as (running, base),
        httpx.Client(timeout=30, verify=TLS) as client,
    ):
        for number in range(5):
            body = raw(creatinine(number))
            response = client.post(f"{base}/fhir/Observation", content=body, headers=headers)
            assert response.status_code == 202
            sent[response.json()["id"]] = body
        running.send_signal(signal.SIGKILL)
        running.wait(10)

    with store.read() as uow:
        kept = {event_id: uow.events.content(uow.events.get(event_id)) for event_id in sent}
    store.close()
    assert kept == sent


class Clients:
    """Push ever new results from several threads, for the length of the block.

    Attributes:
        acknowledged: Body by the id of its Task.
        refused: What was answered otherwise.
    """

    def __init__(self, base: str, headers: dict[str, str]) -> None:
        self._base, self._headers = base, headers
        self._numbers = count()
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._push) for _ in range(4)]
        self.acknowledged: dict[str, bytes] = {}
        self.refused: list[httpx.Response] = []

    def __enter__(self) -> Self:
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for each in self._threads:
            each.join()

    def _push(self) -> None:
        with httpx.Client(timeout=60, verify=TLS) as client:
            while not self._is_over.wait(0.005):
                body = raw(creatinine(next(self._numbers)))
                url = f"{self._base}/fhir/Observation"
                answer = client.post(url, content=body, headers=self._headers)
                if answer.status_code == 202:
                    self.acknowledged[answer.json()["id"]] = body
                else:
                    self.refused.append(answer)


@pytest.fixture(params=["filled", "limited"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    made = Disk(tmp_path / "disk", 64, may_mount=request.param == "filled")
    if request.param == "filled" and not made.is_mounted:
        pytest.skip("a tmpfs can't be mounted here: that needs root, or CAP_SYS_ADMIN")
    yield made
    made.close()


def test_a_disk_that_fills_up_under_load_is_a_503_loses_nothing_and_heals_by_itself(disk: Disk):
    url = f"sqlite:///{disk.folder / 'nadi.db'}"
    store, tokens = prepared(disk.folder, url)
    headers = {**FHIR, "Authorization": f"Bearer {tokens['ehr']}"}
    # Without the reserve, which would refuse before anything is full.
    with process(disk.folder, url, NADI_MIN_DISK_FREE_BYTES="0") as (running, base):
        with Clients(base, headers) as clients:
            wait_until(lambda: len(clients.acknowledged) > 20, within_s=60, what="events flow")
            with disk.full(lambda: [running.pid]):
                wait_until(lambda: len(clients.refused) > 8, within_s=60, what="it is full")
                alive = httpx.get(f"{base}/health/live", timeout=30)
            before = len(clients.acknowledged)
            wait_until(
                lambda: len(clients.acknowledged) > before + 20, within_s=60, what="events flow"
            )
        running.kill()
        running.wait(10)

    assert alive.status_code == 200
    for response in clients.refused:
        refused_for_now(response)
    with store.read() as uow:
        kept = {
            task_id: uow.events.content(uow.events.get(task_id)) for task_id in clients.acknowledged
        }
        assert uow.connection.scalar(sa.text("select count(*) from events")) == len(kept)
        assert uow.connection.scalar(sa.text("pragma integrity_check")) == "ok"
    store.close()
    assert kept == clients.acknowledged


def test_two_processes_that_receive_the_same_store_it_once(database_url: str, tmp_path: Path):
    store, tokens = prepared(tmp_path, database_url)
    headers = {**FHIR, "Authorization": f"Bearer {tokens['ehr']}"}
    versions = [raw(consent(1, **meta(number))) for number in range(6)]
    observed = [raw(creatinine(number)) for number in range(6)]

    def post(base: str, body: bytes) -> httpx.Response:
        for _ in range(10):
            response = httpx.post(
                f"{base}/fhir", content=body, headers=headers, timeout=30, verify=TLS
            )
            if response.status_code != 503:
                return response
            time.sleep(0.1)
        return response

    with (
        process(tmp_path, database_url) as (_, one),
        process(tmp_path, database_url) as (_, other),
        ThreadPoolExecutor(12) as pool,
    ):
        futures = [
            (body, pool.submit(post, base, body))
            for body in (*versions, *observed)
            for base in (one, other, one)
        ]
        answers = [(body, future.result(60)) for body, future in futures]

    assert {response.status_code for _, response in answers} == {202}
    for body in (*versions, *observed):
        assert len({answer.json()["id"] for sent, answer in answers if sent == body}) == 1
    with store.read() as uow:
        assert uow.connection.scalar(sa.text("select count(*) from events")) == 12
        newest = uow.connection.scalars(
            sa.text("select version_id from events where resource_type = 'Consent' and is_current")
        ).all()
    store.close()
    assert newest == ["5"]


def test_concurrent_requests_share_commits(sqlite_url: str, tmp_path: Path):
    store, tokens = prepared(tmp_path / "data", sqlite_url)
    commits: list[object] = []

    def slow_disk(connection: object) -> None:
        if threading.current_thread().name == "group-commit":
            commits.append(connection)
            time.sleep(SLOW_COMMIT_S)

    sa.event.listen(sa.Engine, "commit", slow_disk)
    try:
        with AsgiClient(build(settings_for(tmp_path / "data", sqlite_url))) as client:
            headers = {**FHIR, "Authorization": f"Bearer {tokens['ehr']}"}
            client.post("/fhir", content=raw(creatinine("warm")), headers=headers)
            before = len(commits)
            bodies = [raw(creatinine(number)) for number in range(64)]

            answers = client.post_all("/fhir", bodies, headers)
    finally:
        sa.event.remove(sa.Engine, "commit", slow_disk)
        store.close()

    assert {answer.status_code for answer in answers} == {202}
    assert len(commits) - before <= 16


@pytest.fixture
def running(sqlite_url: str, tmp_path: Path) -> Iterator[tuple[Api, Store]]:
    """The API in this process, and the store inside of it."""
    mine, tokens = prepared(tmp_path / "data", sqlite_url)
    app = build(settings_for(tmp_path / "data", sqlite_url))
    with AsgiClient(app) as client:
        yield Api(client, mine, tokens), mine
    mine.close()


def refused_for_now(response: httpx.Response) -> None:
    assert response.status_code == 503, response.text
    assert int(response.headers["retry-after"]) >= 1
    outcome = parse_resource(response.content, expected_type="OperationOutcome").content
    assert outcome["issue"][0]["code"] == "no-store"


def test_a_database_that_cannot_be_written_is_a_503_and_nothing_is_stored(
    running: tuple[Api, Store],
):
    api, store = running
    api.post(raw(creatinine("before")))

    def read_only(connection: sa.Connection) -> None:
        connection.exec_driver_sql("PRAGMA query_only=ON")

    sa.event.listen(sa.Engine, "begin", read_only)
    try:
        pushed = api.post(raw(creatinine(1)))
        broken = api.post(b"{", "/fhir/Patient")
        unknown = api.client.get("/fhir/Task")
        listed = api.get("/fhir/Task")
        ready = api.client.get("/health/ready")
    finally:
        sa.event.remove(sa.Engine, "begin", read_only)

    for response in (pushed, broken, unknown, listed):
        refused_for_now(response)
    assert ready.status_code in {200, 503}
    with store.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA query_only=OFF")
        assert connection.scalar(sa.text("select count(*) from events")) == 1


def test_a_writer_that_does_not_let_go_is_a_503(
    running: tuple[Api, Store], monkeypatch: pytest.MonkeyPatch, sqlite_url: str, tmp_path: Path
):
    api, _ = running
    monkeypatch.setattr("gateway.store.engine._BUSY_TIMEOUT_MS", 50)
    with AsgiClient(build(settings_for(tmp_path / "data", sqlite_url))) as client:
        holder = sa.create_engine(sqlite_url)
        with holder.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            headers = {**FHIR, **api.headers()}
            refused_for_now(client.post("/fhir", content=raw(creatinine(1)), headers=headers))
        holder.dispose()

        assert client.post("/fhir", content=raw(creatinine(1)), headers=headers).status_code == 202


def test_a_gateway_that_is_overloaded_says_when_to_come_back(sqlite_url: str, tmp_path: Path):
    store, tokens = prepared(tmp_path / "data", sqlite_url)
    settings = settings_for(tmp_path / "data", sqlite_url, max_waiting=4, commit_batch=2)
    with AsgiClient(build(settings)) as client:
        headers = {**FHIR, "Authorization": f"Bearer {tokens['ehr']}"}
        bodies = [raw(creatinine(number)) for number in range(80)]

        answers = client.post_all("/fhir", bodies, headers)

    accepted = [answer for answer in answers if answer.status_code == 202]
    refused = [answer for answer in answers if answer.status_code == 503]
    assert len(accepted) + len(refused) == 80
    assert accepted
    assert {answer.json()["issue"][0]["code"] for answer in refused} <= {"throttled"}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    with store.read() as uow:
        assert uow.connection.scalar(sa.text("select count(*) from events")) == len(accepted)
    store.close()


def test_a_site_that_cannot_be_used_holds_events_back_and_refuses_none(
    sqlite_url: str, tmp_path: Path
):
    store, _ = prepared(tmp_path / "data", sqlite_url)
    with store.write() as uow:
        uow.sites.apply("site: [from a newer Nadi", "test")
        _, token = uow.credentials.add("ehr", Role.EHR, "ehr")
    with AsgiClient(build(settings_for(tmp_path / "data", sqlite_url))) as client:
        headers = {**FHIR, "Authorization": f"Bearer {token}"}

        response = client.post("/fhir", content=raw(creatinine(1)), headers=headers)

    assert response.status_code == 503, response.text
    store.close()
