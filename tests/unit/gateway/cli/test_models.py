"""`nadi models` on a data folder with nothing running: from a key to a retired model."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from gateway.cli.context import Opened
from gateway.cli.main import app
from gateway.cli.prepare import prepare_data
from gateway.cli.site import put_in_force
from gateway.core.jobs import BusinessStatus, JobState
from gateway.settings import Settings
from gateway.store.jobs import JobFilter
from models.registry import REFERENCE_MODELS, load
from tests.commands import Run
from tests.installation import Installation, consent, creatinine, installation
from tests.odd_networks import external_networks
from tests.packages import PUBLIC_KEY, STRANGER, files, folder_of, sealed, with_weights

COMMAND = ("models",)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation whose site trusts the makers of the packages."""
    folder = tmp_path_factory.mktemp("template") / "nadi"
    with installation(folder) as made:
        trust_the_makers(made)
    return folder


def trust_the_makers(made: Installation) -> None:
    with made.store.read() as uow:
        current = uow.sites.current()
    assert current is not None
    rules = f'models:\n  signers:\n    - {{name: the-makers, key: "{PUBLIC_KEY}"}}\n'
    put_in_force(Opened(made.settings, made.keys, made.store), current.yaml + rules, "sandbox")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A newer version of ckd-risk, by the makers."""
    return sealed(files(version="1.1.0"), tmp_path / "ckd-risk-1.1.0.nadi.zip")


def alone(*arguments: str, code: int = 0) -> Result:
    """Run a command where no installation is."""
    done = CliRunner().invoke(app, ["models", *arguments])
    assert done.exit_code == code, (done.output, done.stderr, done.exception)
    return done


def states(run: Run) -> dict[tuple[str, str], str]:
    rows = json.loads(run("list", "--json").stdout)
    return {(row["name"], row["version"]): row["state"] for row in rows}


# --- on the maker's machine -----------------------------------------------------------------


def test_a_maker_goes_from_a_key_to_a_package_that_verifies(tmp_path: Path) -> None:
    folder = folder_of(files(), tmp_path / "model")
    secret, out = str(tmp_path / "maker.pem"), str(tmp_path / "a.nadi.zip")

    made = json.loads(alone("key", "new", secret, "--json").stdout)
    packed = json.loads(alone("pack", str(folder), "--key", secret, "--out", out, "--json").stdout)
    verified = alone("verify", out, "--signer", f"{secret}.pub")

    assert made["key"].startswith("ed25519:")
    assert packed == {
        "file": out,
        "model": "ckd-risk@1.0.0",
        "digest": load(folder).digest,
    }
    assert verified.stdout.count("✓") == 8
    assert packed["digest"] in verified.stdout
    told = json.loads(alone("verify", out, "--signer", made["key"], "--json").stdout)
    assert told["verified"]
    assert [check["check"] for check in told["checks"]][-1] == "network"


def test_a_package_goes_into_the_folder_one_is_in_and_is_named_after_its_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    alone("key", "new", "maker.pem")
    folder_of(files(version="2.0.1"), tmp_path / "model")

    shown = alone("pack", "model", "--key", "maker.pem").stdout

    assert (tmp_path / "ckd-risk-2.0.1.nadi.zip").exists()
    assert "ckd-risk@2.0.1" in shown


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    secret = str(tmp_path / "maker.pem")
    assert "public key" in alone("key", "new", secret).stdout

    assert "can't be written" in alone("key", "new", secret, code=1).stderr


def test_a_folder_that_a_gateway_would_refuse_is_not_packed(tmp_path: Path) -> None:
    alone("key", "new", str(tmp_path / "maker.pem"))
    folder = folder_of(files(card_md=b"\xff"), tmp_path / "model")

    def refused(what: Path, key: str = "maker.pem") -> str:
        return alone("pack", str(what), "--key", str(tmp_path / key), code=1).stderr

    assert "card.md is not UTF-8 text" in refused(folder)
    assert "manifest.toml can't be read" in refused(folder_of({}, tmp_path / "empty"))
    assert "nowhere.pem can't be read" in refused(folder, "nowhere.pem")


def test_nobody_is_trusted_where_no_site_says_so(package: Path, tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nowhere")

    shown = alone("verify", str(package), "--data-dir", nowhere, code=1)

    assert "✓ archive" in shown.stdout
    assert "✗ signature" in shown.stderr
    assert PUBLIC_KEY in shown.stderr
    assert not (tmp_path / "nowhere").exists()


def test_a_signer_that_is_no_key_is_wrong_usage(package: Path) -> None:
    assert "not a public key" in alone("verify", str(package), "--signer", "x", code=2).stderr


def test_the_reference_models_are_listed_where_nothing_is_installed(tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nowhere")

    rows = json.loads(alone("list", "--json", "--data-dir", nowhere).stdout)
    shown = alone("show", "ckd-risk", "--data-dir", nowhere).stdout

    assert {row["state"] for row in rows} == {"unregistered"}
    assert "creatinine" in shown
    assert "auroc" in shown
    assert str(REFERENCE_MODELS / "ckd-risk" / "card.md") in shown


def test_a_model_of_images_is_shown_with_all_that_decides_which_are_taken(tmp_path: Path) -> None:
    shown = alone("show", "chest-xray-pneumonia", "--data-dir", str(tmp_path / "nowhere")).stdout
    image = load(REFERENCE_MODELS / "chest-xray-pneumonia").manifest.image
    assert image is not None

    assert f"Body part: {', '.join(image.body_parts)}" in shown
    assert f"Views: {', '.join(image.views) or 'any'}" in shown
    assert "If no record says which modality or body part it is: it is" in shown
    assert "1 channel, " in shown
    assert "Gate, loss: " in shown


# --- on the hospital's machine --------------------------------------------------------------


def test_what_came_with_nadi_is_registered_by_the_first_start(run: Run) -> None:
    assert states(run)["ckd-risk", "1.0.0"] == "active"
    assert "built-in" in run("list").stdout


def test_a_package_is_verified_imported_and_shown(run: Run, package: Path) -> None:
    assert "by the-makers" in run("verify", str(package)).stdout

    imported = run("import", str(package)).stdout

    assert "Intended use" in imported
    assert "Demonstration only" in imported
    assert "Route ckd-risk runs ckd-risk@1.1.0 from now on." in imported
    assert states(run)["ckd-risk", "1.1.0"] == "active"
    shown = json.loads(run("show", "ckd-risk@1", "--json").stdout)
    assert (shown["version"], shown["signer"]) == ("1.1.0", "the-makers")
    assert shown["signer_key"] == PUBLIC_KEY


def test_importing_again_changes_nothing(run: Run, package: Path, nadi: Installation) -> None:
    first = json.loads(run("import", str(package), "--json").stdout)

    again = json.loads(run("import", str(package), "--json").stdout)

    assert (first["is_new"], again["is_new"]) == (True, False)
    assert first["registered_at"] == again["registered_at"]
    assert first["routes"] == {"ckd-risk": "ckd-risk@1.1.0"}
    assert [each.name for each in (nadi.folder / "models").iterdir() if each.is_dir()] == [
        first["digest"]
    ]


def test_an_older_version_does_not_take_over(run: Run, package: Path, tmp_path: Path) -> None:
    run("import", str(package))

    shown = run("import", str(sealed(files(version="1.0.7"), tmp_path / "older.zip"))).stdout

    assert "Route ckd-risk runs ckd-risk@1.1.0 from now on." in shown


def test_a_model_that_no_route_names_is_told_how_to_be_used(run: Run, tmp_path: Path) -> None:
    shown = run("import", str(sealed(files(version="2.0.0"), tmp_path / "a.zip"))).stdout

    assert "give one `model: ckd-risk@2`" in shown


def test_an_import_lies_on_disk_as_it_was_packed(
    run: Run, package: Path, nadi: Installation
) -> None:
    digest = json.loads(run("import", str(package), "--json").stdout)["digest"]
    folder = nadi.folder / "models" / digest

    assert load(folder).digest == digest
    assert {name: (folder / name).read_bytes() for name in files()} == files(version="1.1.0")


def refusals(tmp_path: Path) -> dict[str, tuple[Path, str]]:
    """Give packages that must be refused, each with what has to be said."""
    flipped = with_weights(files()["model.onnx"])
    flipped["model.onnx"] = flipped["model.onnx"][:-1] + bytes([flipped["model.onnx"][-1] ^ 1])
    outside = with_weights(external_networks()["initializer"])
    return {
        "flipped": (sealed(flipped, tmp_path / "1.zip"), "model.onnx is not the file whose"),
        "stranger": (sealed(files(), tmp_path / "2.zip", STRANGER), "not on the list of signers"),
        "outside": (sealed(outside, tmp_path / "3.zip"), "lies in another file"),
    }


def test_what_must_not_be_imported_is_refused_and_leaves_nothing(
    run: Run, nadi: Installation, tmp_path: Path
) -> None:
    for file, said in refusals(tmp_path).values():
        assert said in run("import", str(file), code=1).stderr
        assert said in run("verify", str(file), code=1).stderr

    assert not (nadi.folder / "models").exists()
    assert len(states(run)) == len(list(REFERENCE_MODELS.glob("*/manifest.toml")))


def test_a_model_that_answers_otherwise_here_is_not_registered(
    run: Run, nadi: Installation, tmp_path: Path
) -> None:
    content = files(version="1.1.0")
    golden = json.loads(content["golden.json"])
    golden["cases"][0]["expected"] = [0.99]
    content["golden.json"] = json.dumps(golden).encode()

    refused = run("import", str(sealed(content, tmp_path / "a.zip")), code=1)

    assert "answers its golden cases differently on this machine" in refused.stderr
    assert ("ckd-risk", "1.1.0") not in states(run)
    assert [each.name for each in (nadi.folder / "models").iterdir()] == [".lock"]


def test_another_content_of_a_version_is_refused_before_it_is_written(
    run: Run, nadi: Installation, tmp_path: Path
) -> None:
    same = sealed(files(card_md=b"# Another card"), tmp_path / "a.zip")

    refused = run("import", str(same), code=1)

    assert "A version means one content" in refused.stderr
    assert not (nadi.folder / "models").exists()


def test_verifying_says_what_the_register_says(run: Run, package: Path) -> None:
    assert "✓ register: not on this installation" in run("verify", str(package)).stdout
    run("import", str(package))
    assert "✓ register: in service here already" in run("verify", str(package)).stdout
    run("retire", "ckd-risk@1.1.0", "--reason", "Recalled by its maker.")

    refused = run("verify", str(package), code=1)

    assert "✗ register: " in refused.stderr
    assert "Recalled by its maker" in refused.stderr


def test_an_import_and_a_look_tell_what_the_gate_allowed_and_what_was_measured(
    run: Run, package: Path
) -> None:
    imported = " ".join(run("import", str(package)).stdout.split())
    shown = " ".join(run("show", "ckd-risk@1.1.0").stdout.split())

    for told in (imported, shown):
        assert "at most 0.0020 with 95% confidence; allowed 0.005" in told
        assert "Gate, cases: 400, split test" in told


def test_a_retired_model_is_told_apart_and_never_comes_back(run: Run, package: Path) -> None:
    run("import", str(package))

    done = run("retire", "ckd-risk@1.1.0", "--reason", "Drift in\n ward 3.").stdout

    assert "Route ckd-risk runs ckd-risk@1.0.0 from now on." in done
    assert states(run)["ckd-risk", "1.1.0"] == "retired"
    assert "1.1.0" not in run("list").stdout
    assert "retired" in run("list", "--all").stdout
    shown = run("show", "ckd-risk@1.1.0").stdout
    assert "Drift in ward 3." in shown
    assert "never runs again" in run("import", str(package), code=1).stderr
    assert "retired before" in run("retire", "ckd-risk@1.1.0", "--reason", "x", code=1).stderr


def test_a_retired_model_stops_its_queue_and_leaves_its_routes_without_a_model(
    run: Run, nadi: Installation
) -> None:
    nadi.receive(consent("p1"))
    nadi.receive(creatinine("p1"))
    with nadi.store.write() as uow:
        # the installation of the tests admits under a digest of its own
        (digest,) = [each[2] for each in uow.models.in_service() if each[0] == "ckd-risk"]
        uow.connection.exec_driver_sql("update jobs set model_digest = ?", (digest,))

    done = json.loads(run("retire", "ckd-risk@1.0.0", "--reason", "Recalled.", "--json").stdout)

    assert done["stopped"] == 1
    assert done["routes"] == {"ckd-risk": None}
    with nadi.store.read() as uow:
        (job,) = uow.jobs.find(JobFilter())
    assert (job.state, job.business_status) == (
        JobState.CANCELLED,
        BusinessStatus.MODEL_RETIRED,
    )
    assert job.reason == "Model ckd-risk@1 was retired: Recalled."


def test_what_was_retired_stays_so_when_nadi_starts_again(run: Run, nadi: Installation) -> None:
    run("retire", "ckd-risk@1.0.0", "--reason", "Recalled.")

    prepare_data(Settings(data_dir=nadi.folder), sandbox=False)

    assert states(run)["ckd-risk", "1.0.0"] == "retired"


def test_a_list_that_is_empty_says_whether_there_are_retired_models(run: Run) -> None:
    for name, version in states(run):
        run("retire", f"{name}@{version}", "--reason", "Recalled.")

    assert run("list").stdout == "All models are retired; --all shows them.\n"


def test_the_greatest_age_of_an_input_is_told_in_whole_days_or_in_hours(run: Run) -> None:
    assert "90 days old" in run("show", "ckd-risk").stdout
    assert "1 hour old" in run("show", "news2").stdout


@pytest.mark.parametrize("wanted", ["ckd-risk", "nope@1.0.0", "ckd-risk@1", "abcdef01"])
def test_only_a_whole_name_or_a_digest_is_retired(run: Run, wanted: str) -> None:
    refused = run("retire", wanted, "--reason", "x", code=1)

    assert f"No registered model is {wanted}" in refused.stderr


def test_retiring_needs_a_reason(run: Run) -> None:
    assert "Say why" in run("retire", "ckd-risk@1.0.0", "--reason", "  ", code=2).stderr


def test_files_that_were_changed_or_are_gone_are_told_apart(
    run: Run, package: Path, nadi: Installation
) -> None:
    digest = json.loads(run("import", str(package), "--json").stdout)["digest"]
    folder = nadi.folder / "models" / digest

    with (folder / "card.md").open("ab") as card:
        card.write(b"More.")
    assert states(run)["ckd-risk", "1.1.0"] == "altered"
    assert "was changed since it was imported" in run("list").stderr

    shutil.rmtree(folder)
    assert states(run)["ckd-risk", "1.1.0"] == "unusable"

    run("import", str(package))
    assert states(run)["ckd-risk", "1.1.0"] == "active"


def test_a_model_after_its_last_day_is_shown_as_expired(run: Run, nadi: Installation) -> None:
    with nadi.store.write() as uow:
        uow.connection.exec_driver_sql("update models set not_after = '2020-01-01'")

    assert set(states(run).values()) == {"expired"}


def test_two_imports_at_once_register_one_model(
    nadi: Installation, package: Path, run: Run
) -> None:
    command = [sys.executable, "-m", "gateway.cli.main", "models", "import", str(package)]
    command += ["--data-dir", str(nadi.folder), "--json"]

    importing = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    told = [json.loads(each.communicate(timeout=120)[0]) for each in importing]

    assert [each.returncode for each in importing] == [0, 0]
    assert sorted(each["is_new"] for each in told) == [False, True]
    assert states(run)["ckd-risk", "1.1.0"] == "active"
    folders = [each for each in (nadi.folder / "models").iterdir() if each.is_dir()]
    assert len(folders) == 1
    with nadi.store.read() as uow:
        assert [line.card.version for line in uow.models.lines()].count("1.1.0") == 1


def test_the_audit_log_says_who_registered_and_retired_what(
    run: Run, package: Path, nadi: Installation
) -> None:
    run("import", str(package))
    run("retire", "ckd-risk@1.1.0", "--reason", "Recalled.")

    shown = CliRunner().invoke(app, ["audit", "list", "--data-dir", str(nadi.folder)]).stdout

    assert "model ckd-risk@1.1.0" in shown
    assert "Recalled." in shown
    nadi.integrate()
    verified = CliRunner().invoke(app, ["audit", "verify", "--data-dir", str(nadi.folder)])
    assert verified.exit_code == 0, verified.output


def test_a_model_that_the_folder_of_the_administrator_brings_anew_takes_the_place_of_the_old(
    nadi: Installation, tmp_path: Path
) -> None:
    folder = shutil.copytree(REFERENCE_MODELS / "ckd-risk", tmp_path / "brought" / "ckd-risk")
    (folder / "card.md").write_text("# Another card\n", encoding="utf-8")

    prepare_data(Settings(data_dir=nadi.folder, models_dir=tmp_path / "brought"), sandbox=False)

    with nadi.store.read() as uow:
        lines = [line for line in uow.models.lines() if line.card.name == "ckd-risk"]
    assert sorted(line.state for line in lines) == ["active", "retired"]
    (old,) = [line for line in lines if line.state == "retired"]
    assert old.reason.startswith("Replaced by")


def test_a_broken_folder_is_warned_of_and_hides_no_other(
    nadi: Installation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    brought = tmp_path / "brought"
    shutil.copytree(REFERENCE_MODELS / "news2", brought / "good")
    for name, version in {"altered": "2.0.0", "broken": "4.0.0"}.items():
        folder_of(files(version=version), brought / name)
    (brought / "altered" / "model.onnx").write_bytes(b"x")
    (brought / "broken" / "manifest.toml").write_text("name = ")

    prepare_data(Settings(data_dir=nadi.folder, models_dir=brought), sandbox=False)

    warned = capsys.readouterr().err
    assert warned.count("Not registered") == 2
    with nadi.store.read() as uow:
        assert {version for _, version, _ in uow.models.in_service()} == {"1.0.0"}
