"""What ships as chest-xray-pneumonia: its files belong together and answer as its card says."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models import qdq
from models.images import decode, to_tensors
from models.manifest import parse
from models.onnx_engine import open_session
from models.registry import REFERENCE_MODELS, sha256
from models.statistics import auroc

FOLDER = REFERENCE_MODELS / "chest-xray-pneumonia"
ARCHIVE = (
    Path(__file__).resolve().parents[5]
    / "shared" / "data" / "pneumoniamnist" / "pneumoniamnist.npz"
)  # fmt: skip
QUANTIZED_LAYERS = 6 * 9  # six members of seven 3x3 and two 1x1 convolutions


@pytest.fixture(scope="module")
def manifest():
    return parse((FOLDER / "manifest.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def cases():
    return json.loads((FOLDER / "golden.json").read_text(encoding="utf-8"))["cases"]


@pytest.fixture(scope="module")
def test_split():
    if not ARCHIVE.exists():
        pytest.skip("PneumoniaMNIST is not beside the repository (../shared/data/pneumoniamnist)")
    with np.load(ARCHIVE, allow_pickle=False) as archive:
        images, labels = archive["test_images"], archive["test_labels"]
    return (images[:, None] / 255).astype(np.float32), labels.ravel() == 1


def answers(file, images, *, exact=False):
    session = open_session((FOLDER / file).read_bytes(), exact_int8=exact)
    (found,) = session.run(["probability"], {"image": images})
    return found


def pixels(case):
    picture = Image.open(io.BytesIO(base64.b64decode(case["image"])))
    return (np.asarray(picture) / 255).astype(np.float32)[None, None]


def test_the_manifest_names_the_files_that_are_there(manifest):
    files = {manifest.weights.file: manifest.weights.sha256}
    files[manifest.weights.reference.file] = manifest.weights.reference.sha256

    for name, digest in files.items():
        assert sha256((FOLDER / name).read_bytes()) == digest


def test_int8_is_less_than_a_third_of_fp32_and_computes_in_integers():
    int8 = (FOLDER / "model.onnx").read_bytes()
    fp32 = (FOLDER / "model.fp32.onnx").read_bytes()

    assert len(int8) <= 0.3 * len(fp32)
    assert qdq.integer_layers(int8) == QUANTIZED_LAYERS


@pytest.mark.parametrize("exact", [False, True], ids=["default kernels", "exact kernels"])
def test_every_golden_case_is_answered_within_the_tolerance(manifest, cases, exact):
    for case in cases:
        found = answers("model.onnx", pixels(case), exact=exact)
        assert found == pytest.approx(np.array([case["expected"]]), abs=manifest.weights.tolerance)


def test_the_gateway_makes_of_a_golden_png_the_pixels_that_the_network_learnt_from(manifest, cases):
    for case in cases:
        picture = decode(base64.b64decode(case["image"]), "image/png", manifest.image)
        tensors = to_tensors(picture, manifest.image)
        assert np.abs(tensors["image"] - pixels(case)[0]).max() < 1e-6


def test_golden_cases_are_fp32_answers_to_different_images(cases):
    expected = np.array([case["expected"] for case in cases], dtype=np.float32)
    images = np.concatenate([pixels(case) for case in cases])

    assert len(np.unique(images, axis=0)) == 8
    assert np.abs(answers("model.fp32.onnx", images) - expected).max() < 1e-4


def test_images_are_answered_in_one_batch_as_one_by_one(cases):
    images = np.concatenate([pixels(case) for case in cases])

    together = answers("model.onnx", images)

    assert together.shape == (8, 1)
    assert np.concatenate([answers("model.onnx", image[None]) for image in images]) == (
        pytest.approx(together, abs=1e-5)
    )


def test_a_film_that_is_darker_as_a_whole_is_answered_alike(test_split):
    images, _ = test_split

    bright, dark = (answers("model.fp32.onnx", images * each) for each in (1.0, 0.8))

    assert np.mean(np.abs(bright - dark) < 0.05) > 0.95


def test_the_published_test_split_gives_the_auroc_that_the_manifest_claims(manifest, test_split):
    images, truth = test_split
    claimed = {each.name: each for each in manifest.metrics}["auroc"]

    found = auroc(truth, answers("model.onnx", images)[:, 0].astype(float))

    assert found == pytest.approx(claimed.value, abs=0.002)


def test_the_upper_band_begins_at_a_threshold_between_0_and_1(manifest):
    (output,) = manifest.outputs

    assert [band.label for band in output.bands] == ["not suggested", "suggested"]
    assert 0 < output.bands[1].at_least < 1
