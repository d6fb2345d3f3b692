"""Images and notes through the whole of inference: found, fetched, checked, told."""

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from adapters.fhir_rest.answers import Content
from adapters.fhir_rest.errors import EhrRefused
from gateway.core.attachments import Instance, Listed
from gateway.core.findings import Report
from gateway.core.jobs import BusinessStatus, Job, JobState
from gateway.store.audit_log import AuditFilter
from models.shown import Shown
from tests.hospital import Hospital, Json, away, consent_of, patient
from tests.notes import NOTE
from tests.pictures import CANARY, dicom, gradient, jpeg, png
from tests.toy_documents import (
    ToyNoteModel,
    ToyPictureModel,
    attachment,
    binary,
    communication,
    composition,
    document,
    imaging_study,
    media,
    report,
    section,
    sha1,
    site_of,
)
from workers.fetching import archive_circuit

GREY = gradient()
XRAY = dicom(GREY)
MEAN = float(GREY.mean() / 255)
PAIN_IN_NOTE = 1 / 19

Make = Callable[..., Hospital]


@pytest.fixture
def pictures(tmp_path: Path) -> Iterator[Make]:
    yield from _hospitals(tmp_path, ToyPictureModel, "toy-picture")


@pytest.fixture
def notes(tmp_path: Path) -> Iterator[Make]:
    yield from _hospitals(tmp_path, ToyNoteModel, "toy-note")


def _hospitals(folder: Path, model: Any, name: str) -> Iterator[Make]:
    made: list[Hospital] = []

    def make(trigger: Json, *others: Json, **changes: Any) -> Hospital:
        """Admit a patient, push the others, then the trigger; nothing is inferred yet."""
        site = site_of(trigger["resourceType"], name)
        made.append(Hospital(folder, site=site, model=model(**changes)))
        made[-1].admit_patient()
        made[-1].push(*others)
        made[-1].push(trigger)
        return made[-1]

    yield make
    for hospital in made:
        hospital.close()


def told(hospital: Hospital) -> Report:
    """Give what is about to be written."""
    delivery = hospital.delivery()
    assert delivery is not None
    with hospital.store.read() as uow:
        return Report.from_json(uow.deliveries.body(delivery))


def value(hospital: Hospital) -> float:
    hospital.infer()
    assert hospital.job().business_status is BusinessStatus.DELIVERY_PENDING, hospital.job().reason
    found: float = told(hospital).observation["valueQuantity"]["value"]
    return found


def refused(hospital: Hospital) -> Job:
    """Run to the end; what is pointed at and not there is looked for a few times."""
    for _ in range(3):
        hospital.infer()
        hospital.pass_time(20)
    job = hospital.job()
    assert job.state is JobState.REJECTED, job.business_status
    assert told(hospital).observation["dataAbsentReason"]["text"] == job.reason
    return job


# --- where an image comes from --------------------------------------------------------------


def test_an_x_ray_in_a_media_becomes_a_result_that_names_it(pictures: Make) -> None:
    hospital = pictures(media(attachment(XRAY, "application/dicom")))

    assert value(hospital) == pytest.approx(MEAN, abs=2e-3)

    made = told(hospital)
    assert made.observation["derivedFrom"] == [{"reference": "Media/m1/_history/1"}]
    assert made.observation["effectiveDateTime"] == "2026-11-23T05:30:00+00:00"
    assert hospital.ehr.calls == []


@pytest.mark.parametrize(
    ("content", "content_type"),
    [(png(GREY), "image/png"), (jpeg(GREY), "image/jpeg"), (XRAY, "application/dicom")],
)
def test_png_jpeg_and_dicom_are_read(pictures: Make, content: bytes, content_type: str) -> None:
    stated = {"bodySite": {"coding": [{"system": "http://snomed.info/sct", "code": "51185008"}]}}

    assert value(pictures(media(attachment(content, content_type), **stated))) == pytest.approx(
        MEAN, abs=5e-3
    )


def test_a_binary_of_the_patient_is_a_trigger_itself(pictures: Make) -> None:
    hospital = pictures(binary("b1", XRAY, "application/dicom", of="p1"))

    assert value(hospital) == pytest.approx(MEAN, abs=2e-3)


