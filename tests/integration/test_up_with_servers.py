"""The processes of docker-compose.yml, less the containers; and RabbitMQ in the place of Redis."""

import json
import subprocess

import pytest

from gateway.cli.processes import broker_program
from tests import rabbitmq
from tests.running import free_ports, running_nadi

pytestmark = pytest.mark.integration


@pytest.fixture
def rabbit(tmp_path):
    if not rabbitmq.PROGRAM.exists():
        pytest.skip(rabbitmq.MISSING)
    with rabbitmq.node(tmp_path) as node:
        yield node


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
    tmp_path, monkeypatch, postgresql_url, broker_url
):
    secret = tmp_path / "broker-password"
    secret.write_text("s3cret\n")
    monkeypatch.setenv("NADI_DATABASE_URL", postgresql_url)
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


def test_a_ward_plays_on_postgresql_and_rabbitmq(tmp_path, monkeypatch, postgresql_url, rabbit):
    monkeypatch.setenv("NADI_DATABASE_URL", postgresql_url)
    monkeypatch.setenv("NADI_BROKER_URL", rabbit.url)
    with running_nadi(tmp_path / "nadi") as nadi:
        played = nadi.nadi("sandbox", "play", "--patients", "8", "--rate", "40", check=False)
        rabbit.kill()
        rabbit.start()
        again = nadi.nadi("sandbox", "play", "--patients", "8", "--rate", "40", check=False)
        examined = nadi.nadi("doctor", "--json", check=False)

        assert played.returncode == 0, played.stdout + played.stderr
        assert again.returncode == 0, again.stdout + again.stderr
        assert not nadi.duplicates()
        found = {finding["check"]: finding["says"] for finding in json.loads(examined.stdout)}
        assert found["broker"] == "answers"
