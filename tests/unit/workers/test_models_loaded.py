import shutil
from pathlib import Path

import numpy as np
import pytest

from gateway.core.errors import NotFound
from models.registry import REFERENCE_MODELS, load_installed
from workers.models_loaded import OpenModels

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
