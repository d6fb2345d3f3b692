"""Each noun of `nadi` on a data folder with nothing running: what it prints, keeps, ends with."""

import itertools
import json
import re
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from typer.testing import CliRunner

from gateway.catching_up import WAITS, say_current
from gateway.cli.main import app
from gateway.core.delivery import DeliveryState, NewDelivery
from gateway.core.jobs import Advance, BusinessStatus, JobState
from gateway.store.audit_log import AuditFilter
from gateway.store.deliveries import Settlement
from tests.installation import consent, creatinine
from tests.pcf import labels
from tests.waiting import due

BAD = "site: Bad\n"


@pytest.fixture
def example(nadi, tmp_path):
    """A site file of the engineer's: the one in force with another default."""
    with nadi.store.read() as uow:
        text = uow.sites.current().yaml
    path = tmp_path / "site.yaml"
    path.write_text(text.replace("default: deny", "default: permit"))
    return path


def events_of(nadi):
    with nadi.store.read() as uow:
        return [row.event for row in uow.audit_log.search(AuditFilter(limit=1000))]


def job_of(nadi, **wanted):
    with nadi.store.read() as uow:
        [found] = [
            job
            for job in uow.jobs.find(_everything())
            if all(getattr(job, name) == value for name, value in wanted.items())
        ]
        return found


def _everything():
    from gateway.store.jobs import JobFilter

    return JobFilter()


# --- site -----------------------------------------------------------------------------------


def test_a_site_file_is_validated_without_any_installation(example, tmp_path):
    bad = tmp_path / "bad.yaml"
    bad.write_text(BAD)

    good = CliRunner().invoke(app, ["site", "validate", str(example)])
    done = CliRunner().invoke(app, ["site", "validate", str(bad)])
    as_json = CliRunner().invoke(app, ["site", "validate", str(bad), "--json"])

    assert good.exit_code == 0
    assert done.exit_code == 1
    assert "bad.yaml:1:1: site: must be a name" in done.stderr
    assert json.loads(as_json.stdout)["problems"][0]["line"] == 1


def test_a_plan_says_that_results_will_be_explained(run, nadi, example):
    with nadi.store.read() as uow:
        text = uow.sites.current().yaml
    asked = "    model: ckd-risk@1\n    explain: true"
    example.write_text(text.replace("    model: ckd-risk@1", asked))

    [found] = json.loads(run("site", "plan", str(example), "--json").stdout)["changes"]

    assert (found["kind"], found["path"]) == ("changed", "routes.ckd-risk.explain")
    assert found["after"] == "true"


def test_a_plan_says_what_changes_and_changes_nothing(run, nadi, example):
    found = json.loads(run("site", "plan", str(example), "--json").stdout)["changes"]

    assert found == [
        {
            "kind": "changed",
            "path": "routes.ckd-risk.consent.default",
            "before": "deny",
            "after": "permit",
        }
    ]
    assert nadi.site().version == 1


def test_apply_show_history_and_revert(run, nadi, example):
    run("site", "apply", str(example))
    run("site", "apply", str(example))
    shown = run("site", "show").stdout
    run("site", "revert", "1")
    history = json.loads(run("site", "history", "--json").stdout)

    assert shown == example.read_text()
    assert [row["version"] for row in history] == [3, 2, 1]
    assert nadi.site().route("ckd-risk").consent_default == "deny"
    assert events_of(nadi).count("configure") == 3


def test_the_plan_of_the_first_site_shows_all_of_it(run, example):
    text = run("site", "plan", str(example)).stdout

    assert "~ routes.ckd-risk.consent.default: deny → permit" in text


def test_a_version_that_never_was_is_not_reverted_to(run):
    done = run("site", "revert", "9", code=1)

    assert "was never applied" in done.stderr


# --- jobs and consent -----------------------------------------------------------------------


@pytest.fixture
def work(nadi):
    """One job that waits, one that was refused."""
    nadi.receive(consent("p1"), creatinine("p1"), creatinine("p2"))
    return job_of(nadi, state=JobState.READY), job_of(nadi, state=JobState.REJECTED)


def test_jobs_are_listed_for_people_and_for_scripts(run, work):
    listed = json.loads(run("jobs", "list", "--json").stdout)
    refused = json.loads(run("jobs", "list", "--state", "rejected", "--json").stdout)

    assert {"id", "state", "business_status", "route", "model", "patient_key", "created_at"} <= set(
        listed[0]
    )
    assert [job["id"] for job in refused] == [work[1].id]
    assert work[0].id in run("jobs", "list").stdout
    assert "1 of 2" in run("jobs", "list", "--limit", "1").stdout