def test_a_binary_that_was_received_is_found_without_asking_the_ehr(pictures: Make) -> None:
    pointer = {"contentType": "application/dicom", "url": "Binary/b1"}
    hospital = pictures(media(pointer), binary("b1", XRAY, "application/dicom", of="p1"))

    assert value(hospital) == pytest.approx(MEAN, abs=2e-3)

    named = [each["what"].get("reference") for each in told(hospital).provenance["entity"]]
    assert named[:2] == ["Media/m1/_history/1", "Binary/b1"]
    assert hospital.ehr.calls == []


def test_a_binary_of_nobody_belongs_to_who_points_at_it(pictures: Make) -> None:
    hospital = pictures(
        document({"contentType": "application/dicom", "url": "http://ehr.test/fhir/Binary/b1"}),
        binary("b1", XRAY, "application/dicom"),
    )

    assert value(hospital) == pytest.approx(MEAN, abs=2e-3)


def test_a_binary_of_somebody_else_is_not_there(pictures: Make) -> None:
    pointer = {"contentType": "application/dicom", "url": "Binary/b1"}
    hospital = pictures(media(pointer), binary("b1", XRAY, "application/dicom", of="p2"))

    assert refused(hospital).business_status is BusinessStatus.IMAGE_MISSING


def test_a_binary_of_the_same_bundle_is_found_by_its_urn(tmp_path: Path) -> None:
    urn = "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0"
    hospital = Hospital(
        tmp_path, site=site_of("DocumentReference", "toy-picture"), model=ToyPictureModel()
    )
    hospital.admit_patient()
    stored = binary("x", XRAY, "application/dicom")
    del stored["id"]
    hospital.push_bundle(
        (None, document({"contentType": "application/dicom", "url": urn})), (urn, stored)
    )

    assert value(hospital) == pytest.approx(MEAN, abs=2e-3)
    hospital.close()


def test_what_was_not_received_is_fetched_from_the_ehr_and_audited(pictures: Make) -> None:
    hospital = pictures(media({"contentType": "application/dicom", "url": "Binary/b1"}))
    hospital.ehr.contents["Binary/b1"] = Content("application/dicom", XRAY)

    assert value(hospital) == pytest.approx(MEAN, abs=2e-3)

    assert hospital.ehr.calls == ["content Binary/b1"]
    assert ("fetch", "0") in hospital.audited()
    with hospital.store.read() as uow:
        rows = uow.audit_log.search(AuditFilter(limit=100))
    fetched = next(orjson.loads(row.body) for row in rows if row.event == "fetch")
    query = base64.b64decode(fetched["entity"][-1]["query"]).decode()
    assert query.startswith("Binary/")
    assert len(query) == len("Binary/") + 64


def test_an_imaging_study_is_fetched_from_the_archive(pictures: Make) -> None:
    xray = dicom(GREY, SOPInstanceUID="1.2.3.1.7")
    hospital = pictures(imaging_study(("SR", "1.2.3.9.9"), ("DX", "1.2.3.1.7")))
    hospital.archive.files["1.2.3.1.7"] = xray

    assert value(hospital) == pytest.approx(MEAN, abs=2e-3)

    assert hospital.archive.asked == ["1.2.3/1.2.3.2/1.2.3.1.7"]
    assert told(hospital).observation["derivedFrom"] == [
        {"reference": "ImagingStudy/s1/_history/1"}
    ]
    assert ("fetch", "0") in hospital.audited()


def test_an_image_that_a_study_contains_needs_no_archive(pictures: Make) -> None:
    inside = {"resourceType": "Binary", "id": "i", **attachment(XRAY, "application/dicom")}
    points = [{"url": "http://ehr.test/image", "valueReference": {"reference": "#i"}}]
    hospital = pictures(imaging_study(("DX", "1.2.3.1.7"), contained=[inside], extension=points))

    assert value(hospital) == pytest.approx(MEAN, abs=2e-3)


