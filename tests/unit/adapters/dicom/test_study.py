"""The images of a study become one ImagingStudy, with what a model can be given inside it."""

import base64
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import orjson
import pytest
from pydicom import Dataset, uid

from adapters.dicom.header import Header, read_header, split_file
from adapters.dicom.study import Origin, bundle_of, chosen, deflated
from gateway.core.fhir import parse_bundle
from models.dicom import decode_dicom
from tests.dicom import FILM, PATIENT, ct_slice, film
from tests.pictures import dicom_file, gradient, image_input

VERSION = "2-0a1b2c3d"
ORIGIN = Origin(
    feed="pacs/dicom",
    patient_system="https://hospital.example/mrn",
    has_own_patients=False,
    slices="all",
    zone=ZoneInfo("Asia/Kolkata"),
    max_bytes=16 << 20,
)


def header(image: Dataset) -> Header:
    syntax, content = split_file(dicom_file(image))
    return read_header(content, syntax, max_bytes=1 << 26, max_pixels=1 << 26)


def resources(
    images: Sequence[Dataset], origin: Origin = ORIGIN, **changed: Any
) -> list[dict[str, Any]]:
    headers = [replace(header(each), **changed) for each in images]
    raw = bundle_of(
        headers, lambda n: dicom_file(images[n]), patient_id="p1", version=VERSION, origin=origin
    )
    found = [entry.resource for entry in parse_bundle(raw).entries]
    assert all(found), "R4 is kept"
    return [entry["resource"] for entry in orjson.loads(raw)["entry"]]


def study_of(*images: Dataset, origin: Origin = ORIGIN, **changed: Any) -> dict[str, Any]:
    return resources(images, origin, **changed)[-1]


def test_a_study_is_the_same_resource_whenever_it_is_said_and_another_of_another_patient():
    first, again = study_of(film(number=1)), study_of(film(number=1), film(number=2))
    other = study_of(film(PatientID="MR-0043"))

    assert first["id"] == again["id"]
    assert other["id"] != first["id"]
    assert first["meta"] == {"versionId": VERSION}


@pytest.mark.parametrize(
    ("said", "started"),
    [
        ({}, "2026-11-26T07:15:00+05:30"),
        ({"offset": "+0200"}, "2026-11-26T07:15:00+02:00"),
        ({"time": "071500.123"}, "2026-11-26T07:15:00+05:30"),
        ({"time": ""}, "2026-11-26"),
        ({"date": "26.11.2026"}, None),
        ({"date": ""}, None),
    ],
    ids=["zone", "offset", "fraction", "day", "nonsense", "none"],
)
def test_it_began_when_it_says_as_exactly_as_it_says(said, started):
    assert study_of(film(), **said).get("started") == started


def test_series_and_instances_stand_in_their_order_with_what_they_show():
    images = [ct_slice(number=2), film("ct", SeriesNumber="2"), ct_slice(number=1)]
    images[1].StudyInstanceUID = images[0].StudyInstanceUID

    study = study_of(*images)

    ct, dx = study["series"]
    assert [each["number"] for each in ct["instance"]] == [2, 1]  # from the feet upwards
    assert (ct["modality"]["code"], dx["modality"]["code"]) == ("CT", "DX")
    assert {each["code"] for each in study["modality"]} == {"CT", "DX"}
    assert (study["numberOfSeries"], study["numberOfInstances"]) == (2, 3)


def test_a_body_part_without_a_code_goes_by_its_name():
    series = study_of(film(BodyPartExamined="FEMUR"))["series"][0]

    assert series["bodySite"] == {"display": "Femur"}
    assert "bodySite" not in study_of(film(BodyPartExamined=""))["series"][0]


def test_a_feed_with_patients_of_its_own_sends_them_too():
    patient, study = resources([film()], replace(ORIGIN, has_own_patients=True))

    assert patient == {
        "resourceType": "Patient",
        "id": "p1",
        "identifier": [{"system": ORIGIN.patient_system, "value": PATIENT}],
        "gender": "female",
        "birthDate": "2020-01-31",
    }
    assert study["subject"] == {"reference": "Patient/p1"}
    assert "Canary" not in str(patient)


def test_of_a_series_the_middle_slice_is_chosen_and_no_overview():
    slices = [header(ct_slice(number=each)) for each in (5, 1, 3, 2, 4)]
    scout = replace(slices[0], instance="1.9", is_localizer=True, place=None)

    (middle,) = chosen([scout, *slices], "middle")

    assert middle == 3  # the third of five, behind the scout
    assert chosen([scout], "middle") == [0]
    assert len(chosen([scout, *slices], "all")) == 6


def test_what_is_raw_or_of_several_frames_does_not_go_along():
    raw = film(PresentationIntentType="FOR PROCESSING")
    frames = film(pixels=gradient(40, 40, top=4095), NumberOfFrames="1")

    assert chosen([header(raw), header(frames)], "all") == [1]
    assert chosen([replace(header(frames), has_image=False)], "middle") == []


def test_a_film_of_real_size_goes_along_deflated_and_loses_nothing():
    pixels = gradient(*FILM, top=4095)
    image = film(pixels=pixels)

    (binary,) = study_of(image)["contained"]

    file = base64.b64decode(binary["data"])
    assert split_file(file)[0] == uid.DeflatedExplicitVRLittleEndian
    spec = image_input(max_bytes=1 << 25, max_pixels=1 << 24, window="full-range")
    shown = decode_dicom(file, spec).pixels
    np.testing.assert_allclose(shown, pixels / 4095, atol=1e-6)


def test_what_does_not_fit_is_named_alone():
    study = study_of(film(), origin=replace(ORIGIN, max_bytes=66_000))

    assert "contained" not in study
    assert study["numberOfInstances"] == 1


def test_what_is_compressed_already_is_left_as_it_is():
    file = dicom_file(film(), syntax=uid.RLELossless)

    assert deflated(file) == file