def test_a_job_that_waits_for_the_hours_of_its_route_says_so(run, nadi, work):
    with nadi.store.read() as uow:
        text = uow.sites.current().yaml
    now = datetime.now(UTC)
    closed = [f"{now + timedelta(hours=hours):%H:%M}" for hours in (2, 4)]
    waiting = text.replace(
        "    model:", f"    run: {{between: {json.dumps(closed)}, timezone: UTC}}\n    model:"
    )
    with nadi.store.write() as uow:
        uow.sites.apply(waiting, "engineer")

    listed = json.loads(run("jobs", "list", "--state", "ready", "--json").stdout)

    assert [(job["id"], job["waits_for"]) for job in listed] == [
        (work[0].id, f"ckd-risk's hours, {closed[0]} to {closed[1]} (UTC)")
    ]
    assert "off-peak" in run("jobs", "list").stdout


def test_a_job_is_shown_with_its_steps_and_decisions(run, work):
    shown = json.loads(run("jobs", "show", work[0].id, "--json").stdout)

    assert [step["event"] for step in shown["steps"]] == ["consent", "admit"]
    assert shown["decisions"][0]["decision"] == "permit"
    assert "What happened" in run("jobs", "show", work[0].id).stdout
    assert "no job" in run("jobs", "show", "nope", code=1).stderr


def test_a_waiting_job_is_cancelled_once_and_on_record(run, nadi, work):
    run("jobs", "cancel", work[0].id)
    again = run("jobs", "cancel", work[0].id, "nope", code=1)

    assert job_of(nadi, id=work[0].id).business_status is BusinessStatus.STOPPED
    assert "It is cancelled already." in again.stderr
    assert "nope: There is no such job" in again.stderr
    assert "cancel" in events_of(nadi)


def test_only_a_failed_job_is_tried_again(run, work):
    done = run("jobs", "retry", work[1].id, code=1)

    assert "Only a failed job can be tried again" in done.stderr


def failed(nadi, job, *, with_result):
    with nadi.store.write() as uow:
        [held] = uow.jobs.claim([job.id], "infer@test", lease_ms=1000)
        if with_result:
            new = NewDelivery(
                job_id=job.id,
                system="ehr",
                patient_key=job.patient_key,
                identifier="i",
                body=b'{"identifier":"i"}',
            )
            uow.deliveries.add([new])
            [delivery] = uow.deliveries.of_jobs([job.id]).values()
            uow.deliveries.settle([Settlement(delivery=delivery, state=DeliveryState.FAILED)])
        status = BusinessStatus.DELIVERY_FAILED if with_result else BusinessStatus.INFERENCE_FAILED
        uow.jobs.advance([Advance(job=held, state=JobState.FAILED, business_status=status)])


def test_a_job_that_failed_before_its_result_runs_again(run, nadi, work):
    failed(nadi, work[0], with_result=False)

    run("jobs", "retry", work[0].id)

    assert job_of(nadi, id=work[0].id).state is JobState.READY
    assert "retry" in events_of(nadi)


def test_a_dead_letter_is_put_back_with_its_job(run, nadi, work):
    failed(nadi, work[0], with_result=True)

    run("jobs", "retry", work[0].id)

    job = job_of(nadi, id=work[0].id)
    with nadi.store.read() as uow:
        delivery = uow.deliveries.of_jobs([job.id])[job.id]
        again = due(uow.deliveries, 10)
    assert (job.state, job.business_status) == (
        JobState.IN_PROGRESS,
        BusinessStatus.DELIVERY_PENDING,
    )
    assert delivery.state is DeliveryState.PENDING
    assert again == [(delivery.id, "ehr")]


def follow(nadi, poll):
    with nadi.store.read() as uow:
        text = uow.sites.current().yaml
    with nadi.store.write() as uow:
        uow.sites.apply(re.sub(r"receive: \[push\]", f"receive: [push, {poll}]", text), "engineer")


def test_a_result_that_waits_for_consents_says_so(run, nadi, work):
    failed(nadi, work[0], with_result=True)
    run("jobs", "retry", work[0].id)
    follow(nadi, "{poll: {types: [Consent]}}")

    before = json.loads(run("jobs", "show", work[0].id, "--json").stdout)["waits_for"]
    said = run("jobs", "show", work[0].id).stdout
    with nadi.store.write() as uow:
        say_current(uow, "ehr/poll")
    after = json.loads(run("jobs", "show", work[0].id, "--json").stdout)["waits_for"]

    assert (before, after) == (WAITS, "")
    assert "what the EHR changed of Consents" in said