def test_of_a_study_that_names_no_image_the_archive_is_asked_which_it_has(pictures: Make) -> None:
    bare = imaging_study() | {"series": [{"uid": "1.2.3.2", "modality": {"code": "DX"}}]}
    hospital = pictures(bare)
    hospital.archive.files["1.7"] = dicom(GREY, SOPInstanceUID="1.7")
    hospital.archive.listed = [
        Listed(Instance("1.2.3", "1.2.3.9", "1.6"), Shown("DX", "CHEST")),
        Listed(Instance("1.2.3", "1.2.3.2", "1.8"), Shown("SR")),
        Listed(Instance("1.2.3", "1.2.3.2", "1.7"), Shown("DX", "CHEST")),
    ]

    assert value(hospital) == pytest.approx(MEAN, abs=2e-3)

    assert hospital.archive.asked == ["1.2.3", "1.2.3/1.2.3.2/1.7"]


def test_a_study_that_the_archive_does_not_have_yet_is_looked_for_again(pictures: Make) -> None:
    hospital = pictures(imaging_study())
    hospital.infer()
    assert hospital.job().state is JobState.READY

    hospital.archive.files["1.7"] = dicom(GREY, SOPInstanceUID="1.7")
    hospital.archive.listed = [Listed(Instance("1.2.3", "1.2.3.2", "1.7"), Shown("DX"))]
    hospital.pass_time(20)

    assert value(hospital) == pytest.approx(MEAN, abs=2e-3)


def test_a_list_that_the_archive_refuses_is_no_image(pictures: Make) -> None:
    hospital = pictures(imaging_study())
    hospital.archive.away = EhrRefused(403)

    assert refused(hospital).business_status is BusinessStatus.IMAGE_MISSING


def test_a_report_leads_to_its_media_and_that_to_its_binary(pictures: Make) -> None:
    link = {"link": {"reference": "Media/m2"}}
    pointer = {"contentType": "application/dicom", "url": "Binary/b1"}
    hospital = pictures(report(media=[link]), media(pointer, id="m2"))
    hospital.ehr.contents["Binary/b1"] = Content("application/dicom", XRAY)

    assert value(hospital) == pytest.approx(MEAN, abs=2e-3)


def test_the_media_of_a_report_is_read_from_the_ehr(pictures: Make) -> None:
    hospital = pictures(report(media=[{"link": {"reference": "Media/m2"}}]))
    hospital.ehr.put(media(attachment(XRAY, "application/dicom"), id="m2"))

    assert value(hospital) == pytest.approx(MEAN, abs=2e-3)
    assert hospital.ehr.calls == ["read Media/m2"]


def test_what_an_ai_drew_is_not_read(pictures: Make) -> None:
    drawn = {"security": [{"code": "AIAST"}]}
    hospital = pictures(report(media=[{"link": {"reference": "Media/m2"}}]))
    hospital.ehr.put(media(attachment(XRAY, "application/dicom"), id="m2", meta=drawn))

    assert refused(hospital).business_status is BusinessStatus.IMAGE_MISSING


def test_of_several_formats_the_first_that_can_be_read_counts(pictures: Make) -> None:
    hospital = pictures(
        document(attachment(b"%PDF", "application/pdf"), attachment(XRAY, "application/dicom"))
    )

    assert value(hospital) == pytest.approx(MEAN, abs=2e-3)


def test_of_several_images_the_one_that_fits_is_taken(pictures: Make) -> None:
    hand = dicom(GREY[::-1], BodyPartExamined="HAND", SOPInstanceUID="1.1")
    chest = dicom(GREY, SOPInstanceUID="1.2")
    hospital = pictures(imaging_study(("DX", "1.1"), ("DX", "1.2")))
    hospital.archive.files |= {"1.1": hand, "1.2": chest}

    assert value(hospital) == pytest.approx(MEAN, abs=2e-3)


# --- what is refused of an image ------------------------------------------------------------


