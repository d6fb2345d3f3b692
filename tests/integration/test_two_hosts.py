"""Two hosts of one installation: a database and a broker that they share, each a folder of its own.

Nothing is done twice while both work, and nothing is lost when one dies with all that it holds.
"""

import shutil
import signal
from collections.abc import Iterator

import pytest

from tests.conftest import create_database
from tests.people import Person, person
from tests.running import RunningNadi, free_ports, push, push_chart, running_nadi, wait_until
from tests.valkey import listening

pytestmark = pytest.mark.integration

_LEADER = """
select a.application_name as name from pg_locks l join pg_stat_activity a using (pid)
where l.locktype = 'advisory' and l.granted and a.application_name like 'nadi relay@%'
"""


@pytest.fixture(scope="module")
def hosts(tmp_path_factory, postgresql) -> Iterator[tuple[RunningNadi, RunningNadi]]:
    folder, (port,) = tmp_path_factory.mktemp("hosts"), free_ports(1)
    shared = {
        "NADI_DATABASE_URL": create_database(postgresql),
        "NADI_BROKER_URL": f"redis://127.0.0.1:{port}/0",
        # What the dead host held is free again after this time.
        "NADI_LEASE_S": "5",
        "NADI_EHR_TIMEOUT_S": "3",
    }
    environments = [{**shared, "NADI_HOST_NAME": name} for name in ("first", "second")]
    with (
        listening(port),
        running_nadi(folder / "first", environment=environments[0]) as first,
    ):
        for name in ("keys", "credentials"):
            shutil.copytree(first.folder / name, folder / "second" / name)
        with running_nadi(folder / "second", environment=environments[1], beside=first) as second:
            yield first, second


def admitted_by(nadi: RunningNadi, patients: list[Person]) -> None:
    """Push patients through one host."""
    for each in patients:
        push_chart(nadi, each.patient, each.consent("permit"), *each.labs)
        with nadi.client() as client:
            push(client, each.creatinine())


def test_both_hosts_work_and_nothing_is_done_twice(hosts):
    first, second = hosts
    patients = [person() for _ in range(40)]

    admitted_by(first, patients[:20])
    admitted_by(second, patients[20:])
    first.settle(120)

    written = [each["subject"]["reference"] for each in first.results()]
    assert sorted(written) == sorted(each.reference for each in patients)
    assert not first.duplicates()
    assert who_worked(first) == {"infer@first", "infer@second", "deliver@first", "deliver@second"}


def who_worked(nadi: RunningNadi) -> set[str]:
    """Name the workers that ran a model or wrote a result, as the AuditEvents tell."""
    names = [f"{queue}@{host}" for queue in ("infer", "deliver") for host in ("first", "second")]
    return {
        name
        for name in names
        if nadi.rows(
            "select 1 from audit_events where event in ('infer', 'deliver')"
            " and convert_from(body, 'UTF8') like :succeeded"
            " and position(:name in convert_from(body, 'UTF8')) > 0 limit 1",
            name=name,
            succeeded='%"outcome":"0"%',
        )
    }


def leaders(nadi: RunningNadi) -> list[str]:
    """Name the relays that lead: one, or none for a moment."""
    return [str(each["name"]).removeprefix("nadi relay@") for each in nadi.rows(_LEADER)]


def test_the_other_host_leads_when_the_relay_of_one_dies(hosts):
    first, _ = hosts
    assert leaders(first) == ["first"]

    # Its supervisor would start another at once, perhaps before the one that stands by looks.
    first.process.send_signal(signal.SIGSTOP)
    try:
        first.kill("relay")
        wait_until(lambda: leaders(first) == ["second"], within_s=60, what="the other host leads")
    finally:
        first.process.send_signal(signal.SIGCONT)


def test_one_host_goes_on_when_the_other_dies_with_the_lead_and_all_that_it_holds(hosts):
    first, second = hosts
    assert leaders(first) == ["second"]
    before, patients = len(first.results()), [person() for _ in range(20)]

    admitted_by(second, patients[:10])
    second.kill_all()
    admitted_by(first, patients[10:])
    first.settle(120)

    assert leaders(first) == ["first"]
    assert len(first.results()) == before + len(patients)
    assert not first.duplicates()
    assert first.nadi("audit", "verify", check=False).returncode == 0
