"""Where in an image an answer comes from: squares of it are hidden, and what that did is drawn.

A square is hidden by the mean grey of the image, which says less than black would: black is a
finding of its own on an X-ray. The squares overlap as far as the number of runs allows; a pixel's
value is the mean of what the squares over it did. The map shows where hiding changes the answer,
and by how much in full colour; it is no outline of a finding.

Source: Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", section 4.2.
"""

from collections.abc import Sequence
from functools import partial
from io import BytesIO
from itertools import product
from math import ceil

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from models.explained import Drawing
from models.manifest import ImageInput, Manifest
from models.occlusion import Plan, Scale, Unexplainable
from models.tensors import FloatArray, Tensors

#: Orange raises the answer, blue lowers it: a pair that colour-blind people tell apart.
RAISES_RGB = (240, 130, 0)
LOWERS_RGB = (0, 110, 230)
CAPTION = (
    "orange: raises the model's value, blue: lowers it\n"
    "full colour: {full}\n"
    "no outline of a finding; made by AI"
)

#: Side of a square as a share of the image's, where the manifest does not say.
_SHARE = 5
#: Length of the longer side of the picture; an integer multiple of the tensor's where it is small.
_LONG_SIDE_PX = 384
_MOST_OPAQUE = 0.6
#: Share of the largest effect from which on a region gets an outline.
_OUTLINED = 0.5
_LINE_PX = 2
_CAPTION_PX = 50
_GREY = npt.NDArray[np.uint8]

Square = tuple[int, int]
"""Row and column of the upper left corner."""


def plan_image(manifest: Manifest, image: ImageInput, case: Tensors) -> Plan:
    """Plan to hide square after square.

    Args:
        manifest: Of the model.
        image: Its `[image]`.
        case: One patient's tensors, the image float32 of shape (channels, height, width).

    Raises:
        Unexplainable: The manifest allows too few runs for any square.
    """
    pixels = case[image.input_name]
    most = manifest.explanation.max_evaluations - 1
    if most < 1:
        raise Unexplainable("the manifest allows too few runs")
    _, height, width = pixels.shape
    side, squares = squares_of(height, width, manifest.explanation.patch_px, most)
    blank = pixels.mean(axis=(1, 2), keepdims=True)
    hidden = [_covered(pixels, blank, side, [square]) for square in squares]
    hidden.append(np.broadcast_to(blank, pixels.shape).copy())
    return Plan(
        "squares",
        tuple(f"{row}:{column}" for row, column in squares),
        tuple({**case, image.input_name: each} for each in hidden),
        tuple(each.label for each in manifest.inputs if manifest.width),
        draw=partial(draw, pixels, side, squares),
    )


def squares_of(
    height: int, width: int, wanted_px: int | None, most: int
) -> tuple[int, tuple[Square, ...]]:
    """Lay squares over an image, as densely as may be run; every pixel is covered.

    Args:
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        wanted_px: Side of a square; made larger where too many would be needed.
        most: Most squares.

    Returns:
        The side, and the squares.
    """
    side = min(wanted_px or ceil(min(height, width) / _SHARE), height, width)
    while ceil(height / side) * ceil(width / side) > most and side < min(height, width):
        side += 1
    step = next(
        (s for s in range(1, side + 1) if _count(height, side, s) * _count(width, side, s) <= most),
        side,
    )
    rows, columns = _starts(height, side, step), _starts(width, side, step)
    return side, tuple(product(rows, columns))


def heat_of(
    shape: tuple[int, int], side: int, squares: Sequence[Square], changes: FloatArray
) -> FloatArray:
    """Spread what each square did over its pixels.

    Args:
        shape: Height and width of the image.
        side: Of the squares.
        squares: Where they are.
        changes: The answer minus the answer with each hidden, of shape (squares,).

    Returns:
        float32 of that shape: the mean change of the squares over each pixel.
    """
    total, count = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for (row, column), change in zip(squares, changes, strict=True):
        place = np.s_[row : row + side, column : column + side]
        total[place] += change
        count[place] += 1
    return np.divide(total, count, out=np.zeros(shape, np.float32), where=count > 0)


