"""The log is read by command only with a credential of role compliance, and names its person."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from gateway.cli.main import app
from gateway.core.principal import Role
from gateway.store.audit_log import AuditFilter
from tests.installation import Installation, installation

READING = (
    ("audit", "list"),
    ("audit", "search", "--outcome", "8"),
    ("audit", "patient", "Patient/p1"),
    ("audit", "who", "Patient/p1"),
    ("audit", "refusals"),
    ("audit", "disclosures", "Patient/p1"),
    ("audit", "configuration"),
    ("audit", "prove", "no-such-event"),
)


@pytest.fixture
def nadi(tmp_path: Path) -> Iterator[Installation]:
    with installation(tmp_path / "nadi") as made:
        yield made


def run(nadi: Installation, *arguments: str, credential: Path | None = None) -> Result:
    more = {"NADI_CREDENTIAL_FILE": str(credential)} if credential else {}
    environment = {"NADI_DATA_DIR": str(nadi.folder), "COLUMNS": "200", **more}
    return CliRunner().invoke(app, arguments, env=environment)


def newest(nadi: Installation, event: str) -> dict[str, object]:
    with nadi.store.read() as uow:
        row = uow.audit_log.search(AuditFilter(event=event))[0]
    body: dict[str, object] = json.loads(row.body)
    return body


def credential(nadi: Installation, name: str, role: Role, file: Path) -> Path:
    with nadi.store.write() as uow:
        _, token = uow.credentials.add(name, role)
    file.write_text(f"{token}\n")
    return file


def hand_out(nadi: Installation) -> None:
    """Do as a site does: the officer's token leaves the machine's data folder."""
    shutil.rmtree(nadi.folder / "credentials")


@pytest.mark.parametrize("arguments", READING, ids=" ".join)
def test_without_the_officers_credential_nothing_is_read(
    nadi: Installation, arguments: tuple[str, ...]
) -> None:
    hand_out(nadi)

    done = run(nadi, *arguments)

    assert done.exit_code == 1
    assert done.stdout == ""
    assert "NADI_CREDENTIAL_FILE" in done.stderr
    assert "nadi access add" in done.stderr


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.COMPLIANCE])
def test_another_role_is_refused_and_the_attempt_is_on_record(
    nadi: Installation, tmp_path: Path, role: Role
) -> None:
    file = credential(nadi, "curious", role, tmp_path / "token")

    done = run(nadi, "audit", "list", credential=file)

    assert done.exit_code == 1
    assert "this takes role compliance" in done.stderr
    assert newest(nadi, "forbid")["agent"][0]["who"]["display"] == "curious"  # type: ignore[index]


@pytest.mark.parametrize("token", ["", "not a token", "nadi_0123456789abcdef_x"])
def test_a_token_that_is_none_is_refused_and_on_record(
    nadi: Installation, tmp_path: Path, token: str
) -> None:
    file = tmp_path / "token"
    file.write_text(token)

    done = run(nadi, "audit", "list", credential=file)

    assert done.exit_code == 1
    assert "not, or no longer, valid" in done.stderr
    assert newest(nadi, "sign-in-failure")["outcome"] == "4"


def test_who_read_is_named_by_the_credential_and_the_login(
    nadi: Installation, tmp_path: Path
) -> None:
    hand_out(nadi)
    file = credential(nadi, "dr-rao", Role.COMPLIANCE, tmp_path / "token")

    done = run(nadi, "audit", "list", credential=file)

    assert done.exit_code == 0, done.stderr
    agent = newest(nadi, "query")["agent"][0]  # type: ignore[index]
    assert agent["name"].startswith("dr-rao (as ")
    assert agent["role"][0]["coding"][0]["code"] == "compliance"


def test_a_revoked_officer_reads_no_more(nadi: Installation, tmp_path: Path) -> None:
    file = credential(nadi, "left", Role.COMPLIANCE, tmp_path / "token")
    with nadi.store.write() as uow:
        known = next(each for each in uow.credentials.list() if each.name == "left")
        uow.credentials.revoke(known.id)

    assert run(nadi, "audit", "list", credential=file).exit_code == 1


def test_anybody_may_verify_since_it_shows_no_entry(nadi: Installation) -> None:
    nadi.integrate()
    hand_out(nadi)

    assert run(nadi, "audit", "verify").exit_code == 0
