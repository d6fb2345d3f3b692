import pytest

from models.film import film_size, time_reading
from models.images import ImageRefused
from tests.pictures import image_input


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({}, (3000, 2500)),
        ({"modalities": ("CT",)}, (512, 512)),
        ({"modalities": ("CT", "MG")}, (4096, 3328)),
        ({"modalities": ("XC",)}, (3000, 2500)),
        ({"max_pixels": 300 * 250}, (300, 250)),
        ({"max_bytes": 4096 + 2 * 300 * 250}, (300, 250)),
        ({"max_pixels": 1, "min_side_px": 20}, (20, 20)),
    ],
)
def test_a_film_is_as_large_as_its_modality_makes_them_and_as_the_model_accepts(changes, size):
    assert film_size(image_input(**changes)) == size


def test_every_kind_of_file_is_read_as_the_gateway_reads_it():
    spec = image_input(max_pixels=60 * 50, views=("PA",), min_contrast=0.01)

    found = time_reading(spec, rounds=2)

    assert (found.rows, found.columns) == (60, 50)
    assert set(found.decode_ms) == {"dicom", "png", "jpeg"}
    assert all(ms > 0 for ms in (*found.decode_ms.values(), found.scale_ms))
    assert found.slowest_ms == max(found.decode_ms.values()) + found.scale_ms


def test_a_larger_film_takes_longer():
    limits = {"max_pixels": 60 * 50}, {}
    small, large = (time_reading(image_input(modalities=("US",), **each)) for each in limits)

    assert large.slowest_ms > 2 * small.slowest_ms


def test_a_model_that_accepts_no_film_is_told():
    with pytest.raises(ImageRefused):
        time_reading(image_input(max_pixels=1, min_side_px=20), rounds=2)
