"""What a newcomer tries first: wrong files, other ports, names instead of ids, misspelt words."""

import json

import orjson
import pytest

from adapters.site_trigger import check, names_no_criterion
from gateway.cli.context import remember_addresses, settings_for, starting_settings
from gateway.settings import Settings
from tests.installation import consent, creatinine
from tests.packages import PUBLIC_KEY

ADDRESSES = ("NADI_HOST", "NADI_PORT", "NADI_SANDBOX_PORT")


@pytest.fixture
def site_with(nadi, tmp_path):
    """Write the site file in force with one text replaced."""

    def write(before, after):
        with nadi.store.read() as uow:
            text = uow.sites.current().yaml
        assert before in text
        path = tmp_path / "site.yaml"
        path.write_text(text.replace(before, after))
        return path

    return write


# --- site -----------------------------------------------------------------------------------


def test_a_model_that_is_not_installed_is_an_error_with_its_place(run, nadi, site_with):
    file = site_with("ckd-risk@1", "ckd-risc@1")

    validated = run("site", "validate", str(file), code=1)
    as_json = json.loads(run("site", "validate", str(file), "--json", code=1).stdout)
    run("site", "apply", str(file), code=1)

    [problem] = as_json["problems"]
    assert f"{file}:{problem['line']}:" in validated.stderr
    assert "routes.ckd-risk.model: model ckd-risc@1 is not in service" in validated.stderr
    assert "ckd-risc@1" in file.read_text().splitlines()[problem["line"] - 1]
    assert nadi.site().version == 1


def test_a_model_may_be_missing_where_its_signer_is_trusted_only_with_the_file(
    run, nadi, site_with
):
    file = site_with("ckd-risk@1", "ckd-risc@1")
    rules = f'models:\n  signers:\n    - {{name: the-makers, key: "{PUBLIC_KEY}"}}\n'
    file.write_text(file.read_text() + rules)

    for verb in ("validate", "plan", "apply"):
        assert "until `nadi models import` brings it" in run("site", verb, str(file)).stdout
    assert nadi.site().version == 2
    assert nadi.site().trust.signers == {PUBLIC_KEY: "the-makers"}


def test_a_route_whose_model_was_retired_says_so_wherever_it_matters(run, site_with):
    run("models", "retire", "ckd-risk@1.0.0", "--reason", "Recalled.")
    file = site_with("ckd-risk@1", "ckd-risk@1")

    validated = run("site", "validate", str(file), code=1)
    listed = run("jobs", "list")
    examined = run("doctor", "--json", code=1).stdout
    found = json.loads(examined[examined.index("[\n") :])

    assert "model ckd-risk@1 was retired (Recalled); `nadi models import` a newer" in " ".join(
        validated.stderr.split()
    )
    assert "✗ Route 'ckd-risk': model ckd-risk@1 was retired (Recalled)" in listed.stderr
    [route] = [each for each in found if each["check"] == "route"]
    assert route["verdict"] == "failed"
    assert "until `nadi models import` brings a newer version." in route["says"]


def test_force_applies_a_file_whose_model_is_not_installed_yet(run, nadi, site_with):
    done = run("site", "apply", "--force", str(site_with("ckd-risk@1", "ckd-risc@1")))

    assert "model ckd-risc@1 is not in service" in done.stdout
    assert nadi.site().version == 2


@pytest.mark.parametrize("verb", ["validate", "plan", "apply"])
def test_a_match_without_any_criterion_is_warned_of(run, nadi, tmp_path, verb):
    match = nadi.site().route("ckd-risk").match
    with nadi.store.read() as uow:
        text = uow.sites.current().yaml
    start = text.index("match:")
    end = text.index("consent:", start)
    file = tmp_path / "all.yaml"
    file.write_text(f"{text[:start]}match: Observation\n    {text[end:]}")

    done = run("site", verb, str(file))

    assert "names no criterion, so the model runs on every Observation of 'ehr'" in done.stdout
    assert not names_no_criterion(match)


def test_a_route_of_studies_without_an_archive_is_warned_of(run, nadi, tmp_path):
    with nadi.store.read() as uow:
        text = uow.sites.current().yaml
    start, end = text.index("match:"), text.index("consent:")
    studies = f"{text[:start]}match: ImagingStudy.where(status='available')\n    {text[end:]}"
    file = tmp_path / "studies.yaml"
    file.write_text(studies)
    warned = run("site", "plan", str(file)).stdout

    file.write_text(
        studies.replace("base_url:", "dicomweb_url: http://pacs.test/dicom-web\n    base_url:", 1)
    )
    silent = run("site", "plan", str(file)).stdout

    assert "has no dicomweb_url" in warned
    assert "has no dicomweb_url" not in silent


@pytest.mark.parametrize(
    ("expression", "is_open"),
    [
        ("Observation", True),
        ("true", True),
        ("Observation.exists()", True),
        ("Observation.where(true)", True),
        ("false", False),
        ("Observation.where(status.empty())", False),
        ("code.exists()", False),
    ],
)
def test_only_what_reads_no_element_has_no_criterion(expression, is_open):
    assert names_no_criterion(expression) is is_open


