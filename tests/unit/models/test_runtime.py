import hashlib
import json
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from models.evaluate import quantization_gap
from models.manifest import ManifestError
from models.quantize import static_int8
from models.registry import (
    ModelUnusable,
    WeightsAltered,
    installed_in,
    load,
    load_installed,
)
from models.runtime import (
    GoldenCasesFailed,
    Runtime,
    RunTimedOut,
    open_session,
)
from tests.ckd import ARFF, ckd_rows, model_input
from tests.endless import loop_model
from tests.saturating import int8_model as saturating
from tests.tflite_models import expected, float_model, image_model, int8_model
from tests.toy_models import case_of, numbers, picture_model, toy_model

MODEL = load_installed()["ckd-risk"]
CASES, EXPECTED = MODEL.golden_cases()
GOLDEN = CASES["features"]


@pytest.fixture
def copied(tmp_path):
    return shutil.copytree(MODEL.folder, tmp_path / "ckd-risk")


def rewritten(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.parametrize("exact", [True, False, None])
def test_the_reference_model_answers_its_golden_cases_under_both_kernel_settings(exact):
    runtime = Runtime(MODEL, exact_int8=exact)

    assert runtime.golden_gap <= MODEL.manifest.weights.tolerance
    assert len(GOLDEN) >= 20
    assert np.isnan(GOLDEN).any()
    assert runtime.digest == MODEL.digest
    assert runtime.version.startswith("onnxruntime 1.")


def test_the_fp32_twin_is_the_network_the_golden_cases_were_taken_from():
    session = open_session(MODEL.reference_weights(), exact_int8=True)

    (answer,) = session.run(None, {"features": GOLDEN})

    np.testing.assert_allclose(answer, EXPECTED, atol=2e-6)


def test_int8_sums_can_not_saturate_16_bits_whatever_the_kernel():
    graph = onnx.load_from_string(MODEL.weights()).graph
    weights = [
        numpy_helper.to_array(each)
        for each in graph.initializer
        if each.data_type == onnx.TensorProto.INT8
    ]

    largest = max(int(np.abs(each.astype(int)).max()) for each in weights if each.ndim == 2)

    assert largest > 0
    assert 2 * 255 * largest <= np.iinfo(np.int16).max


@pytest.mark.skipif(not ARFF.exists(), reason="the public CKD table is not at hand")
def test_int8_and_fp32_agree_within_tolerance_on_every_patient_of_the_table():
    batch = np.array([model_input(row) for row in ckd_rows()])

    gaps = quantization_gap(MODEL.weights(), MODEL.reference_weights(), batch)

    assert max(gaps.values()) <= MODEL.manifest.weights.tolerance


def test_an_answer_does_not_depend_on_its_batch_or_thread():
    runtime = Runtime(MODEL)
    together = runtime.predict(CASES)

    with ThreadPoolExecutor(4) as pool:
        alone = list(pool.map(runtime.predict, [{"features": row[None, :]} for row in GOLDEN] * 5))

    np.testing.assert_allclose(np.vstack(alone), np.tile(together, (5, 1)), atol=1e-6)


@pytest.mark.parametrize(
    "batch", [GOLDEN.astype(np.float64), GOLDEN[:, :-1], GOLDEN[0]], ids=["type", "width", "rank"]
)
def test_a_batch_of_another_shape_is_refused(batch):
    with pytest.raises(ValueError, match="features must be float32 of shape"):
        Runtime(MODEL).predict({"features": batch})


def test_a_batch_without_a_tensor_of_the_graph_is_refused():
    with pytest.raises(ValueError, match="must have the tensors features"):
        Runtime(MODEL).predict({"image": GOLDEN})


def test_altered_weights_are_not_loaded(copied):
    weights = bytearray((copied / "model.onnx").read_bytes())
    weights[-1] ^= 1
    (copied / "model.onnx").write_bytes(weights)

    with pytest.raises(WeightsAltered):
        Runtime(load(copied))
    assert load(copied).digest != MODEL.digest


def test_a_model_that_answers_differently_here_is_not_used(copied):
    golden = json.loads((copied / "golden.json").read_text(encoding="utf-8"))
    golden["cases"][0]["expected"] = [0.99]
    (copied / "golden.json").write_text(json.dumps(golden), encoding="utf-8")

    with pytest.raises(GoldenCasesFailed, match=r"ckd-risk@1\.0\.0"):
        Runtime(load(copied))


def test_golden_cases_that_do_not_fit_are_refused(copied):
    rewritten(copied / "golden.json", '"urea"', '"uric-acid"')

    with pytest.raises(ModelUnusable, match="doesn't fit"):
        load(copied).golden_cases()


def test_golden_cases_that_are_none_are_refused(copied):
    (copied / "golden.json").write_text("{}", encoding="utf-8")

    with pytest.raises(ModelUnusable, match="not a file of golden cases"):
        load(copied).golden_cases()


def test_a_network_of_another_shape_than_its_manifest_is_unusable(copied):
    more = (copied / "manifest.toml").read_text(encoding="utf-8")
    output = more[more.index("[[outputs]]") : more.index("# Written by")]
    second = output.replace('"probability"', '"second"', 1).replace("column = 0", "column = 1")
    (copied / "manifest.toml").write_text(more + second, encoding="utf-8")
    rewritten(copied / "golden.json", '"expected": [', '"expected": [0.5, ')

    with pytest.raises(ModelUnusable, match="output doesn't fit"):
        Runtime(load(copied))


def test_a_change_of_the_manifest_changes_the_digest(copied):
    before = load(copied).digest
    rewritten(copied / "manifest.toml", "min_present = 4", "min_present = 5")

    assert load(copied).digest != before == MODEL.digest


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="sha256sum is not on this machine")
def test_the_digest_can_be_recomputed_by_hand():
    names = [
        "LICENSE",
        "card.md",
        "evaluation.json",
        "golden.json",
        "manifest.toml",
        "model.fp32.onnx",
        "model.onnx",
    ]

    printed = subprocess.run(
        ["sha256sum", *names], cwd=MODEL.folder, capture_output=True, check=True
    ).stdout

    assert hashlib.sha256(printed).hexdigest() == MODEL.digest


