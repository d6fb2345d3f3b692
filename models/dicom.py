"""A DICOM file of one frame → a picture, by the steps of the standard's grey scale pipeline.

Stored values → Modality LUT or rescale → VOI LUT or window → inverted for MONOCHROME1; pixels of
the padding value are black. All of it is worked out once for each stored value (at most 65,536) and
then looked up, so that a large image costs no more memory than its pixels. Colour (RGB, YBR,
palette) is read as red, green and blue.

A hostile file must cost no more than an honest one: the number of elements read, the size of what
was deflated and of a run-length encoding, and the pixels that a compressed frame declares are all
limited. Only a list of elements is read; none of them names the patient. What pydicom warns of or
logs is dropped, since it may quote values.

Source: DICOM PS3.3 C.7.6.3.1 (pixels), C.11.1 (Modality LUT), C.11.2 (VOI LUT), PS3.5 annex A
(transfer syntaxes) and annex G (run-length encoding), PS3.10 section 7.1.
"""

import logging
import struct
import threading
import warnings
import zlib
from collections.abc import Sequence
from io import BytesIO
from itertools import pairwise
from math import isfinite
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom import uid
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.filereader import read_dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi

from models.images import check_scans
from models.manifest_inputs import ImageInput, Window
from models.pictures import ImageRefused, Picture, check_size
from models.shown import Shown
from models.tensors import FloatArray

Levels = npt.NDArray[np.float64]

_START = 132
"""Where the file meta information begins: after preamble and prefix."""
_META_GROUP = 0x0002
_MOST_READS = 40_000
"""How often a file may be read from: an honest header has some hundred elements."""
_MOST_LUT_BYTES = 2**19
_ROWS_AT_ONCE = 256

