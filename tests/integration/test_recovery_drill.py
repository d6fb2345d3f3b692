"""The drill: back up in the midst of work, go on, lose everything, restore, let the EHR send again.

Real processes, a real EHR that keeps what it has, both databases: afterwards there is exactly one
Observation for each event, also where the EHR can't create conditionally, and who was erased after
the backup stays erased.
"""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from gateway.cli.main import app
from gateway.core.clock import new_id
from tests.people import Person, person
from tests.running import RunningNadi, push, push_chart, running_nadi, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

IMPATIENT = {
    "NADI_RETRY_BASE_S": "0.2",
    "NADI_RETRY_MAX_S": "1",
    "NADI_RING_AGAIN_S": "1",
    # What was held when the backup was made is taken up again when its lease is over.
    "NADI_LEASE_S": "3",
}
JOURNAL = "sandbox-ehr.journal"
#: An EHR that ignores conditions, and one that knows them.
FORGETFUL = {"no_conditional_create": True, "no_transaction": True}


@dataclass(frozen=True)
class Databases:
    """The settings that name the database, before and after."""

    old: Mapping[str, str]
    new: Mapping[str, str]
    lose: Callable[[], None]


@contextmanager
def postgresql_databases(url: str) -> Iterator[Databases]:
    """Make two databases; the second is empty."""
    names = [f"drill_{new_id()[-12:]}" for _ in range(2)]
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")

    def do(statement: str) -> None:
        with engine.connect() as connection:
            connection.execute(sa.text(statement))

    for name in names:
        do(f"create database {name} template template1")
    old, new = ({"NADI_DATABASE_URL": url.replace("/postgres?", f"/{name}?")} for name in names)
    yield Databases(old, new, lambda: do(f"drop database {names[0]} with (force)"))
    engine.dispose()


@pytest.fixture
def databases(request: pytest.FixtureRequest) -> Iterator[Databases]:
    if request.param == "sqlite":
        yield Databases({}, {}, lambda: None)
        return
    with postgresql_databases(request.getfixturevalue("postgresql")) as made:
        yield made


@pytest.mark.parametrize(
    ("databases", "faults"),
    [pytest.param("sqlite", {}, marks=pytest.mark.sqlite), ("postgresql", FORGETFUL)],
    indirect=["databases"],
    ids=["sqlite", "postgresql-and-an-ehr-that-ignores-conditions"],
)
def test_after_a_loss_and_a_restore_every_event_has_exactly_one_observation(
    databases: Databases, faults: Mapping[str, object], tmp_path: Path
) -> None:
    before, waiting, meanwhile, after = ([person("drill") for _ in range(2)] for _ in range(4))
    gone = person("drill")
    everybody = [*before, *waiting, *meanwhile, *after, gone]
    saved = tmp_path / "saved"
    saved.mkdir()
    with running_nadi(tmp_path / "old", environment={**IMPATIENT, **databases.old}) as nadi:
        nadi.faults(**faults)
        backup, key = work_and_back_up(nadi, (before, waiting, meanwhile, after), gone)
        assert nadi.results_of(gone.id), "hers was delivered before she was erased"
        erase(nadi, gone)
        save(nadi, saved)
        nadi.process.kill()
        nadi.process.wait(20)
    shutil.rmtree(tmp_path / "old")
    databases.lose()

    told = restore(tmp_path / "new", backup, key, saved, databases.new)

    assert told["lost_entries"] > 0
    assert told["erased_again"] == 1
    shutil.move(saved / JOURNAL, tmp_path / "new" / JOURNAL)
    with running_nadi(tmp_path / "new", environment={**IMPATIENT, **databases.new}) as nadi:
        nadi.faults(**faults)
        send_all_again(nadi, [each for each in everybody if each is not gone])
        nadi.settle(90)

        found = Counter(each["subject"]["reference"] for each in nadi.results())
        assert found == {each.reference: 1 for each in everybody}
        assert nadi.duplicates() == 0
        assert is_refused(nadi, gone)
        nadi.wait_until_integrated()
        verified = nadi.nadi("audit", "verify", check=False)
        assert verified.returncode == 0, verified.stdout


def work_and_back_up(
    nadi: RunningNadi, groups: tuple[list[Person], ...], gone: Person
) -> tuple[Path, Path]:
    """Deliver, back up in the midst of work, and deliver more; give the backup and its key."""
    before, waiting, meanwhile, after = groups
    for each in (gone, *(each for group in groups for each in group)):
        push_chart(nadi, *each.chart(each.consent()))
    push_chart(nadi, *(each.creatinine() for each in (gone, *before)))
    nadi.settle()
    key, backup = nadi.folder.parent / "backup.key", nadi.folder.parent / "nas.nadibackup"
    nadi.nadi("backup", "key", "--out", str(key))
    with nadi.frozen("deliver"):
        push_chart(nadi, *(each.creatinine() for each in waiting))
        wait_until(
            lambda: len(nadi.rows("select id from deliveries")) >= 1 + len(before) + len(waiting),
            within_s=60,
            what="results wait for their delivery",
        )
        with ThreadPoolExecutor(1) as pool:
            pushing = pool.submit(push_each, nadi, meanwhile)
            nadi.nadi("backup", str(backup))
            pushing.result()
    push_each(nadi, after)
    nadi.settle()
    assert len(nadi.results()) == 1 + sum(map(len, groups))
    return backup, key


def push_each(nadi: RunningNadi, people: list[Person]) -> None:
    with nadi.client() as client:
        for each in people:
            push(client, each.creatinine())


def erase(nadi: RunningNadi, gone: Person) -> None:
    """Erase a patient as her officer does."""
    law = ("--reason", "She asked.", "--law", "DPDP Act 2023, s.12(3)", "--yes")
    nadi.nadi("patient", "erase", gone.reference, *law)


def save(nadi: RunningNadi, to: Path) -> None:
    """Keep what lies elsewhere: the EHR's own disk, and what was copied off the machine."""
    nadi.wait_until_integrated()
    for name in (JOURNAL, "audit/checkpoints.log", "audit/erasures.log"):
        shutil.copy(nadi.folder / name, to)


def restore(
    folder: Path, backup: Path, key: Path, saved: Path, settings: Mapping[str, str]
) -> dict[str, int]:
    command = ["restore", str(backup), "--key", str(key), "--data-dir", str(folder), "--json"]
    command += ["--from", str(saved / "checkpoints.log")]
    command += ["--erasures", str(saved / "erasures.log")]
    done = CliRunner().invoke(app, command, env=settings)
    assert done.exit_code == 0, done.stderr
    told: dict[str, int] = json.loads(done.stdout)
    return told


def send_all_again(nadi: RunningNadi, people: list[Person]) -> None:
    """Let the EHR send what it sent before, and all of it twice."""
    for _ in range(2):
        for each in people:
            push_chart(nadi, *each.chart(each.consent()))
        push_each(nadi, people)


def is_refused(nadi: RunningNadi, gone: Person) -> bool:
    with nadi.client() as client:
        answer = client.put(f"/fhir/Observation/{gone.creatinine()['id']}", json=gone.creatinine())
    return answer.status_code == 422