def draw(
    pixels: FloatArray, side: int, squares: Sequence[Square], changes: FloatArray, scale: Scale
) -> Drawing | None:
    """Draw the changes over the image, and below it what the colours mean.

    Args:
        pixels: The image as the model saw it, of shape (channels, height, width).
        side: Of the squares.
        squares: Where they are.
        changes: What hiding each did, of shape (squares,).
        scale: How strong an effect is drawn in full colour.

    Returns:
        None where no square did anything: a map of nothing would look like one of something.
    """
    _, height, width = pixels.shape
    heat = heat_of((height, width), side, squares, changes)
    strongest = float(np.abs(heat).max())
    if strongest < scale.nothing:
        return None
    # The strongest square, as the text tells it; where squares overlap, a pixel has their mean.
    full = max(float(np.abs(changes).max()), scale.full)
    grey = Image.fromarray(_grey(pixels)).resize(_size(height, width), Image.Resampling.BICUBIC)
    picture = _coloured(grey.convert("RGB"), _resized(heat / full, grey.size))
    return _encoded(_with_caption(picture, CAPTION.format(full=scale.shown(full))))


def _coloured(picture: Image.Image, heat: FloatArray) -> Image.Image:
    """Lay colours over a picture: `heat` from -1 (lowers) to 1 (raises)."""
    strength = np.clip(np.abs(heat), 0, 1)
    opaque = np.where(_outline(strength > _OUTLINED), _MOST_OPAQUE, _MOST_OPAQUE * strength)
    colour = np.where(heat[..., None] >= 0, RAISES_RGB, LOWERS_RGB).astype(np.uint8)
    mask = Image.fromarray((255 * opaque).astype(np.uint8))
    return Image.composite(Image.fromarray(colour), picture, mask)


def _resized(heat: FloatArray, size: tuple[int, int]) -> FloatArray:
    smooth = Image.fromarray(heat).resize(size, Image.Resampling.BICUBIC)
    return np.asarray(smooth, dtype=np.float32)


def _outline(inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Give the pixels at which a region begins, so that its border is seen on any grey."""
    below, beside = np.roll(inside, _LINE_PX, axis=0), np.roll(inside, _LINE_PX, axis=1)
    edge: npt.NDArray[np.bool_] = (inside != below) | (inside != beside)
    edge[:_LINE_PX] = edge[:, :_LINE_PX] = False
    return edge


def _covered(
    pixels: FloatArray, blank: FloatArray, side: int, squares: Sequence[Square]
) -> FloatArray:
    changed = pixels.copy()
    for row, column in squares:
        changed[:, row : row + side, column : column + side] = blank
    return changed


def _count(length: int, side: int, step: int) -> int:
    return ceil((length - side) / step) + 1


def _starts(length: int, side: int, step: int) -> list[int]:
    count = _count(length, side, step)
    return [round(place) for place in np.linspace(0, length - side, count).tolist()]


def _size(height: int, width: int) -> tuple[int, int]:
    longer = max(height, width)
    scale = max(1, _LONG_SIDE_PX // longer) if longer < _LONG_SIDE_PX else _LONG_SIDE_PX / longer
    return round(width * scale), round(height * scale)


def _grey(pixels: FloatArray) -> _GREY:
    """Give the image from black to white, whatever the model's normalisation was."""
    plain = pixels.mean(axis=0)
    low, high = float(plain.min()), float(plain.max())
    found: _GREY = (255 * (plain - low) / ((high - low) or 1.0)).astype(np.uint8)
    return found


def _with_caption(picture: Image.Image, caption: str) -> Image.Image:
    whole = Image.new("RGB", (picture.width, picture.height + _CAPTION_PX), "black")
    whole.paste(picture)
    ImageDraw.Draw(whole).multiline_text((4, picture.height + 4), caption, fill="white")
    return whole


def _encoded(picture: Image.Image) -> Drawing:
    file = BytesIO()
    picture.save(file, "PNG")
    return Drawing(file.getvalue(), picture.width, picture.height)
