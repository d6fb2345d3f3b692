"""What the container files name exists in the code."""

import importlib.util
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from gateway.cli.main import NOUNS, load
from gateway.cli.processes import children
from gateway.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = YAML(typ="safe").load((ROOT / "docker-compose.yml").read_text("utf-8"))
SERVICES = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
OURS = {name for name, service in SERVICES.items() if service.get("image", "").startswith("nadi:")}
VARIABLES = {f"NADI_{name.upper()}" for name in Settings.model_fields}


def _commands(service: dict) -> list[list[str]]:
    commands = [service["command"]]
    if "healthcheck" in service:
        kind, *check = service["healthcheck"]["test"]
        assert kind == "CMD"
        commands.append(check)
    return [[str(word) for word in command] for command in commands]


def test_every_service_the_issue_asks_for_is_there():
    assert {"postgres", "redis", "gateway", "relay", "infer", "deliver", "ehr"} <= SERVICES.keys()
    assert {"gateway", "relay", "infer", "deliver", "mllp", "prepare"} == OURS


@pytest.mark.parametrize("name", sorted(OURS))
def test_every_command_of_ours_exists(name):
    for command in _commands(SERVICES[name]):
        if command[:2] == ["python", "-m"]:
            assert importlib.util.find_spec(command[2]), command[2]
        else:
            assert command[0] == "nadi"
            assert command[1] in NOUNS
            assert load(command[1])


@pytest.mark.parametrize("name", ["infer", "deliver"])
def test_workers_run_in_containers_as_nadi_up_runs_them(name):
    embedded = {child.name: child for child in children(Settings(), sandbox=False)}

    contained = _commands(SERVICES[name])[0]

    assert contained[1:] == list(embedded[name].command[1:])


@pytest.mark.parametrize("name", sorted(OURS))
def test_every_variable_of_ours_is_a_setting(name):
    given = {key for key in SERVICES[name]["environment"] if key.startswith("NADI_")}

    assert given <= VARIABLES
    Settings(**{key.removeprefix("NADI_").lower(): v for key, v in _plain(name).items()})


def _plain(name: str) -> dict[str, str]:
    return {k: v for k, v in SERVICES[name]["environment"].items() if k.startswith("NADI_")}


def test_every_variable_of_the_image_is_a_setting():
    assert set(re.findall(r"\bNADI_[A-Z_]+", DOCKERFILE)) <= VARIABLES


@pytest.mark.parametrize("name", sorted(OURS))
def test_every_process_of_ours_is_confined(name):
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["tmpfs"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert "healthcheck" in service or name == "prepare"


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_image_is_pinned_to_a_version(name):
    assert re.search(r":v?\d+(\.\d+)*", SERVICES[name]["image"])


def test_secrets_come_from_files_and_none_stands_in_the_file():
    assert all(set(secret) == {"file"} for secret in COMPOSE["secrets"].values())
    for name, service in SERVICES.items():
        for key, value in service.get("environment", {}).items():
            is_secret = re.search(r"PASSWORD|KEY|TOKEN|SECRET", key)
            assert not is_secret or str(value).startswith("/run/secrets/"), (name, key)
        assert set(service.get("secrets", [])) <= COMPOSE["secrets"].keys()


def test_the_script_makes_every_secret_that_is_mounted():
    script = (ROOT / "docker" / "make-secrets.sh").read_text("utf-8")

    for secret in COMPOSE["secrets"].values():
        assert Path(secret["file"]).name in script


def test_the_image_holds_every_package_of_the_wheel_and_runs_as_nobody_special():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()

    for package in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        assert f"COPY {package} {package}" in DOCKERFILE
        assert f"!{package}" in ignored
    assert "\nUSER 10001:10001\n" in DOCKERFILE


def test_compose_itself_accepts_the_file(tmp_path):
    compose = _compose_program()
    if compose is None:
        pytest.skip("neither `docker compose` nor `docker-compose` is on this machine")
    shutil.copy(ROOT / "docker-compose.yml", tmp_path)

    checked = subprocess.run(
        [*compose, "config", "--quiet"], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert checked.returncode == 0, checked.stderr


def _compose_program() -> list[str] | None:
    for program in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(program[0]):
            found = subprocess.run([*program, "version"], capture_output=True, check=False)
            if found.returncode == 0:
                return program
    return None
