"""`nadi up` as an operator sees it: refuses a double, tells no secret, drains."""

import os
import signal
import socket
import subprocess
import sys

import psutil
import pytest

from benchmarks.machine import pss_bytes
from tests.people import person
from tests.running import free_ports, is_ready, push_chart, running_nadi, wait_until

pytestmark = pytest.mark.integration

DRAINED_WITHIN_S = 60.0
HUNG_AFTER_S = 4.0
ROLES = ("broker", "relay", "api", "infer", "deliver")


@pytest.fixture(scope="module")
def nadi(tmp_path_factory):
    impatient = {"NADI_HUNG_AFTER_S": str(HUNG_AFTER_S), "NADI_LEASE_S": "12"}
    impatient["NADI_EHR_TIMEOUT_S"] = "2"
    # Too deep for a socket, which has to lie elsewhere then.
    deep = tmp_path_factory.mktemp("up") / ("d" * 100)
    deep.mkdir()
    with running_nadi(deep / "nadi", environment=impatient) as running:
        yield running


def test_it_takes_less_than_450_mib_before_it_does_anything(nadi):
    sizes = pss_bytes([nadi.process.pid])

    del sizes["other"]  # the stand-in EHR
    assert set(sizes) == {"supervisor", "broker", "api", "relay", "worker-infer", "worker-deliver"}
    assert sum(sizes.values()) < 450 * 2**20


def test_nobody_else_can_read_its_folder(nadi):
    for path in [nadi.folder, *nadi.folder.rglob("*")]:
        is_public = path.suffix == ".pub"
        assert path.is_symlink() or is_public or path.stat().st_mode & 0o077 == 0, path


def test_no_token_and_no_key_is_in_a_log(nadi):
    secrets = [nadi.token(path.stem) for path in (nadi.folder / "credentials").iterdir()]
    secrets += [path.read_text().strip() for path in (nadi.folder / "keys").glob("*.key")]

    for log in (nadi.folder / "logs").iterdir():
        text = log.read_text()
        assert not any(secret in text for secret in secrets), log


def test_a_second_start_on_the_same_folder_is_refused(nadi):
    port, ehr = free_ports(2)

    second = nadi.process_of("up", "--port", str(port), "--sandbox-port", str(ehr), check=False)

    assert second.returncode == 1
    assert "already runs" in second.stderr


def test_doctor_finds_nothing_wrong(nadi):
    examined = nadi.process_of("doctor", check=False)

    assert examined.returncode == 0, examined.stdout


@pytest.mark.parametrize("role", ROLES)
def test_what_is_killed_comes_back(nadi, role):
    (before,) = nadi.pids(role)

    nadi.kill(role)

    wait_until(lambda: nadi.pids(role) not in ([], [before]), within_s=60, what=f"{role} is back")


def test_what_is_frozen_and_never_wakes_is_replaced_and_events_flow_again(nadi):
    wait_until(lambda: is_ready(nadi), within_s=60, what="the API is back")
    before, after = person("frozen"), person("thawed")
    push_chart(nadi, *before.chart(before.consent()), before.creatinine())
    nadi.settle()
    pids = {role: nadi.pids(role) for role in ROLES}

    for pid in (pid for found in pids.values() for pid in found):
        os.kill(pid, signal.SIGSTOP)

    def are_all_replaced():
        return all(nadi.pids(role) not in ([], pids[role]) for role in ROLES)

    wait_until(are_all_replaced, within_s=HUNG_AFTER_S + 60, what="all are replaced")
    wait_until(lambda: is_ready(nadi), within_s=60, what="the API is back")
    push_chart(nadi, *after.chart(after.consent()), after.creatinine())
    nadi.settle()
    assert [len(nadi.results_of(each.id)) for each in (before, after)] == [1, 1]
    said = [line for line in nadi.log.read_text().splitlines() if "no sign of life" in line]
    assert {line.split()[1] for line in said} == set(ROLES)


def test_a_port_in_use_is_refused_before_anything_starts(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "gateway.cli.main", "up"]
        arguments = ["--data-dir", str(tmp_path / "nadi"), "--port", str(port)]

        refused = subprocess.run(
            [*command, *arguments], capture_output=True, text=True, check=False, timeout=60
        )

    assert refused.returncode == 1
    assert f"Port {port} can't be used" in refused.stderr
    assert not (tmp_path / "nadi" / "keys").exists()


def test_nothing_is_left_running_of_one_that_is_killed(tmp_path):
    with running_nadi(tmp_path / "nadi") as nadi:
        left_by(nadi, signal.SIGKILL, code=-signal.SIGKILL)


def left_by(nadi, number, *, code):
    """End its supervisor by a signal; insist that it takes every process along."""
    children = psutil.Process(nadi.process.pid).children(recursive=True)
    assert len(children) >= 6

    os.kill(nadi.process.pid, number)

    assert nadi.process.wait(DRAINED_WITHIN_S) == code
    gone, left = psutil.wait_procs(children, timeout=20)
    assert left == []
    assert len(gone) == len(children)


def test_preparing_does_not_outlive_the_supervisor_that_began_it(tmp_path):
    ports = [str(port) for port in free_ports(2)]
    command = [sys.executable, "-m", "gateway.cli.main", "up", "--data-dir", str(tmp_path / "nadi")]
    process = subprocess.Popen(
        [*command, "--port", ports[0], "--sandbox", "--sandbox-port", ports[1]],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    started = psutil.Process(process.pid)
    wait_until(lambda: bool(started.children()), within_s=60, what="preparing has begun")
    (preparing,) = started.children()
    assert "gateway.cli.prepare" in preparing.cmdline()

    process.kill()
    process.wait(5)

    gone, _ = psutil.wait_procs([preparing], timeout=20)
    assert gone == [preparing]


def test_at_last_nothing_is_left_running_even_of_a_folder_too_deep_for_a_socket(nadi):
    left_by(nadi, signal.SIGTERM, code=0)
