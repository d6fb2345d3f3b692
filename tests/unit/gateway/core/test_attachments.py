import pytest

from gateway.core.attachments import (
    DCM,
    Instance,
    Json,
    Listed,
    image_parts,
    listed_parts,
    references,
    text_parts,
    unlisted_study,
)
from models.shown import Shown
from tests.toy_documents import (
    binary,
    communication,
    composition,
    document,
    imaging_study,
    media,
    report,
    section,
)


class Shelf:
    """Resources by the reference they are asked for with."""

    def __init__(self, **known: Json) -> None:
        self._known = {name.replace("_", "/"): each for name, each in known.items()}
        self.asked: list[str] = []

    def resource(self, reference: str) -> Json | None:
        self.asked.append(reference)
        return self._known.get(reference)


PLAIN = {"contentType": "text/plain", "data": "aGVsbG8="}
POINTER = {"contentType": "text/plain", "url": "Binary/b"}


def test_the_contents_of_a_document_are_forms_of_one_part():
    (part,) = text_parts(document(PLAIN, POINTER, language="en"), Shelf())

    assert [(form.data, form.url) for form in part] == [("aGVsbG8=", None), (None, "Binary/b")]
    assert {(form.source, form.language) for form in part} == {
        ("DocumentReference/d1/_history/1", "en")
    }


def test_every_payload_of_a_message_is_a_part_of_its_own():
    message = communication(
        {"contentString": "hello"},
        {"contentAttachment": PLAIN},
        {"contentReference": {"reference": "DocumentReference/d1"}},
        {"contentReference": {"display": "nowhere"}},
        {"contentReference": {"reference": "DocumentReference/none"}},
    )

    parts = text_parts(message, Shelf(DocumentReference_d1=document(POINTER)))

    assert [(each.text, each.data, each.url) for (each,) in parts] == [
        ("hello", None, None),
        (None, "aGVsbG8=", None),
        (None, None, "Binary/b"),
    ]


def test_only_a_study_that_names_no_instance_is_one_to_be_asked_for():
    nameless = imaging_study() | {"identifier": []}

    assert unlisted_study(imaging_study()) == "1.2.3"
    assert unlisted_study(imaging_study(("DX", "1.7"))) is None
    assert unlisted_study(nameless) is None
    assert unlisted_study(document(PLAIN)) is None


def test_of_what_an_archive_lists_the_series_that_the_study_names_are_taken():
    listed = [
        Listed(Instance("1.2.3", series, "1.7"), Shown("DX")) for series in ("1.2.3.1", "1.2.3.2")
    ]
    named = imaging_study() | {"series": [{"uid": "1.2.3.2"}]}

    assert len(listed_parts(imaging_study(), listed)) == 2
    (((form,)),) = listed_parts(named, listed)
    assert (form.instance, form.shown) == (listed[1].instance, Shown("DX"))
    assert form.content_type == "application/dicom"


def test_a_link_may_lead_into_the_resource_itself():
    inside = {**media(POINTER, modality="CR"), "id": "inside"}
    told = report(contained=[inside], media=[{"link": {"reference": "#inside"}}])
    shelf = Shelf()

    ((form,),) = image_parts(told, shelf)

    assert (form.url, form.shown) == ("Binary/b", Shown("CR"))
    assert shelf.asked == []


def test_nothing_is_followed_further_than_it_may_be():
    told = report(media=[{"link": {"reference": "Media/m"}}])
    shelf = Shelf(Media_m=media(POINTER))

    assert image_parts(told, shelf, depth=0) == []
    assert shelf.asked == []


def test_the_view_of_a_media_is_read_in_every_code_that_it_has():
    view = {
        "coding": [{"system": "http://snomed.info/sct", "code": "272479007"}, {"code": "PA"}],
        "text": "PA",
    }

    ((form,),) = image_parts({**media(PLAIN), "view": view}, Shelf())

    assert form.shown.view_codes == (("http://snomed.info/sct", "272479007"), ("", "PA"))


def test_what_an_image_shows_is_read_in_the_codes_of_dicom_only():
    local = {"coding": [{"system": "http://local", "code": "XR"}, {"system": DCM, "code": "CR"}]}
    site = {"coding": [{"system": "http://snomed.info/sct", "code": "51185008"}, {"display": "x"}]}

    ((form,),) = image_parts({**media(PLAIN), "modality": local, "bodySite": site}, Shelf())

    assert form.shown == Shown("CR", body_sites=(("http://snomed.info/sct", "51185008"),))


def test_the_instances_of_a_study_are_named_by_their_uids():
    parts = image_parts(imaging_study(("DX", "1.9"), ("SR", "1.8")), Shelf())

    assert [form.instance for (form,) in parts] == [
        Instance("1.2.3", "1.2.3.1", "1.9"),
        Instance("1.2.3", "1.2.3.2", "1.8"),
    ]
    assert [form.shown.modality for (form,) in parts] == ["DX", "SR"]


def test_a_study_without_a_uid_has_no_images():
    study = imaging_study(("DX", "1.9"))
    study["identifier"] = [{"system": "http://ehr.test/accession", "value": "7"}]

    assert image_parts(study, Shelf()) == []
    assert text_parts(study, Shelf()) == []


@pytest.mark.parametrize(
    ("resource", "named"),
    [
        (document(PLAIN, POINTER), ["Binary/b"]),
        (media(POINTER), ["Binary/b"]),
        (report(presentedForm=[POINTER], media=[{"link": {"reference": "Media/m"}}]), None),
        (communication({"contentAttachment": POINTER}, {"contentString": "x"}), ["Binary/b"]),
        (binary("b", b"x", "text/plain"), []),
        (composition(section("x")), []),
        ({"resourceType": "Observation", "content": "odd"}, []),
    ],
)
def test_all_that_is_pointed_at_is_named(resource: Json, named: list[str] | None):
    assert references(resource) == (named if named is not None else ["Binary/b", "Media/m"])
