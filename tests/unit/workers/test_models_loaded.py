import shutil
from pathlib import Path

import numpy as np
import pytest

from gateway.core.errors import NotFound
from models.registry import REFERENCE_MODELS, ModelUnusable, WeightsAltered, load_installed
from tests.endless import loop_model
from tests.notes import NOTE
from tests.tflite_models import expected, float_model, image_model
from tests.toy_folders import write_models
from tests.toy_models import case_of, numbers, picture_model, toy_model
from workers.models_loaded import ModelBusy, ModelTooSlow, OpenModels

TOO_LARGE, SMALL = (np.full((1, 1), size, np.float32) for size in (1e12, 1))
DIGEST = load_installed()["ckd-risk"].digest


def test_a_model_is_opened_once_and_says_on_what_it_runs() -> None:
    models = OpenModels(REFERENCE_MODELS)

    model = models.get(DIGEST)

    assert models.get(DIGEST) is model
    assert model.facts.model_digest == DIGEST
    assert model.facts.runtime.startswith("onnxruntime ")
    assert " " not in model.facts.label
    assert model.predict(
        {"features": np.full((2, model.manifest.width), np.nan, np.float32)}
    ).shape == (2, 1)


def test_everything_installed_is_opened_before_the_first_job() -> None:
    assert OpenModels(REFERENCE_MODELS).warm_up() == len(load_installed())


def test_a_model_installed_later_is_found(tmp_path: Path) -> None:
    models = OpenModels(tmp_path)
    with pytest.raises(NotFound):
        models.get(DIGEST)

    shutil.copytree(REFERENCE_MODELS / "ckd-risk", tmp_path / "ckd-risk")

    assert models.get(DIGEST).facts.model_digest == DIGEST


def test_a_model_that_takes_too_long_is_stopped_and_answers_the_next_case(tmp_path: Path) -> None:
    limited = numbers("a") + "[limits]\ntimeout_s = 0.2\n"
    known = [{"inputs": {"a": 1}, "expected": [0.5]}]
    installed = toy_model(tmp_path / "toy", loop_model(), known, tables=limited)
    model = OpenModels(tmp_path).get(installed.digest)

    with pytest.raises(ModelTooSlow, match="within the time limit"):
        model.predict({"features": TOO_LARGE})

    assert model.predict({"features": SMALL}).tolist() == [[0.5]]


def test_a_tflite_model_says_its_runtime_and_its_digest(tmp_path: Path) -> None:
    x = np.ones((1, 4), np.float32)
    known = [case_of([1, 1, 1, 1], float(expected(x)[0, 0]))]
    installed = toy_model(
        tmp_path / "toy", float_model(), known, kind="tflite-fp32", tables=numbers()
    )

    model = OpenModels(tmp_path).get(installed.digest)

    assert model.facts.model_digest == installed.digest
    assert model.facts.runtime.startswith("litert ")
    assert "exact-int8" not in model.facts.kernel_class
    assert model.predict({"features": x}).shape == (1, 1)


def test_a_tflite_model_is_busy_until_the_run_that_was_given_up_has_ended(tmp_path: Path) -> None:
    slow = image_model(size=128, repeats=100)
    limits = "[limits]\ntimeout_s = 0.2\n"
    installed = picture_model(tmp_path / "toy", slow, side=128, tables=limits)
    model = OpenModels(tmp_path).get(installed.digest)
    small, large = (np.ones((count, 3, 128, 128), np.float32) for count in (1, 64))

    with pytest.raises(ModelTooSlow):
        model.predict({"image": large})
    with pytest.raises(ModelBusy):
        model.predict({"image": small})


def test_a_model_of_notes_brings_its_own_tokenizer(tmp_path: Path) -> None:
    installed = load_installed(write_models(tmp_path))
    models = OpenModels(tmp_path)

    note = models.get(installed["toy-note"].digest)

    assert note.encoder is not None
    assert len(note.encoder.encode(NOTE)["ids"]) == 19
    assert models.get(installed["toy-picture"].digest).encoder is None


def test_a_tokenizer_that_was_altered_or_is_gone_is_not_used(tmp_path: Path) -> None:
    file = write_models(tmp_path) / "toy-note" / "tokenizer.json"
    digest = load_installed(tmp_path)["toy-note"].digest

    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises((WeightsAltered, NotFound)):
        OpenModels(tmp_path).get(digest)

    file.unlink()
    with pytest.raises(ModelUnusable):
        OpenModels(tmp_path).get(digest)
