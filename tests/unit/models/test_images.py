import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from models.images import ImageRefused, decode
from tests.pictures import dicom, gradient, image_input, jpeg, png

SPEC = image_input()
GREY = gradient()
COLOUR = np.stack([GREY, GREY[::-1], np.full_like(GREY, 30)], axis=-1)


def refused(content: bytes, content_type: str | None = None, **spec: object) -> str:
    with pytest.raises(ImageRefused) as caught:
        decode(content, content_type, image_input(**spec))
    return caught.value.reason


@given(hnp.arrays(np.uint8, st.tuples(st.integers(2, 9), st.integers(2, 9))))
def test_the_levels_of_a_png_come_back_exactly(pixels):
    picture = decode(png(pixels), "image/png", SPEC)

    assert np.array_equal(picture.pixels, pixels / np.float32(255))
    assert (picture.kind, picture.photometric) == ("png", "MONOCHROME2")


@given(hnp.arrays(np.uint16, st.tuples(st.integers(2, 9), st.integers(2, 9))))
def test_sixteen_bits_of_a_png_are_kept(pixels):
    picture = decode(png(pixels), "image/png", SPEC)

    assert np.allclose(picture.pixels * 65535, pixels, atol=0.01)


@given(hnp.arrays(np.uint8, st.tuples(st.integers(2, 9), st.integers(2, 9), st.just(3))))
def test_the_colours_of_a_png_come_back_exactly(pixels):
    picture = decode(png(pixels), None, SPEC)

    assert np.array_equal(picture.pixels, pixels / np.float32(255))
    assert picture.photometric == "RGB"


def test_a_jpeg_is_close_to_what_was_encoded():
    picture = decode(jpeg(GREY), "image/jpeg; charset=binary", SPEC)

    assert picture.kind == "jpeg"
    assert np.abs(picture.pixels - GREY / 255).max() < 0.1


def test_one_bit_per_pixel_is_black_and_white():
    content = BytesIO()
    Image.fromarray(GREY > 99).save(content, "PNG")

    assert np.array_equal(decode(content.getvalue(), None, SPEC).pixels, GREY > 99)


def test_a_palette_is_looked_up():
    content = BytesIO()
    Image.fromarray(COLOUR).quantize(64).save(content, "PNG")

    picture = decode(content.getvalue(), None, SPEC)

    assert picture.pixels.shape == COLOUR.shape
    assert np.abs(picture.pixels - COLOUR / 255).mean() < 0.05


def test_what_is_transparent_is_black():
    alpha = np.where(GREY > 99, 255, 0).astype(np.uint8)
    see_through = np.stack([GREY, alpha], axis=-1)

    picture = decode(png(see_through, "LA"), None, SPEC)

    assert np.array_equal(picture.pixels, np.where(GREY > 99, GREY, 0) / np.float32(255))


def test_cmyk_is_read_as_colour():
    content = BytesIO()
    Image.fromarray(COLOUR).convert("CMYK").save(content, "JPEG", quality=98)

    picture = decode(content.getvalue(), "image/jpeg", SPEC)

    assert np.abs(picture.pixels - COLOUR / 255).mean() < 0.03


def test_the_orientation_of_exif_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to see it upright

    picture = decode(jpeg(GREY, exif=exif), "image/jpeg", SPEC)

    assert picture.pixels.shape == GREY.shape[::-1]
    assert picture.pixels[2, -3] > 0.9  # the bright square has come to the right


def test_an_animation_is_refused():
    frames = [Image.fromarray(GREY), Image.fromarray(GREY[::-1].copy())]
    content = BytesIO()
    frames[0].save(content, "PNG", save_all=True, append_images=frames[1:])

    assert refused(content.getvalue()) == "image-unreadable"


@pytest.mark.parametrize("side", [(1, 1), (1, 500), (500, 1)])
def test_an_image_of_one_pixel_is_refused_as_blank(side):
    assert refused(png(np.zeros(side, np.uint8))) == "image-blank"


def test_a_file_that_is_too_large_is_not_opened():
    assert refused(png(GREY), max_bytes=50) == "image-too-large"


def test_more_pixels_than_accepted_are_refused():
    assert refused(png(GREY), max_pixels=GREY.size - 1) == "image-too-large"
    assert decode(png(GREY), None, image_input(max_pixels=GREY.size)).rows == len(GREY)


@pytest.mark.parametrize("side", [30_000, 9_000, 2**31 - 1])
def test_a_png_that_claims_to_be_huge_is_refused_before_it_is_decoded(side):
    claim = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(10_000_000))
    content = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", claim) + _chunk(b"IDAT", pixels)

    assert refused(content) == "image-too-large"


def test_a_jpeg_of_thousands_of_scans_is_refused():
    content = jpeg(GREY, progressive=True)
    scans = content[: content.index(b"\xff\xda")] + b"\xff\xda\x00\x02" * 1000 + b"\xff\xd9"

    assert decode(content, None, SPEC).rows == len(GREY)
    assert refused(scans) == "image-unreadable"


@pytest.mark.parametrize(
    "content",
    [png(GREY), png(COLOUR), jpeg(GREY), jpeg(COLOUR, progressive=True)],
    ids=["png", "colour", "jpeg", "progressive"],
)
def test_every_prefix_of_a_file_is_refused_or_decoded_and_nothing_else(content):
    outcomes = {_outcome(content[:length]) for length in range(len(content))}

    assert outcomes <= {"image-unreadable", "decoded"}
    assert _outcome(content[: len(content) // 2]) == "image-unreadable"


@given(st.binary(max_size=300), st.sampled_from([png(GREY), jpeg(GREY)]), st.integers(0, 2000))
def test_damage_anywhere_is_refused_or_decoded_and_nothing_else(noise, content, place):
    damaged = content[:place] + noise + content[place + len(noise) :]

    assert _outcome(damaged) in {"image-unreadable", "image-too-large", "image-blank", "decoded"}


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (b"", None),
        (b"%PDF-1.7", "application/pdf"),
        (b"GIF89a" + bytes(50), "image/gif"),
        (png(GREY), "application/pdf"),
        (png(GREY), "application/dicom"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/png"),
    ],
)
def test_what_is_no_image_or_called_none_is_refused(content, content_type):
    assert refused(content, content_type) == "image-unreadable"


def test_a_file_is_found_out_by_looking_where_nothing_is_said():
    for content in (png(GREY), jpeg(GREY), dicom(GREY)):
        for unsaid in (None, "", "application/octet-stream"):
            assert decode(content, unsaid, SPEC).rows == len(GREY)


def test_a_dicom_file_that_is_called_a_png_is_not_read_as_dicom():
    assert refused(dicom(GREY), "image/png") == "image-unreadable"


def _outcome(content: bytes) -> str:
    try:
        decode(content, None, SPEC)
    except ImageRefused as refusal:
        return refusal.reason
    return "decoded"


def _chunk(kind: bytes, content: bytes) -> bytes:
    crc = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + crc