def _refusals() -> dict[str, tuple[Json, BusinessStatus]]:
    dicom_type = "application/dicom"
    inline = attachment(XRAY, dicom_type)
    return {
        "nothing": (
            media({"contentType": dicom_type, "title": "lost"}),
            BusinessStatus.IMAGE_MISSING,
        ),
        "pdf": (document(attachment(b"%PDF", "application/pdf")), BusinessStatus.IMAGE_MISSING),
        "elsewhere": (
            media({"contentType": dicom_type, "url": "http://169.254.169.254/latest"}),
            BusinessStatus.IMAGE_MISSING,
        ),
        "damaged": (media(attachment(XRAY[:600], dicom_type)), BusinessStatus.IMAGE_UNREADABLE),
        "no image": (media(attachment(b"hello", dicom_type)), BusinessStatus.IMAGE_UNREADABLE),
        "bytes": (
            media(attachment(XRAY + bytes(2_000_000), dicom_type)),
            BusinessStatus.IMAGE_TOO_LARGE,
        ),
        "pixels": (
            media(attachment(dicom(GREY, Rows=9000, Columns=9000), dicom_type)),
            BusinessStatus.IMAGE_TOO_LARGE,
        ),
        "1x1": (media(attachment(png(GREY[:1, :1]), "image/png")), BusinessStatus.IMAGE_BLANK),
        "blank": (media(attachment(dicom(GREY * 0), dicom_type)), BusinessStatus.IMAGE_BLANK),
        "mr": (
            media(attachment(dicom(GREY, Modality="MR"), dicom_type)),
            BusinessStatus.WRONG_MODALITY,
        ),
        "said to be ct": (media(inline, modality="CT"), BusinessStatus.WRONG_MODALITY),
        "unsaid": (
            media(attachment(png(GREY), "image/png"), modality=None),
            BusinessStatus.WRONG_MODALITY,
        ),
        "knee": (
            media(attachment(dicom(GREY, BodyPartExamined="KNEE"), dicom_type)),
            BusinessStatus.WRONG_BODY_PART,
        ),
        "hash": (
            media(attachment(XRAY, dicom_type, hash=sha1(b"x"))),
            BusinessStatus.ATTACHMENT_ALTERED,
        ),
        "size": (
            media(attachment(XRAY, dicom_type, size=7)),
            BusinessStatus.ATTACHMENT_ALTERED,
        ),
    }


@pytest.mark.parametrize("case", _refusals())
def test_an_image_that_the_model_must_not_be_given_is_refused_with_its_reason(
    pictures: Make, case: str
) -> None:
    trigger, status = _refusals()[case]
    hospital = pictures(trigger)

    job = refused(hospital)

    assert job.business_status is status
    assert job.reason.startswith("Chest X-ray: the image ")
    assert hospital.models.model.batches == []
    assert CANARY not in job.reason


def test_a_right_hash_and_size_pass(pictures: Make) -> None:
    described = attachment(XRAY, "application/dicom", hash=sha1(XRAY), size=len(XRAY))

    assert value(pictures(media(described))) == pytest.approx(MEAN, abs=2e-3)


def test_what_is_said_to_be_something_else_is_never_fetched(pictures: Make) -> None:
    hospital = pictures(imaging_study(("MR", "1.1"), ("CT", "1.2")))

    assert refused(hospital).business_status is BusinessStatus.WRONG_MODALITY
    assert hospital.archive.asked == []


def test_several_images_that_fit_are_refused_since_none_can_be_chosen(pictures: Make) -> None:
    hospital = pictures(imaging_study(("DX", "1.1"), ("DX", "1.2")))
    hospital.archive.files |= {
        "1.1": dicom(GREY, SOPInstanceUID="1.1"),
        "1.2": dicom(GREY, SOPInstanceUID="1.2"),
    }

    assert refused(hospital).business_status is BusinessStatus.IMAGE_AMBIGUOUS


def test_no_choice_is_made_while_one_of_the_images_is_not_there(pictures: Make) -> None:
    hospital = pictures(imaging_study(("DX", "1.1"), ("DX", "1.2")))
    hospital.archive.files["1.1"] = dicom(GREY, SOPInstanceUID="1.1")
    hospital.infer()
    assert hospital.job().state is JobState.READY

    hospital.archive.files["1.2"] = dicom(GREY, SOPInstanceUID="1.2", BodyPartExamined="HAND")
    hospital.pass_time(20)

    assert value(hospital) == pytest.approx(MEAN, abs=2e-3)


