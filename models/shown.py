"""What an image shows, as far as its file or a record says so.

Source: DICOM PS3.3 C.7.3.1.1.1 (Modality), C.7.3.1.1.3 (Body Part Examined, View Position).
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Shown:
    """What an image shows, as far as somebody says so.

    Attributes:
        modality: DICOM modality code, for example `DX`.
        body_part: DICOM BodyPartExamined, for example `CHEST`.
        view: DICOM ViewPosition, for example `PA`.
        body_sites: System and code of each FHIR `bodySite`.
        view_codes: System and code of each FHIR `view`.
    """

    modality: str | None = None
    body_part: str | None = None
    view: str | None = None
    body_sites: tuple[tuple[str, str], ...] = ()
    view_codes: tuple[tuple[str, str], ...] = ()


NOTHING_STATED = Shown()
