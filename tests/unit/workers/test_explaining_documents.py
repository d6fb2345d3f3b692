"""Images and notes, from the push to the chart, on a route that explains its results."""

import base64
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gateway.core.jobs import BusinessStatus
from tests.audited import bodies
from tests.hospital import Hospital, Json
from tests.notes import NOTE
from tests.pictures import dicom, gradient
from tests.toy_documents import (
    ToyNoteModel,
    ToyPictureModel,
    attachment,
    document,
    media,
    site_of,
)

PHRASE = "chest pain since two days"


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Any]:
    made: list[Hospital] = []

    def make(trigger: Json, model: Any) -> Hospital:
        site = site_of(trigger["resourceType"], model.manifest.name)
        hospital = Hospital(tmp_path, site=site, model=model)
        made.append(hospital)
        hospital.explain()
        hospital.admit_patient()
        hospital.push(trigger)
        hospital.infer()
        hospital.deliver()
        return hospital

    yield make
    for hospital in made:
        hospital.close()


def xray() -> Json:
    return media(attachment(dicom(gradient()), "application/dicom"))


def test_an_x_ray_comes_back_with_a_map_of_where_the_answer_comes_from(ward: Any) -> None:
    hospital = ward(xray(), ToyPictureModel())

    (result,) = hospital.ehr.results()
    (picture,) = [each for each in hospital.ehr.of("Media") if "partOf" in each]
    assert "Where it came from, each square of the image hidden in turn" in result["text"]["div"]
    content = picture["content"]
    with Image.open(BytesIO(base64.b64decode(content["data"]))) as opened:
        assert (opened.format, opened.size) == ("PNG", (picture["width"], picture["height"]))
    assert picture["subject"] == {"reference": "Patient/p1"}
    assert hospital.job().business_status is BusinessStatus.DELIVERED
    assert hospital.models.model.batches == [50 + 1]


def test_a_map_that_comes_back_from_the_ehr_is_never_read_by_a_model(ward: Any) -> None:
    hospital = ward(xray(), ToyPictureModel())
    (picture,) = [each for each in hospital.ehr.of("Media") if "partOf" in each]
    runs = list(hospital.models.model.batches)

    hospital.push({**picture, "partOf": [{"reference": "Observation/observation-1"}]})
    hospital.infer()

    statuses = [job.business_status for job in hospital.jobs()]
    assert statuses == [BusinessStatus.DELIVERED, BusinessStatus.MADE_BY_AI]
    assert hospital.models.model.batches == runs


def test_a_note_comes_back_with_the_words_that_carried_the_answer(ward: Any) -> None:
    note = document(attachment(NOTE.encode(), "text/plain"))

    hospital = ward(note, ToyNoteModel())

    (result,) = hospital.ehr.results()
    assert f"“{PHRASE}” +5 points" in result["text"]["div"]
    assert f"“{PHRASE}”" in result["note"][1]["text"]


def test_a_patient_s_words_are_in_no_log_and_no_audit_event(
    ward: Any, logs: list[dict[str, object]]
) -> None:
    hospital = ward(document(attachment(NOTE.encode(), "text/plain")), ToyNoteModel())

    with hospital.store.read() as uow:
        told = bodies(uow.connection)
        rows = uow.connection.exec_driver_sql("select * from audit_events").all()
        sealed = uow.connection.exec_driver_sql("select * from deliveries").all()
    assert len(rows) > 3
    for kept in (told, rows, sealed, logs):
        assert "chest" not in str(kept)