def test_of_a_long_series_nothing_is_fetched(pictures: Make) -> None:
    hospital = pictures(imaging_study(*(("DX", f"1.{number}") for number in range(1, 40))))

    assert refused(hospital).business_status is BusinessStatus.IMAGE_AMBIGUOUS
    assert hospital.archive.asked == []


def test_what_points_at_very_much_is_not_followed_at_all(pictures: Make) -> None:
    links = [{"link": {"reference": f"Media/m{number}"}} for number in range(1000)]
    hospital = pictures(report(media=links))

    assert refused(hospital).business_status is BusinessStatus.IMAGE_AMBIGUOUS
    assert hospital.ehr.calls == []


def test_another_image_than_was_asked_for_is_refused(pictures: Make) -> None:
    hospital = pictures(imaging_study(("DX", "1.1")))
    hospital.archive.files["1.1"] = dicom(GREY, SOPInstanceUID="1.2")

    assert refused(hospital).business_status is BusinessStatus.ATTACHMENT_ALTERED


def test_a_guard_refuses_before_anything_is_fetched(pictures: Make) -> None:
    hospital = pictures(
        media({"contentType": "application/dicom", "url": "Binary/b1"}), is_for_children=True
    )

    job = refused(hospital)

    assert job.business_status is BusinessStatus.OUTSIDE_INTENDED_USE
    assert hospital.ehr.calls == []


def test_one_bad_image_ends_only_its_own_case(pictures: Make) -> None:
    hospital = pictures(media(attachment(XRAY[:600], "application/dicom")))
    hospital.push(patient("p2"), consent_of("p2"))
    good = media(attachment(XRAY, "application/dicom"), id="m2")
    hospital.push({**good, "subject": {"reference": "Patient/p2"}})

    hospital.infer()

    assert {job.business_status for job in hospital.jobs()} == {
        BusinessStatus.IMAGE_UNREADABLE,
        BusinessStatus.DELIVERY_PENDING,
    }


def test_images_go_a_few_at_a_time(pictures: Make) -> None:
    hospital = pictures(media(attachment(XRAY, "application/dicom")))
    for number in range(2, 7):
        hospital.push(media(attachment(XRAY, "application/dicom"), id=f"m{number}"))

    assert hospital.infer() == 6

    assert hospital.models.model.batches == [4, 2]


# --- an EHR that is away, or slow -----------------------------------------------------------


def test_an_ehr_that_is_away_is_waited_for(pictures: Make) -> None:
    hospital = pictures(media({"contentType": "application/dicom", "url": "Binary/b1"}))
    hospital.ehr.away = away()
    hospital.infer()

    assert hospital.job().state is JobState.READY
    assert ("fetch", "4") in hospital.audited()

    with hospital.store.write() as uow:
        uow.deliveries.circuit_failed("ehr", delay_s=30, is_asked=True)
    calls = len(hospital.ehr.calls)
    hospital.push(media({"contentType": "application/dicom", "url": "Binary/b1"}, id="m2"))
    hospital.infer()
    assert len(hospital.ehr.calls) == calls, "its circuit is open"
    assert {job.state for job in hospital.jobs()} == {JobState.READY}

    hospital.ehr.away = None
    hospital.ehr.contents["Binary/b1"] = Content("application/dicom", XRAY)
    hospital.pass_time(600)
    hospital.infer()
    assert {job.business_status for job in hospital.jobs()} == {BusinessStatus.DELIVERY_PENDING}


def test_an_archive_that_is_away_is_asked_once_per_batch_and_leaves_the_ehr_alone(
    pictures: Make,
) -> None:
    hospital = pictures(imaging_study(("DX", "1.1")))
    hospital.push(imaging_study(("DX", "1.1"), id="s2"))
    hospital.archive.away = away()

    hospital.infer()
    assert len(hospital.archive.asked) == 1
    hospital.pass_time(0.5)
    with hospital.store.read() as uow:
        assert set(uow.deliveries.circuits()) == {archive_circuit("ehr")}
    assert {job.state for job in hospital.jobs()} == {JobState.READY}


