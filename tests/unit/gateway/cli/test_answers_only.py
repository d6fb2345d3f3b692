"""Commands that act like a process of the gateway say what came of it, and no line of a log."""

from pathlib import Path

import pytest

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
