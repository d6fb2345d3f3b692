"""The command `nadi` finds its nouns, and only loads the one that is called."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli.main import NOUNS, SINGLE, app, load

ROOT = Path(__file__).resolve().parents[4]
run = CliRunner().invoke


def test_the_help_names_every_noun_there_is():
    shown = run(app, ["--help"])

    assert shown.exit_code == 0
    for noun in NOUNS:
        assert importlib.util.find_spec(f"gateway.cli.{noun.replace('-', '_')}"), noun
        assert f" {noun} " in shown.stdout


def test_the_help_loads_no_noun():
    code = (
        "import sys\n"
        "from gateway.cli.main import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "loaded = [m for m in sys.modules if m.startswith('gateway.')]\n"
        "print(sorted(loaded), 'sqlalchemy' in sys.modules, file=sys.stderr)"
    )

    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)

    assert shown.stderr.decode().strip() == "['gateway.cli', 'gateway.cli.main'] False"


@pytest.mark.parametrize("noun", sorted(NOUNS))
def test_every_noun_loads_and_shows_its_help(noun):
    command = load(noun)

    shown = run(app, [noun, "--help"])

    assert shown.exit_code == 0
    assert ("COMMAND" in shown.stdout) is (noun not in SINGLE)
    assert command is not None


def test_an_unknown_noun_is_wrong_usage():
    assert run(app, ["fly"]).exit_code == 2


def test_the_version_is_told():
    shown = run(app, ["--version"])

    assert shown.exit_code == 0
    assert shown.stdout.startswith("nadi 0.")
