"""A service asks for what its model needs, and takes no more than that."""

from gateway.core.cds.prefetch import missing_of, taken_of, templates_of
from gateway.core.cds.request import read_request
from models.registry import load_installed
from tests.cds import request
from tests.factories import bundle, creatinine, raw

CKD = load_installed()["ckd-risk"].manifest


def read(**prefetch: object):
    return read_request(raw(request(prefetch=prefetch)))


def templates(**local: object):
    codes = {("urn:lab", "KREA"): ("http://loinc.org", "2160-0")} if local.get("local") else {}
    found = templates_of(CKD, trigger_type="Observation", local_codes=codes)
    return {each.key: each for each in found}


def test_there_is_a_template_for_the_patient_and_for_each_result():
    assert set(templates()) == {"patient"} | {
        each.id for each in CKD.inputs if each.source == "observation"
    }


def test_local_codes_are_asked_for_as_the_ehr_writes_them():
    asked = templates(local=True)["creatinine"]

    assert "code=http://loinc.org|2160-0," in asked.query
    assert ",urn:lab|KREA&" in asked.query


def test_a_search_is_for_the_patient_of_the_context():
    assert templates()["patient"].search("p1") == (("_id", "p1"),)
    assert ("patient", "p1") in templates()["sodium"].search("p1")


def test_what_was_not_brought_is_missing():
    asked = tuple(templates().values())

    missing = missing_of(read(creatinine=bundle(creatinine()), sodium=None), asked)

    brought = {each.key for each in asked} - {each.key for each in missing}
    assert brought == {"creatinine", "sodium"}  # null says that the EHR has none


def test_the_newest_is_taken_and_only_of_the_type_that_was_asked_for():
    old = creatinine(1, effectiveDateTime="2026-01-01")
    undated = creatinine(3)
    del undated["effectiveDateTime"]
    given = bundle(old, creatinine(2), undated, {"resourceType": "Basic", "id": "b"})

    taken = list(taken_of(read(creatinine=given).prefetch, tuple(templates().values())))

    assert [each.content["id"] for each in taken] == ["o2"]


def test_a_result_that_two_templates_find_is_taken_once():
    both = {"creatinine": creatinine(), "sodium": creatinine()}

    taken = list(taken_of(read(**both).prefetch, tuple(templates().values())))

    assert len(taken) == 1


def test_a_model_of_images_asks_for_what_triggers_it():
    image = load_installed()["chest-xray-pneumonia"].manifest

    found = templates_of(image, trigger_type="ImagingStudy", local_codes={})

    (asked,) = [each for each in found if each.key == "trigger"]
    assert asked.query == ("ImagingStudy?patient={{context.patientId}}&_sort=-started&_count=1")
