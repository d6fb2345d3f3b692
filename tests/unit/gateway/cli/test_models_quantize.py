"""`nadi models quantize` on small networks: what it writes, says, refuses."""

import json
import tomllib

import numpy as np
import pytest
from typer.testing import CliRunner

from gateway.cli.main import app
from models.checksums import sha256
from models.runtime import open_session
from tests import networks
from tests.quantizing import written


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")

    def invoke(*arguments, code=0):
        done = CliRunner().invoke(app, ["models", "quantize", *map(str, arguments)])
        assert done.exit_code == code, (done.output, done.stderr, done.exception)
        return done

    return invoke


@pytest.fixture
def files(tmp_path):
    return written(tmp_path, networks.dense())


def refused(run, *arguments, code=1):
    """The one line that says why."""
    done = run(*arguments, code=code)
    assert done.stdout == ""
    (line,) = done.stderr.strip().splitlines()
    return line


def test_a_folder_is_quantized_from_end_to_end(run, tmp_path):
    model, data = written(tmp_path, networks.dense())
    model.rename(tmp_path / "model.fp32.onnx")
    data.rename(tmp_path / "evaluation.npz")
    (tmp_path / "manifest.toml").write_text('name = "mine"\n[gate]\nmetric = "auroc"\n')
    picture = tmp_path / "choice.png"

    done = run(tmp_path, "--try", "static-minmax,weights-int4", "--picture", picture)

    report = json.loads((tmp_path / "model.quantization.json").read_bytes())
    weights = (tmp_path / "model.onnx").read_bytes()
    chosen = next(each for each in report["candidates"] if each["name"] == report["chosen"])
    assert [each["name"] for each in report["candidates"][:3]] == [
        "fp32",
        "static-minmax",
        "weights-int4",
    ]
    assert chosen["passes"]
    assert chosen["sha256"] == sha256(weights)
    assert open_session(weights, exact_int8=True).run(None, networks.features(3))[0].shape == (3, 1)
    assert picture.read_bytes().startswith(b"\x89PNG")
    for each in report["candidates"]:
        assert each["name"] in done.stdout
    assert "★" in done.stdout
    assert f"{report['chosen']} is kept" in done.stdout
    lines = done.stdout[done.stdout.index("[weights]") :]
    assert tomllib.loads(lines)["weights"]["sha256"] == chosen["sha256"]


def test_json_is_the_report_and_files_that_are_there_are_safe(run, files):
    model, data = files
    asked = ("--model", model, "--data", data, "--metric", "auroc", "--try", "weights-int4")

    done = run(*asked, "--json", "--budget", 0)
    before = (model.parent / "mine.quantized.onnx").read_bytes()
    line = refused(run, *asked)

    assert json.loads(done.stdout)["chosen"] == "fp32"
    assert json.loads((model.parent / "mine.quantized.quantization.json").read_bytes()) == (
        json.loads(done.stdout)
    )
    assert before == model.read_bytes()
    assert "mine.quantized.onnx" in line
    assert "overwrite with --force" in line
    assert (model.parent / "mine.quantized.onnx").read_bytes() == before


def test_too_few_cases_end_with_nothing_kept(run, tmp_path):
    model, data = written(tmp_path, networks.dense(), cases=40)

    done = run(
        "--model", model, "--data", data, "--metric", "auroc", "--try", "weights-int4", code=1
    )

    assert "The evaluation set is too small" in done.stdout
    assert "No form passes, so none was kept" in done.stderr
    assert not (tmp_path / "mine.quantized.onnx").exists()
    assert (
        json.loads((tmp_path / "mine.quantized.quantization.json").read_bytes())["chosen"] is None
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"--model": None}, "No model is named"),
        ({"--data": None}, "No evaluation set is named"),
        ({"--metric": None}, "No metric is named"),
        ({"--model": "nowhere.onnx"}, "nowhere.onnx can't be read: No such file"),
        ({"--data": "nowhere.npz"}, "nowhere.npz can't be read: No such file"),
        ({"--qat": "nowhere.onnx"}, "nowhere.onnx: No such file"),
        ({"--picture": "nowhere/p.png"}, "there is no folder nowhere"),
    ],
    ids=lambda change: next(iter(change)) if isinstance(change, dict) else "",
)
def test_what_is_missing_is_said_in_one_line(run, files, change, says):
    asked = {"--model": files[0], "--data": files[1], "--metric": "auroc"} | change

    line = refused(run, *(word for each in asked.items() if each[1] for word in each))

    assert says in line


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--try", "static-minmax,magic", "'magic' is none of all, dynamic, static-minmax"),
        ("--metric", "sharpness", "'sharpness' is none of auroc, accuracy"),
        ("--max-loss", "0", "must be above 0"),
        ("--picture", "p.gif", "must end in .png or .svg"),
    ],
)
def test_a_wrong_option_is_named(run, files, option, value, says):
    asked = {"--model": files[0], "--data": files[1], "--metric": "auroc", option: value}

    line = refused(run, *(word for each in asked.items() for word in each), code=2)

    assert line.startswith(f"✗ {option}")
    assert says in line


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"truth": np.full(400, np.nan)}, "mine.npz: truth must be numbers"),
        ({"features": np.zeros((400, 3), np.float32)}, "mine.npz: features has the shape"),
    ],
    ids=["truth", "shape"],
)
def test_cases_that_do_not_fit_are_refused_before_any_work(run, tmp_path, arrays, says):
    model, data = written(tmp_path, networks.dense(), **arrays)

    assert says in refused(run, "--model", model, "--data", data, "--metric", "auroc")


def test_the_original_is_never_overwritten(run, files):
    model, data = files

    line = refused(
        run, "--model", model, "--data", data, "--metric", "auroc", "--out", model, "--force"
    )

    assert "is the fp32 network itself" in line


def test_help_names_what_it_does(run):
    assert "keep the best that the gate accepts" in run("--help").stdout