def test_a_plan_whose_check_fails_ends_with_one(run, site_with):
    file = site_with("default: deny", "default: permit")
    lines = file.read_text().splitlines()
    address = "    base_url: http://127.0.0.1:9/fhir"
    file.write_text("\n".join(address if "base_url:" in line else line for line in lines) + "\n")

    done = run("site", "plan", "--check", str(file), code=1)

    assert "system ehr: The EHR refuses the connection" in done.stdout
    run("site", "plan", str(file))


def test_a_quote_that_is_never_closed_is_said_so():
    assert check("Observation.where(status='final)") == [
        "FHIRPath syntax at line 1, column 26: the quote is never closed"
    ]


# --- addresses ------------------------------------------------------------------------------


@pytest.fixture
def fresh_environment(monkeypatch):
    for name in ADDRESSES:
        # Set first, so that what the code sets is taken back at the end.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.usefixtures("fresh_environment")
def test_the_ports_of_the_last_start_are_found_by_every_command(tmp_path):
    (tmp_path / "run").mkdir()
    started = Settings(data_dir=tmp_path, host="127.0.0.5", port=18180, sandbox_port=18190)
    remember_addresses(started, host="127.0.0.1")

    found = settings_for(tmp_path)

    assert (found.base_url, found.sandbox_port) == ("http://127.0.0.1:18180", 18190)


def test_the_environment_is_stronger_than_what_was_remembered(tmp_path, fresh_environment):
    (tmp_path / "run").mkdir()
    remember_addresses(Settings(data_dir=tmp_path, port=18180), host="127.0.0.1")
    fresh_environment.setenv("NADI_PORT", "9000")

    assert settings_for(tmp_path).port == 9000


@pytest.mark.usefixtures("fresh_environment")
def test_a_start_forgets_the_ports_of_the_one_before(tmp_path):
    (tmp_path / "run").mkdir()
    remember_addresses(Settings(data_dir=tmp_path, port=18180), host="127.0.0.1")

    assert starting_settings(tmp_path).port == 8080


@pytest.mark.usefixtures("fresh_environment")
@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"NADI_PORT": 1}', b"\xff"])
def test_a_note_that_is_no_note_is_passed_over(tmp_path, content):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "ports.json").write_bytes(content)

    assert settings_for(tmp_path).port == 8080


# --- access ---------------------------------------------------------------------------------


def test_a_credential_is_revoked_by_its_name_and_the_name_is_free_again(run):
    added = run("access", "add", "rounds", "--role", "clinician")
    revoked = run("access", "revoke", "rounds")
    again = run("access", "revoke", "rounds", code=1)
    second = json.loads(run("access", "add", "rounds", "--role", "clinician", "--json").stdout)

    assert "its id is" in added.stderr
    assert "refused within 2 seconds" in revoked.stdout
    assert "none in force this name" in again.stderr
    assert run("access", "revoke", second["id"])


def test_a_name_in_force_is_not_given_twice(run):
    first = json.loads(run("access", "add", "rounds", "--role", "clinician", "--json").stdout)

    done = run("access", "add", "rounds", "--role", "operator", code=1)

    assert first["id"] in done.stderr


def test_a_name_that_several_have_asks_for_the_id(run, nadi):
    from gateway.core.principal import Role

    with nadi.store.write() as uow:
        ids = [uow.credentials.add("twin", Role.OPERATOR)[0] for _ in range(2)]

    done = run("access", "revoke", "twin", code=1)

    assert all(each in done.stderr for each in ids)


def test_an_ehr_without_its_system_is_told_what_it_needs(run):
    done = run("access", "add", "x", "--role", "ehr", code=2)

    assert "--role ehr needs --system NAME" in done.stderr


# --- jobs and samples -----------------------------------------------------------------------


def test_a_misspelt_word_is_answered_with_the_known_ones(run):
    done = run("jobs", "list", "--state", "bogus", code=2)

    assert "'bogus' is none of requested, ready" in done.stderr
    assert "Value error" not in done.stderr


def test_a_job_shows_why_each_step_was_taken_and_is_cancelled_for_scripts(run, nadi):
    nadi.receive(consent("p1"), creatinine("p1"))
    [job] = json.loads(run("jobs", "list", "--json").stdout)

    done = json.loads(run("jobs", "cancel", job["id"], "nope", "--json", code=1).stdout)
    shown = json.loads(run("jobs", "show", job["id"], "--json").stdout)

    assert [each["done"] for each in done] == [True, False]
    assert done[1]["why_not"].startswith("There is no such job")
    assert shown["steps"][-1]["why"] == "Stopped by an operator."
    assert "WHY" in run("jobs", "show", job["id"]).stdout


def test_a_sample_that_is_not_valid_is_named_with_the_element(run, tmp_path):
    file = tmp_path / "sample.json"
    file.write_bytes(orjson.dumps({**creatinine("p1"), "status": "bogus"}))

    done = run("route", "explain", "--route", "ckd-risk", "--sample", str(file), code=1)

    assert f"{file}: Observation.status:" in done.stderr
