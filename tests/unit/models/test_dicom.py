import struct
import tracemalloc
import zlib
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence

from models.images import ImageRefused, Shown, decode
from tests.pictures import CANARY, dicom, dicom_dataset, dicom_file, gradient, image_input, png

SPEC = image_input()
FULL = image_input(window="full-range")
GREY = gradient()
NATIVE = (
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.DeflatedExplicitVRLittleEndian,
    uid.RLELossless,
)


def refused(content: bytes, **spec: object) -> ImageRefused:
    with pytest.raises(ImageRefused) as caught:
        decode(content, "application/dicom", image_input(**spec))
    return caught.value


@st.composite
def stored(draw):
    """Pixels as a machine stores them: number of bits, with or without a sign."""
    bits = draw(st.sampled_from([8, 10, 12, 16]))
    signed = draw(st.booleans())
    low = -(2 ** (bits - 1)) if signed else 0
    dtype = np.dtype(f"{'i' if signed else 'u'}{1 if bits == 8 else 2}")
    shape = draw(st.tuples(st.integers(2, 7), st.integers(2, 7)))
    pixels = draw(hnp.arrays(dtype, shape, elements=st.integers(low, low + 2**bits - 1)))
    return pixels, bits, low


@given(stored(), st.sampled_from(NATIVE), st.booleans())
def test_what_was_stored_is_what_is_seen(given_, syntax, inverted):
    pixels, bits, low = given_
    photometric = "MONOCHROME1" if inverted else "MONOCHROME2"

    picture = decode(dicom(pixels, bits=bits, photometric=photometric, syntax=syntax), None, SPEC)

    seen = (pixels.astype(np.float64) - low) / (2**bits - 1)
    assert np.allclose(picture.pixels, 1 - seen if inverted else seen, atol=1e-6)
    assert (picture.kind, picture.photometric) == ("dicom", photometric)


@given(
    stored(),
    st.sampled_from([1, 0.5, -1, 2.44140625]),
    st.sampled_from([0, -1024, 31.5]),
    st.floats(0.2, 0.8),
    st.floats(0.05, 0.5),
    st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
)
def test_rescale_and_window_are_those_of_the_standard(
    given_, slope, intercept, middle, breadth, function
):
    pixels, bits, low = given_
    centre = round((low + middle * 2**bits) * slope + intercept, 3)
    width = round(max(2.0, breadth * 2**bits * abs(slope)), 3)
    content = dicom(
        pixels, bits=bits, RescaleSlope=str(slope), RescaleIntercept=str(intercept),
        WindowCenter=str(centre), WindowWidth=str(width), VOILUTFunction=function,
    )  # fmt: skip

    picture = decode(content, None, SPEC)

    value = pixels.astype(np.float64) * slope + intercept
    if function == "LINEAR":
        wanted = ((value - (centre - 0.5)) / (width - 1) + 0.5).clip(0, 1)
    elif function == "LINEAR_EXACT":
        wanted = ((value - centre) / width + 0.5).clip(0, 1)
    else:
        wanted = 1 / (1 + np.exp((-4 * (value - centre) / width).clip(-700, 700)))
    assert np.allclose(picture.pixels, wanted, atol=1e-5)


def test_of_several_windows_the_first_counts():
    one = dicom(GREY, WindowCenter="100", WindowWidth="50")
    two = dicom(GREY, WindowCenter=["100", "20"], WindowWidth=["50", "10"])

    assert np.array_equal(decode(one, None, SPEC).pixels, decode(two, None, SPEC).pixels)


def test_a_window_of_one_is_a_step():
    picture = decode(dicom(GREY, WindowCenter="100", WindowWidth="1"), None, SPEC)

    assert np.array_equal(picture.pixels, GREY > 99.5)


@pytest.mark.parametrize(
    ("width", "function"), [("0", "LINEAR"), ("0.5", "LINEAR"), ("0", "SIGMOID"), ("9", "CUBIC")]
)
def test_a_window_that_shows_nothing_is_refused(width, function):
    content = dicom(GREY, WindowCenter="1", WindowWidth=width, VOILUTFunction=function)

    assert refused(content).reason == "image-unreadable"


