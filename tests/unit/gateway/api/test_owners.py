"""A Binary is sealed under the key of the patient it belongs to, if that can be told."""

import base64

import pytest

from gateway.store.identity import named_key
from tests.conftest import Api
from tests.factories import Json, bundle, patient, raw

URN = "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0"


def binary(**changed: object) -> Json:
    data = base64.b64encode(b"hello").decode()
    return {"resourceType": "Binary", "contentType": "text/plain", "data": data, **changed}


def document(url: str, subject: str = "Patient/p1", **changed: object) -> Json:
    return {
        "resourceType": "DocumentReference",
        "status": "current",
        "subject": {"reference": subject},
        "content": [{"attachment": {"contentType": "text/plain", "url": url}}],
        **changed,
    }


def owner(api: Api) -> str | None:
    """Give the patient of the one Binary that was received."""
    with api.store.read() as uow:
        (found,) = [e for e in uow.events.recent(principal_id=None, limit=50) if _is_binary(e)]
        uow.patient_keys.load([found.patient_key])
        name = uow.events.patient(found)
        key = api.store.sealer.patient_key("ehr", name) if name else None
    assert found.patient_key == key
    return name


def _is_binary(event: object) -> bool:
    return getattr(event, "resource_type", "") == "Binary"


def with_urls(*entries: tuple[str, Json]) -> Json:
    told = [{"fullUrl": url, "resource": each} for url, each in entries]
    return {"resourceType": "Bundle", "type": "collection", "entry": told}


def test_a_binary_that_names_its_patient_is_hers(api: Api) -> None:
    api.post(raw(binary(securityContext={"reference": "Patient/p1"})))

    assert owner(api) == "Patient/p1"


def test_a_binary_that_says_nothing_is_nobodys(api: Api) -> None:
    api.post(raw(binary(id="b1")))

    assert owner(api) is None


@pytest.mark.parametrize("is_first", [True, False])
def test_in_a_bundle_a_binary_is_its_whose_document_points_at_it(api: Api, is_first: bool) -> None:
    pair = [(URN, binary()), ("urn:uuid:8f6b9b5e-2c0e-4c7e-9d43-0a4a0b6a8f10", document(URN))]

    answer = api.post(raw(with_urls(*(pair if is_first else reversed(pair)))))

    assert answer.status_code == 200, answer.text
    assert owner(api) == "Patient/p1"


@pytest.mark.parametrize("url", ["Binary/b1", "http://ehr.test/fhir/Binary/b1"])
def test_a_document_may_name_the_binary_by_its_id(api: Api, url: str) -> None:
    api.post(raw(bundle(document(url, id="d1"), binary(id="b1"), patient(1))))

    assert owner(api) == "Patient/p1"


def test_what_two_patients_point_at_is_nobodys(api: Api) -> None:
    two = [document("Binary/b1", f"Patient/p{number}", id=f"d{number}") for number in (1, 2)]

    api.post(raw(bundle(*two, binary(id="b1"))))

    assert owner(api) is None


def test_the_rules_of_a_document_that_was_received_before_name_the_patient(api: Api) -> None:
    api.post(raw(document("Binary/b1", id="d1")))

    api.post(raw(binary(id="b1", securityContext={"reference": "DocumentReference/d1"})))

    assert owner(api) == "Patient/p1"


def test_the_rules_of_a_document_of_the_same_bundle_do_too(api: Api) -> None:
    context = {"reference": "DocumentReference/d1"}

    api.post(raw(bundle(binary(id="b1", securityContext=context), document("Binary/x", id="d1"))))

    assert owner(api) == "Patient/p1"


def test_rules_that_are_not_known_leave_a_binary_to_nobody(api: Api) -> None:
    api.post(raw(binary(id="b1", securityContext={"reference": "DocumentReference/none"})))

    assert owner(api) is None
    with api.store.read() as uow:
        key = named_key(api.store.sealer, "ehr", "Binary", "b1")
        assert set(uow.events.current([key])) == {key}
