"""What it takes to read one image: a film as large as its modality makes them, from file to tensor.

* The film is made up: slow changes of grey with the noise of a detector, so that neither PNG nor
  JPEG has an easy time. Each kind of file holds the same film: DICOM uncompressed in 12 bits, PNG
  and JPEG in 8.
* A model that accepts fewer pixels or bytes is measured with the largest film that it accepts.
* One thread, the lower quartile of seven, since slower rounds measure the neighbours; what was
  decoded is checked and scaled as the gateway does it.

Source: usual sizes of the detectors of digital radiography and mammography, and of slices.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite

from models.images import DICOM, decode
from models.manifest_inputs import ImageInput
from models.pictures import check, to_tensors
from models.tensors import FloatArray

#: Rows and columns by modality; of any other as of a radiograph.
SIZES: Mapping[str, tuple[int, int]] = {
    "MG": (4096, 3328),
    "CT": (512, 512),
    "MR": (512, 512),
    "PT": (256, 256),
    "NM": (256, 256),
    "US": (768, 1024),
}
_RADIOGRAPH = (3000, 2500)
_BITS = 12
_BYTES_PER_PIXEL = 2
#: What a DICOM file holds beside its pixels, at most.
_HEADER_BYTES = 4096
_NOISE = 0.01
_ROUNDS = 7


@dataclass(frozen=True)
class Reading:
    """What reading one film takes, in milliseconds on one core.

    Attributes:
        rows: Height of the film in pixels.
        columns: Width.
        decode_ms: From the file to its grey levels, by what the file is: `dicom`, `png`, `jpeg`.
        scale_ms: From these to the network's tensor, checks included.
    """

    rows: int
    columns: int
    decode_ms: Mapping[str, float]
    scale_ms: float

    @property
    def slowest_ms(self) -> float:
        """Of the kind of file that takes longest, all in all."""
        return max(self.decode_ms.values()) + self.scale_ms


def time_reading(spec: ImageInput, *, rounds: int = _ROUNDS) -> Reading:
    """Time how a model's image is read, on this machine, by this thread.

    Args:
        spec: How the model wants its images.
        rounds: How often, at least two; the lower quartile counts.

    Raises:
        ImageRefused: The model accepts no film, whatever its size.
    """
    rows, columns = film_size(spec)
    levels = _film(rows, columns)
    files = {
        "dicom": (_dicom(levels, spec), DICOM),
        "png": (_encoded(levels, "PNG", compress_level=1), "image/png"),
        "jpeg": (_encoded(levels, "JPEG"), "image/jpeg"),
    }
    decoded = {
        kind: _usual_ms(partial(decode, *file, spec), rounds) for kind, file in files.items()
    }
    picture = decode(*files["dicom"], spec)

    def scale() -> None:
        check(picture, spec)
        to_tensors(picture, spec)

    return Reading(rows, columns, decoded, _usual_ms(scale, rounds))


def film_size(spec: ImageInput) -> tuple[int, int]:
    """Give rows and columns of the largest film of a model's modalities that it accepts."""
    sizes = [SIZES.get(each, _RADIOGRAPH) for each in spec.modalities]
    rows, columns = max(sizes, key=lambda size: size[0] * size[1])
    most = min(spec.max_pixels, max(spec.max_bytes - _HEADER_BYTES, 1) // _BYTES_PER_PIXEL)
    shrink = min(1.0, (most / (rows * columns)) ** 0.5)
    return max(int(rows * shrink), spec.min_side_px), max(int(columns * shrink), spec.min_side_px)


def _film(rows: int, columns: int) -> FloatArray:
    """Make grey levels from 0 to 1."""
    down = np.sin(np.linspace(0, 7, rows, dtype=np.float32))[:, np.newaxis]
    across = np.cos(np.linspace(0, 8, columns, dtype=np.float32))[np.newaxis]
    noise = np.random.default_rng(0).standard_normal((rows, columns), dtype=np.float32)
    return np.clip((down * across + 1) / 2 + noise * np.float32(_NOISE), 0, 1)


def _dicom(levels: FloatArray, spec: ImageInput) -> bytes:
    dataset = Dataset()
    dataset.SOPClassUID = uid.DigitalXRayImageStorageForPresentation
    dataset.SOPInstanceUID = uid.generate_uid(entropy_srcs=["nadi", "film"])
    dataset.Modality = spec.modalities[0]
    if spec.body_parts:
        dataset.BodyPartExamined = spec.body_parts[0]
    if spec.views:
        dataset.ViewPosition = spec.views[0]
    dataset.Rows, dataset.Columns = levels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, _BITS, _BITS - 1
    dataset.PixelRepresentation = 0
    dataset.PixelData = (levels * (2**_BITS - 1)).astype("<u2").tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    dataset.preamble = bytes(128)
    file = BytesIO()
    dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()


def _encoded(levels: FloatArray, form: str, **options: int) -> bytes:
    file = BytesIO()
    Image.fromarray((levels * 255).astype(np.uint8)).save(file, form, **options)
    return file.getvalue()


def _usual_ms(act: Callable[[], Any], rounds: int) -> float:
    act()  # imports what it needs
    taken_ms = []
    for _ in range(rounds):
        started = time.perf_counter()
        act()
        taken_ms.append(1000 * (time.perf_counter() - started))
    return statistics.quantiles(taken_ms, method="inclusive")[0]
