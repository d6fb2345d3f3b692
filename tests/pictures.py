"""Synthetic images for tests: DICOM, PNG and JPEG files of given pixels, and of X-rays.

The X-rays are images of PneumoniaMNIST (children, public); every name and number in the DICOM
headers is made up.
"""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom import config, uid
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence

from models.manifest import ImageInput

PNEUMONIA_MNIST = (
    Path(__file__).resolve().parents[2]
    / "shared" / "data" / "pneumoniamnist" / "pneumoniamnist.npz"
)  # fmt: skip
#: A mark that must appear nowhere outside of the file.
CANARY = "Canary^Picture"

Pixels = npt.NDArray[Any]


def image_input(**changes: Any) -> ImageInput:
    """The `[image]` of a chest X-ray model, with changes."""
    told = {
        "label": "Chest X-ray",
        "input_name": "image",
        "height": 28,
        "width": 28,
        "modalities": ("DX", "CR"),
        "body_parts": ("CHEST",),
        "min_side_px": 2,
        "min_contrast": 0.0,
    }
    return ImageInput.model_validate(told | changes)


def dicom_dataset(
    pixels: Pixels, *, bits: int = 8, photometric: str = "MONOCHROME2", **elements: Any
) -> Dataset:
    """A chest X-ray of these stored values; `elements` are added or, when None, left out.

    Args:
        pixels: Integers of shape (rows, columns), or (rows, columns, 3).
        bits: BitsStored.
        photometric: PhotometricInterpretation.
        elements: Further elements by keyword.
    """
    dataset = Dataset()
    dataset.SOPClassUID = uid.DigitalXRayImageStorageForPresentation
    dataset.SOPInstanceUID = uid.generate_uid(entropy_srcs=["nadi", "test"])
    dataset.PatientName, dataset.PatientID = CANARY, CANARY
    dataset.Modality, dataset.BodyPartExamined, dataset.ViewPosition = "DX", "CHEST", "PA"
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    if pixels.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = photometric
    dataset.BitsAllocated = 8 if bits <= 8 else 16
    dataset.BitsStored, dataset.HighBit = bits, bits - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    raw = pixels.astype(f"<{pixels.dtype.kind}{dataset.BitsAllocated // 8}").tobytes()
    dataset.PixelData = raw + b"\0" * (len(raw) % 2)
    dataset["PixelData"].VR = "OW" if bits > 8 else "OB"
    for keyword, value in elements.items():
        if value is None:
            delattr(dataset, keyword)
        elif isinstance(value, Sequence):
            setattr(dataset, keyword, value)
        else:  # unvalidated: what is wrong has to be written too
            tag = tag_for_keyword(keyword)
            vr = dictionary_VR(tag).partition(" or ")[0]
            dataset[tag] = DataElement(tag, vr, value, validation_mode=config.IGNORE)
    return dataset


def dicom_file(
    dataset: Dataset,
    *,
    syntax: str = uid.ExplicitVRLittleEndian,
    preamble: bytes = b"\0" * 128,
) -> bytes:
    """Write a dataset as a file of DICOM part 10, compressed where the syntax says so."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    dataset.preamble = preamble
    if syntax == uid.RLELossless and not dataset["PixelData"].is_undefined_length:
        dataset.compress(syntax, generate_instance_uid=False)
    dataset.file_meta.TransferSyntaxUID = syntax
    file = BytesIO()
    dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()


def dicom(pixels: Pixels, *, syntax: str = uid.ExplicitVRLittleEndian, **elements: Any) -> bytes:
    """A DICOM file of these stored values, see `dicom_dataset`."""
    return dicom_file(dicom_dataset(pixels, **elements), syntax=syntax)


def png(pixels: Pixels, mode: str | None = None, **options: Any) -> bytes:
    """A PNG of these levels: uint8 or uint16, grey, with alpha, or in colour."""
    return _encoded(Image.fromarray(pixels, mode), "PNG", **options)


def jpeg(pixels: Pixels, **options: Any) -> bytes:
    """A JPEG of these levels."""
    return _encoded(Image.fromarray(pixels), "JPEG", **({"quality": 95} | options))


def gradient(rows: int = 32, columns: int = 40, top: int = 255) -> Pixels:
    """A picture that is dark above and light below, with a bright square to tell the sides."""
    levels = np.linspace(0, 0.8, rows)[:, np.newaxis].repeat(columns, axis=1)
    levels[: rows // 4, : columns // 4] = 1.0
    return np.rint(levels * top).astype(np.uint8 if top < 256 else np.uint16)


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