@pytest.mark.parametrize("name", ["card.md", "golden.json", "model.fp32.onnx"])
def test_a_change_of_any_file_of_the_model_changes_the_digest(copied, name):
    with (copied / name).open("ab") as file:
        file.write(b"\n")

    assert load(copied).digest != MODEL.digest


def test_a_missing_file_is_named(copied):
    (copied / "model.onnx").unlink()

    with pytest.raises(ModelUnusable, match=r"model\.onnx can't be read"):
        load(copied)


def test_several_versions_may_be_installed_and_the_newest_is_given_by_name(copied):
    newer = shutil.copytree(copied, copied.parent / "a-newer-one")
    rewritten(newer / "manifest.toml", 'version = "1.0.0"', 'version = "1.10.0"')
    between = shutil.copytree(copied, copied.parent / "between")
    rewritten(between / "manifest.toml", 'version = "1.0.0"', 'version = "1.9.0"')

    found = installed_in(copied.parent)

    assert [model.manifest.version for model in found] == ["1.0.0", "1.9.0", "1.10.0"]
    assert load_installed(copied.parent)["ckd-risk"].folder == newer


def test_a_manifest_that_is_no_text_is_refused_naming_the_file(copied):
    (copied / "manifest.toml").write_bytes(b"name = '\xff'")

    with pytest.raises(ManifestError, match=r"manifest\.toml: not UTF-8"):
        load(copied)


def test_a_model_may_come_without_its_twin(copied):
    text = (copied / "manifest.toml").read_text(encoding="utf-8")
    kept = [line for line in text.splitlines() if not line.startswith("reference = ")]
    (copied / "manifest.toml").write_text("\n".join(kept), encoding="utf-8")

    assert load(copied).reference_weights() is None


def test_quantizing_leaves_the_original_alone_and_stays_close_to_it():
    twin = MODEL.reference_weights()

    int8 = static_int8(twin, [GOLDEN], keep_fp32=["logit"])

    gaps = quantization_gap(int8, twin, GOLDEN)
    assert 0 < max(gaps.values()) < 0.1


FEATURES = np.random.default_rng(0).uniform(-2, 2, (5, 4)).astype(np.float32)
KNOWN = [
    case_of(map(float, row), float(y))
    for row, (y,) in zip(FEATURES, expected(FEATURES), strict=True)
]
IMPUTED = numbers().replace(
    'missing = "mask"', 'missing = "impute"\nimpute_value = 0\nimpute_reason = "A test."'
)


@pytest.mark.parametrize(
    ("weights", "kind", "tables"),
    [(float_model(), "tflite-fp32", numbers()), (int8_model(), "tflite-int8", IMPUTED)],
)
def test_a_tflite_model_is_a_model_as_any_other(tmp_path, weights, kind, tables):
    model = toy_model(tmp_path / "toy", weights, KNOWN, kind=kind, tables=tables, tolerance=0.02)

    runtime = Runtime(model)

    answer = runtime.predict({"features": FEATURES})
    np.testing.assert_allclose(answer, expected(FEATURES), atol=0.02)
    assert runtime.version.startswith("litert 2.")
    assert runtime.digest == model.digest
    assert not runtime.exact_int8


