"""Fixtures that many tests share: a fresh database of either kind, a store, the API on it."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import settings as property_settings
from xdist.scheduler import LoadFileScheduling

from gateway.app import build
from gateway.core.clock import new_id
from gateway.core.principal import Role
from gateway.settings import Settings
from gateway.store.engine import migrate
from gateway.store.sealing import MasterKey, Sealer
from gateway.store.unit_of_work import Store
from tests import postgres
from tests.asgi import AsgiClient
from tests.consenting import CONSENT_KEY
from tests.factories import SITE
from tests.registered import register_brought
from tests.running import DATABASES

SHARED_DATA = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
MASTER = MasterKey(bytes(range(32)))

_numbers = count(1)

# A busy machine is no failure of the code: what is slow is measured in benchmarks/, not here.
property_settings.register_profile("nadi", deadline=None)
property_settings.load_profile("nadi")


#: What a whole run has in temporary folders at once, and as much again.
_ROOM_BYTES = 4 << 30
#: Where several processes share the tests, a file that waits long had better begin early.
_SLOWEST_FIRST = ("chaos", "integration", "acceptance", "architecture", "unit")
#: Of the integration tests these begin first. Those of the first line share one running Nadi.
_ON_ONE_NADI = ("audit_of_a_day", "ehr_faults", "one_patient", "broker", "erased_patient")
_LONGEST = (
    "recovery_drill",
    "tutorials",
    "two_hosts",
    "up_with_servers",
    "up",
    "postgresql",
    "followed_ehr",
)


def pytest_configure() -> None:
    """Keep temporary folders in memory where there is room: thousands of databases are made."""
    folder = postgres.quick_folder(_ROOM_BYTES)
    if folder is not None:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(folder))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the slow first where a process of several collects; skip what this run is not for."""
    if _is_on_postgresql():
        skipped = pytest.mark.skip(reason="it looks into SQLite's own file")
        for each in items:
            if each.get_closest_marker("sqlite"):
                each.add_marker(skipped)
    if hasattr(config, "workerinput"):
        items.sort(key=lambda each: _turn(each.path))


def _is_on_postgresql() -> bool:
    """Say whether each Nadi that a test starts has its database on PostgreSQL."""
    return os.environ.get("NADI_TEST_DATABASE") == "postgresql"


def _turn(path: Path) -> tuple[int, int]:
    """Say when a file's turn is: that of its folder, and its own in there."""
    tier = path.relative_to(Path(__file__).parent).parts[0]
    name, first = path.stem.removeprefix("test_"), (*_ON_ONE_NADI, *_LONGEST)
    return (
        _SLOWEST_FIRST.index(tier) if tier in _SLOWEST_FIRST else len(_SLOWEST_FIRST),
        first.index(name) if tier == "integration" and name in first else len(first),
    )


class _ByFile(LoadFileScheduling):
    """A file's tests stay in one process, and so do the files that share one running Nadi."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        shares = any(file.endswith(f"integration/test_{name}.py") for name in _ON_ONE_NADI)
        return "tests on one Nadi" if shares else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> _ByFile | None:
    """Share files out; another --dist than that is the choice of whoever names it."""
    return _ByFile(config, log) if config.getoption("dist") == "loadfile" else None


def shared_data(folder: str) -> Path:
    """Give a folder of the shared data; skips where it is not at hand."""
    found = SHARED_DATA / folder
    if not found.is_dir():
        pytest.skip(f"the shared data ({folder}) is not on this machine")
    return found


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty SQLite database with the newest schema, to be copied."""
    path = tmp_path_factory.mktemp("template") / "nadi.db"
    migrate(f"sqlite:///{path}")
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    engine.dispose()
    return path


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """A PostgreSQL cluster with an empty database `template_nadi` of the newest schema."""
    found = postgres.programs()
    if found is None:
        pytest.skip("PostgreSQL (initdb, postgres) is not on this machine")
    with postgres.cluster(found) as url:
        _create(url, "template_nadi", "template1")
        migrate(url.replace("/postgres?", "/template_nadi?"))
        yield url


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """A fresh SQLite database."""
    shutil.copy(sqlite_template, tmp_path / "nadi.db")
    return f"sqlite:///{tmp_path / 'nadi.db'}"


