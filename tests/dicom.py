"""Images as scanners send them, made up, and a sender of them (C-STORE) for tests.

Every name, number and UID is made up; sizes, bits and elements are those of real films and slices.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydicom import uid
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.dsutils import encode

from adapters.dicom.server import Stored
from adapters.dicom.sockets import close_in_the_end
from tests.pictures import Pixels, dicom_dataset, gradient

PATIENT = "MR-0042"
CT_CLASS = str(uid.CTImageStorage)
DX_CLASS = str(uid.DigitalXRayImageStorageForPresentation)
ECHO_CLASS = "1.2.840.10008.1.1"
#: What a chest film and a CT slice measure.
FILM, SLICE = (2500, 3000), (512, 512)


def study_uid(name: str) -> str:
    """Give a UID that is the same for the same name."""
    return str(uid.generate_uid(entropy_srcs=["nadi", "test", name]))


def film(
    study: str = "film", *, number: int = 1, pixels: Pixels | None = None, **elements: Any
) -> Dataset:
    """A digital chest film of a study; `elements` are changed or, when None, left out."""
    levels = gradient(64, 80, top=4095) if pixels is None else pixels
    return _image(study, f"{study}.1", number, levels, bits=12, **elements)


def ct_slice(
    study: str = "ct", *, number: int = 1, size: tuple[int, int] = (64, 64), **elements: Any
):
    """A CT slice of the chest, 2.5 mm below the one before it."""
    levels = np.clip(gradient(*size, top=4095) - 1024 + 10 * number, -1024, 3071).astype(np.int16)
    told = {
        "SOPClassUID": CT_CLASS,
        "Modality": "CT",
        "ViewPosition": None,
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "RescaleSlope": "1",
        "RescaleIntercept": "0",
        "ImageOrientationPatient": ["1", "0", "0", "0", "1", "0"],
        "ImagePositionPatient": ["0", "0", str(-2.5 * number)],
    }
    return _image(study, f"{study}.2", number, levels, bits=16, **told | elements)


def _image(
    study: str, series: str, number: int, levels: Pixels, *, bits: int, **elements: Any
) -> Dataset:
    told = {
        "StudyInstanceUID": study_uid(study),
        "SeriesInstanceUID": study_uid(series),
        "SOPInstanceUID": study_uid(f"{series}.{number}"),
        "PatientID": PATIENT,
        "PatientBirthDate": "20200131",
        "PatientSex": "F",
        "StudyDate": "20261126",
        "StudyTime": "071500",
        "AccessionNumber": "A1",
        "SeriesNumber": "1",
        "InstanceNumber": str(number),
    }
    return dicom_dataset(levels, bits=bits, **told | elements)


def associate(
    port: int,
    *,
    caller: str = "SCANNER",
    called: str = "NADI",
    syntaxes: Sequence[str] = (uid.ExplicitVRLittleEndian,),
    classes: Sequence[str] = (CT_CLASS, DX_CLASS),
    tls: Any = None,
) -> Association:
    """Ask for an association, as a scanner that has images of these classes."""
    entity = AE(caller)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 20
    entity.add_requested_context(ECHO_CLASS)
    for sop_class in classes:
        entity.add_requested_context(sop_class, list(syntaxes))
    handlers = [(evt.EVT_CONN_OPEN, close_in_the_end)]
    return entity.associate("127.0.0.1", port, ae_title=called, tls_args=tls, evt_handlers=handlers)


def send(port: int, *datasets: Dataset, syntax: str = uid.ExplicitVRLittleEndian, **how: Any):
    """Send images on one association; give the answer to each."""
    association = associate(port, syntaxes=[syntax], **how)
    assert association.is_established
    try:
        return [association.send_c_store(_encoded(each, syntax)) for each in datasets]
    finally:
        association.release()


def stored(dataset: Dataset, syntax: str = uid.ExplicitVRLittleEndian) -> Stored:
    """Give an image as the server gives it to whoever keeps it."""
    is_implicit = uid.UID(syntax).is_implicit_VR
    content = encode(dataset, is_implicit, is_little_endian=True)
    assert content is not None
    return Stored(content, syntax, str(dataset.SOPClassUID), str(dataset.SOPInstanceUID))


def _encoded(dataset: Dataset, syntax: str) -> Dataset:
    dataset.ensure_file_meta()
    dataset.file_meta.TransferSyntaxUID = uid.UID(syntax)
    return dataset
