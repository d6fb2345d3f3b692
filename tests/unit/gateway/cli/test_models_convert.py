"""`nadi models convert`: what it writes, says, refuses."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from typer.testing import CliRunner

from gateway.cli.main import app
from models.onnx_engine import OnnxEngine
from tests.tflite_models import expected, int8_model
from tests.toy_models import case_of, numbers, toy_model

RECORDED = Path(__file__).parents[3] / "data" / "tf2onnx"
X = np.random.default_rng(0).uniform(-2, 2, (6, 4)).astype(np.float32)


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")

    def invoke(*arguments, code=0):
        done = CliRunner().invoke(app, ["models", "convert", *map(str, arguments)])
        assert done.exit_code == code, (done.output, done.stderr, done.exception)
        return done

    return invoke


@pytest.fixture
def model(tmp_path):
    return Path(shutil.copy(RECORDED / "int8.tflite", tmp_path))


def test_a_model_that_answers_alike_is_written_beside_its_original(run, model):
    said = run(model, "--converted", RECORDED / "int8.onnx").stdout

    answer = OnnxEngine(model.with_suffix(".onnx"), "probability", exact_int8=True).run(
        {"features": X}, timeout_s=10
    )
    np.testing.assert_allclose(answer, expected(X), atol=0.02)
    assert "the same answers to 128 cases" in said


def test_known_cases_are_asked_too(run, model, tmp_path):
    np.savez(tmp_path / "cases.npz", features=X, truth=np.ones(6))
    toy_model(
        tmp_path / "toy",
        int8_model(),
        [case_of(row.tolist(), float(expected(row[None])[0, 0])) for row in X[:2]],
        kind="tflite-int8",
        tables=numbers(),
    )

    options = ("--converted", RECORDED / "int8.onnx", "--json")
    beside = run(tmp_path / "toy" / "model.tflite", *options)
    with_data = run(model, *options, "--data", tmp_path / "cases.npz")

    assert json.loads(beside.stdout)["cases"] == 128 + 2
    assert json.loads(with_data.stdout)["cases"] == 128 + 6


def test_a_model_that_answers_otherwise_is_not_written(run, model):
    other = onnx.load(RECORDED / "int8.onnx")
    for each in other.graph.initializer:
        if len(each.dims) == 2:
            each.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(each), each.name))
    onnx.save(other, model.parent / "other.onnx")

    done = run(model, "--converted", model.parent / "other.onnx", code=1)

    assert "away from its original" in done.stderr
    assert not model.with_suffix(".onnx").exists()


def test_nothing_is_overwritten_unasked(run, model):
    target = model.with_suffix(".onnx")
    target.write_bytes(b"mine")
    options = (model, "--converted", RECORDED / "int8.onnx")

    assert "already there" in run(*options, code=1).stderr
    assert target.read_bytes() == b"mine"
    run(*options, "--force")
    assert target.read_bytes() != b"mine"


def test_what_is_missing_is_said_in_one_line(run, model, tmp_path):
    np.savez(tmp_path / "cases.npz", other=X)

    converted = ("--converted", RECORDED / "int8.onnx")
    assert "No such file" in run(model, "--converted", tmp_path / "none", code=1).stderr
    assert "LiteRT can't load" in run(tmp_path / "none.tflite", *converted, code=1).stderr
    assert "no output risk" in run(model, *converted, "--output", "risk", code=1).stderr
    assert (
        "there is no array 'features'"
        in run(model, *converted, "--data", tmp_path / "cases.npz", code=1).stderr
    )
    assert "can't be run" in run(model, "--python", tmp_path / "none", code=1).stderr
