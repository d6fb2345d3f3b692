"""`nadi models evaluate`: what it says, what it writes, how it ends."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from gateway.cli.main import app
from tests.saturating import model_folder


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")

    def invoke(*arguments, code=0):
        done = CliRunner().invoke(app, ["models", "evaluate", *map(str, arguments)])
        assert done.exit_code == code, (done.output, done.stderr, done.exception)
        return done

    return invoke


def test_an_accepted_model_gets_its_report(run, tmp_path):
    folder = model_folder(tmp_path / "toy", capped=False, weight=64)

    said = run(folder).stdout

    report = json.loads((folder / "evaluation.json").read_bytes())
    assert report["accepted"] is True
    assert "✓ accepted" in said
    assert "age: 80 and over not judged: 12 patients" in said
    assert "avx2: the same as vnni, as the weights prove" in said


def test_a_refused_model_ends_with_its_reasons_and_code_1(run, tmp_path):
    folder = model_folder(tmp_path / "toy", capped=False)

    done = run(folder, "--data", folder / "evaluation.npz", code=1)

    assert "✗ avx2, all: accuracy may lose up to 0." in done.stdout
    assert "toy@1.0.0 is refused" in done.stderr
    assert json.loads((folder / "evaluation.json").read_bytes())["accepted"] is False


def test_json_is_the_report_and_nothing_else(run, tmp_path):
    folder = model_folder(tmp_path / "toy", capped=False, weight=64)
    target = tmp_path / "elsewhere.json"

    said = run(folder, "--json", "--out", target).stdout

    assert json.loads(said) == json.loads(target.read_bytes())
    assert not (folder / "evaluation.json").exists()


def split(folder, *names):
    arrays = dict(np.load(folder / "evaluation.npz"))
    parts = np.array(names)[np.arange(len(arrays["truth"])) % len(names)]
    np.savez_compressed(folder / "evaluation.npz", **arrays, split=parts)


@pytest.mark.parametrize(
    ("names", "options", "expected"),
    [
        (["train", "test"], [], "test"),
        (["train", "validation"], [], "validation"),
        (["train", "test"], ["--split", "train"], "train"),
    ],
)
def test_the_part_to_judge_on_is_the_test_set_unless_another_is_named(
    run, tmp_path, names, options, expected
):
    folder = model_folder(tmp_path / "toy", capped=False, weight=64)
    split(folder, *names)

    said = json.loads(run(folder, "--json", *options).stdout)

    assert said["split"] == expected
    assert said["comparisons"][0]["cases"] == 400


def test_a_part_that_is_not_there_is_named(run, tmp_path):
    folder = model_folder(tmp_path / "toy", capped=False, weight=64)
    split(folder, "train", "other")

    assert "name one of other, train with --split" in run(folder, code=1).stderr
    assert "no case belongs to the split test" in run(folder, "--split", "test", code=1).stderr


def test_what_can_not_be_judged_is_said_in_one_line(run, tmp_path):
    folder = model_folder(tmp_path / "toy", capped=False)
    (folder / "fp32.onnx").write_bytes(b"changed")

    assert "fp32.onnx is not the file" in run(folder, code=1).stderr
    assert "No such file" in run(tmp_path / "nowhere", code=1).stderr
    assert "not an .npz" in run(folder, "--data", folder / "card.md", code=1).stderr


def test_a_folder_without_its_evaluation_set_says_where_to_put_or_name_it(run, tmp_path):
    folder = model_folder(tmp_path / "toy", capped=False, weight=64)
    (folder / "evaluation.npz").unlink()

    told = run(folder, code=1).stderr.replace("\n", "")

    assert "evaluation.npz is not there" in told
    assert "--data FILE" in told


def test_a_report_that_is_there_is_overwritten_only_when_asked(run, tmp_path):
    folder = model_folder(tmp_path / "toy", capped=False, weight=64)
    (folder / "evaluation.json").write_text("{}")

    refused = run(folder, code=1).stderr.replace("\n", "")
    assert "already there. Name another with --out, or overwrite with --force." in refused
    assert (folder / "evaluation.json").read_text() == "{}"
    run(folder, "--force")
    assert json.loads((folder / "evaluation.json").read_bytes())["accepted"] is True


def test_a_split_the_model_was_fitted_to_is_looked_at_but_makes_no_report(run, tmp_path):
    folder = model_folder(tmp_path / "toy", capped=False, weight=64)
    split(folder, "calibration", "test")

    done = run(folder, "--split", "calibration")

    assert "✓ accepted" in done.stdout
    assert "This is no report for a package: the split calibration" in done.stderr
    assert "no report" not in run(folder, "--force").stderr


def test_a_manifest_that_allows_too_much_for_a_package_is_told_so(run, tmp_path):
    folder = model_folder(tmp_path / "toy", capped=False, weight=64)

    said = run(folder).stderr

    assert "No package is made with this manifest: weights.tolerance is 1" in said
