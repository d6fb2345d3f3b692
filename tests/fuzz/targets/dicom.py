"""DICOM files: decoded within limits, or refused without a word of theirs."""

import numpy as np
from pydicom import uid

from models.images import DICOM, ImageRefused, decode
from tests.fuzz.target import Target
from tests.pictures import dicom, gradient, image_input

_SPEC = image_input(max_bytes=1_000_000)
_SYNTAXES = (
    uid.ExplicitVRLittleEndian,
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
)


def run(data: bytes) -> None:
    """Decode an image; its levels are finite and within 0 and 1."""
    pixels = decode(data, DICOM, _SPEC).pixels
    assert np.isfinite(pixels).all()
    assert pixels.min() >= 0
    assert pixels.max() <= 1


def seeds() -> list[bytes]:
    """Give an image in each syntax, and one with rescale and window."""
    small = gradient(6, 5)
    windowed = dicom(
        small, RescaleSlope="2", RescaleIntercept="-10", WindowCenter="40", WindowWidth="80"
    )
    return [*(dicom(small, syntax=syntax) for syntax in _SYNTAXES), windowed]


TARGET = Target(run, seeds, (ImageRefused,), longest=4096)