def test_one_that_has_waited_long_enough_does_not_say_so(run, nadi, work):
    failed(nadi, work[0], with_result=True)
    run("jobs", "retry", work[0].id)
    follow(nadi, "{poll: {types: [Consent], consents_wait_s: 0.001}}")

    shown = json.loads(run("jobs", "show", work[0].id, "--json").stdout)

    assert shown["waits_for"] == ""


def test_cancelling_a_job_stops_its_result_too(run, nadi, work):
    failed(nadi, work[0], with_result=True)
    run("jobs", "retry", work[0].id)

    run("jobs", "cancel", work[0].id)

    with nadi.store.read() as uow:
        [delivery] = uow.deliveries.of_jobs([work[0].id]).values()
    assert delivery.state is DeliveryState.CANCELLED


def test_a_decision_is_explained_by_job_and_by_task(run, work):
    by_job = json.loads(run("consent", "explain", work[1].id, "--json").stdout)
    by_task = json.loads(run("consent", "explain", f"Task/{work[1].event_id}", "--json").stdout)
    text = run("consent", "explain", work[1].id).stdout

    assert by_job == by_task
    assert by_job[0]["decisions"][0]["decision"] == "deny"
    assert "deny TREAT" in text
    assert "the route's default is to deny" in text


@pytest.mark.usefixtures("work")
def test_a_decision_is_made_now_for_a_patient_and_recorded_as_a_read(run, nadi):
    allowed = json.loads(run("consent", "explain", "--patient", "Patient/p1", "--json").stdout)
    denied = run("consent", "explain", "--patient", "p2").stdout

    assert allowed["decision"] == "permit"
    assert [rule["verdict"] for rule in allowed["rules"]] == ["permit"]
    assert "a new Consent of the patient that denies TREAT" in allowed["changes"]
    assert "not permitted" in denied
    assert "a new Consent of the patient that permits TREAT" in denied
    assert events_of(nadi).count("query") == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("explain",),
        ("explain", "x", "--patient", "p1"),
        ("explain", "--patient", "p1", "--purpose", "FUN"),
        ("explain", "--patient", "Group/p1"),
    ],
)
def test_consent_explain_says_what_it_wants(run, arguments):
    run("consent", *arguments, code=2)


# --- audit ----------------------------------------------------------------------------------


def test_verify_holds_and_then_names_what_was_changed(run, nadi, work):
    nadi.integrate()
    assert "The log holds" in run("audit", "verify").stdout
    with nadi.store.engine.begin() as connection:
        connection.exec_driver_sql("update jobs set state = 'completed' where state = 'ready'")

    done = run("audit", "verify", code=1)
    report = json.loads(run("audit", "verify", "--json", code=1).stdout)
    with nadi.store.read() as uow:
        on_record = uow.audit_log.search(AuditFilter(event="verify"))

    assert [row.outcome for row in on_record] == ["8", "8", "0"]
    assert f"jobs {work[0].id}: its state is not the one last recorded (ready)" in done.stdout
    assert report["findings"][0]["row"] == work[0].id


@pytest.mark.usefixtures("work")
def test_the_log_alone_is_verified_quickly_and_says_what_was_left_out(run, nadi):
    nadi.integrate()
    with nadi.store.engine.begin() as connection:
        connection.exec_driver_sql("update jobs set state = 'completed' where state = 'ready'")

    done = run("audit", "verify", "--log-only")

    assert "The log holds" in done.stdout
    assert "Only the log was looked at" in done.stdout


@pytest.mark.usefixtures("work")
def test_verify_shows_the_cause_before_the_checkpoints_that_no_longer_fit(run, nadi):
    for _ in range(3):
        nadi.integrate()
        run("consent", "explain", "--patient", "Patient/p1")
    with nadi.store.engine.begin() as connection:
        connection.exec_driver_sql("drop trigger audit_leaves_refuses_update")
        connection.exec_driver_sql("drop trigger audit_events_refuses_update")
        connection.exec_driver_sql("update audit_leaves set leaf_hash = zeroblob(32)")
        registered = "select min(seq) from audit_events where event = 'model'"
        seq = connection.exec_driver_sql(registered).scalar_one()
        connection.exec_driver_sql("update audit_events set body = '{}' where seq = ?", (seq,))

    lines = run("audit", "verify", code=1).stdout.splitlines()

    found = [line for line in lines if line.startswith("✗")]
    assert lines[0].startswith("✗ Not everything is as it was recorded")
    assert any(f"audit_events {seq}: its body is not what was written" in line for line in found)
    tables = [line.split()[1].rstrip(":") for line in found[1:]]
    assert [name for name, _ in itertools.groupby(tables)] == [
        "models",
        "audit_events",
        "audit_leaves",
        "audit_checkpoints",
        "checkpoint",
    ]
    assert tables.count("audit_checkpoints") == 1
    assert "3 checkpoints from size" in found[-1]
    assert found[0].endswith("findings.")