#: Transfer syntaxes of which an image can be decoded.
SYNTAXES = frozenset(
    {
        uid.ImplicitVRLittleEndian,
        uid.ExplicitVRLittleEndian,
        uid.ExplicitVRBigEndian,
        uid.DeflatedExplicitVRLittleEndian,
        uid.JPEGBaseline8Bit,
        uid.JPEGExtended12Bit,
        uid.JPEG2000Lossless,
        uid.JPEG2000,
        uid.RLELossless,
    }
)
_GREY = frozenset({"MONOCHROME1", "MONOCHROME2"})
_COLOUR = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"})
_PALETTE = "PALETTE COLOR"
_READ = (
    *("SOPInstanceUID", "Modality", "BodyPartExamined", "ViewPosition", "PresentationIntentType"),
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation"),
    *("PlanarConfiguration", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("PixelPaddingValue", "PixelPaddingRangeLimit", "RescaleSlope", "RescaleIntercept"),
    *("ModalityLUTSequence", "VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction"),
    *("RedPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableDescriptor"),
    *("BluePaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData"),
    *("GreenPaletteColorLookupTableData", "BluePaletteColorLookupTableData", "PixelData"),
)
_TAGS: list[Any] = [tag_for_keyword(keyword) for keyword in _READ]

_quiet = threading.Lock()
logging.getLogger("pydicom").propagate = False


class BoundedReads(BytesIO):
    """A file that may be read from only so often: a million empty elements end soon."""

    _left = _MOST_READS

    def read(self, size: int | None = -1, /) -> bytes:
        """Read, as a file does.

        Raises:
            ImageRefused: It was read from too often.
        """
        self._left -= 1
        if not self._left:
            raise ImageRefused("image-unreadable", "has too many elements")
        return super().read(size)


def decode_dicom(content: bytes, spec: ImageInput) -> Picture:
    """Decode a DICOM file of one frame.

    Args:
        content: The file, with preamble and prefix.
        spec: Limits, and which grey levels are wanted.

    Raises:
        ImageRefused: It is too large, too small, or can't be read here.
        Exception: Whatever a decoder makes of a damaged file.
    """
    # The filters of warnings belong to the whole process, so one thread at a time changes them.
    with _quiet, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        syntax, dataset = _read(content, spec)
        _check_header(dataset, spec)
        _check_frame(syntax, dataset)
        stored, _ = get_decoder(syntax).as_array(dataset)
        pixels = _pixels(stored, dataset, spec.window)
    return Picture(
        pixels,
        "dicom",
        str(dataset.PhotometricInterpretation),
        _shown(dataset),
        str(dataset.get("SOPInstanceUID") or "") or None,
    )


# --- the file -------------------------------------------------------------------------------


def _read(content: bytes, spec: ImageInput) -> tuple[uid.UID, Dataset]:
    """Read the elements that matter; no pixel is decoded."""
    file = BoundedReads(content)
    file.seek(_START)
    meta = read_dataset(
        file,
        is_implicit_VR=False,
        is_little_endian=True,
        stop_when=lambda tag, _vr, _length: tag >> 16 != _META_GROUP,
    )
    syntax = uid.UID(str(meta.TransferSyntaxUID))
    if syntax not in SYNTAXES:
        # The name of a known syntax only: an unknown one would quote the file.
        name = syntax.name if syntax.is_transfer_syntax else "an unknown transfer syntax"
        text = f"is stored in a way that can't be read here ({name})"
        raise ImageRefused("image-unreadable", text)
    if syntax == uid.DeflatedExplicitVRLittleEndian:
        file = BoundedReads(inflated(content[file.tell() :], spec.max_bytes))
    dataset = read_dataset(
        file,
        is_implicit_VR=syntax.is_implicit_VR,
        is_little_endian=syntax.is_little_endian,
        specific_tags=_TAGS,
    )
    return syntax, dataset


def inflated(content: bytes, limit: int) -> bytes:
    """Give what a deflated data set holds.

    Raises:
        ImageRefused: That is more bytes than allowed.
    """
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    plain = stream.decompress(content, limit + 1)
    if len(plain) > limit:
        raise ImageRefused("image-too-large", "is a larger file than is accepted")
    return plain


def _shown(dataset: Dataset) -> Shown:
    modality, body_part, view = (
        str(dataset.get(keyword) or "").strip().upper() or None
        for keyword in ("Modality", "BodyPartExamined", "ViewPosition")
    )
    return Shown(modality, body_part, view)


# --- limits, before anything is decoded -----------------------------------------------------


def _check_header(dataset: Dataset, spec: ImageInput) -> None:
    if "PixelData" not in dataset:
        raise ImageRefused("image-unreadable", "holds no image")
    check_size(int(dataset.Columns), int(dataset.Rows), spec)
    if int(dataset.get("NumberOfFrames") or 1) != 1:
        raise ImageRefused("image-unreadable", "has more than one frame")
    if str(dataset.get("PresentationIntentType") or "").strip() == "FOR PROCESSING":
        raise ImageRefused("image-unreadable", "is raw detector data, not made for viewing")
    photometric = str(dataset.PhotometricInterpretation)
    samples = 3 if photometric in _COLOUR else 1
    is_known = photometric in _GREY | _COLOUR | {_PALETTE}
    if not is_known or int(dataset.SamplesPerPixel) != samples:
        raise ImageRefused("image-unreadable", "has pixels of a kind that can't be read here")
    if int(dataset.BitsAllocated) not in {8, 16}:
        raise ImageRefused("image-unreadable", "has pixels of other than 8 or 16 bits")
    for keyword in ("ModalityLUTSequence", "VOILUTSequence"):
        _check_table(dataset, keyword)


def _check_table(dataset: Dataset, keyword: str) -> None:
    """Refuse a sequence of look-up tables that is too large, before it is taken apart."""
    if keyword not in dataset:
        return
    element = dataset.get_item(keyword)
    if isinstance(element.value, bytes) and len(element.value) > _MOST_LUT_BYTES:
        raise ImageRefused("image-unreadable", "has too large a look-up table")


def _check_frame(syntax: uid.UID, dataset: Dataset) -> None:
    """Insist that a compressed frame is no larger than the header says."""
    if not syntax.is_encapsulated:
        return
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    if syntax == uid.RLELossless:
        _check_runs(frame, int(dataset.Rows) * int(dataset.Columns))
        return
    check_scans(frame)
    with Image.open(BytesIO(frame), formats=("JPEG", "JPEG2000")) as image:
        if image.size != (int(dataset.Columns), int(dataset.Rows)):
            raise ImageRefused("image-unreadable", "has a frame of another size than it declares")


def _check_runs(frame: bytes, size: int) -> None:
    """Refuse a run-length encoding that decodes to more than a plane, padding aside."""
    count = struct.unpack_from("<L", frame)[0]
    offsets = [*struct.unpack_from(f"<{min(count, 15)}L", frame, 4), len(frame)]
    for start, end in pairwise(offsets):
        if _run_length(frame[start:end], size) > size + 1:
            raise ImageRefused("image-unreadable", "has a frame of another size than it declares")


def _run_length(segment: bytes, enough: int) -> int:
    """Count the bytes that a segment decodes to; stop where it is more than enough."""
    position = length = 0
    while position < len(segment) and length <= enough + 1:
        code = segment[position]
        position += 2 if code > 128 else 1 if code == 128 else code + 2  # noqa: PLR2004
        length += 257 - code if code > 128 else 0 if code == 128 else code + 1  # noqa: PLR2004
    return length


# --- stored values → what is seen -----------------------------------------------------------


def _pixels(stored: npt.NDArray[Any], dataset: Dataset, window: Window) -> FloatArray:
    bits = int(dataset.BitsStored)
    photometric = str(dataset.PhotometricInterpretation)
    if photometric in _COLOUR:
        return stored.astype(np.float32) / np.float32(2**bits - 1)
    low = -(2 ** (bits - 1)) if int(dataset.PixelRepresentation) else 0
    levels = np.arange(low, low + 2**bits, dtype=np.int32)
    if photometric == _PALETTE:
        table = apply_color_lut(levels, dataset)[:, :3]
        return _looked_up(stored, low, table / np.float32(np.iinfo(table.dtype).max))
    is_padding = _padding(levels, dataset)
    modality = _finite(apply_modality_lut(levels, dataset))
    if window == "voi":
        seen = _voi(modality, dataset)
    else:
        is_shown = _is_stored(stored, levels) & ~is_padding if window == "min-max" else ~is_padding
        seen = _spread(modality, modality[is_shown])
    if photometric == "MONOCHROME1":
        seen = 1 - seen
    seen[is_padding] = 0
    return _looked_up(stored, low, seen)


def _looked_up(stored: npt.NDArray[Any], low: int, table: npt.NDArray[Any]) -> FloatArray:
    """Replace each stored value by what the table says, some rows at once to spare memory."""
    entries = np.asarray(table, dtype=np.float32)
    found = np.empty((*stored.shape, *entries.shape[1:]), dtype=np.float32)
    for row in range(0, len(stored), _ROWS_AT_ONCE):
        places = stored[row : row + _ROWS_AT_ONCE].astype(np.int32) - low
        if places.min() < 0:
            raise ImageRefused("image-unreadable", "is damaged")
        found[row : row + _ROWS_AT_ONCE] = entries[places]
    return found


def _padding(levels: npt.NDArray[np.int32], dataset: Dataset) -> npt.NDArray[np.bool_]:
    """Say which stored values stand for "no image here"."""
    first = dataset.get("PixelPaddingValue")
    if first is None:
        return np.zeros(len(levels), dtype=np.bool_)
    last = dataset.get("PixelPaddingRangeLimit")
    low, high = sorted((int(first), int(first if last is None else last)))
    return (levels >= low) & (levels <= high)


def _is_stored(stored: npt.NDArray[Any], levels: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """Say of each level whether a pixel has it."""
    found = np.zeros(len(levels), dtype=np.bool_)
    for row in range(0, len(stored), _ROWS_AT_ONCE):
        found[stored[row : row + _ROWS_AT_ONCE].astype(np.int32) - levels[0]] = True
    return found


def _finite(levels: npt.NDArray[Any]) -> Levels:
    values = np.asarray(levels, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ImageRefused("image-unreadable", "is damaged")
    return values


def _voi(levels: Levels, dataset: Dataset) -> Levels:
    """Apply the image's own VOI LUT or its first window; without one all levels are shown."""
    if dataset.get("VOILUTSequence"):
        depth = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
        looked_up = _finite(apply_voi(np.rint(levels).astype(np.int32), dataset))
        return looked_up / ((1 << depth) - 1)
    if dataset.get("WindowCenter") is None or dataset.get("WindowWidth") is None:
        return _spread(levels, levels)
    function = str(dataset.get("VOILUTFunction") or "LINEAR").strip()
    return _windowed(levels, _first(dataset.WindowCenter), _first(dataset.WindowWidth), function)


def _spread(levels: Levels, over: Levels) -> Levels:
    """Let black and white be the extremes of some levels."""
    if not len(over):
        return np.zeros_like(levels)
    low, high = float(over.min()), float(over.max())
    return np.clip((levels - low) / ((high - low) or 1.0), 0, 1)


def _windowed(levels: Levels, centre: float, width: float, function: str) -> Levels:
    """Apply a window.

    Source: DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3.
    """
    least = 1.0 if function == "LINEAR" else np.nextafter(0.0, 1.0)
    if not (isfinite(centre) and isfinite(width) and width >= least):
        raise ImageRefused("image-unreadable", "has a window that shows nothing")
    if function == "SIGMOID":
        exponent = np.clip(-4 * (levels - centre) / width, -700, 700)
        return np.asarray(1 / (1 + np.exp(exponent)), dtype=np.float64)
    if function == "LINEAR_EXACT":
        return np.clip((levels - centre) / width + 0.5, 0, 1)
    if function != "LINEAR":
        raise ImageRefused("image-unreadable", "has a window of an unknown kind")
    if width == 1:
        return np.asarray(levels > centre - 0.5, dtype=np.float64)
    return np.clip((levels - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)


def _first(value: float | Sequence[float]) -> float:
    return float(value[0]) if isinstance(value, Sequence) else float(value)
