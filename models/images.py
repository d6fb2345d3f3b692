"""An encoded image → a picture: DICOM, PNG and JPEG, whatever a sender may have put into them.

What is refused, in this order: more bytes than the manifest accepts; what is no DICOM, PNG or JPEG,
or not what it is called; more pixels than the manifest accepts, by what the header declares and
before anything is decoded; more than one frame; what is damaged.

A DICOM file is known by the letters after its preamble; the 128 bytes of the preamble may be
anything, another image too, and are never looked at. Of PNG and JPEG: transparent is black, the
orientation of EXIF is applied, 16-bit grey stays exact.

Source: DICOM PS3.10 section 7.1; EXIF 2.3 (Orientation).
"""

from io import BytesIO

import numpy as np
from PIL import Image, ImageOps

from models.manifest_inputs import ImageInput
from models.pictures import (
    ImageReason,
    ImageRefused,
    Kind,
    Picture,
    check,
    check_size,
    to_tensor,
    to_tensors,
)
from models.shown import Shown
from models.tensors import FloatArray

__all__ = [
    "CONTENT_TYPES",
    "UNSAID",
    "ImageReason",
    "ImageRefused",
    "Kind",
    "Picture",
    "Shown",
    "check",
    "decode",
    "to_tensor",
    "to_tensors",
]

DICOM = "application/dicom"
CONTENT_TYPES = frozenset({DICOM, "image/png", "image/jpeg", "image/jpg"})
"""What an image may be called; nothing at all and `application/octet-stream` say nothing."""

UNSAID = frozenset({"", "application/octet-stream"})
_PREAMBLE = 128
_WIDE_MODES = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N"})
#: A progressive JPEG has about ten scans; thousands of them take hours to decode.
MOST_SCANS = 64


def decode(content: bytes, content_type: str | None, spec: ImageInput) -> Picture:
    """Decode an image of unknown origin.

    Args:
        content: The encoded image.
        content_type: What it is called; the kind is found out by looking where that says nothing.
        spec: Limits and, for DICOM, which grey levels are wanted.

    Raises:
        ImageRefused: `image-too-large`, `image-blank` (too small) or `image-unreadable`.
    """
    if len(content) > spec.max_bytes:
        raise ImageRefused("image-too-large", "is a larger file than is accepted")
    try:
        if _is_dicom(content, plain_type(content_type)):
            # Imported when wanted: it takes a second, and many an image is a PNG.
            from models.dicom import decode_dicom  # noqa: PLC0415

            return decode_dicom(content, spec)
        return _decode_raster(content, spec)
    except ImageRefused:
        raise
    except Image.DecompressionBombError:
        raise ImageRefused("image-too-large", "has more pixels than are accepted") from None
    except Exception:  # noqa: BLE001 - what a decoder raises on a damaged file can't be foreseen
        # Not chained: a decoder's message may quote the file.
        raise ImageRefused("image-unreadable", "is damaged") from None


def plain_type(content_type: str | None) -> str:
    """Give a content type without its parameters, in lower case; empty for none."""
    return (content_type or "").partition(";")[0].strip().lower()


def _is_dicom(content: bytes, content_type: str) -> bool:
    """Say whether to read it as DICOM; a file that is called something is not taken for another.

    Raises:
        ImageRefused: It is called what can't be read here, or is not what it is called.
    """
    if content_type not in CONTENT_TYPES | UNSAID:
        text = "is of a type that can't be read here (DICOM, PNG and JPEG can)"
        raise ImageRefused("image-unreadable", text)
    has_prefix = content[_PREAMBLE : _PREAMBLE + 4] == b"DICM"
    if content_type == DICOM and not has_prefix:
        raise ImageRefused("image-unreadable", "is called DICOM and is none")
    return has_prefix and content_type in UNSAID | {DICOM}


def _decode_raster(content: bytes, spec: ImageInput) -> Picture:
    with Image.open(BytesIO(content), formats=("PNG", "JPEG")) as image:
        check_size(*image.size, spec)
        check_scans(content)
        if getattr(image, "n_frames", 1) != 1:
            raise ImageRefused("image-unreadable", "has more than one frame")
        kind: Kind = "png" if image.format == "PNG" else "jpeg"
        image.load()
        pixels = _levels(ImageOps.exif_transpose(image))
    photometric = "MONOCHROME2" if pixels.ndim == 2 else "RGB"  # noqa: PLR2004 - grey
    return Picture(pixels, kind, photometric)


def check_scans(content: bytes) -> None:
    """Refuse a JPEG that is made to take long: one of very many scans.

    Raises:
        ImageRefused: `image-unreadable`.
    """
    if content.startswith(b"\xff\xd8") and content.count(b"\xff\xda") > MOST_SCANS:
        raise ImageRefused("image-unreadable", "is a JPEG of too many scans")


def _levels(image: Image.Image) -> FloatArray:
    """Give grey or colour levels from 0 to 1."""
    if image.mode in _WIDE_MODES:
        return np.asarray(image, dtype=np.float32) / np.float32(65535)
    if image.mode == "1":
        return np.asarray(image.convert("L"), dtype=np.float32) / np.float32(255)
    if image.has_transparency_data:
        image = _on_black(image)
    if image.mode != "L":
        image = image.convert("RGB")
    return np.asarray(image, dtype=np.float32) / np.float32(255)


def _on_black(image: Image.Image) -> Image.Image:
    is_grey = image.mode in {"L", "LA"}
    layered = image.convert("RGBA")
    black = Image.new("RGBA", layered.size, (0, 0, 0, 255))
    return Image.alpha_composite(black, layered).convert("L" if is_grey else "RGB")
