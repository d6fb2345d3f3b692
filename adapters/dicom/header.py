"""What an image says of itself, read from its header within limits; no pixel is decoded.

Refused is, each with a status of its own: what can't be read or is cut off, what does not say whose
it is or which study and series it belongs to, what has more pixels than are taken.

Source: DICOM PS3.4 B.2.3 (statuses of C-STORE), PS3.5 7.1 (elements), annex A.4 (fragments).
"""

import logging
import threading
import warnings
from dataclasses import dataclass
from math import prod
from typing import Any

from pydicom import uid
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_file_meta_info
from pydicom.tag import BaseTag

from gateway.core.errors import ContentError
from models.dicom import SYNTAXES, BoundedReads, inflated
from models.pictures import ImageRefused

#: "Error: Cannot understand" is Cxxx; the last digits are ours.
UNREADABLE, NO_PATIENT, NO_UID, TOO_MANY_BYTES, TOO_MANY_PIXELS = range(0xC001, 0xC006)
#: "Error: Data Set does not match SOP Class".
OTHER_INSTANCE = 0xA900

_PREAMBLE, _START, _META_GROUP = 128, 132, 0x0002
#: Bytes of the element that says how long the others of its group are.
_GROUP_LENGTH = 12
_PIXELS = 0x7FE00010
_ENDLESS = 0xFFFFFFFF
_END_OF_FRAGMENTS = b"\xfe\xff\xdd\xe0\0\0\0\0"
#: What may follow the pixels: padding, a digital signature.
_NEAR_END = 64 * 1024
_SHORT_HEAD, _LONG_HEAD = 8, 12
_LONGEST_TEXT = 64
_SPATIAL = 3
_KEYWORDS = (
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientID"),
    *("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "TimezoneOffsetFromUTC"),
    *("AccessionNumber", "StudyDescription", "SeriesDescription", "SeriesNumber"),
    *("InstanceNumber", "Modality", "BodyPartExamined", "Laterality", "ImageType"),
    *("PresentationIntentType", "ImagePositionPatient", "ImageOrientationPatient"),
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated"),
)
_TAGS: list[Any] = [tag_for_keyword(keyword) for keyword in _KEYWORDS]

# The filters of warnings belong to the whole process, so one thread at a time changes them.
_quiet = threading.Lock()
logging.getLogger("pydicom").propagate = False


class NotUnderstood(ContentError):
    """An image is not taken.

    Attributes:
        status: What the sender is answered.
    """

    issue_type = "invalid"

    def __init__(self, status: int, says: str) -> None:
        super().__init__(says)
        self.status = status


@dataclass(frozen=True, kw_only=True)
class Header:
    """What an image says of itself. Texts are empty where it says nothing.

    Attributes:
        patient: The patient's number (PatientID).
        birth_date: YYYYMMDD.
        date: Of the study, YYYYMMDD.
        time: Of the study, HHMMSS with perhaps a fraction.
        offset: Time zone of the time, +HHMM.
        number: Of the instance in its series.
        has_image: Whether it is of one frame, made for viewing.
        is_localizer: Whether it is an overview that others are planned on.
        place: Where along its own axis it lies, in mm; None where it does not say.
    """

    study: str
    series: str
    instance: str
    sop_class: str
    patient: str
    birth_date: str
    sex: str
    date: str
    time: str
    offset: str
    accession: str
    study_description: str
    series_description: str
    series_number: int | None
    number: int | None
    modality: str
    body_part: str
    laterality: str
    has_image: bool
    is_localizer: bool
    place: float | None


def read_header(content: bytes, syntax: str, *, max_bytes: int, max_pixels: int) -> Header:
    """Read the header of a data set.

    Args:
        content: The data set, without preamble and file meta information.
        syntax: UID of its transfer syntax.
        max_bytes: Most bytes of a data set that was deflated.
        max_pixels: Most pixels of all frames.

    Raises:
        NotUnderstood: It can't be read, or is not taken.
    """
    with _quiet, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _header(content, uid.UID(syntax), max_bytes, max_pixels)
        except NotUnderstood:
            raise
        except ImageRefused as refused:
            raise NotUnderstood(UNREADABLE, f"The image {refused}.") from None
        except Exception:  # noqa: BLE001 - what a damaged header raises can't be foreseen
            # Not chained: a message of the reader may quote the file.
            raise NotUnderstood(UNREADABLE, "The data set is damaged.") from None


def _header(content: bytes, syntax: uid.UID, max_bytes: int, max_pixels: int) -> Header:
    if syntax not in SYNTAXES:
        raise NotUnderstood(UNREADABLE, "Its transfer syntax can't be read here.")
    if syntax == uid.DeflatedExplicitVRLittleEndian:
        content = inflated(content, max_bytes)
    dataset, pixels_at, length = _elements(content, syntax)
    if pixels_at == len(content):
        raise NotUnderstood(UNREADABLE, "It is cut off, or holds no image.")
    found = _said(dataset)
    _insist_on_identity(found)
    if _pixels(dataset) > max_pixels:
        raise NotUnderstood(TOO_MANY_PIXELS, f"It has more than {max_pixels} pixels.")
    head = _SHORT_HEAD if syntax.is_implicit_VR else _LONG_HEAD
    _insist_on_end(dataset, memoryview(content)[pixels_at + head :], length)
    return found


def _elements(content: bytes, syntax: uid.UID) -> tuple[Dataset, int, int]:
    """Read the elements that matter; give also where the pixels begin and how long they say."""
    file, length = BoundedReads(content), 0

    def is_pixels(tag: BaseTag, _vr: str | None, said: int) -> bool:
        nonlocal length
        length = said if tag == _PIXELS else length
        return bool(tag == _PIXELS)

    dataset = read_dataset(
        file,
        is_implicit_VR=syntax.is_implicit_VR,
        is_little_endian=syntax.is_little_endian,
        stop_when=is_pixels,
        specific_tags=_TAGS,
    )
    return dataset, file.tell() if length else len(content), length


def _insist_on_identity(found: Header) -> None:
    if not found.patient:
        raise NotUnderstood(NO_PATIENT, "PatientID (0010,0020) is empty: whose is it?")
    for value in (found.study, found.series, found.instance):
        if not uid.UID(value).is_valid:
            raise NotUnderstood(NO_UID, "A UID of study, series or instance is none.")


def _insist_on_end(dataset: Dataset, after: memoryview, length: int) -> None:
    """Refuse an image that is cut off."""
    if length == _ENDLESS:
        is_whole = _END_OF_FRAGMENTS in bytes(after[-_NEAR_END:])
    else:
        bits = int(dataset.get("SamplesPerPixel") or 1) * int(dataset.BitsAllocated)
        is_whole = len(after) >= length >= _pixels(dataset) * bits // 8
    if not is_whole:
        raise NotUnderstood(UNREADABLE, "The image is cut off.")


def _pixels(dataset: Dataset) -> int:
    return prod((int(dataset.Rows), int(dataset.Columns), int(dataset.get("NumberOfFrames") or 1)))


def _said(dataset: Dataset) -> Header:
    def text(keyword: str) -> str:
        return str(dataset.get(keyword) or "").strip(" \0")[:_LONGEST_TEXT]

    kinds = [str(each).strip() for each in dataset.get("ImageType") or ()]
    is_raw = text("PresentationIntentType") == "FOR PROCESSING"
    return Header(
        study=text("StudyInstanceUID"),
        series=text("SeriesInstanceUID"),
        instance=text("SOPInstanceUID"),
        sop_class=text("SOPClassUID"),
        patient=text("PatientID"),
        birth_date=text("PatientBirthDate"),
        sex=text("PatientSex"),
        date=text("StudyDate"),
        time=text("StudyTime"),
        offset=text("TimezoneOffsetFromUTC"),
        accession=text("AccessionNumber"),
        study_description=text("StudyDescription"),
        series_description=text("SeriesDescription"),
        series_number=_number(text("SeriesNumber")),
        number=_number(text("InstanceNumber")),
        modality=text("Modality").upper(),
        body_part=text("BodyPartExamined").upper(),
        laterality=text("Laterality").upper(),
        has_image=not is_raw and int(dataset.get("NumberOfFrames") or 1) == 1,
        is_localizer="LOCALIZER" in kinds,
        place=_place(dataset),
    )


def _number(text: str) -> int | None:
    return int(text) if text.removeprefix("-").isdecimal() else None


def _place(dataset: Dataset) -> float | None:
    """Give where a slice lies along the normal of its plane (DICOM PS3.3 C.7.6.2.1.1)."""
    position = [float(each) for each in dataset.get("ImagePositionPatient") or ()]
    axes = [float(each) for each in dataset.get("ImageOrientationPatient") or ()]
    if len(position) != _SPATIAL or len(axes) != 2 * _SPATIAL:
        return None
    (a, b, c), (d, e, f) = axes[:_SPATIAL], axes[_SPATIAL:]
    normal = (b * f - c * e, c * d - a * f, a * e - b * d)
    return sum(x * y for x, y in zip(normal, position, strict=True))


def whole_file(content: bytes, syntax: str, sop_class: str, instance: str) -> bytes:
    """Write a data set as a file of DICOM part 10, without touching its bytes."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = uid.UID(sop_class)
    meta.MediaStorageSOPInstanceUID = uid.UID(instance)
    meta.TransferSyntaxUID = uid.UID(syntax)
    file = DicomBytesIO()
    write_file_meta_info(file, meta)
    return b"".join((b"\0" * _PREAMBLE, b"DICM", file.getvalue(), content))


def split_file(file: bytes) -> tuple[str, bytes]:
    """Give the transfer syntax of a file of DICOM part 10, and its data set.

    Raises:
        NotUnderstood: It is none.
    """
    if file[_PREAMBLE:_START] != b"DICM":
        raise NotUnderstood(UNREADABLE, "This is no DICOM file.")
    reads = BoundedReads(file)
    reads.seek(_START)
    with _quiet, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            meta = read_dataset(
                reads,
                is_implicit_VR=False,
                is_little_endian=True,
                stop_when=lambda tag, _vr, _length: tag >> 16 != _META_GROUP,
            )
            length = meta.get("FileMetaInformationGroupLength")
            end = reads.tell() if length is None else _START + _GROUP_LENGTH + int(length)
            return str(meta.TransferSyntaxUID), file[end:]
        except Exception:  # noqa: BLE001 - what a damaged header raises can't be foreseen
            raise NotUnderstood(UNREADABLE, "The file is damaged.") from None
