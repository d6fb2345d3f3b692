"""What a site file names and this machine lacks is told with file, line and key."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli.main import app
from gateway.cli.site_files import lacking

SITE = """\
site: test
systems:
  ehr:
    kind: fhir-rest
    base_url: https://ehr.example/fhir
    auth: {{kind: bearer, token: "{token}"}}
    receive:
      - push
      - mllp: {{port: 2575, timezone: Asia/Kolkata, tls: {{certificate: {file}, key: {file}}}}}
      - drop: {{folder: "{folder}"}}
    patients: {{identifier: "urn:oid:1.2.3"}}
witnesses:
  mount: {{kind: file, path: "{folder}/checkpoints"}}
"""
PORT = "systems.ehr.receive[1].mllp.tls"
DROP = "systems.ehr.receive[2].drop"
VARIABLE = "env:NADI_TEST_TOKEN"
NEEDED = "; the processes of Nadi need it where they run"


@pytest.fixture
def there(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "file").write_text("something")
    return {"token": f"file:{tmp_path}/file", "file": f"{tmp_path}/file", "folder": str(tmp_path)}


def lacks(there: dict[str, str], *, with_variables: bool = True, **changed: str) -> list[str]:
    text = SITE.format(**{**there, **changed})
    return list(lacking(text, "s.yaml", with_variables=with_variables))


def test_of_what_is_there_nothing_is_said(there, monkeypatch):
    monkeypatch.setenv("NADI_TEST_TOKEN", "abc")

    assert lacks(there) == []
    assert lacks(there, token=VARIABLE) == []


def test_each_file_folder_and_secret_that_is_not_here_is_told_where_it_stands(there, tmp_path):
    nowhere = f"{tmp_path}/nowhere"

    found = lacks(there, token=f"file:{nowhere}", file=nowhere, folder=nowhere)

    assert [re.sub(r"^(s.yaml:[0-9]+):[0-9]+", r"\1", each) for each in found] == [
        f"s.yaml:6: systems.ehr.auth.token: the file '{nowhere}' is not here{NEEDED}",
        f"s.yaml:9: {PORT}.certificate: the file '{nowhere}' is not here{NEEDED}",
        f"s.yaml:9: {PORT}.key: the file '{nowhere}' is not here{NEEDED}",
        f"s.yaml:10: {DROP}.folder: the folder '{nowhere}' is not here{NEEDED}",
        f"s.yaml:13: witnesses.mount.path: the folder '{nowhere}' is not here{NEEDED}",
    ]


def test_an_empty_file_a_folder_and_a_relative_path_are_told(there, tmp_path):
    (tmp_path / "empty").touch()

    assert "is empty" in lacks(there, token=f"file:{tmp_path}/empty")[0]
    assert "is not here" in lacks(there, token=f"file:{tmp_path}")[0]
    assert f"in {Path.cwd()} (write its whole path)" in lacks(there, file="port.pem")[0]


def test_a_variable_is_looked_for_only_where_the_processes_would_have_it(there, monkeypatch):
    monkeypatch.delenv("NADI_TEST_TOKEN", raising=False)

    assert lacks(there, token=VARIABLE, with_variables=False) == []
    (said,) = lacks(there, token=VARIABLE)
    assert "systems.ehr.auth.token: the variable NADI_TEST_TOKEN is not set here" in said


def test_validate_warns_and_the_file_is_valid_all_the_same(there, tmp_path):
    file = tmp_path / "site.yaml"
    file.write_text(SITE.format(**{**there, "file": "/nowhere/port.pem"}))

    shown = CliRunner().invoke(app, ["site", "validate", str(file)])

    assert shown.exit_code == 0
    assert f"{file}:9:58: {PORT}.certificate: the file '/nowhere/port.pem'" in shown.stdout
    assert "is valid: 1 system" in shown.stdout
