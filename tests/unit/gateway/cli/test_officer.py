"""Only an officer's credential reads the log, answers patients and records consents."""

import json
import shutil
from pathlib import Path

import pytest

from gateway.core.principal import Role
from gateway.store.audit_log import AuditFilter
from tests.commands import Run
from tests.installation import Installation, consent, creatinine

READING = (
    ("audit", "list"),
    ("audit", "search", "--outcome", "8"),
    ("audit", "patient", "Patient/p1"),
    ("audit", "who", "Patient/p1"),
    ("audit", "refusals"),
    ("audit", "disclosures", "Patient/p1"),
    ("audit", "configuration"),
    ("audit", "prove", "no-such-event"),
    ("patient", "held", "Patient/p1"),
    ("patient", "export", "Patient/p1", "--out", "copy.zip"),
    ("patient", "holds"),
    ("rights", "list"),
    ("consent", "list", "--patient", "Patient/p1"),
    ("consent", "due"),
    ("consent", "export", "out.json"),
)
GROUND = ("--reason", "She asked for it.", "--law", "DPDP Act 2023, s.12(3)")
ANSWERING = (
    ("patient", "erase", "Patient/p1", *GROUND, "--yes"),
    ("patient", "erase-restored", "--yes"),
    ("patient", "hold", "Patient/p1", *GROUND),
    ("patient", "lift", "Patient/p1", "--reason", "Case closed."),
    ("patient", "rectify", "Patient/p1", "--resource", "Observation/p1-creatinine-1", *GROUND),
    ("rights", "add", "Patient/p1", "--kind", "erasure"),
    ("rights", "close", "no-such-request", "--outcome", "Answered."),
    ("patient", "compact"),
    ("retention", "run", "--yes"),
)
REFUSAL = ("consent", "record", "ai-opt-out", "--patient", "Patient/p1", "--how", "verbal")
CONSENTING = (REFUSAL, ("consent", "revoke", "no-such-consent", "--reason", "She asked."))


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


@pytest.mark.parametrize(
    "arguments", [*READING, *ANSWERING, *CONSENTING], ids=lambda each: " ".join(each[:2])
)
def test_without_the_officers_credential_nothing_is_read_or_done(
    run: Run, nadi: Installation, arguments: tuple[str, ...]
) -> None:
    hand_out(nadi)

    done = run(*arguments, code=1)

    assert done.stdout == ""
    assert "NADI_CREDENTIAL_FILE" in done.stderr
    assert "nadi access add" in done.stderr


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.COMPLIANCE])
def test_another_role_is_refused_and_the_attempt_is_on_record(
    run: Run, nadi: Installation, tmp_path: Path, role: Role
) -> None:
    file = credential(nadi, "curious", role, tmp_path / "token")

    done = run("audit", "list", credential=file, code=1)

    assert "this takes role compliance" in done.stderr
    assert newest(nadi, "forbid")["agent"][0]["who"]["display"] == "curious"  # type: ignore[index]


@pytest.mark.parametrize("token", ["", "not a token", "nadi_0123456789abcdef_x"])
def test_a_token_that_is_none_is_refused_and_on_record(
    run: Run, nadi: Installation, tmp_path: Path, token: str
) -> None:
    file = tmp_path / "token"
    file.write_text(token)

    done = run("audit", "list", credential=file, code=1)

    assert "not, or no longer, valid" in done.stderr
    assert newest(nadi, "sign-in-failure")["outcome"] == "4"


def test_who_read_is_named_by_the_credential_and_the_login(
    run: Run, nadi: Installation, tmp_path: Path
) -> None:
    hand_out(nadi)
    file = credential(nadi, "dr-rao", Role.COMPLIANCE, tmp_path / "token")

    run("audit", "list", credential=file)

    agent = newest(nadi, "query")["agent"][0]  # type: ignore[index]
    assert agent["name"].startswith("dr-rao (as ")
    assert agent["role"][0]["coding"][0]["code"] == "compliance"


