"""`nadi consent` on an installation without processes: recorded, imported, listed, taken back."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway.cli.main import app
from gateway.core.consent.statement import sign
from gateway.core.delivery import NewDelivery
from gateway.core.jobs import Advance, BusinessStatus, JobState
from gateway.store.audit_log import AuditFilter
from gateway.store.erasing import Order, erase
from models.signature import new_key, written_key
from tests import abdm
from tests.commands import Run
from tests.factories import consent, patient
from tests.installation import Installation, creatinine
from tests.registered import ACTOR
from tests.waiting import ready

COMMAND = ("consent",)
PERMIT = ("record", "permit", "--patient", "Patient/p1", "--how", "paper", "--purpose", "TREAT")
NOTICE = ("--notice", "2026-1", "--language", "hi")
ADULT = ("--birth-date", "1961-05-01")
ABDM = """
consent_signers: {{hie: "{key}"}}
abdm: {{consent_manager: sbx, facilities: [IN0000000002]}}
"""


@pytest.fixture
def signer(nadi: Installation, tmp_path: Path) -> Path:
    """Let the site take ABDM artefacts from one signer; give the signer's key file."""
    path = tmp_path / "signer.pem"
    key = written_key(new_key(path).public_key())
    with nadi.store.read() as uow:
        current = uow.sites.current()
    assert current is not None
    site = tmp_path / "site.yaml"
    site.write_text(current.yaml + ABDM.format(key=key))
    done = CliRunner().invoke(
        app, ["site", "apply", str(site), "--force"], env={"NADI_DATA_DIR": str(nadi.folder)}
    )
    assert done.exit_code == 0, done.output
    return path


def signed(run: Run, path: Path, content: bytes, key: Path) -> str:
    path.write_bytes(content)
    run("sign", str(path), "--key", str(key))
    return str(path)


def listed(run: Run, who: str = "Patient/p1") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run("list", "--patient", who, "--json").stdout)
    return found


def is_permitted(run: Run) -> bool:
    said = json.loads(run("explain", "--patient", "Patient/p1", "--json").stdout)
    return bool(said["decision"] == "permit")


def events_of(nadi: Installation) -> list[str]:
    with nadi.store.read() as uow:
        return [row.event for row in uow.audit_log.search(AuditFilter(limit=1000))]


# -- record and revoke -----------------------------------------------------------------------


def test_a_permit_is_recorded_listed_and_taken_back(run: Run, nadi: Installation):
    made = json.loads(run(*PERMIT, *NOTICE, *ADULT, "--until", "2099-12-31", "--json").stdout)

    (line,) = listed(run)
    assert (line["id"], line["source"], line["says"]) == (made["id"], "staff", "permits")
    assert (line["purposes"], line["until"]) == (["TREAT"], "2100-01-01T00:00+05:30")
    assert is_permitted(run)

    run("revoke", made["id"], "--reason", "She asked for it.")

    assert listed(run)[0]["state"] == "was withdrawn"
    assert not is_permitted(run)
    assert {"consent-record", "consent-revoke", "query"} <= set(events_of(nadi))
    run("revoke", made["id"], "--reason", "again", code=1)


def test_a_refusal_of_all_ai_needs_nothing_more_and_is_above_a_permit(run: Run, nadi: Installation):
    nadi.receive(consent("p1"))
    assert is_permitted(run)

    nadi.receive(creatinine("p1"))

    text = run("record", "ai-opt-out", "--patient", "p1", "--how", "verbal").stdout

    assert "Stopped what waited: 1" in text
    assert not is_permitted(run)
    said = run("explain", "--patient", "Patient/p1").stdout
    assert "refuses all AI" in said


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ((*ADULT,), "needs the notice"),
        (("--notice", "1999-1", "--language", "hi", *ADULT), "no such notice"),
        ((*NOTICE,), "--birth-date"),
        ((*NOTICE, "--birth-date", "2015-01-01"), "is a minor"),
        ((*NOTICE, "--guardian", "Her mother", "--birth-date", "2015-01-01"), "verified"),
    ],
    ids=["notice", "version", "age", "minor", "guardian"],
)
def test_what_may_not_be_recorded_says_why(run: Run, more: tuple[str, ...], says: str):
    assert says in run(*PERMIT, *more, code=1).stderr.replace("\n", " ")
    assert listed(run) == []


