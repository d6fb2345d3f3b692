import contextlib
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from gateway.core.errors import NotFound
from models.library import Library
from models.registry import REFERENCE_MODELS, load_installed
from models.tensors import FloatArray, Tensors
from tests.endless import loop_model
from tests.notes import NOTE
from tests.tflite_models import expected, float_model, rounds_of
from tests.tflite_models import loop_model as loop_tflite
from tests.toy_folders import write_models
from tests.toy_models import case_of, numbers, toy_model
from workers.models_loaded import ModelBusy, ModelTooSlow, ModelUnfit, OpenModel, OpenModels

TOO_LARGE, SMALL = (np.full((1, 1), size, np.float32) for size in (1e12, 1))

CKD_RISK = load_installed()["ckd-risk"]
DIGEST = CKD_RISK.digest


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def imported(tmp_path: Path) -> Path:
    """A folder of imported models, empty."""
    return tmp_path / "imported"


@pytest.fixture
def library(tmp_path: Path, imported: Path) -> Library:
    return Library(tmp_path / "brought", imported)


def brought(folder: Path) -> OpenModels:
    """Give the models of a folder that came with Nadi."""
    return OpenModels(Library(folder, folder / "imported"))


def answer_once_free(model: OpenModel, batch: Tensors) -> FloatArray:
    """Ask again while it is busy, a minute at most; each asking waits for the time limit."""
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up:
        with contextlib.suppress(ModelBusy):
            return model.predict(batch)
    pytest.fail("the run that was given up did not end within a minute")


def test_a_model_is_opened_once_and_says_on_what_it_runs(imported: Path) -> None:
    models = OpenModels(Library(REFERENCE_MODELS, imported))

    model = models.get(DIGEST)

    assert models.get(DIGEST) is model
    assert model.facts.model_digest == DIGEST
    assert model.facts.runtime.startswith("onnxruntime ")
    assert " " not in model.facts.label
    assert model.predict(
        {"features": np.full((2, model.manifest.width), np.nan, np.float32)}
    ).shape == (2, 1)


def test_what_is_in_service_is_opened_before_the_first_job_whatever_is_missing(
    imported: Path,
) -> None:
    models = OpenModels(Library(REFERENCE_MODELS, imported))

    assert models.warm_up(["0" * 64, DIGEST]) == 1


def test_a_model_that_is_imported_later_is_found(library: Library, imported: Path) -> None:
    models = OpenModels(library)
    with pytest.raises(NotFound):
        models.get(DIGEST)

    shutil.copytree(CKD_RISK.folder, imported / DIGEST)

    assert models.get(DIGEST).facts.model_digest == DIGEST


def test_a_model_that_was_changed_after_its_import_is_not_used_until_it_is_whole_again(
    library: Library, imported: Path
) -> None:
    clock = Clock()
    models = OpenModels(library, monotonic=clock)
    shutil.copytree(CKD_RISK.folder, imported / DIGEST)
    weights = bytearray((imported / DIGEST / "model.onnx").read_bytes())
    weights[-1] ^= 1
    (imported / DIGEST / "model.onnx").write_bytes(weights)

    with pytest.raises(ModelUnfit, match="WeightsAltered"):
        models.get(DIGEST)
    shutil.copytree(CKD_RISK.folder, imported / DIGEST, dirs_exist_ok=True)
    with pytest.raises(ModelUnfit):
        models.get(DIGEST)
    clock.now_s += 61

    assert models.get(DIGEST).facts.model_digest == DIGEST


def test_a_model_that_takes_too_long_is_stopped_and_answers_the_next_case(tmp_path: Path) -> None:
    limited = numbers("a") + "[limits]\ntimeout_s = 1\n"
    known = [{"inputs": {"a": 1}, "expected": [0.5]}]
    installed = toy_model(tmp_path / "toy", loop_model(), known, tables=limited)
    model = brought(tmp_path).get(installed.digest)

    with pytest.raises(ModelTooSlow, match="within the time limit"):
        model.predict({"features": TOO_LARGE})

    assert model.predict({"features": SMALL}).tolist() == [[0.5]]


def test_a_tflite_model_says_its_runtime_and_its_digest(tmp_path: Path) -> None:
    x = np.ones((1, 4), np.float32)
    known = [case_of([1, 1, 1, 1], float(expected(x)[0, 0]))]
    installed = toy_model(
        tmp_path / "toy", float_model(), known, kind="tflite-fp32", tables=numbers()
    )

    model = brought(tmp_path).get(installed.digest)

    assert model.facts.model_digest == installed.digest
    assert model.facts.runtime.startswith("litert ")
    assert "exact-int8" not in model.facts.kernel_class
    assert model.predict({"features": x}).shape == (1, 1)


def test_a_tflite_model_is_busy_until_the_run_that_was_given_up_has_ended(tmp_path: Path) -> None:
    limited = numbers("a") + "[limits]\ntimeout_s = 0.2\n"
    known = [{"inputs": {"a": 1}, "expected": [0.5]}]
    installed = toy_model(
        tmp_path / "toy", loop_tflite(), known, kind="tflite-fp32", tables=limited
    )
    model = brought(tmp_path).get(installed.digest)
    few = {"features": np.ones((1, 1), np.float32)}
    many = {"features": rounds_of(3.0, lambda x: model.predict({"features": x}))}

    with pytest.raises(ModelTooSlow):
        model.predict(many)
    with pytest.raises(ModelBusy):
        model.predict(few)

    assert answer_once_free(model, few).tolist() == [[0.5]]


def test_a_model_of_notes_brings_its_own_tokenizer(tmp_path: Path) -> None:
    installed = load_installed(write_models(tmp_path))
    models = brought(tmp_path)

    note = models.get(installed["toy-note"].digest)

    assert note.encoder is not None
    assert len(note.encoder.encode(NOTE)["ids"]) == 19
    assert models.get(installed["toy-picture"].digest).encoder is None


def test_a_model_whose_file_was_away_is_used_as_soon_as_it_is_back(
    library: Library, imported: Path
) -> None:
    models = OpenModels(library)
    shutil.copytree(CKD_RISK.folder, imported / DIGEST)
    weights = imported / DIGEST / "model.onnx"
    away = weights.rename(imported / "away.onnx")

    with pytest.raises(NotFound, match="A file of this model"):
        models.get(DIGEST)
    away.rename(weights)

    assert models.get(DIGEST).facts.model_digest == DIGEST


def test_a_tokenizer_that_was_altered_or_is_gone_is_not_used(tmp_path: Path) -> None:
    file = write_models(tmp_path) / "toy-note" / "tokenizer.json"
    digest = load_installed(tmp_path)["toy-note"].digest

    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises((ModelUnfit, NotFound)):
        brought(tmp_path).get(digest)

    file.unlink()
    with pytest.raises((ModelUnfit, NotFound)):
        brought(tmp_path).get(digest)
