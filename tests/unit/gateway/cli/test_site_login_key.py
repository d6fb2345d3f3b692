"""`nadi site login-key`: what it makes is a login, and what it prints is the public half."""

import json
from pathlib import Path

from joserfc.jwk import ECKey
from typer.testing import CliRunner

from adapters.authorization import Secret
from adapters.token_login import TokenLogin
from gateway.cli.site import app
from tests.authorizing import authorizing


def test_the_key_logs_in_where_the_printed_half_is_registered(tmp_path: Path):
    file = tmp_path / "login.json"

    done = CliRunner().invoke(app, ["login-key", str(file)])

    assert done.exit_code == 0, done.output
    (public,) = json.loads(done.stdout)["keys"]
    assert "d" not in public
    assert file.stat().st_mode & 0o777 == 0o600
    with authorizing(key=ECKey.import_key(public)) as server:
        login = TokenLogin(
            whose="System 'ehr'",
            address=f"{server.base}/fhir",
            client_id="nadi",
            secret=Secret(f"file:{file}"),
            is_asymmetric=True,
        )
        assert login.header() == "Bearer given-out"


def test_a_key_in_use_is_not_written_over(tmp_path: Path):
    file = tmp_path / "login.json"
    file.write_text("a key")

    done = CliRunner().invoke(app, ["login-key", str(file)])

    assert done.exit_code == 1
    assert "not written over" in done.output
    assert file.read_text() == "a key"
