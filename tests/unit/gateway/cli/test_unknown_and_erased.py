"""A mistyped id, a patient who was erased, a day that is yet to come: each is told of."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from gateway.cli.main import app
from tests.installation import Installation, consent, creatinine, installation


@pytest.fixture
def nadi(tmp_path: Path) -> Iterator[Installation]:
    with installation(tmp_path / "nadi") as made:
        made.receive(consent("p1"), creatinine("p1"))
        yield made


def run(nadi: Installation, *arguments: str) -> Result:
    environment = {"NADI_DATA_DIR": str(nadi.folder), "COLUMNS": "200"}
    return CliRunner().invoke(app, arguments, env=environment)


def erase(nadi: Installation) -> None:
    given = ("--reason", "she asked", "--law", "DPDP section 12", "--yes")
    done = run(nadi, "patient", "erase", "Patient/p1", *given)
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    "arguments",
    [
        ("consent", "explain", "--patient"),
        ("consent", "list", "--patient"),
        ("rights", "add", "--kind", "access"),
    ],
    ids=" ".join,
)
def test_a_patient_of_whom_nothing_was_received_is_told_of(
    nadi: Installation, arguments: tuple[str, ...]
) -> None:
    unknown, known = (run(nadi, *arguments, f"Patient/{who}") for who in ("typo", "p1"))

    assert "Nothing was ever received of this patient" in unknown.stderr
    assert "Nothing was ever" not in known.stderr


@pytest.mark.parametrize("verb", ["explain", "list"])
def test_that_a_patient_was_erased_is_told(nadi: Installation, verb: str) -> None:
    erase(nadi)

    done = run(nadi, "consent", verb, "--patient", "Patient/p1")

    assert "was erased on" in done.stderr


def test_an_erased_patient_takes_no_legal_hold(nadi: Installation) -> None:
    erase(nadi)

    done = run(nadi, "patient", "hold", "Patient/p1", "--reason", "a case", "--law", "order 7")

    assert done.exit_code == 1
    assert "erased" in done.stderr


def test_a_request_can_t_have_come_tomorrow(nadi: Installation) -> None:
    given = ("Patient/p1", "--kind", "access", "--received", "2199-01-01")

    done = run(nadi, "rights", "add", *given)

    assert done.exit_code == 2
    assert "in the future" in done.stderr


def test_who_was_only_asked_for_is_not_affected_by_an_incident(
    nadi: Installation, tmp_path: Path
) -> None:
    nadi.integrate()
    run(nadi, "consent", "explain", "--patient", "Patient/typo")
    nadi.integrate()
    since = ("--since", "2026-01-01", "--detected-at", "2026-01-02")

    done = run(nadi, "audit", "incident", *since, "--out", str(tmp_path / "incident"), "--json")

    assert done.exit_code == 0, done.output
    assert len(json.loads(done.stdout)["patients"]) == 1


@pytest.mark.parametrize("verb", [("explain", "--patient", "Patient/p1"), ("coverage",)])
def test_consents_are_read_with_the_officers_credential(
    nadi: Installation, verb: tuple[str, ...]
) -> None:
    (nadi.folder / "credentials" / "compliance.token").unlink()

    done = run(nadi, "consent", *verb)

    assert done.exit_code == 1
    assert "NADI_CREDENTIAL_FILE" in done.stderr


def test_the_report_of_an_erased_patient_says_so_first(nadi: Installation, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    before = run(nadi, "audit", "report", "Patient/p1", "--html", str(page))
    assert before.exit_code == 0, before.output
    assert "was erased from this system" not in page.read_text()
    page.unlink()
    erase(nadi)

    after = run(nadi, "audit", "report", "Patient/p1", "--html", str(page))

    assert after.exit_code == 0, after.output
    text = page.read_text()
    assert "Your data was erased from this system on" in text
    assert "ask for the data kept by this system to be erased" not in text
