import json

import numpy as np
import pytest

from models.dataset import Dataset, read_dataset
from models.evaluate import EvaluationImpossible, answers, evaluate
from models.gate import Cases, judge
from models.manifest import Gate
from models.registry import load
from models.runtime import open_session
from models.task import Task
from tests.saturating import answered, cases, fp32_model, int8_model, model_folder
from tests.tflite_models import expected, float_model
from tests.tflite_models import int8_model as tflite_int8
from tests.toy_models import case_of, numbers, toy_model

GATE = Gate(metric="accuracy", max_loss=0.02)


def fp32_answers(x, *, capped):
    session = open_session(fp32_model(capped=capped), exact_int8=False)
    return session.run(["probability"], {"features": x})[0]


def verdict_on(int8, *, capped):
    x, truth = cases(800, capped=capped)
    asked = Cases(truth.astype(float), fp32_answers(x, capped=capped), {}, np.arange(len(x)))
    found = answers(int8, {"features": x}, "probability")
    return judge(GATE, Task("probability"), asked, found.scores), found


@pytest.mark.parametrize("capped", [True, False])
def test_the_networks_of_these_tests_are_what_they_are_said_to_be(capped):
    x, truth = cases(800, capped=capped)

    np.testing.assert_allclose(
        fp32_answers(x, capped=capped), answered(x, capped=capped), atol=1e-4
    )
    assert 0.3 < truth.mean() < 0.7


def test_a_model_that_only_exact_kernels_answer_rightly_is_refused():
    verdict, found = verdict_on(int8_model(capped=False), capped=False)

    assert not verdict.is_accepted
    assert all(reason.startswith("avx2, ") for reason in verdict.reasons)
    assert verdict.overall("vnni").is_within
    assert verdict.overall("avx2-exact").is_within
    assert found.methods == {"vnni": "run", "avx2-exact": "proved", "avx2": "emulated"}


def test_a_model_that_only_saturating_kernels_answer_rightly_is_refused():
    verdict, _ = verdict_on(int8_model(capped=True), capped=True)

    assert not verdict.is_accepted
    assert {reason.split(",")[0] for reason in verdict.reasons} == {"vnni", "avx2-exact"}
    assert verdict.overall("avx2").is_within


def test_weights_of_seven_bits_are_accepted_without_being_emulated():
    verdict, found = verdict_on(int8_model(capped=False, weight=64), capped=False)

    assert verdict.is_accepted
    assert found.methods == {"vnni": "run", "avx2-exact": "proved", "avx2": "proved"}
    assert found.scores["avx2"] is found.scores["vnni"]


def test_the_answers_do_not_depend_on_how_the_cases_are_parted():
    x, _ = cases(70, capped=False)

    together = answers(int8_model(capped=False), {"features": x}, "probability")
    alone = answers(int8_model(capped=False), {"features": x[66:67]}, "probability")

    for setting, scores in together.scores.items():
        np.testing.assert_allclose(scores[66:67], alone.scores[setting], atol=1e-6)


def evaluated(folder, **changed):
    return evaluate(load(folder), read_dataset(folder / "evaluation.npz"), **changed)


def test_a_model_is_judged_on_its_golden_cases_and_an_evaluation_set(tmp_path):
    folder = model_folder(tmp_path / "toy", capped=False, weight=64)

    report = evaluated(folder)

    assert report.is_accepted
    assert report.golden_gaps.keys() == {"vnni", "avx2-exact", "avx2"}
    assert max(report.golden_gaps.values()) < 1e-3
    groups = {each.group for each in report.verdict.comparisons}
    assert {"all", "sex: female", "sex: male", "age: 18 to 39", "age: 40 to 59"} <= groups
    assert [each.group for each in report.verdict.unjudged] == ["age: 80 and over"]
    said = json.loads(json.dumps(report.as_json()))
    assert (said["accepted"], said["report_version"]) == (True, 1)
    assert said["gate"]["metric"] == "accuracy"
    assert said["made_with"]["runtime"].startswith("onnxruntime 1.")


@pytest.mark.parametrize(("capped", "failing"), [(False, {"avx2"}), (True, {"vnni", "avx2-exact"})])
def test_a_model_that_fails_under_one_setting_is_refused_in_either_direction(
    tmp_path, capped, failing
):
    report = evaluated(model_folder(tmp_path / "toy", capped=capped))

    assert not report.is_accepted
    assert {reason.split(",")[0] for reason in report.reasons} == failing