def test_what_was_done_for_a_patient_names_the_officer_and_verifies(
    run: Run, nadi: Installation, tmp_path: Path
) -> None:
    nadi.receive(consent("p1"), creatinine("p1"))
    hand_out(nadi)
    file = tmp_path / "token"
    run("access", "add", "dr-rao", "--role", "compliance", "--out", str(file))
    acts = (ANSWERING[5], ANSWERING[2], ("patient", "holds"), ANSWERING[3], ANSWERING[0])

    done = [run(*arguments, credential=file) for arguments in acts]

    assert "dr-rao" in done[2].stdout
    for event in ("hold", "erase", "request"):
        assert newest(nadi, event)["agent"][0]["name"].startswith("dr-rao (as ")  # type: ignore[index]
    nadi.integrate()
    run("audit", "verify")


def test_a_shell_alone_lifts_no_refusal_of_ai(run: Run, nadi: Installation, tmp_path: Path) -> None:
    made = json.loads(run(*REFUSAL, "--json").stdout)
    hand_out(nadi)
    operator = credential(nadi, "night-shift", Role.OPERATOR, tmp_path / "operator")
    take_back = ("consent", "revoke", made["id"], "--reason", "She asked for it.")

    run(*take_back, code=1)
    run(*take_back, credential=operator, code=1)

    officer = credential(nadi, "dr-rao", Role.COMPLIANCE, tmp_path / "officer")
    listed = json.loads(
        run("consent", "list", "--patient", "p1", "--json", credential=officer).stdout
    )
    assert [each["state"] for each in listed] == ["in force"]


def test_what_is_recorded_of_consents_names_the_officer_and_verifies(
    run: Run, nadi: Installation, tmp_path: Path
) -> None:
    hand_out(nadi)
    file = tmp_path / "token"
    run("access", "add", "dr-rao", "--role", "compliance", "--out", str(file))
    made = json.loads(run(*REFUSAL, "--json", credential=file).stdout)
    run("consent", "revoke", made["id"], "--reason", "She asked for it.", credential=file)

    with nadi.store.read() as uow:
        (known,) = (each for each in uow.credentials.list() if each.name == "dr-rao")
        consent_acts = uow.consent_acts.get(made["id"])
        assert consent_acts is not None
        said = [act.statement["by"] for act in uow.consent_acts.open(consent_acts)]
    assert said == [known.id, known.id]
    for event in ("consent-record", "consent-revoke"):
        assert newest(nadi, event)["agent"][0]["name"].startswith("dr-rao (as ")  # type: ignore[index]
    nadi.integrate()
    assert json.loads(run("audit", "verify", "--json").stdout)["findings"] == []


def test_an_import_asks_for_a_credential_whoever_signed_the_file(
    run: Run, nadi: Installation, tmp_path: Path
) -> None:
    hand_out(nadi)
    file = tmp_path / "consent.json"
    file.write_text(json.dumps(consent("p1")))
    run("models", "key", "new", str(tmp_path / "signer.pem"))
    run("consent", "sign", str(file), "--key", str(tmp_path / "signer.pem"))

    assert "NADI_CREDENTIAL_FILE" in run("consent", "import", str(file), code=1).stderr


def test_an_erasure_closes_the_request_that_it_answers_and_no_other(
    run: Run, nadi: Installation
) -> None:
    nadi.receive(consent("p1"), creatinine("p1"), creatinine("p2"))
    for patient, kind in (("p1", "erasure"), ("p1", "grievance"), ("p2", "erasure")):
        run("rights", "add", f"Patient/{patient}", "--kind", kind)

    done = run(*ANSWERING[0])

    assert "Her request" in done.stdout
    listed = json.loads(run("rights", "list", "--all", "--json").stdout)
    assert [each["kind"] for each in listed if each["closed"]] == ["erasure"]
    assert [each["outcome"][:7] for each in listed if each["closed"]] == ["Erased:"]
    assert len(listed) == 3


def test_a_revoked_officer_reads_no_more(run: Run, nadi: Installation, tmp_path: Path) -> None:
    file = credential(nadi, "left", Role.COMPLIANCE, tmp_path / "token")
    with nadi.store.write() as uow:
        known = next(each for each in uow.credentials.list() if each.name == "left")
        uow.credentials.revoke(known.id)

    run("audit", "list", credential=file, code=1)


def test_anybody_may_verify_since_it_shows_no_entry(run: Run, nadi: Installation) -> None:
    nadi.integrate()
    hand_out(nadi)

    run("audit", "verify")
