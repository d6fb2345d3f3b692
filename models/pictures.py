"""A decoded image, what is refused of it, and how it becomes a network's tensor.

Grey levels are 0 for black and 1 for white, whatever the file said. What an image shows (modality,
body part, view) may be said by the file, by the record, or by both: if one of them says something
the model was not made for, it is refused; if none says anything, the manifest decides.

Source: DICOM PS3.3 C.7.3.1.1.1 (Modality), PS3.16 annex L (Body Part Examined).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from models.manifest_inputs import ImageInput
from models.manifest_terms import CodeRef
from models.shown import NOTHING_STATED, Shown
from models.tensors import FloatArray, Tensors

ImageReason = Literal[
    "image-unreadable",
    "image-too-large",
    "image-blank",
    "wrong-modality",
    "wrong-body-part",
    "wrong-view",
]
Kind = Literal["dicom", "png", "jpeg"]

_GREY = 2
_LUMA = np.asarray((0.299, 0.587, 0.114), dtype=np.float32)
"""Weights of red, green and blue in a grey level (ITU-R BT.601)."""


class ImageRefused(ValueError):
    """An image can't be given to a model.

    The message is a sentence's end for people ("… is damaged"); it quotes nothing of the image.

    Attributes:
        reason: Why, as a code.
    """

    def __init__(self, reason: ImageReason, text: str) -> None:
        self.reason: ImageReason = reason
        super().__init__(text)


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded image; nothing of the patient is kept with it.

    Attributes:
        pixels: float32 of shape (rows, columns), or (rows, columns, 3) for red, green and blue;
            0 is black, 1 is white.
        kind: What the file was.
        photometric: How its pixels were stored, in DICOM's words.
        shown: What the file says it shows.
        instance: SOP Instance UID of a DICOM file.
    """

    pixels: FloatArray
    kind: Kind
    photometric: str
    shown: Shown = NOTHING_STATED
    instance: str | None = None

    @property
    def rows(self) -> int:
        """Height in pixels."""
        return int(self.pixels.shape[0])

    @property
    def columns(self) -> int:
        """Width in pixels."""
        return int(self.pixels.shape[1])

    def grey(self) -> FloatArray:
        """The grey levels, of shape (rows, columns)."""
        if self.pixels.ndim == _GREY:
            return self.pixels
        return np.asarray(self.pixels @ _LUMA, dtype=np.float32)


def check_size(columns: int, rows: int, spec: ImageInput) -> None:
    """Refuse an image by the size it declares, before it is decoded.

    Raises:
        ImageRefused: `image-too-large`, or `image-blank` where it is too small.
    """
    if columns * rows > spec.max_pixels:
        raise ImageRefused("image-too-large", "has more pixels than are accepted")
    if min(columns, rows) < spec.min_side_px:
        raise ImageRefused("image-blank", "is too small to show anything")


def check(picture: Picture, spec: ImageInput, stated: Shown = NOTHING_STATED) -> None:
    """Refuse an image that the model was not made for, or on which nothing is to be seen.

    Args:
        picture: The image.
        spec: What the model was made for.
        stated: What the record says of the image.

    Raises:
        ImageRefused: `wrong-modality`, `wrong-body-part`, `wrong-view` or `image-blank`.
    """
    check_shown((picture.shown, stated), spec)
    if float(picture.grey().std()) < spec.min_contrast:
        raise ImageRefused("image-blank", "is blank")


def check_shown(said: Sequence[Shown], spec: ImageInput) -> None:
    """Refuse an image by what is said of it; where nothing is said, the manifest decides.

    Raises:
        ImageRefused: `wrong-modality`, `wrong-body-part` or `wrong-view`.
    """
    _check_modality([each.modality for each in said], spec)
    _check_body_part(said, spec)
    _check_view(said, spec)


def to_tensor(picture: Picture, spec: ImageInput) -> FloatArray:
    """Make the tensor of one image.

    It is scaled with a bicubic filter that averages over what becomes one pixel (antialiasing);
    an image that has the size already is left as it is.

    Returns:
        float32 of shape (channels, height, width).
    """
    planes = [_resized(plane, spec) for plane in _planes(picture, spec.channels)]
    low, high = spec.scale
    tensor = np.stack(planes) * np.float32(high - low) + np.float32(low)
    if spec.mean:
        tensor -= _per_channel(spec.mean)
    if spec.std:
        tensor /= _per_channel(spec.std)
    return np.ascontiguousarray(tensor, dtype=np.float32)


