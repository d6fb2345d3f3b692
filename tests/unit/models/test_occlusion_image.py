"""Hiding squares of an image, and the map of what that did."""

from dataclasses import replace
from io import BytesIO

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from models.explain import answer_and_explain
from models.explained import Drawing, shown_odds
from models.manifest import Manifest
from models.occlusion import Scale, Unexplainable, measure, read
from models.occlusion_image import (
    LOWERS_RGB,
    RAISES_RGB,
    draw,
    heat_of,
    plan_image,
    squares_of,
)
from models.tensors import FloatArray, Tensors
from tests.result_models import LABELS, REGRESSION

SIDE = 28
#: Where the toy network looks, and what lowers its answer.
SCALE = Scale(0.01, 1.0, lambda change: f"{change:g}")
RAISES, LOWERS = np.s_[16:22, 4:10], np.s_[4:10, 18:24]


def manifest(**explanation: int) -> Manifest:
    told = orjson.loads(LABELS.model_dump_json())
    told["explanation"] = explanation
    return Manifest.model_validate(told)


def xray() -> FloatArray:
    """Grey with a bright patch at each of the two places."""
    pixels = np.full((1, SIDE, SIDE), 0.4, np.float32)
    pixels[0][RAISES] = pixels[0][LOWERS] = 1.0
    return pixels


def network(batch: Tensors) -> FloatArray:
    """Brightness of one place makes the first label likelier, that of the other less likely."""
    rows = batch["image"][:, 0]
    seen = rows[:, RAISES[0], RAISES[1]].mean(axis=(1, 2))
    against = rows[:, LOWERS[0], LOWERS[1]].mean(axis=(1, 2))
    first = np.clip(0.5 + 0.4 * seen - 0.2 * against, 0, 1)
    return np.stack([first, np.full_like(first, 0.1)], axis=1).astype(np.float32)


def pixels_of(drawing: Drawing) -> np.ndarray:
    with Image.open(BytesIO(drawing.png)) as picture:
        assert (picture.format, picture.size) == ("PNG", (drawing.width, drawing.height))
        return np.asarray(picture.convert("RGB"), dtype=np.int16)


sides = st.integers(1, 40)


@given(sides, sides, st.none() | st.integers(1, 50), st.integers(1, 80))
def test_squares_cover_every_pixel_lie_inside_and_are_few_enough(
    height: int, width: int, wanted_px: int | None, most: int
) -> None:
    side, squares = squares_of(height, width, wanted_px, most)

    covered = np.zeros((height, width), bool)
    for row, column in squares:
        assert 0 <= row <= height - side
        assert 0 <= column <= width - side
        covered[row : row + side, column : column + side] = True
    assert covered.all() or side == min(height, width)
    assert len(squares) <= most or side == min(height, width)
    assert len(set(squares)) == len(squares)


@given(st.floats(-1, 1, width=32), st.integers(1, 63))
def test_a_change_that_is_the_same_everywhere_is_the_heat_of_every_pixel(
    change: float, most: int
) -> None:
    side, squares = squares_of(SIDE, SIDE, None, most)

    heat = heat_of((SIDE, SIDE), side, squares, np.full(len(squares), change, np.float32))

    np.testing.assert_allclose(heat, change, rtol=1e-5)


def test_more_runs_make_a_finer_map_of_squares_of_the_wanted_side() -> None:
    (coarse_side, coarse), (fine_side, fine) = (
        squares_of(SIDE, SIDE, 7, most) for most in (20, 200)
    )

    assert coarse_side == fine_side == 7
    assert len(coarse) < len(fine) <= 200


def test_squares_that_would_be_too_many_are_made_larger() -> None:
    side, squares = squares_of(SIDE, SIDE, 1, 63)

    assert side == 4
    assert len(squares) <= 63


def test_a_square_is_hidden_by_the_mean_grey_and_at_last_everything_is() -> None:
    case = {"image": xray()}

    plan = plan_image(LABELS, LABELS.image, case)  # type: ignore[arg-type]

    mean = case["image"].mean()
    assert len(plan.hidden) == len(plan.names) + 1 <= 64
    np.testing.assert_allclose(plan.hidden[-1]["image"], mean, rtol=1e-6)
    first = plan.hidden[0]["image"]
    changed = first != case["image"]
    assert 0 < changed.sum() <= 36
    np.testing.assert_allclose(first[changed], mean, rtol=1e-6)
    assert case["image"].max() == 1


def test_too_few_runs_are_said_to_be_too_few() -> None:
    told = manifest(max_evaluations=2)
    explained = answer_and_explain(
        network, told, {"image": xray()}, encoder=None, is_late=lambda: False
    )[1]
    assert len(explained.effects) == 1

    none = told.model_copy(
        update={"explanation": told.explanation.model_copy(update={"max_evaluations": 1})}
    )
    with pytest.raises(Unexplainable, match="too few runs"):
        plan_image(none, none.image, {"image": xray()})  # type: ignore[arg-type]


