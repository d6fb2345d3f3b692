import pytest

from gateway.api.outcome import STATUS, operation_outcome, refuse
from gateway.core import errors
from gateway.core.errors import (
    Busy,
    GatewayError,
    InvalidResource,
    Issue,
    LoginRequired,
    NotFound,
    StoreConflict,
    StoreUnavailable,
    TooLarge,
)
from gateway.core.fhir import parse_resource
from tests.factories import raw

FAMILIES = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, GatewayError) and kind is not InvalidResource
]


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_error_has_a_status_and_a_valid_outcome(kind: type[GatewayError]):
    response = refuse(kind())

    assert response.status_code == STATUS[kind.issue_type]
    parse_resource(bytes(response.body), expected_type="OperationOutcome")


@pytest.mark.parametrize("code", [*STATUS, "informational"])
def test_every_issue_code_is_one_of_fhir(code: str):
    parse_resource(raw(operation_outcome([Issue(code, "Says what to do.", "Patient.name")])))


@pytest.mark.parametrize(
    ("error", "status", "header", "value"),
    [
        (LoginRequired(), 401, "www-authenticate", 'Bearer realm="nadi"'),
        (StoreUnavailable(), 503, "retry-after", "1"),
        (StoreUnavailable(retry_after_s=60), 503, "retry-after", "60"),
        (StoreConflict(), 503, "retry-after", "1"),
        (Busy(retry_after_s=0.2), 503, "retry-after", "1"),
        (NotFound(), 404, "retry-after", None),
    ],
)
def test_headers_say_what_to_do(error: GatewayError, status: int, header: str, value: str | None):
    response = refuse(error)

    assert response.status_code == status
    assert response.headers.get(header) == value


def test_an_element_that_is_too_long_is_not_a_body_that_is_too_large():
    long = InvalidResource((Issue("too-long", "x", "Patient.id"),))

    assert (refuse(long).status_code, refuse(TooLarge()).status_code) == (422, 413)


def test_an_issue_code_without_a_status_falls_back_on_the_family():
    unknown = InvalidResource((Issue("duplicate", "x"),))

    assert refuse(unknown).status_code == 400


def test_the_status_may_be_said_where_the_code_does_not():
    assert refuse(NotFound(), status=405).status_code == 405
