"""Commands that act like a process of the gateway say what came of it, and no line of a log."""

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup
from typer.testing import CliRunner

from gateway import telemetry
from gateway.cli.context import AsJson, explained, out, print_json
from gateway.cli.main import NOUNS, load
from tests.commands import Run
from tests.installation import Installation, consent, creatinine, installation

ALERT = ', alert: {url: "http://127.0.0.1:9/page", timeout_s: 1}}'
PAPER = "witnesses:\n  paper: {kind: qr, folder: FOLDER}\n"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("answers") / "nadi"
    with installation(folder) as nadi:
        nadi.receive(consent("p1", rule="deny"), creatinine("p1"))
        nadi.integrate()
    return folder


def changed(nadi: Installation, *, alert: str = "}", more: str = "") -> None:
    with nadi.store.write() as uow:
        yaml = uow.sites.current().yaml
        yaml = yaml.replace("review_within_h: 72}", f"review_within_h: 72{alert}")
        uow.sites.apply(yaml + more, "test")


def test_an_emergency_run_answers_and_says_when_the_alert_did_not_arrive(
    nadi: Installation, run: Run
) -> None:
    changed(nadi, alert=ALERT)
    asked = ("run", "Patient/p1", "--route", "ckd-risk", "--reason", "Unconscious")

    done = run("break-glass", *asked, credential=nadi.folder / "credentials/clinician.token")

    first, second = done.stdout.splitlines()
    assert first.startswith("! The glass is broken: job ")
    assert second.startswith("  It is on record. Review ")
    assert done.stderr.splitlines()[-1].startswith("! The alert of the site file did not arrive")
    assert "break-glass-alert-failed" not in done.output


def test_the_canary_answers_in_one_line(run: Run) -> None:
    shown = run("canary", "run").stdout

    assert len(shown.splitlines()) == 1, shown


def test_publishing_to_paper_answers_in_one_line(
    nadi: Installation, run: Run, tmp_path: Path
) -> None:
    changed(nadi, more=PAPER.replace("FOLDER", str(tmp_path)))

    shown = run("audit", "publish", "paper").stdout

    assert len(shown.splitlines()) == 1, shown


def test_what_is_logged_meanwhile_gets_not_among_json() -> None:
    app = typer.Typer()

    @app.command()
    @explained
    def ask(as_json: AsJson = False) -> None:
        telemetry.get_logger().error("canary-not-asked")
        print_json({"is_proven": False}) if as_json else out.print("Nobody asked.")

    shown = CliRunner().invoke(app, ["--json"])

    assert json.loads(shown.output) == {"is_proven": False}
    assert "canary-not-asked" in CliRunner().invoke(app, []).output


def commands(command: Any, *words: str) -> Iterator[tuple[str, Any]]:
    """Give every command below one, with the words that call it."""
    if not isinstance(command, TyperGroup):
        yield " ".join(words), command
        return
    for name, each in command.commands.items():
        yield from commands(each, *words, name)


IN_JSON = {
    words: command
    for noun in NOUNS
    for words, command in commands(load(noun), noun)
    if any("--json" in option.opts for option in command.params)
}


@pytest.mark.parametrize("words", IN_JSON)
def test_every_command_that_prints_json_is_one_of_those(words: str) -> None:
    """The decorator `explained` keeps the log out: it has to be there, and to know the option."""
    callback = IN_JSON[words].callback
    names: list[str] = []
    while callback is not None:
        names.append(callback.__code__.co_qualname)
        parameters = inspect.signature(callback).parameters
        callback = getattr(callback, "__wrapped__", None)

    assert len(IN_JSON) > len(NOUNS)
    assert "explained.<locals>.run" in names
    assert "as_json" in parameters
