# ruff: noqa: INP001 - a folder of one model's files, not a package
"""Eight grey images that are nobody's, for the golden cases: shapes, gradients, noise.

They show whether a machine computes as the maker's did, not whether the model is right.
"""

import base64
import io

import numpy as np
import numpy.typing as npt
from PIL import Image

SIDE = 28
Picture = npt.NDArray[np.uint8]
Field = npt.NDArray[np.float64]

_DOWN, _ACROSS = np.mgrid[0:SIDE, 0:SIDE] / (SIDE - 1.0)


def phantoms() -> dict[str, Picture]:
    """Name → image, (28, 28) of 0..255; the same every time."""
    noise = np.random.default_rng(0).random((SIDE, SIDE))
    drawn = {
        "two dark ovals on grey": _ovals(left=0.25, right=0.25),
        "two dark ovals, the left one clouded": _ovals(left=0.55, right=0.25),
        "two pale ovals": _ovals(left=0.55, right=0.55),
        "two dark ovals, dimly exposed": 0.5 * _ovals(left=0.25, right=0.25),
        "gradient from above": _DOWN,
        "rings": 0.5 + 0.4 * np.cos(30 * np.hypot(_DOWN - 0.5, _ACROSS - 0.5)),
        "noise": noise,
        "uniform grey": np.full((SIDE, SIDE), 0.5),
    }
    return {name: np.rint(255 * field).astype(np.uint8) for name, field in drawn.items()}


def png(picture: Picture) -> str:
    """The image as a PNG in base64."""
    target = io.BytesIO()
    Image.fromarray(picture, mode="L").save(target, "PNG")
    return base64.b64encode(target.getvalue()).decode("ascii")


def _ovals(*, left: float, right: float) -> Field:
    """A pale trunk with two smooth ovals of these grey levels, and a pale stripe between."""
    field = np.full((SIDE, SIDE), 0.7)
    for centre, level in ((0.27, left), (0.73, right)):
        inside = np.exp(-(((_ACROSS - centre) / 0.17) ** 4) - ((_DOWN - 0.48) / 0.36) ** 4)
        field += (level - field) * inside
    return field