def test_golden_cases_that_are_answered_otherwise_refuse_a_model(tmp_path):
    folder = model_folder(tmp_path / "toy", capped=False, weight=64)
    golden = json.loads((folder / "golden.json").read_text())
    golden["cases"][0]["expected"] = [0.5]
    (folder / "golden.json").write_text(json.dumps(golden))
    manifest = (folder / "manifest.toml").read_text().replace("tolerance = 1.0", "tolerance = 0.01")
    (folder / "manifest.toml").write_text(manifest)

    report = evaluated(folder)

    assert len(report.reasons) == 3
    assert report.reasons[0].startswith("vnni: golden cases are answered up to 0.")


def test_a_tflite_model_is_judged_against_its_float_twin(tmp_path):
    x = np.random.default_rng(0).uniform(-2, 2, (200, 4)).astype(np.float32)
    twin = tmp_path / "float.tflite"
    twin.write_bytes(float_model())
    model = toy_model(
        tmp_path / "toy",
        tflite_int8(),
        [case_of(x[0].tolist(), float(expected(x)[0, 0]))],
        kind="tflite-int8",
        tables=numbers() + '[gate]\nmetric = "auroc"\n',
        tolerance=0.02,
    )
    truth = np.random.default_rng(1).random(200) < expected(x)[:, 0]
    data = Dataset({"features": x}, truth.astype(float), {}, np.arange(200))

    report = evaluate(model, data, twin=twin)

    assert report.is_accepted
    assert report.methods == {"litert": "run"}
    assert 0 < report.golden_gaps["litert"] <= 0.02
    assert report.verdict.overall("litert").cases == 200


def test_a_graph_of_a_fixed_batch_is_judged_too(tmp_path):
    x = np.random.default_rng(0).uniform(-2, 2, (101, 4)).astype(np.float32)
    weights = float_model(batch=4)
    model = toy_model(
        tmp_path / "toy",
        weights,
        [case_of(x[0].tolist(), float(expected(x)[0, 0]))],
        kind="tflite-fp32",
        tables=numbers() + '[gate]\nmetric = "auroc"\n',
    )
    truth = np.random.default_rng(1).random(101) < expected(x)[:, 0]

    report = evaluate(model, Dataset({"features": x}, truth.astype(float), {}, np.arange(101)))

    assert report.is_accepted
    assert report.twin_sha256 == report.weights_sha256


def without(folder, line):
    kept = [
        each for each in (folder / "manifest.toml").read_text().splitlines() if line not in each
    ]
    (folder / "manifest.toml").write_text("\n".join(kept))


def test_a_quantized_model_without_a_twin_can_not_be_judged(tmp_path):
    folder = model_folder(tmp_path / "toy", capped=False)
    without(folder, "reference = ")

    with pytest.raises(EvaluationImpossible, match=r"weights\.reference of the manifest"):
        evaluated(folder)

    assert evaluated(folder, twin=folder / "fp32.onnx").verdict.comparisons


def test_a_quantized_network_is_no_twin_to_compare_with(tmp_path):
    folder = model_folder(tmp_path / "model", capped=False)
    (tmp_path / "twin.onnx").write_bytes(int8_model(capped=False))

    with pytest.raises(EvaluationImpossible, match="to be the fp32 network, but it is quantized"):
        evaluated(folder, twin=tmp_path / "twin.onnx")


def test_a_model_without_a_gate_can_not_be_judged(tmp_path):
    folder = model_folder(tmp_path / "toy", capped=False)
    for line in ("[gate]", "metric", "max_loss", "max_subgroup"):
        without(folder, line)

    with pytest.raises(EvaluationImpossible, match=r"has no \[gate\]"):
        evaluated(folder)


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"x": np.ones((60, 8))}, "no array features for the network; it has x"),
        ({"features": np.ones((60, 7))}, r"features must be float32 of shape \(n, 8\)"),
        ({"features": np.ones((60, 8)).astype(str)}, "features must be float32"),
    ],
)
def test_cases_that_do_not_fit_the_network_are_named(tmp_path, arrays, match):
    folder = model_folder(tmp_path / "toy", capped=False)
    data = Dataset(arrays, np.arange(60) % 2 * 1.0, {}, np.arange(60))

    with pytest.raises(EvaluationImpossible, match=match):
        evaluate(load(folder), data)


def test_a_truth_that_does_not_fit_the_answer_is_named(tmp_path):
    folder = model_folder(tmp_path / "toy", capped=False)
    data = Dataset({"features": np.ones((60, 8))}, np.arange(60.0), {}, np.arange(60))

    with pytest.raises(EvaluationImpossible, match="truth must be whole numbers from 0 to 1"):
        evaluate(load(folder), data)