def test_a_tflite_model_of_images_is_fed_as_an_onnx_model_is(tmp_path):
    model = picture_model(tmp_path / "toy", image_model())

    assert Runtime(model).golden_gap < 1e-6


def test_a_value_that_may_be_missing_is_not_given_to_a_quantized_input(tmp_path):
    model = toy_model(tmp_path / "toy", int8_model(), KNOWN, kind="tflite-int8", tables=numbers())

    with pytest.raises(ModelUnusable, match=r"toy@1\.0\.0: a may be missing"):
        Runtime(model)


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_a_graph_of_a_fixed_batch_is_given_just_that(tmp_path, batch):
    weights = float_model(batch=batch)
    model = toy_model(tmp_path / "toy", weights, KNOWN, kind="tflite-fp32", tables=numbers())

    answer = Runtime(model).predict({"features": FEATURES})

    np.testing.assert_allclose(answer, expected(FEATURES), atol=1e-6)


def test_altered_weights_of_a_tflite_model_are_not_loaded(tmp_path):
    model = toy_model(tmp_path / "toy", float_model(), KNOWN, kind="tflite-fp32", tables=numbers())
    (model.folder / "model.tflite").write_bytes(float_model() + b"x")

    with pytest.raises(WeightsAltered):
        Runtime(model)


def counting(folder, limits="", rounds=2, **changed):
    return toy_model(
        folder / "toy",
        loop_model(**changed),
        [{"inputs": {"a": rounds}, "expected": [0.5]}],
        tables=numbers("a") + limits,
    )


def test_a_run_longer_than_the_manifest_allows_is_stopped_and_the_next_answered(tmp_path):
    runtime = Runtime(counting(tmp_path, "[limits]\ntimeout_s = 1\n"))

    with pytest.raises(RunTimedOut, match="1 s"):
        runtime.predict({"features": np.full((1, 1), 1e12, np.float32)})

    assert runtime.predict({"features": np.ones((3, 1), np.float32)}).tolist() == [[0.5]] * 3


@pytest.mark.parametrize(("batch", "most"), [(1, 64), (2, 64), ("n", 2)])
def test_a_batch_is_run_in_parts_that_the_graph_and_the_manifest_allow(tmp_path, batch, most):
    model = counting(tmp_path, f"[limits]\nmax_batch = {most}\n", batch=batch)

    answer = Runtime(model).predict({"features": np.ones((5, 1), np.float32)})

    assert answer.tolist() == [[0.5]] * 5


def test_a_model_too_slow_for_its_golden_cases_is_not_used(tmp_path):
    model = counting(tmp_path, "[limits]\ntimeout_s = 0.1\n", rounds=1e12)

    with pytest.raises(GoldenCasesFailed, match=r"toy@1\.0\.0 can't answer its golden cases"):
        Runtime(model)


def test_golden_cases_that_do_not_fit_the_network_are_a_fault_of_the_model(tmp_path):
    model = toy_model(
        tmp_path / "toy", float_model(), KNOWN, kind="tflite-fp32", tables=numbers(), feeds="x"
    )

    with pytest.raises(GoldenCasesFailed, match="must have the tensors features"):
        Runtime(model)


def test_weights_of_another_format_than_the_manifest_says_are_unusable(tmp_path):
    model = toy_model(tmp_path / "toy", float_model(), KNOWN, kind="onnx-fp32", tables=numbers())

    with pytest.raises(ModelUnusable, match="not of the format onnx-fp32"):
        Runtime(model)


@pytest.mark.parametrize(
    ("weights", "kind"),
    [(lambda: saturating(capped=False), "onnx-fp32"), (int8_model, "tflite-fp32")],
    ids=["onnx", "tflite"],
)
def test_a_quantized_model_that_is_called_float32_is_not_loaded(tmp_path, weights, kind):
    toy = (
        {"tables": numbers("abcdefgh")}
        if kind == "onnx-fp32"
        else {"tables": numbers(missing="refuse")}
    )
    model = toy_model(tmp_path / "toy", weights(), [], kind=kind, **toy)

    with pytest.raises(ModelUnusable, match=f"declared as {kind}, but it is quantized: .*int8"):
        Runtime(model)