@pytest.fixture
def postgresql_url(postgresql: str) -> Iterator[str]:
    """A fresh PostgreSQL database, gone after the test: thousands of files are slow to remove."""
    url = create_database(postgresql)
    yield url
    _administer(postgresql, f"drop database {sa.make_url(url).database} with (force)")


def create_database(postgresql: str) -> str:
    """Make a fresh database of the newest schema in a cluster; give its URL."""
    name = f"nadi_{next(_numbers)}"
    _create(postgresql, name, "template_nadi")
    return postgresql.replace("/postgres?", f"/{name}?")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.integration)])
def database_url(request: pytest.FixtureRequest) -> str:
    """A fresh database, of each kind in turn."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture(scope="session", autouse=True)
def _whole_nadis_on_postgresql(request: pytest.FixtureRequest) -> None:
    """With NADI_TEST_DATABASE=postgresql each Nadi that a test starts has a database there."""
    if _is_on_postgresql():
        DATABASES.make = partial(create_database, request.getfixturevalue("postgresql"))


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    """A store on a fresh database of each kind."""
    opened = Store(database_url, Sealer(MASTER), consents=CONSENT_KEY)
    yield opened
    opened.close()


def _create(url: str, name: str, template: str) -> None:
    _administer(url, f"create database {name} template {template}")


def _administer(url: str, statement: str) -> None:
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(statement))
    engine.dispose()


@dataclass(frozen=True)
class Api:
    """The real application on a fresh data folder, with one credential for each role."""

    client: AsgiClient
    store: Store
    tokens: dict[str, str]

    def headers(self, role: str = "ehr") -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens[role]}"}

    def post(self, body: bytes, path: str = "/fhir", **headers: str):
        given = {"Content-Type": "application/fhir+json", **self.headers(), **headers}
        return self.client.post(path, content=body, headers=given)

    def put(self, body: bytes, path: str, **headers: str):
        given = {"Content-Type": "application/fhir+json", **self.headers(), **headers}
        return self.client.put(path, content=body, headers=given)

    def get(self, path: str, role: str = "ehr", **headers: str):
        return self.client.get(path, headers={**self.headers(role), **headers})


def credentials(store: Store) -> dict[str, str]:
    """Make a token for each role; `nobody` is of role ehr but speaks for no system."""
    with store.write() as uow:
        tokens = {
            role.value: uow.credentials.add(role.value, role, "ehr" if role is Role.EHR else None)[
                1
            ]
            for role in Role
        }
        tokens["nobody"] = uow.credentials.add("nobody", Role.EHR)[1]
    return tokens


def settings_for(folder: Path, url: str, **changed: object) -> Settings:
    """Settings of a data folder of its own, whose broker is away."""
    return Settings(
        data_dir=folder,
        database_url=url,
        broker_url=f"redis+socket://{folder}/no-broker-{new_id()}.sock",
        **changed,
    )


@pytest.fixture
def api(sqlite_url: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Api]:
    """The API with a site in force, `SITE` if no other is given, on SQLite, without a broker."""
    settings = settings_for(tmp_path / "data", sqlite_url)
    app = build(settings)
    from gateway.store.keys import load_or_create

    keys = load_or_create(settings.data_dir, master_key_file=None, audit_key_file=None)
    store = Store(sqlite_url, Sealer(keys.master), consents=keys.consents)
    with store.write() as uow:
        uow.sites.apply(getattr(request, "param", SITE), "test")
    register_brought(store)
    with AsgiClient(app) as client:
        yield Api(client, store, credentials(store))
    store.close()