def to_tensors(picture: Picture, spec: ImageInput) -> Tensors:
    """Give the tensor by the name of the graph's input, without the batch axis."""
    return {spec.input_name: to_tensor(picture, spec)}


def _planes(picture: Picture, channels: int) -> Sequence[FloatArray]:
    if channels == 1:
        return [picture.grey()]
    if picture.pixels.ndim == _GREY:
        return [picture.pixels] * channels
    return [picture.pixels[:, :, channel] for channel in range(channels)]


def _resized(plane: FloatArray, spec: ImageInput) -> FloatArray:
    rows, columns = plane.shape
    if spec.resize == "fit":
        return _fitted(plane, spec.height, spec.width)
    box = (0.0, 0.0, float(columns), float(rows))
    if spec.resize == "crop":
        box = _centre(columns, rows, spec.width / spec.height)
    return _scaled(plane, spec.width, spec.height, box)


def _fitted(plane: FloatArray, height: int, width: int) -> FloatArray:
    rows, columns = plane.shape
    shrink = min(height / rows, width / columns)
    inner = max(1, round(rows * shrink)), max(1, round(columns * shrink))
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    padded = np.zeros((height, width), dtype=np.float32)
    box = (0.0, 0.0, float(columns), float(rows))
    padded[top : top + inner[0], left : left + inner[1]] = _scaled(plane, inner[1], inner[0], box)
    return padded


def _centre(columns: int, rows: int, aspect: float) -> tuple[float, float, float, float]:
    """Give the largest centred box (left, top, right, bottom) of an aspect, width by height."""
    width, height = min(columns, rows * aspect), min(rows, columns / aspect)
    left, top = (columns - width) / 2, (rows - height) / 2
    return left, top, left + width, top + height


def _scaled(
    plane: FloatArray, width: int, height: int, box: tuple[float, float, float, float]
) -> FloatArray:
    image = Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32))
    scaled = image.resize((width, height), Image.Resampling.BICUBIC, box=box)
    # A bicubic filter overshoots at edges.
    return np.clip(np.asarray(scaled, dtype=np.float32), 0, 1)


def _per_channel(numbers: Sequence[float]) -> FloatArray:
    return np.asarray(numbers, dtype=np.float32)[:, np.newaxis, np.newaxis]


def _check_modality(said: Iterable[str | None], spec: ImageInput) -> None:
    codes = {code for code in said if code}
    if codes - set(spec.modalities):
        text = "is of a modality that the model was not made for"
        raise ImageRefused("wrong-modality", text)
    if not codes and spec.if_unstated == "refuse":
        raise ImageRefused("wrong-modality", "does not say of which modality it is")


def _check_body_part(said: Sequence[Shown], spec: ImageInput) -> None:
    verdicts = {verdict for each in said for verdict in _verdicts(each, spec)}
    if False in verdicts:
        text = "shows a part of the body that the model was not made for"
        raise ImageRefused("wrong-body-part", text)
    is_asked = spec.body_parts or spec.body_sites
    if is_asked and not verdicts and spec.if_unstated == "refuse":
        raise ImageRefused("wrong-body-part", "does not say which part of the body it shows")


def _verdicts(said: Shown, spec: ImageInput) -> Iterable[bool]:
    """Judge what is said; a code of a system that the manifest does not use says nothing."""
    if said.body_part and spec.body_parts:
        yield said.body_part in spec.body_parts
    yield from _coded(said.body_sites, spec.body_sites)


def _check_view(said: Sequence[Shown], spec: ImageInput) -> None:
    verdicts = {verdict for each in said for verdict in _view_verdicts(each, spec)}
    if False in verdicts:
        raise ImageRefused("wrong-view", "is a view that the model was not made for")
    if spec.views and not verdicts and spec.if_unstated == "refuse":
        raise ImageRefused("wrong-view", "does not say which view it is")


def _view_verdicts(said: Shown, spec: ImageInput) -> Iterable[bool]:
    if said.view and spec.views:
        yield said.view in spec.views
    yield from _coded(said.view_codes, spec.view_codes)


def _coded(said: Iterable[tuple[str, str]], accepted: Sequence[CodeRef]) -> Iterable[bool]:
    """Judge codes, if one is of a system that the manifest uses."""
    systems = {each.system for each in accepted}
    told = {code for code in said if code[0] in systems}
    if told:
        yield bool(told & {each.key for each in accepted})
