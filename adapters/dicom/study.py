"""The images of a study → an ImagingStudy, with those inside it that a model can be given.

* One study of one patient is one resource; its id is made of its UID and the patient's number, its
  version of its images. When it was put together is not told: the same images are the same version.
* The image itself goes along as a contained Binary, where it is one of few and not too large. Else
  the resource names the instances alone, and they are fetched from the archive by DICOMweb.
* Which of several slices a model is given is for the site to say; an overview (localizer) is none.

Source: FHIR R4 ImagingStudy (http://hl7.org/fhir/R4/imagingstudy.html) and its mapping to DICOM.
"""

import base64
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from io import BytesIO
from itertools import groupby
from typing import Any, Literal

import orjson
from pydicom import dcmread, uid
from pydicom.filewriter import dcmwrite

from adapters.dicom.body_sites import BODY_SITES
from adapters.dicom.header import Header

Json = dict[str, Any]
#: Gives the file of an instance by its place in the study.
Content = Callable[[int], bytes]

#: Extension of an instance that points at its contained image.
IMAGE = "https://nadi.health/fhir/StructureDefinition/contained-image"
#: Most images that go along: the worker looks at no more.
MOST_CONTAINED = 4
_DCM = "http://dicom.nema.org/resources/ontology/DCM"
_SNOMED = "http://snomed.info/sct"
_IDENTIFIER_TYPE = "http://terminology.hl7.org/CodeSystem/v2-0203"
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://nadi.health/fhir/feed/dicom")
_GENDERS = {"M": "male", "F": "female", "O": "other"}
_AROUND = 64 * 1024
_BASE64 = 4 / 3
_DAY, _SECOND = len("YYYYMMDD"), len("HHMMSS")


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a study comes from.

    Attributes:
        feed: Name of the feed.
        patient_system: URI of the patients' numbers.
        has_own_patients: Whether what it says of patients is a source for them.
        slices: Which of several slices a model is given.
        zone: Time zone of times without one.
        max_bytes: Most bytes of a Bundle.
    """

    feed: str
    patient_system: str
    has_own_patients: bool
    slices: Literal["all", "middle"]
    zone: tzinfo
    max_bytes: int


def own_patient_id(origin: Origin, number: str) -> str:
    """Give an id of our own for a patient whom nobody knows by the number."""
    return _id(origin.feed, "Patient", origin.patient_system, number)


def bundle_of(
    headers: Sequence[Header], content: Content, *, patient_id: str, version: str, origin: Origin
) -> bytes:
    """Make the Bundle of a study.

    Args:
        headers: Of its images, at least one.
        content: Gives their files.
        patient_id: Id of the Patient in the EHR.
        version: Of the study.
        origin: Where it comes from.
    """
    first = headers[0]
    images = _images(headers, content, origin)
    study = _study(headers, images, origin) | {"subject": {"reference": f"Patient/{patient_id}"}}
    study["meta"] = {"versionId": version}
    patient = [_patient(first, patient_id, origin)] if origin.has_own_patients else []
    entries = [{"resource": each} for each in (*patient, study)]
    return orjson.dumps({"resourceType": "Bundle", "type": "collection", "entry": entries})


def _id(*parts: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, "".join(f"{len(part)}:{part}" for part in parts)))


def _study(headers: Sequence[Header], images: Mapping[str, Json], origin: Origin) -> Json:
    first = headers[0]
    modalities = dict.fromkeys(each.modality for each in headers if each.modality)
    ordered = sorted(headers, key=lambda each: (each.series_number or 0, each.series))
    by_series = groupby(ordered, key=lambda each: each.series)
    series = [_series(list(found), images) for _, found in by_series]
    made: Json = {
        "resourceType": "ImagingStudy",
        "id": _id(origin.feed, "ImagingStudy", first.study, first.patient),
        "contained": list(images.values()),
        "identifier": _identifiers(first),
        "status": "available",
        "modality": [{"system": _DCM, "code": code} for code in modalities],
        "started": _started(first, origin.zone),
        "numberOfSeries": len(series),
        "numberOfInstances": len(headers),
        "description": first.study_description,
        "series": series,
    }
    return _without_empty(made)


def _identifiers(header: Header) -> list[Json]:
    named: list[Json] = [{"system": "urn:dicom:uid", "value": f"urn:oid:{header.study}"}]
    if header.accession:
        kind = {"coding": [{"system": _IDENTIFIER_TYPE, "code": "ACSN"}]}
        named.append({"type": kind, "value": header.accession})
    return named


def _series(headers: Sequence[Header], images: Mapping[str, Json]) -> Json:
    first = headers[0]
    ordered = sorted(headers, key=_order)
    made: Json = {
        "uid": first.series,
        "number": _unsigned(first.series_number),
        "modality": {"system": _DCM, "code": first.modality or "OT"},
        "description": first.series_description,
        "numberOfInstances": len(headers),
        "bodySite": _body_site(first),
        "instance": [_instance(each, images.get(each.instance)) for each in ordered],
    }
    return _without_empty(made)


def _instance(header: Header, image: Json | None) -> Json:
    sop_class = {"system": "urn:ietf:rfc:3986", "code": f"urn:oid:{header.sop_class}"}
    made: Json = {
        "extension": [_points_at(image)] if image else [],
        "uid": header.instance,
        "sopClass": sop_class,
        "number": _unsigned(header.number),
    }
    return _without_empty(made)


def _points_at(image: Json) -> Json:
    """Point at a contained image: R4 wants everything contained to be pointed at (dom-3)."""
    return {"url": IMAGE, "valueReference": {"reference": f"#{image['id']}"}}


def _body_site(header: Header) -> Json | None:
    if not header.body_part:
        return None
    code = BODY_SITES.get(header.body_part)
    coded = {"system": _SNOMED, "code": code} if code else {}
    return {**coded, "display": header.body_part.capitalize()}


def _order(header: Header) -> tuple[float, int, str]:
    place = header.place if header.place is not None else float(header.number or 0)
    return place, header.number or 0, header.instance


def _unsigned(number: int | None) -> int | None:
    return number if number is not None and number >= 0 else None


def _without_empty(resource: Mapping[str, Any]) -> Json:
    return {name: value for name, value in resource.items() if value not in (None, "", [])}


def _started(header: Header, zone: tzinfo) -> str | None:
    """Give when the study began: as exactly as it says, a day where it says no time."""
    try:
        day = datetime.strptime(header.date[:_DAY], "%Y%m%d")  # noqa: DTZ007 - a day
        clock = datetime.strptime(header.time[:_SECOND], "%H%M%S").time()  # noqa: DTZ007 - a time
    except ValueError:
        return _day(header.date)
    return datetime.combine(day, clock, tzinfo=_zone(header.offset) or zone).isoformat()


def _zone(offset: str) -> tzinfo | None:
    try:
        return datetime.strptime(offset, "%z").tzinfo
    except ValueError:
        return None


def _day(written: str) -> str | None:
    try:
        return datetime.strptime(written, "%Y%m%d").date().isoformat()  # noqa: DTZ007 - a day
    except ValueError:
        return None


def _patient(header: Header, patient_id: str, origin: Origin) -> Json:
    made: Json = {
        "resourceType": "Patient",
        "id": patient_id,
        "identifier": [{"system": origin.patient_system, "value": header.patient}],
        "gender": _GENDERS.get(header.sex),
        "birthDate": _day(header.birth_date),
    }
    return _without_empty(made)


# --- the images that go along ---------------------------------------------------------------


def chosen(headers: Sequence[Header], slices: Literal["all", "middle"]) -> list[int]:
    """Give the places of the images that a model can be given.

    Args:
        headers: Of the study.
        slices: Which of several in a series.
    """
    usable = [number for number, each in enumerate(headers) if each.has_image]
    if slices == "all":
        return usable
    usable = [number for number in usable if not headers[number].is_localizer] or usable
    usable.sort(key=lambda number: (headers[number].series, _order(headers[number])))
    by_series = groupby(usable, key=lambda number: headers[number].series)
    return [(numbers := list(found))[(len(numbers) - 1) // 2] for _, found in by_series]


def _images(headers: Sequence[Header], content: Content, origin: Origin) -> dict[str, Json]:
    """Put the chosen images into Binaries by their UIDs; none where they are many or too large."""
    numbers = chosen(headers, origin.slices)
    if not 0 < len(numbers) <= MOST_CONTAINED:
        return {}
    most = int((origin.max_bytes - _AROUND) / _BASE64)
    files = [content(number) for number in numbers]
    if sum(map(len, files)) > most:
        files = [deflated(file) for file in files]
    if sum(map(len, files)) > most:
        return {}
    return {
        headers[number].instance: _binary(place, file)
        for place, (number, file) in enumerate(zip(numbers, files, strict=True), start=1)
    }


def _binary(number: int, file: bytes) -> Json:
    return {
        "resourceType": "Binary",
        "id": f"image{number}",
        "contentType": "application/dicom",
        "data": base64.b64encode(file).decode(),
    }


def deflated(file: bytes) -> bytes:
    """Give an uncompressed image deflated, which loses nothing; any other as it is."""
    dataset = dcmread(BytesIO(file))
    if dataset.file_meta.TransferSyntaxUID not in (
        uid.ImplicitVRLittleEndian,
        uid.ExplicitVRLittleEndian,
    ):
        return file
    dataset.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
    written = BytesIO()
    dcmwrite(written, dataset, enforce_file_format=True)
    return written.getvalue()