def test_what_a_slow_archive_leaves_no_time_for_goes_to_another_batch(pictures: Make) -> None:
    hospital = pictures(imaging_study(("DX", "1.0")))
    for number in range(1, 7):
        hospital.push(imaging_study(("DX", f"1.{number}"), id=f"t{number}"))
    hospital.archive.files |= {f"1.{n}": dicom(GREY, SOPInstanceUID=f"1.{n}") for n in range(7)}
    hospital.archive.on_ask = lambda: hospital.pass_time(20)

    hospital.infer()

    assert len(hospital.archive.asked) == 2
    states = [job.business_status for job in hospital.jobs()]
    assert states.count(BusinessStatus.DELIVERY_PENDING) == 2
    assert states.count(BusinessStatus.QUEUED) == 5


@pytest.mark.parametrize("broken", [{"content": None}, {"content": ["x"]}, {"status": "odd"}])
def test_what_the_ehr_gives_and_is_no_fhir_is_not_there(pictures: Make, broken: Json) -> None:
    hospital = pictures(report(media=[{"link": {"reference": "Media/m2"}}]))
    given = media(attachment(XRAY, "application/dicom"), id="m2") | broken
    hospital.ehr.put({name: part for name, part in given.items() if part is not None})

    assert refused(hospital).business_status is BusinessStatus.IMAGE_MISSING


def test_what_is_on_its_way_is_waited_for_a_little(pictures: Make) -> None:
    hospital = pictures(media({"contentType": "application/dicom", "url": "Binary/b1"}))
    hospital.infer()
    assert hospital.job().state is JobState.READY

    hospital.push(binary("b1", XRAY, "application/dicom", of="p1"))
    hospital.pass_time(20)

    assert value(hospital) == pytest.approx(MEAN, abs=2e-3)


def test_what_the_ehr_refuses_to_give_is_missing(pictures: Make) -> None:
    hospital = pictures(media({"contentType": "application/dicom", "url": "Binary/b1"}))
    hospital.ehr.away = EhrRefused(403)

    assert refused(hospital).business_status is BusinessStatus.IMAGE_MISSING


# --- notes ----------------------------------------------------------------------------------


def _notes() -> dict[str, Json]:
    plain = attachment(NOTE.encode(), "text/plain; charset=utf-8")
    return {
        "document": document(plain),
        "html": document(attachment(f"<p>{NOTE}</p><!-- x -->".encode(), "text/html")),
        "binary": {**binary("b1", NOTE.encode(), "text/plain", of="p1")},
        "latin": document(attachment(NOTE.encode("latin1"), "text/plain;charset=ISO-8859-1")),
        "report": report(presentedForm=[attachment(b"%PDF", "application/pdf"), plain]),
        "conclusion": report(conclusion=NOTE),
        "composition": composition(section(NOTE)),
        "communication": communication({"contentString": NOTE}),
        "attached": communication({"contentAttachment": plain}),
        "pieces": communication({"contentString": NOTE[:33]}, {"contentString": NOTE[33:]}),
    }


@pytest.mark.parametrize("case", _notes())
def test_a_note_is_read_wherever_it_stands(notes: Make, case: str) -> None:
    hospital = notes(_notes()[case])

    assert value(hospital) == pytest.approx(PAIN_IN_NOTE, abs=1e-6)


def test_a_note_is_followed_to_the_document_and_its_binary(notes: Make) -> None:
    pointer = {"contentType": "text/plain", "url": "Binary/b1"}
    hospital = notes(
        communication({"contentReference": {"reference": "DocumentReference/d1"}}),
        document(pointer),
        binary("b1", NOTE.encode(), "text/plain"),
    )

    assert value(hospital) == pytest.approx(PAIN_IN_NOTE, abs=1e-6)
    assert hospital.ehr.calls == []


def test_a_message_that_answers_a_message_is_not_followed_round_and_round(notes: Make) -> None:
    hospital = notes(communication({"contentReference": {"reference": "Communication/k1"}}))

    assert refused(hospital).business_status is BusinessStatus.TEXT_MISSING
    assert hospital.ehr.calls == []


