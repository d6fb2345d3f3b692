"""The processes of docker-compose.yml, less the containers: PostgreSQL, Redis with a password."""

import json
import subprocess

import pytest

from gateway.cli.processes import broker_program
from tests import postgres
from tests.running import free_ports, running_nadi

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def database_url():
    programs = postgres.programs()
    if programs is None:
        pytest.skip("PostgreSQL (initdb, postgres) is not on this machine")
    with postgres.cluster(programs) as url:
        yield url


@pytest.fixture
def broker_url(tmp_path):
    (port,) = free_ports(1)
    told = f'port {port}\nbind 127.0.0.1\nrequirepass s3cret\nsave ""\nappendonly no\n'
    with subprocess.Popen(
        [broker_program(), "-"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, cwd=tmp_path
    ) as server:
        server.stdin.write(told.encode())
        server.stdin.close()
        yield f"redis://127.0.0.1:{port}/0"
        server.terminate()


def test_a_ward_plays_on_postgresql_and_a_broker_with_a_password(
    tmp_path, monkeypatch, database_url, broker_url
):
    secret = tmp_path / "broker-password"
    secret.write_text("s3cret\n")
    monkeypatch.setenv("NADI_DATABASE_URL", database_url)
    monkeypatch.setenv("NADI_BROKER_URL", broker_url)
    monkeypatch.setenv("NADI_BROKER_PASSWORD_FILE", str(secret))
    with running_nadi(tmp_path / "nadi") as nadi:
        played = nadi.nadi("sandbox", "play", "--patients", "8", "--rate", "40", check=False)
        verified = nadi.nadi("audit", "verify", check=False)
        examined = nadi.nadi("doctor", "--json", check=False)

        assert played.returncode == 0, played.stdout + played.stderr
        assert verified.returncode == 0, verified.stdout + verified.stderr
        assert not nadi.pids("broker")
        found = {finding["check"]: finding["says"] for finding in json.loads(examined.stdout)}
        assert found["database"].startswith("postgresql, schema current; this role could rewrite")
        assert found["broker"] == "answers"
        assert not (nadi.folder / "nadi.db").exists()