@pytest.mark.usefixtures("work")
def test_verify_shows_that_the_log_was_cut_before_what_follows_from_it(run, nadi):
    nadi.integrate()
    [size] = columns(nadi, "select max(size) from audit_checkpoints")
    nadi.receive(*(creatinine("p3", number) for number in range(5)))
    nadi.integrate()
    with nadi.store.engine.begin() as connection:
        triggers = "select name from sqlite_master where type = 'trigger'"
        for name in connection.exec_driver_sql(triggers).scalars().all():
            connection.exec_driver_sql(f"drop trigger {name}")
        for statement in (
            f"delete from audit_leaves where leaf_index >= {size}",  # noqa: S608
            f"delete from audit_events where seq > {size}",  # noqa: S608
            f"delete from audit_checkpoints where size > {size}",  # noqa: S608
        ):
            connection.exec_driver_sql(statement)

    verdict, first, *found = run("audit", "verify", code=1).stdout.splitlines()

    assert verdict.startswith("✗")
    assert f"truncated from leaf {size} on" in first
    tables = [line.split()[1].rstrip(":") for line in found if line.startswith("✗")]
    assert tables[0].startswith("audit_")
    assert tables.count("events") == tables.count("jobs") == 1
    assert any("✗ events: 5 rows follow from it" in line for line in found)


def columns(nadi, query):
    with nadi.store.read() as uow:
        return uow.connection.exec_driver_sql(query).scalars().all()


def test_a_file_that_is_no_database_any_more_is_said_so(run, nadi):
    nadi.store.close()
    (nadi.folder / "nadi.db").write_bytes(b"SQLite format 3\0" + b"x" * 9000)

    done = run("audit", "verify", code=1)
    report = json.loads(run("audit", "verify", "--json", code=1).stdout)

    assert "The database" in done.stderr
    assert not report["holds"]
    assert "The database" in report["findings"][0]["what"]


@pytest.fixture
def other_key(nadi):
    """Change one digit of the master key."""
    path = nadi.folder / "keys" / "master.key"
    digits = path.read_text("ascii")
    path.write_text(("1" if digits[0] == "0" else "0") + digits[1:], "ascii")


@pytest.mark.usefixtures("work", "other_key")
@pytest.mark.parametrize(
    "arguments",
    [
        ["consent", "explain", "--patient", "Patient/p1"],
        ["jobs", "list"],
        ["site", "show"],
        ["prepare"],
    ],
)
def test_no_command_works_under_another_master_key(run, nadi, arguments):
    before = events_of(nadi)

    done = run(*arguments, code=1)

    assert "This is not the master key of this data folder" in done.stderr
    assert events_of(nadi) == before


@pytest.mark.usefixtures("work", "other_key")
def test_verify_and_doctor_name_another_master_key(run):
    verdict, *found = run("audit", "verify", code=1).stdout.splitlines()
    report = json.loads(run("audit", "verify", "--json", code=1).stdout)
    checked = json.loads(run("doctor", "--json", code=1).stdout)

    assert "key_check 1: the master key in use is not the one of this database" in found[0]
    assert {"key_check", "patient_keys"} <= {each["table"] for each in report["findings"]}
    assert verdict.startswith("✗")
    [says] = [each["says"] for each in checked if each["check"] == "database"]
    assert says.startswith("This is not the master key of this data folder")


@pytest.mark.usefixtures("work")
def test_a_patients_trail_is_readable_and_reading_it_is_on_record(run):
    text = run("audit", "list", "--patient", "Patient/p1").stdout
    again = json.loads(run("audit", "list", "--patient", "Patient/p1", "--json").stdout)
    since = run("audit", "list", "--patient", "p1", "--since", "2999-01-01").stdout

    assert "receive" in text
    assert "Consent/" in text
    assert again[-1]["resourceType"] == "AuditEvent"
    assert len(again) == 5  # two received, a decision, a job, and the first look
    assert "nothing is on record" in since