def test_only_the_sections_that_the_model_reads_are_read(notes: Make) -> None:
    inside = section("for review of the heart: chest pain since two days.")
    hospital = notes(
        composition(
            section("pain pain pain pain pain", code="1"),
            section("Referred", code="2", inside=(inside,)),
            section("pain", code="3", inside=(section("Please see him.", code="2"),)),
        ),
        sections='[{system = "http://loinc.org", code = "2"}]',
    )

    assert value(hospital) == pytest.approx(PAIN_IN_NOTE, abs=1e-6)


def _bad_notes() -> dict[str, tuple[Json, BusinessStatus]]:
    def note(text: str, kind: str = "text/plain", **changed: Any) -> Json:
        return document(attachment(text.encode(), kind, **changed))

    missing, foreign = BusinessStatus.TEXT_MISSING, BusinessStatus.TEXT_FOREIGN
    unreadable, too_long = BusinessStatus.TEXT_UNREADABLE, BusinessStatus.TEXT_TOO_LONG
    tamil = document(attachment(NOTE.encode(), "text/plain"), language="ta-IN")
    latin = document(attachment(b"caf\xe9 " * 9, "text/plain"))
    return {
        "empty": (note(" \n "), missing),
        "no letters": (note("12 / 7, 38.5 + 2"), missing),
        "markup only": (note("<script>pain pain pain</script>", "text/html"), missing),
        "pdf": (note("%PDF", "application/pdf"), missing),
        "no content": (document({"contentType": "text/plain", "title": "x"}), missing),
        "foreign script": (note("रोगी को दो दिन से सीने में दर्द है"), foreign),
        "foreign language": (note(NOTE, language="hi"), foreign),
        "foreign resource": (tamil, foreign),
        "foreign words": (note("Schmerzen in der Brust seit zwei Tagen"), foreign),
        "too long": (note(NOTE * 80), too_long),
        "far too long": (note(NOTE * 8000), too_long),
        "wrong charset": (latin, unreadable),
        "odd charset": (note(NOTE, "text/plain; charset=utf-7"), unreadable),
        "binary": (document(attachment(bytes(200), "text/plain")), unreadable),
        "hash": (note(NOTE, hash=sha1(b"x")), BusinessStatus.ATTACHMENT_ALTERED),
    }


@pytest.mark.parametrize("case", _bad_notes())
def test_a_note_that_the_model_must_not_be_given_is_refused_with_its_reason(
    notes: Make, case: str
) -> None:
    trigger, status = _bad_notes()[case]
    hospital = notes(trigger)

    job = refused(hospital)

    assert job.business_status is status
    assert job.reason.startswith("Referral note: the text ")
    assert hospital.models.model.batches == []


def test_notes_of_several_patients_share_a_run(notes: Make) -> None:
    hospital = notes(document(attachment(NOTE.encode(), "text/plain")))
    for number in range(2, 6):
        hospital.push(document(attachment((NOTE * number).encode(), "text/plain"), id=f"d{number}"))

    hospital.infer()

    assert hospital.models.model.batches == [5]


def test_base64_with_line_breaks_is_read(notes: Make) -> None:
    folded = base64.encodebytes(NOTE.encode()).decode()

    assert value(notes(document({"contentType": "text/plain", "data": folded}))) == pytest.approx(
        PAIN_IN_NOTE, abs=1e-6
    )


@pytest.mark.parametrize(
    ("trigger", "changes"),
    [
        (document(attachment(NOTE.encode(), "text/plain")), {"docStatus": "preliminary"}),
        (document(attachment(NOTE.encode(), "text/plain")), {"status": "superseded"}),
        (composition(section(NOTE)), {"status": "preliminary"}),
        (communication({"contentString": NOTE}), {"status": "in-progress"}),
        (report(conclusion=NOTE), {"status": "partial"}),
    ],
)
def test_what_is_not_final_triggers_nothing(notes: Make, trigger: Json, changes: Json) -> None:
    hospital = notes({**trigger, **changes})

    assert hospital.job().business_status is BusinessStatus.NOT_FINAL
