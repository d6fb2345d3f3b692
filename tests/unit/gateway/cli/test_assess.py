"""`nadi assess` measures what is installed and says, also by its exit code, what can be served."""

import json
import re
import shutil
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from gateway.cli.assess import Assessment
from gateway.cli.main import app
from gateway.cli.probe import Probe, event_ms
from models.registry import REFERENCE_MODELS
from tests.unit.gateway.cli.test_capacity import OLD


@pytest.fixture
def models(tmp_path, monkeypatch):
    folder = tmp_path / "models"
    shutil.copytree(REFERENCE_MODELS / "ckd-risk", folder / "ckd-risk")
    monkeypatch.setenv("NADI_MODELS_DIR", str(folder))
    return folder


def assessed(tmp_path, *options):
    return CliRunner().invoke(app, ["assess", "--data-dir", str(tmp_path / "data"), *options])


@pytest.mark.usefixtures("models")
def test_this_machine_serves_a_small_model_for_a_small_hospital(tmp_path):
    shown = assessed(tmp_path, "--json", "--events-per-hour", "10")

    found = json.loads(shown.stdout)
    (model,) = found["models"]
    assert (shown.exit_code, found["enough"]) == (0, True)
    assert model["name"] == "ckd-risk@1.0.0"
    assert model["alone_ms"] > 0
    assert model["memory_bytes"] > 0
    assert model["events_per_hour"] >= 10
    assert found["settings"]["NADI_INFER_THREADS"] == str(found["machine"]["cores"])


@pytest.mark.usefixtures("models")
def test_more_than_any_machine_can_serve_is_not_enough(tmp_path):
    shown = assessed(tmp_path, "--beds", "100000000")

    assert shown.exit_code == 1
    assert "Not enough" in shown.stdout
    assert "Wanted are" in shown.stdout


def test_what_is_assumed_left_out_or_disturbed_is_said(models, tmp_path):
    shutil.copytree(REFERENCE_MODELS / "chest-xray-pneumonia", models / "chest-xray-pneumonia")

    said = " ".join(assessed(tmp_path).stdout.split())

    assert "(100 beds, which is assumed; --beds says how many yours has)" in said
    assert "chest-xray-pneumonia@1.0.0: the figures leave out receiving, unsealing" in said
    reads = "chest-xray-pneumonia@1.0.0 reads a film of 3000 x 2500 pixels on one core: decoding "
    assert re.search(
        reads + r"DICOM \d+ ms, PNG \d+ ms, JPEG \d+ ms; checking and scaling \d+ ms", said
    )
    assert "reading its image up to" in said
    assert "Together the processors do the work of" in said
    assert "4.8 KiB" in said


@pytest.mark.parametrize(("load", "is_busy"), [(0.9, False), (1.1, True)])
def test_a_machine_is_busy_from_half_a_process_for_each_processor_on(load, is_busy):
    quiet = Assessment(replace(OLD, cores=2), Probe(0.2, 2.0), (), 10, load=load)

    assert quiet.is_busy is is_busy


def test_a_model_that_does_not_run_here_is_named_with_its_reason(models, tmp_path):
    weights = models / "ckd-risk" / "model.onnx"
    weights.write_bytes(weights.read_bytes() + b"x")

    shown = assessed(tmp_path, "--json", "--events-per-hour", "10")

    (model,) = json.loads(shown.stdout)["models"]
    assert shown.exit_code == 1
    assert "not the file its manifest was written for" in model["problem"]


@pytest.mark.usefixtures("models")
def test_a_model_that_is_not_installed_is_named(tmp_path):
    shown = assessed(tmp_path, "--model", "astrology")

    assert shown.exit_code == 1
    assert "Not installed: astrology" in shown.stderr


@pytest.mark.usefixtures("models")
def test_beds_and_events_together_are_wrong_usage(tmp_path):
    assert assessed(tmp_path, "--beds", "1", "--events-per-hour", "1").exit_code == 2


def test_the_probe_times_something():
    assert event_ms() > 0