def test_the_map_is_orange_where_the_image_raises_the_answer_and_blue_where_it_lowers_it() -> None:
    answer, explained = answer_and_explain(
        network, LABELS, {"image": xray()}, encoder=None, is_late=lambda: False
    )

    assert explained.drawing is not None
    assert explained.subject == "Effusion"
    assert answer[0] == pytest.approx(0.7)
    shown = pixels_of(explained.drawing)
    scale = explained.drawing.width // SIDE
    redness = shown[..., 0] - shown[..., 2]
    raises = redness[17 * scale : 21 * scale, 5 * scale : 9 * scale]
    lowers = redness[5 * scale : 9 * scale, 19 * scale : 23 * scale]
    elsewhere = redness[: 2 * scale, : 2 * scale]
    assert raises.mean() > 60
    assert lowers.mean() < -30
    assert abs(elsewhere.mean()) < 5
    assert RAISES_RGB[0] > RAISES_RGB[2]
    assert LOWERS_RGB[0] < LOWERS_RGB[2]


def test_the_squares_over_the_places_have_the_largest_effects() -> None:
    _, explained = answer_and_explain(
        network, LABELS, {"image": xray()}, encoder=None, is_late=lambda: False
    )

    effects = sorted(explained.effects, key=lambda each: each.change)
    row, column = map(int, effects[-1].part.split(":"))
    assert row + 6 > RAISES[0].start
    assert row < RAISES[0].stop
    assert column + 6 > RAISES[1].start
    assert column < RAISES[1].stop
    assert effects[0].change < 0


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1, 28, 28), (364, 364)),
        ((3, 224, 112), (112, 224)),
        ((1, 1000, 500), (192, 384)),
        ((1, 7, 3), (162, 378)),
    ],
)
def test_a_picture_is_large_enough_to_be_looked_at_and_small_enough_to_be_sent(
    shape: tuple[int, int, int], expected: tuple[int, int]
) -> None:
    pixels = np.random.default_rng(1).random(shape, np.float32)
    side, squares = squares_of(shape[1], shape[2], None, 63)

    drawing = draw(pixels, side, squares, np.ones(len(squares), np.float32), SCALE)

    assert drawing is not None
    assert (drawing.width, drawing.height - 50) == expected
    assert len(drawing.png) < 400_000


def test_the_caption_and_the_text_tell_of_the_same_strongest_square() -> None:
    captions: list[float] = []
    scale = Scale(0.01, 0.1, lambda full: captions.append(full) or f"{full:g}")
    plan = plan_image(LABELS, LABELS.image, {"image": xray()})  # type: ignore[arg-type]
    measured = measure(network, {"image": xray()}, plan, max_batch=8, is_late=lambda: False)
    drawn = replace(plan, draw=lambda changes, _: plan.draw(changes, scale))  # type: ignore[misc]

    told = read(LABELS, drawn, measured)

    strongest = max(abs(each.log_odds) for each in told.effects)
    assert captions == [pytest.approx(strongest)]
    assert shown_odds(strongest) in told.describe()


def test_where_no_square_did_anything_there_is_no_map() -> None:
    changes = np.full(1, 0.9 * SCALE.nothing, np.float32)

    assert draw(xray(), 6, ((0, 0),), changes, SCALE) is None


def test_an_image_of_one_grey_can_be_drawn() -> None:
    flat = np.zeros((1, SIDE, SIDE), np.float32)

    drawing = draw(flat, 6, ((0, 0),), np.ones(1, np.float32), SCALE)

    assert drawing is not None
    shown = pixels_of(drawing)
    assert shown[: 6 * 13, : 6 * 13, 0].max() > 100
    assert shown[10 * 13 : SIDE * 13].max() == 0


def test_a_weak_effect_is_not_drawn_as_strongly_as_a_strong_one() -> None:
    weak, strong = (
        draw(xray(), 6, ((0, 0),), np.full(1, change, np.float32), SCALE) for change in (0.2, 5)
    )

    assert weak is not None
    assert strong is not None
    orange = [pixels_of(each)[20:50, 20:50, 0].mean() for each in (weak, strong)]
    assert orange[0] < orange[1]


def test_a_quantity_is_drawn_in_its_own_unit() -> None:
    told = orjson.loads(LABELS.model_dump_json())
    told |= {"panel": None, "outputs": [orjson.loads(REGRESSION.outputs[0].model_dump_json())]}

    def predict(batch: Tensors) -> FloatArray:
        return (100 * network(batch)[:, :1]).astype(np.float32)

    _, explained = answer_and_explain(
        predict,
        Manifest.model_validate(told),
        {"image": xray()},
        encoder=None,
        is_late=lambda: False,
    )

    assert explained.drawing is not None
    assert "odds" not in explained.describe()
    assert "mL/min/1.73 m²; the map shows where" in explained.describe()