def test_since_wants_a_date(run):
    run("audit", "list", "--since", "yesterday", code=2)


# --- access and models ----------------------------------------------------------------------


def test_a_token_is_shown_once_and_its_credential_can_be_revoked(run, nadi):
    added = json.loads(run("access", "add", "Dr Rao", "--role", "clinician", "--json").stdout)
    run("access", "revoke", added["id"])
    listed = json.loads(run("access", "list", "--json").stdout)

    assert added["token"].startswith(f"nadi_{added['id']}_")
    assert added["token"] not in run("access", "list").stdout
    [kept] = [each for each in listed if each["id"] == added["id"]]
    assert kept["revoked_at"]
    assert run("access", "revoke", added["id"], code=1)
    nadi.integrate()
    run("audit", "verify")


def test_a_token_goes_into_a_file_that_only_its_owner_reads(run, tmp_path):
    file = tmp_path / "token"

    done = run("access", "add", "x", "--role", "ehr", "--system", "ehr", "--out", str(file))

    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_text().strip() not in done.output
    run("access", "add", "y", "--role", "operator", "--out", str(file), code=1)


def test_a_token_that_was_not_written_makes_no_credential(run, nadi, tmp_path):
    file = tmp_path / "taken"
    file.write_text("")

    run("access", "add", "lost", "--role", "operator", "--out", str(file), code=1)

    with nadi.store.read() as uow:
        assert "lost" not in [each.name for each in uow.credentials.list()]


@pytest.mark.parametrize(
    "arguments", [("--role", "ehr"), ("--role", "operator", "--system", "ehr")]
)
def test_only_an_ehr_speaks_for_a_system(run, arguments):
    run("access", "add", "x", *arguments, code=2)


def test_the_installed_models_are_listed_and_shown(run):
    listed = json.loads(run("models", "list", "--json").stdout)
    shown = json.loads(run("models", "show", "ckd-risk@1", "--json").stdout)

    [model] = [each for each in listed if each["name"] == "ckd-risk"]
    assert {"name", "version", "digest", "format", "state", "signer"} <= set(model)
    assert model["state"] == "active"
    assert model["signer"] == "built-in"
    assert shown["digest"] == model["digest"]
    assert "creatinine" in run("models", "show", "ckd-risk").stdout
    run("models", "show", "nope", code=1)


# --- route ----------------------------------------------------------------------------------


def patient(name):
    return {"resourceType": "Patient", "id": name, "gender": "female", "birthDate": "1970-05-01"}


def result(name, code, value, unit):
    base = creatinine(name)
    return {
        **base,
        "id": f"{name}-{code}",
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "valueQuantity": {**base["valueQuantity"], "value": value, "unit": unit, "code": unit},
    }


@pytest.fixture
def sample(tmp_path):
    """A Bundle with a patient, what the model needs, and one entry that is not valid."""
    resources = [
        patient("p9"),
        consent("p9"),
        result("p9", "3094-0", 20, "mg/dL"),
        result("p9", "2951-2", 139, "mmol/L"),
        result("p9", "2823-3", 4.2, "mmol/L"),
        result("p9", "718-7", 13.1, "g/dL"),
        creatinine("p9"),
    ]
    entries = [{"resource": each} for each in resources]
    entries.append({"resource": {"resourceType": "Observation", "status": "bogus"}})
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": entries}
    path = tmp_path / "sample.json"
    path.write_bytes(orjson.dumps(bundle))
    return path


def test_a_route_is_explained_down_to_the_observation_and_nothing_is_kept(run, nadi, sample):
    arguments = ("route", "explain", "--route", "ckd-risk", "--sample", str(sample))

    explained = json.loads(run(*arguments, "--json").stdout)
    text = run(*arguments).stdout

    [match] = [each for each in explained["resources"] if each["matches"]]
    assert match["resource"] == "Observation/p9-creatinine-1"
    assert match["consent"]["permitted"]
    assert match["result"]["status"] == "preliminary"
    assert {each["id"]: each["value"] for each in match["features"]}["creatinine"] == 1.4
    assert any("'status'" in problem or "status" in problem for problem in explained["problems"])
    assert "Nothing was sent or stored." in text
    assert "receive" not in events_of(nadi)


