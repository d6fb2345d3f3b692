"""The installation that a command is run on, and how it is run: one place for every noun.

A module makes its own `template` where it needs something in it, names in `COMMAND` what each of
its commands begins with, and takes `nadi` (a copy for this test alone) and `run`.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from gateway.cli.main import app
from tests.commands import Run
from tests.installation import Installation, installation, reopened


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as it is after the first start; making one takes longer than copying it."""
    folder = tmp_path_factory.mktemp("template") / "nadi"
    with installation(folder):
        pass
    return folder


@pytest.fixture
def nadi(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    """A copy of the module's installation."""
    monkeypatch.setenv("COLUMNS", "300")
    shutil.copytree(template, tmp_path / "nadi")
    with reopened(tmp_path / "nadi") as copy:
        yield copy


@pytest.fixture
def run(nadi: Installation, request: pytest.FixtureRequest) -> Run:
    """Give what runs a command on the copy."""
    begins: tuple[str, ...] = getattr(request.module, "COMMAND", ())

    def invoke(
        *arguments: str, code: int = 0, credential: Path | None = None, stdin: str | None = None
    ) -> Result:
        more = {"NADI_CREDENTIAL_FILE": str(credential)} if credential else {}
        environment = {"NADI_DATA_DIR": str(nadi.folder), **more}
        done = CliRunner().invoke(app, [*begins, *arguments], env=environment, input=stdin)
        assert done.exit_code == code, (done.output, done.stderr, done.exception)
        return done

    return invoke
