import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.images import ImageRefused, Picture, Shown, check, to_tensor, to_tensors
from models.shown import NOTHING_STATED
from models.tensors import stack
from tests.pictures import gradient, image_input

SNOMED = "http://snomed.info/sct"
THORAX = {"system": SNOMED, "code": "51185008"}
GREY = gradient().astype(np.float32) / 255
CHEST = Shown("DX", "CHEST", "PA")
FROM_BEHIND = {"system": SNOMED, "code": "272479007"}


def picture(pixels=GREY, shown=CHEST) -> Picture:
    return Picture(np.asarray(pixels, dtype=np.float32), "dicom", "MONOCHROME2", shown)


def refused(shown: Shown, stated: Shown = NOTHING_STATED, **spec: object) -> str:
    with pytest.raises(ImageRefused) as caught:
        check(picture(shown=shown), image_input(**spec), stated)
    return caught.value.reason


@pytest.mark.parametrize(
    ("shown", "stated", "spec"),
    [
        (CHEST, Shown(), {}),
        (Shown(), CHEST, {}),
        (Shown("CR"), Shown(body_part="CHEST"), {}),
        (Shown("DX"), Shown(body_sites=((SNOMED, "51185008"),)), {"body_sites": (THORAX,)}),
        (CHEST, Shown(body_sites=(("http://local", "9"),)), {"body_sites": (THORAX,)}),
        (Shown(), Shown(), {"if_unstated": "accept"}),
        (Shown("DX", "KNEE"), Shown(), {"body_parts": ()}),
        (CHEST, Shown(), {"views": ("PA", "AP")}),
        (
            Shown("DX", "CHEST"),
            Shown(view_codes=(("http://local", "7"), (SNOMED, "272479007"))),
            {"views": ("PA",), "view_codes": (FROM_BEHIND,)},
        ),
        (Shown("DX", "CHEST"), Shown(), {"views": ("PA",), "if_unstated": "accept"}),
    ],
)
def test_an_image_that_the_model_was_made_for_passes(shown, stated, spec):
    check(picture(shown=shown), image_input(**spec), stated)


@pytest.mark.parametrize(
    ("shown", "stated", "spec", "reason"),
    [
        (Shown("MR", "CHEST"), Shown(), {}, "wrong-modality"),
        (CHEST, Shown("CT"), {}, "wrong-modality"),
        (Shown(None, "CHEST"), Shown(), {}, "wrong-modality"),
        (Shown("DX", "KNEE"), Shown(), {}, "wrong-body-part"),
        (CHEST, Shown(body_part="HAND"), {}, "wrong-body-part"),
        (Shown("DX"), Shown(), {}, "wrong-body-part"),
        (
            CHEST,
            Shown(body_sites=((SNOMED, "72696002"),)),
            {"body_sites": (THORAX,)},
            "wrong-body-part",
        ),
        (Shown("DX", "CHEST", "LL"), Shown(), {"views": ("PA", "AP")}, "wrong-view"),
        (Shown("DX", "CHEST"), Shown(), {"views": ("PA",)}, "wrong-view"),
        (
            CHEST,
            Shown(view_codes=((SNOMED, "399173006"),)),
            {"views": ("PA", "AP"), "view_codes": (FROM_BEHIND,)},
            "wrong-view",
        ),
        (
            Shown("DX", "CHEST"),
            Shown(view_codes=(("http://local", "PA"),)),
            {"views": ("PA",), "view_codes": (FROM_BEHIND,)},
            "wrong-view",
        ),
        (Shown("DX", "KNEE"), Shown(), {"if_unstated": "accept"}, "wrong-body-part"),
    ],
)
def test_an_image_of_something_else_is_refused(shown, stated, spec, reason):
    assert refused(shown, stated, **spec) == reason


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_a_blank_image_is_refused(level):
    blank = picture(np.full((30, 30), level) + np.linspace(0, 0.001, 30))

    with pytest.raises(ImageRefused, match="is blank"):
        check(blank, image_input(min_contrast=0.01))


def test_an_image_of_the_right_size_is_left_as_it_is():
    pixels = np.random.default_rng(1).random((28, 28), dtype=np.float32)

    assert np.array_equal(to_tensor(picture(pixels), image_input())[0], pixels)


def test_scale_mean_and_deviation_are_applied_per_channel():
    spec = image_input(channels=3, scale=(0, 255), mean=(1, 2, 3), std=(2, 4, 8))
    pixels = np.full((28, 28), 0.5)

    tensor = to_tensor(picture(pixels), spec)

    assert tensor.dtype == np.float32
    assert [float(plane.mean()) for plane in tensor] == [63.25, 31.375, 15.5625]


def test_colour_becomes_grey_by_its_luminance():
    red = np.zeros((28, 28, 3))
    red[..., 0] = 1

    assert np.allclose(to_tensor(picture(red), image_input()), 0.299)
    assert to_tensor(picture(red), image_input(channels=3))[:, 0, 0].tolist() == [1, 0, 0]


def test_stretch_uses_the_whole_image_crop_its_centre_and_fit_puts_it_on_black():
    wide = np.zeros((28, 84))
    wide[:, :28] = 1  # the left third is white

    stretched, cropped, fitted = (
        to_tensor(picture(wide), image_input(resize=how))[0] for how in ("stretch", "crop", "fit")
    )

    assert stretched[:, :8].min() > 0.9
    assert stretched[:, 11:].max() < 0.1
    assert not cropped[:, 1:].any()
    assert not fitted[:9].any()
    assert not fitted[19:].any()
    assert fitted[10:18, :8].min() > 0.9


def test_fine_detail_is_averaged_not_skipped():
    checks = np.indices((560, 560)).sum(axis=0) % 2

    tensor = to_tensor(picture(checks), image_input())

    assert np.allclose(tensor, 0.5, atol=0.02)


@given(
    st.integers(2, 60),
    st.integers(2, 60),
    st.sampled_from(["stretch", "fit", "crop"]),
    st.sampled_from([1, 3]),
    st.integers(1, 40),
    st.integers(1, 40),
)
def test_whatever_the_size_the_tensor_fits_and_stays_in_range(
    rows, columns, how, channels, height, width
):
    pixels = np.random.default_rng(rows * columns).random((rows, columns))
    spec = image_input(resize=how, channels=channels, height=height, width=width)

    batch = stack([to_tensors(picture(pixels), spec)])

    assert batch["image"].shape == (1, channels, height, width)
    assert (batch["image"].min() >= 0) & (batch["image"].max() <= 1)
