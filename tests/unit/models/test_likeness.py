"""What is plainly no chest film, by the real manifest; public X-rays of the validation split."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.likeness import correlation, edges, is_alike
from models.manifest_inputs import Likeness
from models.registry import REFERENCE_MODELS, load
from models.tensors import FloatArray
from tests.pictures import PNEUMONIA_MNIST

SPEC = load(REFERENCE_MODELS / "chest-xray-pneumonia").manifest.image
assert SPEC is not None
assert SPEC.likeness is not None
LIKENESS: Likeness = SPEC.likeness
DOWN, ACROSS = (np.mgrid[0:28, 0:28] / 27).astype(np.float32)
GENERATOR = np.random.default_rng(0)
SHAPES = {
    "ramp across": ACROSS,
    "ramp back": 1 - ACROSS,
    "ramp down": DOWN,
    "ramp up": 1 - DOWN,
    "diagonal": (DOWN + ACROSS) / 2,
    "glow": 1 - np.hypot(DOWN - 0.5, ACROSS - 0.5),
    "noise": GENERATOR.random((28, 28)),
    "writing": (GENERATOR.random((28, 28)) > 0.85).astype(np.float32),
    "squares": (7 * DOWN // 1 + 7 * ACROSS // 1) % 2,
    "half": (ACROSS > 0.5).astype(np.float32),
    "stripes": np.sin(20 * ACROSS),
    "one grey": np.full((28, 28), 0.5),
}


@pytest.fixture(scope="module")
def films() -> FloatArray:
    if not PNEUMONIA_MNIST.exists():
        pytest.skip("the public X-rays are not at hand")
    with np.load(PNEUMONIA_MNIST) as images:
        return np.asarray(images["val_images"], dtype=np.float32)[:, None] / 255


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_no_film_is_told(shape: str) -> None:
    assert not is_alike(np.asarray(SHAPES[shape], np.float32)[None], LIKENESS)


def test_every_validation_film_passes(films: FloatArray) -> None:
    assert len(films) == 524
    assert all(is_alike(film, LIKENESS) for film in films)


def test_no_film_passes_on_its_side_or_as_a_negative(films: FloatArray) -> None:
    turned = [np.rot90(film, axes=(1, 2)) for film in films]
    negatives = [1 - film for film in films]

    assert not any(is_alike(each, LIKENESS) for each in (*turned, *negatives))


@given(st.floats(0.05, 20), st.floats(-5, 5))
def test_brightness_and_contrast_change_nothing(contrast: float, brightness: float) -> None:
    plane = np.asarray(LIKENESS.typical, np.float32).repeat(4, 0).repeat(4, 1) / 100
    other = np.asarray(contrast * plane + brightness, np.float32)

    assert correlation(other, LIKENESS) == pytest.approx(correlation(plane, LIKENESS), abs=1e-3)
    assert edges(other) == pytest.approx(edges(plane), rel=1e-2)
    assert correlation(plane, LIKENESS) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("typical", "said"),
    [(((1, 2), (3,)), "rows of one length"), (((1, 1), (1, 1)), "one grey level")],
)
def test_a_typical_image_that_is_none_is_refused(
    typical: tuple[tuple[float, ...], ...], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        Likeness(typical=typical, min_correlation=0.3, edges=(0.1, 1))
