"""A call of a service is read as the standard has it; what is wrong is named by its place."""

import uuid
from contextlib import suppress

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.cds.request import HOOKS, read_request
from gateway.core.errors import ContentError, InvalidResource
from tests.factories import bundle, consent, creatinine, patient

INSTANCE = "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea"
VIEW = {
    "hookInstance": INSTANCE,
    "hook": "patient-view",
    "context": {"userId": "Practitioner/example", "patientId": "1288992", "encounterId": "89284"},
    "fhirServer": "https://ehr.test/fhir",
    "fhirAuthorization": {
        "access_token": "some-opaque-token",
        "token_type": "Bearer",
        "expires_in": 300,
        "scope": "user/Patient.read user/Observation.read",
        "subject": "cds-service",
    },
    "prefetch": {"patientToGreet": patient()},
}
SIGN = {
    "hookInstance": INSTANCE,
    "hook": "order-sign",
    "context": {
        "userId": "PractitionerRole/A2340113",
        "patientId": "1288992",
        "draftOrders": bundle({"resourceType": "ServiceRequest", "id": "s1", "status": "draft"}),
    },
}


def places(body: object) -> list[str | None]:
    with pytest.raises(InvalidResource) as refused:
        read_request(orjson.dumps(body))
    return [issue.expression for issue in refused.value.issues]


def changed(body: dict, **more: object) -> dict:
    return {**body, **more}


def in_context(body: dict, **more: object) -> dict:
    return {**body, "context": {**body["context"], **more}}


def authorized(**more: object) -> dict:
    return {**VIEW, "fhirAuthorization": {**VIEW["fhirAuthorization"], **more}}


def test_a_view_of_a_patient_is_read():
    read = read_request(orjson.dumps(VIEW), hook="patient-view")

    assert (read.patient, read.user) == ("1288992", "Practitioner/example")
    assert (read.fhir_server, read.access_token) == ("https://ehr.test/fhir", "some-opaque-token")
    assert read.prefetch["patientToGreet"][0].content["id"] == "p1"
    assert "opaque" not in repr(read)


def test_draft_orders_are_read():
    read = read_request(orjson.dumps(SIGN))

    (order,) = read.orders
    assert order.content["status"] == "draft"
    assert order.full_url == "http://ehr.test/fhir/ServiceRequest/s1"


def test_of_draft_orders_only_orders_are_taken():
    given = bundle(SIGN["context"]["draftOrders"]["entry"][0]["resource"], consent(), patient())

    read = read_request(orjson.dumps(in_context(SIGN, draftOrders=given)))

    assert [each.content["resourceType"] for each in read.orders] == ["ServiceRequest"]


def test_what_the_ehr_did_not_get_is_missing_and_that_it_has_nothing_is_an_answer():
    outcome = {"resourceType": "OperationOutcome", "issue": []}
    found = bundle(creatinine(), {"resourceType": "OperationOutcome", "issue": []})
    given = {"none": None, "failed": outcome, "empty": bundle(), "found": found}

    read = read_request(orjson.dumps(changed(VIEW, prefetch=given)))

    parts = {key: len(part) for key, part in read.prefetch.items()}
    assert parts == {"none": 0, "empty": 0, "found": 1}


@pytest.mark.parametrize("given", [None, bundle()])
def test_that_there_is_no_patient_is_not_believed(given: object):
    read = read_request(orjson.dumps(changed(VIEW, prefetch={"patient": given})))

    assert read.prefetch == {}


def test_bytes_stay_as_they_were_received():
    raw = orjson.dumps(VIEW).replace(b'"birthDate"', b' "birthDate" ')

    (brought,) = read_request(raw).prefetch["patientToGreet"]

    assert b' "birthDate" :' in brought.raw


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (changed(VIEW, hook="patient-liked"), ["hook"]),
        (changed(VIEW, hookInstance="1"), ["hookInstance"]),
        (changed(VIEW, hookInstance=None), ["hookInstance"]),
        (changed(VIEW, context=[]), ["context"]),
        (changed(VIEW, fhirServer="ftp://ehr"), ["fhirServer"]),
        (changed(VIEW, fhirServer="https://me:secret@ehr.test"), ["fhirServer"]),
        (changed(VIEW, fhirServer=None), ["fhirServer"]),
        (changed(VIEW, fhirAuthorization="token"), ["fhirAuthorization"]),
        (authorized(access_token="a\nb"), ["fhirAuthorization.access_token"]),  # noqa: S106
        (authorized(token_type="mac"), ["fhirAuthorization.token_type"]),  # noqa: S106
        (authorized(expires_in="300"), ["fhirAuthorization.expires_in"]),
        (
            authorized(scope=None, subject=1),
            ["fhirAuthorization.scope", "fhirAuthorization.subject"],
        ),
        (in_context(VIEW, userId="example"), ["context.userId"]),
        (in_context(VIEW, userId="Device/d1"), ["context.userId"]),
        (in_context(VIEW, patientId="Patient/1"), ["context.patientId"]),
        (in_context(VIEW, patientId=None), ["context.patientId"]),
        (in_context(VIEW, encounterId=7), ["context.encounterId"]),
        (changed(SIGN, hook="order-select"), ["context.selections"]),
        (in_context(SIGN, userId="Patient/p1"), ["context.userId"]),
        (in_context(SIGN, draftOrders=None), ["context.draftOrders"]),
        (in_context(SIGN, draftOrders=patient()), ["context.draftOrders"]),
        (
            in_context(SIGN, draftOrders={"resourceType": "Bundle", "entry": {}}),
            ["context.draftOrders.entry"],
        ),
        (changed(VIEW, prefetch=[]), ["prefetch"]),
        (changed(VIEW, prefetch={"a": 1}), ["prefetch.a"]),
        (changed(VIEW, prefetch={"<script>": 1}), ["prefetch"]),
        (
            changed(VIEW, prefetch={"a": {"resourceType": "Bundle", "entry": [1]}}),
            ["prefetch.a.entry[0]"],
        ),
        (
            changed(VIEW, prefetch={"a": {"resourceType": "Bundle", "entry": [{"fullUrl": 1}]}}),
            ["prefetch.a.entry[0].fullUrl"],
        ),
    ],
)
def test_what_is_wrong_is_named_by_its_place(body: dict, expected: list[str]):
    assert places(body) == expected


def test_a_service_takes_its_own_hook_only():
    with pytest.raises(InvalidResource, match="The hook of this service is order-sign"):
        read_request(orjson.dumps(VIEW), hook="order-sign")


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(sorted(HOOKS)),
    st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["resourceType", "entry", "resource", "x"]), inner)
        ),
        max_leaves=8,
    ),
    st.sampled_from(["context", "prefetch", "fhirAuthorization", "draftOrders"]),
)
def test_nothing_that_is_json_ends_otherwise_than_by_an_explanation(hook, odd, place):
    body = {**VIEW, "hook": hook, "hookInstance": str(uuid.UUID(INSTANCE))}
    body = in_context(body, draftOrders=odd) if place == "draftOrders" else {**body, place: odd}

    # Anything but an explanation would be a fault of ours.
    with suppress(ContentError):
        read_request(orjson.dumps(body))