def test_the_date_of_birth_on_record_goes_before_what_staff_say(run: Run, nadi: Installation):
    nadi.receive(patient(1, birthDate="2015-01-01"))

    assert "is a minor" in run(*PERMIT, *NOTICE, *ADULT, code=1).stderr
    run(*PERMIT, *NOTICE, "--guardian", "Her mother", "--verified-by", "passport seen")
    run(*PERMIT, *NOTICE, "--exemption", "Fourth Schedule Part A")
    assert is_permitted(run)


def test_a_permit_whose_last_day_is_past_is_refused(run: Run):
    says = run(*PERMIT, *NOTICE, *ADULT, "--until", "2026-01-01", code=1).stderr

    assert "over already" in says
    assert listed(run) == []


def test_who_was_never_received_is_told_of_and_recorded(run: Run, nadi: Installation):
    nadi.receive(creatinine("p1"))
    refuse = ("record", "ai-opt-out", "--how", "verbal", "--patient")

    unknown = run(*refuse, "Patient/p11")
    known = run(*refuse, "Patient/p1")

    assert "is the id right?" in unknown.stderr
    assert len(listed(run, "p11")) == 1
    assert known.stderr == ""


def test_after_a_no_it_is_told_what_is_permitted_all_the_same(run: Run, nadi: Installation):
    (pushed,) = nadi.receive(consent("p1"))
    permit = json.loads(run(*PERMIT, *NOTICE, *ADULT, "--json").stdout)["id"]

    denied = run("record", "deny", "--patient", "p1", "--how", "paper", "--purpose", "HRESCH")
    taken_back = json.loads(run("revoke", permit, "--reason", "She asked.", "--json").stdout)
    refused = run("record", "ai-opt-out", "--patient", "p1", "--how", "paper")

    told = denied.stdout.replace("\n", " ")
    assert "TREAT is still permitted by " in told
    assert f"Consent/{pushed}" in told
    assert f"Consent/{permit}" in told
    assert taken_back["still_permitted"] == [
        {
            "purposes": ["TREAT"],
            "consents": [f"Consent/{pushed}"],
            "basis": "consent",
            "is_limited": False,
        }
    ]
    assert "still permitted" not in refused.stdout


def test_after_a_yes_it_is_told_what_stands_against_it(run: Run):
    refuse = ("record", "ai-opt-out", "--patient", "p1", "--how", "verbal", "--json")
    refusal = json.loads(run(*refuse).stdout)["id"]

    told = run(*PERMIT, *NOTICE, *ADULT).stdout.replace("\n", " ")
    run("revoke", refusal, "--reason", "She asked for it.")
    alone = json.loads(run(*PERMIT, *NOTICE, *ADULT, "--json").stdout)
    later = run(*PERMIT, *NOTICE, *ADULT, "--from", "2099-01-01").stdout

    assert f"TREAT is still not permitted by Consent/{refusal}" in told
    assert alone["still_denied"] == []
    assert "still not permitted" not in later, "another permit holds meanwhile"


def test_limits_come_from_a_fhir_consent(run: Run, tmp_path: Path):
    path = tmp_path / "consent.json"
    path.write_text(json.dumps(consent(1)))

    run(*PERMIT[:-2], *NOTICE, *ADULT, "--content", str(path))

    assert is_permitted(run)
    path.write_text("[]")
    run(*PERMIT[:-2], *NOTICE, *ADULT, "--content", str(path), code=2)


@pytest.mark.parametrize(
    "arguments",
    [
        ("record", "perhaps", "--patient", "p1", "--how", "paper"),
        ("record", "deny", "--patient", "p1", "--how", "telepathy"),
        (*PERMIT, "--notice", "2026-1"),
        (*PERMIT, *NOTICE, "--guardian", "A", "--exemption", "B"),
        (*PERMIT, *NOTICE, "--birth-date", "long ago"),
        ("revoke", "x", "--reason", " "),
        ("list", "--patient", "Practitioner/1"),
    ],
)
def test_wrong_usage_ends_with_2(run: Run, arguments: tuple[str, ...]):
    run(*arguments, code=2)


