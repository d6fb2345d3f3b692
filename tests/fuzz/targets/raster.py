"""PNG and JPEG images."""

import numpy as np

from models.images import ImageRefused, decode
from tests.fuzz.target import Target
from tests.pictures import gradient, image_input, jpeg, png

_SPEC = image_input(max_bytes=1_000_000)


def run(data: bytes) -> None:
    """Decode an image of unsaid kind."""
    pixels = decode(data, None, _SPEC).pixels
    assert np.isfinite(pixels).all()
    assert pixels.min() >= 0
    assert pixels.max() <= 1


def seeds() -> list[bytes]:
    """Give grey images, one of each kind, and a progressive one."""
    small = gradient(12, 10).astype(np.uint8)
    return [png(small), jpeg(small), jpeg(small, progressive=True)]


TARGET = Target(run, seeds, (ImageRefused,), longest=4096)