def test_a_route_that_explains_its_results_shows_what_moved_one(run, sample, example, tmp_path):
    text = example.read_text()
    assert "    model: ckd-risk@1" in text
    asked = "    model: ckd-risk@1\n    explain: true"
    example.write_text(text.replace("    model: ckd-risk@1", asked))
    arguments = ("route", "explain", "--route", "ckd-risk", "--sample", str(sample))
    given = (*arguments, "--site", str(example))

    found = json.loads(run(*given, "--json").stdout)["resources"]
    shown = run(*given).stdout
    no_map = run(*given, "--map", str(tmp_path / "map.png"), code=1)

    [match] = [each for each in found if each["matches"]]
    assert {each["part"] for each in match["explained"]["effects"]} >= {"Creatinine in blood"}
    assert match["explained"]["not_hidden"] == ["Age"]
    assert not match["explained"]["has_map"]
    assert "What moved it, each input hidden in turn" in match["result"]["text"]["div"]
    assert "All hidden together" in shown
    assert "There is no map" in no_map.stderr
    assert not (tmp_path / "map.png").exists()


def test_a_route_without_the_key_explains_nothing(run, sample):
    done = run("route", "explain", "--route", "ckd-risk", "--sample", str(sample), "--json")

    found = json.loads(done.stdout)["resources"]
    assert [each["explained"] for each in found] == [None] * len(found)


def test_what_is_on_record_counts_in_an_explanation(run, nadi, tmp_path):
    nadi.receive(consent("p9", rule="deny"))
    path = tmp_path / "one.json"
    path.write_bytes(orjson.dumps(creatinine("p9")))

    found = run("route", "explain", "--route", "ckd-risk", "--sample", str(path), "--json")

    [explained] = json.loads(found.stdout)["resources"]
    assert not explained["consent"]["permitted"]
    assert explained["refusal"]["reason"] == "patient-unknown"


@pytest.mark.parametrize(
    ("hidden", "refused"),
    [((), None), (("3094-0",), "masked"), (("8310-5",), None)],
    ids=["nothing", "an input", "what the model does not read"],
)
def test_a_dry_run_reads_nothing_that_the_consent_of_the_patient_hides(
    run, sample, tmp_path, hidden, refused
):
    resources = [each["resource"] for each in json.loads(sample.read_bytes())["entry"][:-1]]
    resources.append(result("p9", "8310-5", 37.1, "Cel"))
    for each in resources:
        if each["resourceType"] == "Consent":
            each["provision"]["securityLabel"] = labels("N")
        else:
            code = each.get("code", {}).get("coding", [{}])[0].get("code")
            each["meta"] = {
                **each.get("meta", {}),
                "security": labels("R" if code in hidden else "N"),
            }
    entries = [{"resource": each} for each in resources]
    path = tmp_path / "labelled.json"
    path.write_bytes(
        orjson.dumps({"resourceType": "Bundle", "type": "collection", "entry": entries})
    )

    found = run("route", "explain", "--route", "ckd-risk", "--sample", str(path), "--json")

    told = [each for each in json.loads(found.stdout)["resources"] if each["matches"]]
    [match] = [each for each in told if each["resource"] == "Observation/p9-creatinine-1"]
    assert (match["consent"]["permitted"], match["consent"]["basis"]) == (True, "consent")
    assert (match["refusal"] or {}).get("reason") == refused
    if refused is None:
        assert labels("N")[0] in match["result"]["meta"]["security"]
    else:
        assert match["result"] is None
        assert match["features"] == []


def test_a_sample_that_starts_nothing_says_why(run, tmp_path):
    path = tmp_path / "patient.json"
    path.write_bytes(orjson.dumps(patient("p9")))

    done = run("route", "explain", "--route", "ckd-risk", "--sample", str(path), code=1)

    assert "the route looks at Observation only" in done.stdout


def test_an_unknown_route_is_named_with_the_known_ones(run, sample):
    done = run("route", "explain", "--route", "nope", "--sample", str(sample), code=1)

    assert "known: ckd-risk" in done.stderr


def test_a_route_is_explained_from_a_file_without_any_installation(sample, example, tmp_path):
    done = CliRunner().invoke(
        app,
        [
            *("route", "explain", "--route", "ckd-risk", "--sample", str(sample)),
            *("--site", str(example), "--data-dir", str(tmp_path / "none"), "--json"),
        ],
    )

    assert done.exit_code == 0
    assert not (tmp_path / "none").exists()


def test_without_a_database_every_command_says_how_to_get_one(tmp_path):
    done = CliRunner().invoke(app, ["jobs", "list", "--data-dir", str(tmp_path / "none")])

    assert done.exit_code == 1
    assert "There is no database in the folder" in done.stderr
    assert not (tmp_path / "none").exists()