def test_the_window_of_the_manifest_decides():
    dark = (GREY // 4 + 20).astype(np.uint8)
    content = dicom(dark, WindowCenter="40", WindowWidth="21")

    assert np.allclose(decode(content, None, FULL).pixels, dark / 255)
    extremes = decode(content, None, image_input(window="min-max")).pixels
    assert (extremes.min(), extremes.max()) == (0, 1)
    assert np.allclose(extremes, (dark - 20.0) / (dark.max() - 20.0), atol=1e-6)


def test_a_voi_table_is_looked_up():
    table = _table([4095 - 16 * level for level in range(256)], bits=12)

    picture = decode(dicom(GREY, VOILUTSequence=Sequence([table])), None, SPEC)

    assert np.allclose(picture.pixels, (4095 - 16.0 * GREY) / 4095, atol=1e-6)


def test_a_modality_table_is_looked_up():
    table = _table([level * level for level in range(256)], bits=16)

    picture = decode(dicom(GREY, ModalityLUTSequence=Sequence([table])), None, SPEC)

    assert np.allclose(picture.pixels, GREY.astype(np.float64) ** 2 / 255**2, atol=1e-6)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_and_does_not_count_for_the_extremes(photometric):
    pixels = (GREY // 2 + 20).astype(np.uint8)
    pixels[:, :5] = 255
    content = dicom(pixels, photometric=photometric, PixelPaddingValue=255)

    picture = decode(content, None, image_input(window="min-max"))

    assert not picture.pixels[:, :5].any()
    assert (picture.pixels[:, 5:].min(), picture.pixels[:, 5:].max()) == (0, 1)


def test_a_range_of_padding_is_black():
    picture = decode(dicom(GREY, PixelPaddingValue=200, PixelPaddingRangeLimit=255), None, SPEC)

    assert not picture.pixels[GREY >= 200].any()
    assert np.allclose(picture.pixels[GREY < 200], GREY[GREY < 200] / 255)


def test_bits_beyond_those_stored_are_not_looked_at():
    pixels = np.rint(GREY.astype(np.float64) * 16).astype(np.uint16)
    content = dicom(pixels | 0xF000, bits=12)

    assert np.allclose(decode(content, None, SPEC).pixels, pixels / 4095)


def test_colour_is_read_as_red_green_and_blue():
    colour = np.stack([GREY, GREY[::-1], np.full_like(GREY, 30)], axis=-1)

    picture = decode(dicom(colour, photometric="RGB"), None, SPEC)

    assert np.array_equal(picture.pixels, colour / np.float32(255))


def test_ybr_becomes_red_green_and_blue():
    colour = np.stack([GREY, GREY[::-1], np.full_like(GREY, 30)], axis=-1)
    ybr = np.asarray(Image.fromarray(colour).convert("YCbCr"))

    picture = decode(dicom(ybr, photometric="YBR_FULL"), None, SPEC)

    assert np.abs(picture.pixels - colour / 255).max() < 0.02


def test_a_palette_is_looked_up():
    ramp = np.arange(256, dtype="<u2") * 257
    tables = {
        f"{name}PaletteColorLookupTable{part}": value
        for name, entries in (("Red", ramp), ("Green", ramp[::-1]), ("Blue", ramp * 0))
        for part, value in (("Descriptor", [256, 0, 16]), ("Data", entries.tobytes()))
    }

    picture = decode(dicom(GREY, photometric="PALETTE COLOR", **tables), None, SPEC)

    assert np.allclose(picture.pixels[..., 0], GREY / 255)
    assert np.allclose(picture.pixels[..., 1], 1 - GREY / 255)
    assert not picture.pixels[..., 2].any()


@pytest.mark.parametrize(
    ("syntax", "kind", "options", "close"),
    [
        (uid.JPEGBaseline8Bit, "JPEG", {"quality": 95}, 0.1),
        (uid.JPEG2000Lossless, "JPEG2000", {"irreversible": False}, 1e-6),
        (uid.JPEG2000, "JPEG2000", {"irreversible": True}, 0.05),
    ],
)
def test_a_compressed_frame_is_decoded(syntax, kind, options, close):
    picture = decode(_compressed(GREY, syntax, kind, **options), None, SPEC)

    assert np.abs(picture.pixels - GREY / 255).max() <= close


def test_sixteen_bits_of_a_compressed_frame_are_kept():
    wide = gradient(top=4095)
    content = _compressed(wide, uid.JPEG2000Lossless, "JPEG2000", bits=16, irreversible=False)

    assert np.allclose(decode(content, None, SPEC).pixels, wide / 65535)


@pytest.mark.parametrize(
    ("syntax", "said"),
    [
        (uid.JPEGLSLossless, "JPEG-LS"),
        (uid.JPEGLosslessSV1, "JPEG Lossless"),
        (uid.MPEG4HP41, "MPEG-4"),
    ],
)
def test_a_transfer_syntax_that_can_not_be_read_is_refused_by_its_name(syntax, said):
    dataset = dicom_dataset(GREY)
    dataset.PixelData = encapsulate([bytes(100)])
    dataset["PixelData"].is_undefined_length = True

    assert said in str(refused(dicom_file(dataset, syntax=syntax)))


def test_an_unknown_transfer_syntax_is_not_quoted():
    content = dicom(GREY).replace(uid.ExplicitVRLittleEndian.encode(), b"1.2.826.0.1.3680043")

    assert "(an unknown transfer syntax)" in str(refused(content))


def test_the_preamble_may_be_anything():
    for preamble in ((png(GREY) * 9)[:128], b"MZ" + bytes(126), b"\xff" * 128):
        picture = decode(dicom_file(dicom_dataset(GREY), preamble=preamble), None, SPEC)

        assert np.allclose(picture.pixels, GREY / 255)


def test_the_file_says_what_it_shows():
    content = dicom(GREY, Modality="cr ", BodyPartExamined="Chest", ViewPosition=None)

    picture = decode(content, None, SPEC)

    assert picture.shown == Shown("CR", "CHEST", None)
    assert picture.instance


def test_nothing_of_the_patient_is_kept():
    picture = decode(dicom(GREY), None, SPEC)

    assert CANARY not in repr(vars(picture))


# --- hostile files --------------------------------------------------------------------------


def test_several_frames_are_refused():
    content = dicom(GREY, NumberOfFrames="2", PixelData=GREY.tobytes() * 2)

    assert refused(content).reason == "image-unreadable"


def test_raw_detector_data_is_refused():
    assert "raw detector data" in str(refused(dicom(GREY, PresentationIntentType="FOR PROCESSING")))


@pytest.mark.parametrize(
    "changes",
    [
        {"PixelData": None},
        {"Rows": None},
        {"PhotometricInterpretation": "HSV"},
        {"SamplesPerPixel": 3},
        {"BitsAllocated": 32},
        {"BitsStored": 9},
        {"RescaleSlope": "1e300", "RescaleIntercept": "0", "WindowCenter": "1"},
    ],
)
def test_a_header_that_makes_no_picture_is_refused_or_read(changes):
    assert _outcome(dicom(GREY, **changes)) in {"image-unreadable", "decoded"}


@pytest.mark.parametrize(("rows", "columns"), [(65535, 65535), (40_000, 2_000)])
def test_a_claim_of_many_pixels_is_refused_before_anything_is_decoded(rows, columns):
    content = dicom(GREY, Rows=rows, Columns=columns)

    tracemalloc.start()
    refusal = refused(content)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert refusal.reason == "image-too-large"
    assert peak < 5_000_000


def test_less_pixels_than_declared_are_refused():
    assert refused(dicom(GREY, Rows=3000, Columns=3000)).reason == "image-unreadable"


def test_a_compressed_frame_that_is_larger_than_declared_is_refused():
    content = _compressed(GREY, uid.JPEGBaseline8Bit, "JPEG", Rows=16, Columns=16)

    assert "another size" in str(refused(content))


def test_a_run_length_bomb_is_refused():
    dataset = dicom_dataset(GREY)
    header = struct.pack("<16L", 1, 64, *[0] * 14)
    dataset.PixelData = encapsulate([header + b"\x81\x00" * 500_000])
    dataset["PixelData"].is_undefined_length = True

    assert "another size" in str(refused(dicom_file(dataset, syntax=uid.RLELossless)))


def test_a_deflated_bomb_is_refused():
    content = dicom(GREY)
    whole = dicom(GREY, syntax=uid.DeflatedExplicitVRLittleEndian)
    meta = whole[: 144 + struct.unpack_from("<L", whole, 140)[0]]
    squeezed = zlib.compressobj(9, wbits=-15)
    bomb = squeezed.compress(bytes(50_000_000)) + squeezed.flush()

    assert refused(meta + bomb).reason == "image-too-large"
    assert decode(content, None, SPEC).rows == len(GREY)


def test_sequences_nested_a_thousand_deep_are_refused():
    nested = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 5000

    assert refused(_with_elements(nested)).reason == "image-unreadable"


def test_a_million_empty_elements_are_refused_soon():
    items = b"\xfe\xff\x00\xe0\x00\x00\x00\x00" * 1_000_000
    many = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff" + items

    assert "too many elements" in str(refused(_with_elements(many)))


def test_an_enormous_table_is_refused():
    items = b"\xfe\xff\x00\xe0\x00\x00\x00\x00" * 100_000
    table = b"\x28\x00\x10\x30SQ\0\0" + struct.pack("<L", len(items)) + items

    assert "look-up table" in str(refused(_with_elements(table, before=b"\xe0\x7f")))


def test_an_element_that_claims_gigabytes_is_refused():
    assert refused(_with_elements(b"\x08\x00\x05\x00UT\0\0\xfe\xff\xff\xff")).reason == (
        "image-unreadable"
    )


@pytest.mark.parametrize("syntax", [*NATIVE, uid.JPEGBaseline8Bit])
def test_every_prefix_of_a_file_is_refused_and_nothing_else(syntax):
    small = gradient(8, 8)
    is_jpeg = syntax == uid.JPEGBaseline8Bit
    content = _compressed(small, syntax, "JPEG") if is_jpeg else dicom(small, syntax=syntax)

    outcomes = [_outcome(content[:length]) for length in range(len(content))]

    assert set(outcomes) <= {"image-unreadable", "decoded"}
    assert "decoded" not in outcomes[: len(content) // 2]


@given(st.binary(max_size=100), st.sampled_from(NATIVE), st.integers(128, 900))
def test_damage_anywhere_is_refused_or_decoded_and_nothing_else(noise, syntax, place):
    content = dicom(gradient(8, 8), syntax=syntax)
    damaged = content[:place] + noise + content[place + len(noise) :]

    assert _outcome(damaged) in {"image-unreadable", "image-too-large", "image-blank", "decoded"}


def test_a_refusal_quotes_nothing_of_the_file(caplog, capfd):
    content = dicom(GREY, Modality=CANARY[:16], RescaleSlope="1", RescaleIntercept="1")
    broken = content.replace(b"MONOCHROME2 ", b"Canary^Pict ")

    assert "Canary" not in str(refused(broken))
    assert "Canary" not in caplog.text
    assert "Canary" not in "".join(capfd.readouterr())


def _outcome(content: bytes) -> str:
    try:
        picture = decode(content, "application/dicom", SPEC)
    except ImageRefused as refusal:
        return refusal.reason
    return "decoded" if np.isfinite(picture.pixels).all() else "not a number"


def _compressed(pixels, syntax, kind, *, bits=8, Rows=None, Columns=None, **options) -> bytes:  # noqa: N803
    file = BytesIO()
    if kind == "JPEG2000":
        options["no_jp2"] = True
    Image.fromarray(pixels).save(file, kind, **options)
    dataset = dicom_dataset(pixels, bits=bits)
    dataset.PixelData = encapsulate([file.getvalue()])
    dataset["PixelData"].is_undefined_length = True
    dataset.Rows, dataset.Columns = Rows or dataset.Rows, Columns or dataset.Columns
    return dicom_file(dataset, syntax=syntax)


def _table(entries: list[int], *, bits: int) -> Dataset:
    table = Dataset()
    table.LUTDescriptor = [len(entries), 0, bits]
    table.add_new(0x00283006, "US", entries)
    return table


def _with_elements(elements: bytes, *, before: bytes = b"\x08\x00\x60\x00CS") -> bytes:
    """Put raw elements into a file, before another one."""
    content = dicom(GREY)
    place = content.index(before)
    return content[:place] + elements + content[place:]