def test_a_consent_of_the_ehr_is_listed_and_taken_back_there_only(run: Run, nadi: Installation):
    (event,) = nadi.receive(consent("1"))

    (line,) = listed(run)

    assert (line["id"], line["source"]) == (event, "EHR")
    assert "changed there" in run("revoke", event, "--reason", "x", code=1).stderr


@pytest.mark.parametrize("how", ["record", "revoke"])
def test_what_waits_stops_with_the_consent(run: Run, nadi: Installation, how: str):
    permit = json.loads(run(*PERMIT, *NOTICE, *ADULT, "--json").stdout)
    nadi.receive(creatinine("p1"))

    if how == "record":
        done = run("record", "ai-opt-out", "--patient", "p1", "--how", "verbal", "--json")
    else:
        done = run("revoke", permit["id"], "--reason", "She asked for it.", "--json")

    assert json.loads(done.stdout)["stopped"] == 1
    assert {"cancel", "consent"} <= set(events_of(nadi))


def test_a_no_is_not_acknowledged_while_a_result_is_on_its_way(
    run: Run, nadi: Installation, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("NADI_REVOCATION_WAIT_S", "0")
    run(*PERMIT, *NOTICE, *ADULT)
    nadi.receive(creatinine("p1"))
    with nadi.store.write() as uow:
        ids = [job_id for job_id, _ in ready(uow.jobs, 1)]
        (job,) = uow.jobs.claim(ids, "infer@test", lease_ms=60_000)
        new = NewDelivery(
            job_id=job.id,
            system="ehr",
            patient_key=str(job.patient_key),
            identifier="i",
            body=b"{}",
        )
        uow.deliveries.add([new])
        (made,) = uow.deliveries.of_jobs([job.id]).values()
        pending = BusinessStatus.DELIVERY_PENDING
        uow.jobs.advance([Advance(job=job, state=JobState.IN_PROGRESS, business_status=pending)])
        uow.deliveries.claim([made.id], "deliver@test", lease_ms=60_000)

    says = run("record", "ai-opt-out", "--patient", "p1", "--how", "verbal", code=1).stderr

    assert "is on record and in force" in says
    assert not is_permitted(run)


# -- import ----------------------------------------------------------------------------------


def received_patient(nadi: Installation, address: str = "ana.test@sbx") -> None:
    identifier = [{"system": "https://healthid.abdm.gov.in", "value": address}]
    nadi.receive(patient(1, identifier=identifier))


def test_an_artefact_is_imported_for_the_patient_of_its_address(
    run: Run, nadi: Installation, signer: Path, tmp_path: Path
):
    received_patient(nadi, "Ana.Test@sbx")
    file = signed(run, tmp_path / "granted.json", abdm.raw(abdm.notification()), signer)

    made = json.loads(run("import", file, "--patient", "Patient/p1", "--json").stdout)

    assert made["signer"] == "hie"
    (line,) = listed(run)
    assert (line["source"], line["limited"], line["state"]) == ("ABDM", True, "in force")
    again = json.loads(run("import", file, "--patient", "Patient/p1", "--json").stdout)
    assert [each["new"] for each in again["consents"]] == [False]

    ended = signed(run, tmp_path / "revoked.json", abdm.raw(abdm.ended()), signer)
    after = json.loads(run("import", ended, "--json").stdout)
    assert [(each["patient"], each["received"]) for each in after["patients"]] == [
        ("Patient/p1", True)
    ]
    assert after["patients"][0]["permitted"] == []
    assert listed(run)[0]["state"] == "was revoked by the patient"
    due = json.loads(run("due", "--json").stdout)
    assert [each["id"] for each in due] == [made["consents"][0]["id"]]
    assert [each["patient"] for each in due] == ["Patient/p1"]
    assert "Patient/p1" in run("due").stdout


def test_an_artefact_for_somebody_else_is_refused(
    run: Run, nadi: Installation, signer: Path, tmp_path: Path
):
    received_patient(nadi, "ben@sbx")
    file = signed(run, tmp_path / "granted.json", abdm.raw(abdm.notification()), signer)

    says = run("import", file, "--patient", "p1", "--identity-checked", code=1).stderr

    assert "ABHA address" in says
    run("import", file, "--patient", "p2", code=1)
    run("import", file, code=2)
    run("import", file, "--patient", "p2", "--identity-checked")
    assert listed(run, "p2")[0]["state"] == "in force"


def test_a_file_that_nobody_known_vouches_for_is_refused(run: Run, signer: Path, tmp_path: Path):
    file = tmp_path / "consent.json"
    file.write_bytes(json.dumps(consent(1)).encode())
    run("import", str(file), code=2)

    stranger = tmp_path / "stranger.pem"
    new_key(stranger)
    signed(run, file, file.read_bytes(), stranger)
    assert "not one of this file" in run("import", str(file), code=1).stderr.replace("\n", " ")

    (tmp_path / "consent.json.jws").unlink()
    assert "nadi consent sign" in run("import", str(file), code=2).stderr
    signed(run, file, file.read_bytes(), signer)
    file.write_bytes(file.read_bytes() + b" ")
    run("import", str(file), code=1)
    assert listed(run) == []


def test_a_site_without_abdm_takes_no_artefacts(run: Run, nadi: Installation, tmp_path: Path):
    assert nadi.site().abdm is None
    file = tmp_path / "granted.json"
    file.write_bytes(abdm.raw(abdm.notification()))
    (tmp_path / "granted.json.jws").write_text(sign(file.read_bytes(), nadi.keys.consents))

    run("import", str(file), "--patient", "p1", code=1)


def test_a_bundle_gives_each_patient_their_own_consent(run: Run, signer: Path, tmp_path: Path):
    entries = [{"resource": each} for each in (consent(1), patient(1), consent(2, "Patient/p2"))]
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": entries}
    file = signed(run, tmp_path / "bundle.json", json.dumps(bundle).encode(), signer)

    run("import", file)

    assert [line["source"] for line in listed(run, "p1")] == ["imported"]
    assert [line["source"] for line in listed(run, "p2")] == ["imported"]
    assert is_permitted(run)
    run("import", file, "--patient", "p1", code=1)


def test_an_import_tells_who_was_never_received_and_what_holds_for_each_now(
    run: Run, nadi: Installation, signer: Path, tmp_path: Path
):
    nadi.receive(creatinine("p1"))
    run("record", "deny", "--patient", "p3", "--how", "paper", "--purpose", "TREAT")
    content = [consent(number, f"Patient/p{number}") for number in (1, 2, 3)]
    bundle = {"resourceType": "Bundle", "entry": [{"resource": each} for each in content]}
    file = signed(run, tmp_path / "bundle.json", json.dumps(bundle).encode(), signer)

    shown = run("import", file)
    again = run("import", file, "--json")

    for done in (shown, again):
        warned = " ".join(done.stderr.split())
        assert "Nothing was ever received of Patient/p2, Patient/p3." in warned
    told = {each["patient"]: each for each in json.loads(again.stdout)["patients"]}
    assert [each["received"] for each in told.values()] == [True, False, False]
    assert told["Patient/p1"]["denied"] == []
    (permitted,) = told["Patient/p1"]["permitted"]
    assert permitted["purposes"] == ["TREAT"]
    assert permitted["consents"][0].startswith("Consent/")
    assert told["Patient/p3"]["permitted"] == []
    (denied,) = told["Patient/p3"]["denied"]
    assert denied["purposes"] == ["TREAT"]
    assert denied["reasons"]
    rows = [line.split() for line in shown.stdout.splitlines() if line.startswith("Patient/")]
    assert [row[:3] for row in rows] == [
        ["Patient/p1", "yes", "TREAT:"],
        ["Patient/p2", "never", "TREAT:"],
        ["Patient/p3", "never", "nothing"],
    ]
    assert rows[2][-1] == "TREAT"


@pytest.mark.usefixtures("signer")
def test_what_one_site_exports_another_imports(run: Run, nadi: Installation, tmp_path: Path):
    """Here both are the same site, with its own key on its list."""
    run(*PERMIT, *NOTICE, *ADULT)
    run("record", "deny", "--patient", "p2", "--how", "paper")
    with nadi.store.read() as uow:
        current = uow.sites.current()
    assert current is not None
    own = written_key(nadi.keys.consents.public_key())
    site = tmp_path / "both.yaml"
    site.write_text(
        current.yaml.replace("consent_signers: {", f'consent_signers: {{own: "{own}", ')
    )
    CliRunner().invoke(
        app, ["site", "apply", str(site), "--force"], env={"NADI_DATA_DIR": str(nadi.folder)}
    )

    run("export", str(tmp_path / "out.json"), "--patient", "p1")
    assert (tmp_path / "out.json").stat().st_mode & 0o077 == 0
    run("import", str(tmp_path / "out.json"))

    assert [line["says"] for line in listed(run)] == ["permits", "permits"]
    assert len(listed(run, "p2")) == 1
    run("export", str(tmp_path / "out.json"), code=1)


def test_of_a_patient_who_was_erased_nothing_is_exported(
    run: Run, nadi: Installation, tmp_path: Path
):
    for who in ("p1", "p2"):
        run("record", "deny", "--patient", who, "--how", "paper")
    key = nadi.store.sealer.patient_key("ehr", "Patient/p1")
    with nadi.store.write() as uow:
        erase(uow, Order(patient_key=key, reason="She asked.", law="s.12"), set(), ACTOR)

    run("export", str(tmp_path / "out.json"))

    exported = json.loads((tmp_path / "out.json").read_bytes())["consents"]
    assert [each["local"]["patient"] for each in exported] == ["Patient/p2"]


@pytest.mark.parametrize("content", [b"", b"[]", b'{"resourceType": "Patient"}', b'{"a": 1}'])
def test_a_file_without_consents_is_refused(run: Run, signer: Path, tmp_path: Path, content: bytes):
    run("import", signed(run, tmp_path / "x.json", content, signer), code=1)


# -- coverage --------------------------------------------------------------------------------


def test_coverage_counts_patients_by_what_they_decided(run: Run, nadi: Installation):
    nadi.receive(consent(1), consent(2, "Patient/p2"), creatinine("p5"))
    run("record", "ai-opt-out", "--patient", "p2", "--how", "digital")
    run("record", "deny", "--patient", "p3", "--how", "paper")
    run("record", "deny", "--patient", "p4", "--how", "paper", "--from", "2099-01-01")

    found = json.loads(run("coverage", "--json").stdout)

    assert found["patients"] == 5
    assert found["purposes"]["TREAT"] == {
        "refuses AI": 1,
        "denied": 1,
        "permitted": 1,
        "some data": 0,
        "ended": 0,
        "not in force": 1,
        "nothing said": 1,
    }
    assert found["sources"] == {"EHR": {"permits": 2}, "staff": {"denies": 1, "refuses AI": 1}}
    text = run("coverage").stdout
    assert "5 patients" in text
    assert "refuse all AI" in text
    assert "None ends within 30 days" in text


def test_coverage_tells_what_ends_soon(run: Run):
    made = json.loads(run(*PERMIT, *NOTICE, *ADULT, "--until", "2099-12-31", "--json").stdout)

    days = str(365 * 100)

    assert json.loads(run("coverage", "--json").stdout)["ending"] == []
    ending = json.loads(run("coverage", "--days", days, "--json").stdout)["ending"]
    assert [each["id"] for each in ending] == [made["id"]]
    assert made["id"] in run("coverage", "--days", days).stdout


def test_an_empty_installation_has_nothing_to_tell(run: Run):
    assert "0 patients" in run("coverage").stdout
    assert "No consent is in force" in run("coverage").stdout
    assert "Nothing is due" in run("due").stdout
    assert "Nothing is on record" in run("list", "--patient", "p1").stdout


# -- explain ---------------------------------------------------------------------------------


def explain_now(run: Run, *more: str) -> dict[str, Any]:
    told = run("explain", "--patient", "Patient/p1", *more, "--json").stdout
    found: dict[str, Any] = json.loads(told)
    return found


def test_a_route_is_explained_with_its_purpose_default_and_basis(run: Run, nadi: Installation):
    nadi.receive(consent("p1"))
    (route, *_) = nadi.site().routes

    told = explain_now(run, "--route", route.name)
    assert (told["purpose"], told["default"]) == (route.purpose, route.consent_default)
    assert (told["decision"], told["basis"]) == ("permit", "consent")

    shown = run("explain", "--patient", "p1", "--route", route.name).stdout
    assert "Basis: consent." in shown
    assert "What would change it:" in shown
    run("explain", "--patient", "p1", "--route", "nothing", code=1)


def test_a_consent_to_some_data_is_told_from_one_to_none(run: Run, nadi: Installation):
    normal = [{"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "N"}]
    provision = {**consent("p1")["provision"], "securityLabel": normal}
    nadi.receive(consent("p1", provision=provision))

    told = explain_now(run)
    assert (told["decision"], told["foreseen"]) == ("deny", "permit")
    assert "Some data may be used" in run("explain", "--patient", "p1").stdout
    assert explain_now(run, "--purpose", "HRESCH")["foreseen"] == "deny"


def test_an_emergency_is_explained_as_it_is_run_and_not_silently_as_anything_else(
    run: Run, nadi: Installation
):
    run("record", "deny", "--patient", "p1", "--how", "paper")
    (route, *_) = nadi.site().routes
    ask = ("--route", route.name, "--purpose", "BTG")

    told = explain_now(run, *ask)

    assert (told["decision"], told["basis"], told["default"]) == ("permit", "break-glass", "permit")
    assert "break-glass run" in told["reasons"][0]
    assert "The glass was broken over it." in told["reasons"][1]
    assert told["reasons"][2] == "An emergency: nobody forbade it."
    assert explain_now(run, "--purpose", "BTG")["decision"] == "permit"
    assert explain_now(run, "--route", route.name)["decision"] == "deny"
    run("record", "ai-opt-out", "--patient", "p1", "--how", "paper")
    assert explain_now(run, *ask)["decision"] == "deny"


def test_where_nobody_may_break_the_glass_it_is_said_so(run: Run, nadi: Installation):
    with nadi.store.write() as uow:
        lines = uow.sites.current().yaml.splitlines(keepends=True)
        without = "".join(each for each in lines if not each.startswith("break_glass:"))
        uow.sites.apply(without, "test")

    told = explain_now(run, "--purpose", "BTG")

    assert told["decision"] == "deny"
    assert "nobody who may break the glass" in told["reasons"][0]


def test_what_is_done_is_part_of_what_is_explained(run: Run, nadi: Installation):
    action = {"system": "http://terminology.hl7.org/CodeSystem/consentaction", "code": "use"}
    provision = {**consent("p1")["provision"], "action": [{"coding": [action]}]}
    nadi.receive(consent("p1", provision=provision))

    assert explain_now(run, "--action", "use")["decision"] == "permit"
    assert explain_now(run, "--action", "disclose")["decision"] == "deny"
    run("explain", "--patient", "p1", "--action", "steal", code=2)


def test_a_refusal_that_an_erasure_left_over_is_listed_and_taken_back(run: Run, nadi: Installation):
    run("record", "ai-opt-out", "--patient", "Patient/p1", "--how", "verbal")
    key = nadi.store.sealer.patient_key("ehr", "Patient/p1")
    with nadi.store.write() as uow:
        erase(uow, Order(patient_key=key, reason="She asked.", law="s.12"), set(), ACTOR)
    with nadi.store.write() as uow:
        uow.erasures.reopen([key])
        uow.patient_keys.load([key], create=True)

    (kept,) = listed(run)
    run("revoke", kept["id"], "--reason", "She thought about it.")
    (after,) = listed(run)

    assert (kept["source"], kept["says"], kept["state"]) == (
        *("kept at erasure", "refuses AI", "in force"),
    )
    assert after == {**kept, "state": "not in force (status inactive)"}
