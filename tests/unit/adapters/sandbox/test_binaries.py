import base64

from tests.pictures import gradient, png

PNG = png(gradient())


def test_bytes_that_are_posted_become_a_binary_and_come_back_as_they_were(ehr) -> None:
    headers = {"Content-Type": "image/png", "X-Security-Context": "Patient/p1"}
    created = ehr.ask("POST", "/fhir/Binary", content=PNG, headers=headers)

    plain = ehr.ask("GET", created.headers["location"])
    fhir = ehr.ask(
        "GET", created.headers["location"], headers={"Accept": "application/fhir+json, */*;q=0.5"}
    )

    assert (plain.content, plain.headers["content-type"]) == (PNG, "image/png")
    assert fhir.json()["securityContext"] == {"reference": "Patient/p1"}
    assert base64.b64decode(fhir.json()["data"]) == PNG


def test_a_binary_may_be_sent_as_fhir_too(ehr) -> None:
    data = base64.b64encode(PNG).decode()
    ehr.put({"resourceType": "Binary", "id": "b", "contentType": "image/png", "data": data})

    assert ehr.ask("GET", "/fhir/Binary/b").content == PNG


def test_the_bytes_of_an_update_keep_the_id(ehr) -> None:
    ehr.ask("PUT", "/fhir/Binary/b", content=b"a", headers={"Content-Type": "text/plain"})
    ehr.ask("PUT", "/fhir/Binary/b", content=b"b", headers={"Content-Type": "text/plain"})

    assert ehr.ask("GET", "/fhir/Binary/b").content == b"b"


def test_other_types_are_json_only(ehr) -> None:
    answer = ehr.ask("POST", "/fhir/Media", content=PNG, headers={"Content-Type": "image/png"})

    assert answer.status_code == 415


def test_an_image_that_was_put_into_the_archive_is_given_by_its_uids(ehr) -> None:
    place = "/dicomweb/studies/1.2/series/1.2.3/instances/1.2.3.4"
    wanted = {"Accept": 'multipart/related; type="application/dicom"'}

    assert ehr.ask("GET", place, headers=wanted).status_code == 404
    assert ehr.ask("PUT", place, content=PNG).status_code == 201

    answer = ehr.ask("GET", place, headers=wanted)
    assert answer.headers["content-type"].startswith("multipart/related")
    assert PNG in answer.content
    assert ehr.ask("GET", place, headers={"Accept": "image/png"}).status_code == 406
