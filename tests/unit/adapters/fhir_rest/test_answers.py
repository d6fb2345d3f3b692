import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.fhir_rest.answers import (
    error_of,
    issue_codes,
    read_capabilities,
    read_json,
    read_retry_after,
)
from adapters.fhir_rest.errors import (
    EhrAnswerUnreadable,
    EhrConflict,
    EhrFailed,
    EhrLoginFailed,
    EhrOverloaded,
    EhrRefused,
    EhrTimeout,
    MultipleMatches,
)
from gateway.core.errors import ProcessingError, TransientError

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
CANARY = "Zyxwv Canary 1.9 mg/dL"
OUTCOME = json.dumps(
    {
        "resourceType": "OperationOutcome",
        "issue": [
            {"code": "invalid", "diagnostics": CANARY, "details": {"text": CANARY}},
            {"code": CANARY},
            {"code": "invalid"},
            "odd",
        ],
    }
).encode()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, EhrRefused),
        (400, EhrRefused),
        (401, EhrLoginFailed),
        (403, EhrRefused),
        (404, EhrRefused),
        (408, EhrTimeout),
        (409, EhrConflict),
        (412, MultipleMatches),
        (422, EhrRefused),
        (423, EhrConflict),
        (429, EhrOverloaded),
        (500, EhrFailed),
        (501, EhrRefused),
        (502, EhrFailed),
        (503, EhrOverloaded),
        (504, EhrTimeout),
    ],
)
def test_each_status_has_its_error_without_the_words_of_the_ehr(
    status: int, kind: type[Exception]
) -> None:
    error = error_of(status, {"retry-after": "3"}, OUTCOME, NOW)

    assert type(error) is kind
    assert isinstance(error, TransientError | ProcessingError)
    assert "Canary" not in f"{error} {error.issues} {vars(error)}"
    if isinstance(error, TransientError):
        assert error.retry_after_s == 3
    if isinstance(error, EhrRefused):
        assert (error.status, error.codes) == (status, ("invalid",))


@given(st.integers(min_value=0, max_value=86_400))
def test_retry_after_is_read_as_seconds_and_as_date(seconds: int) -> None:
    as_date = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)

    assert read_retry_after(str(seconds), NOW) == seconds
    assert read_retry_after(as_date, NOW) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("", None),
        ("soon", None),
        ("-5", None),
        ("nan", None),
        ("9" * 400, None),
        ("1000000", 86_400.0),
        ("Wed, 31 Dec 2025 00:00:00 GMT", 0.0),
        ("Thu, 01 Jan 2026 12:00:09 -0000", 9.0),
    ],
)
def test_an_odd_retry_after_does_no_harm(text: str, seconds: float | None) -> None:
    assert read_retry_after(text, NOW) == seconds


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'"x"', b"{}", b'{"resourceType":1}'])
def test_what_is_no_fhir_json_is_unreadable(body: bytes) -> None:
    with pytest.raises(EhrAnswerUnreadable):
        read_json(body)
    assert issue_codes(body) == ()


def test_capabilities_are_read() -> None:
    statement = {
        "resourceType": "CapabilityStatement",
        "fhirVersion": "4.0.1",
        "software": {"name": "EHR"},
        "rest": [
            {"mode": "client"},
            {
                "mode": "server",
                "interaction": [{"code": "transaction"}],
                "resource": [
                    {
                        "type": "Observation",
                        "conditionalCreate": True,
                        "updateCreate": False,
                        "interaction": [{"code": "create"}],
                        "searchParam": [{"name": "identifier", "type": "token"}],
                    }
                ],
            },
        ],
    }

    read = read_capabilities(statement)

    assert (read.fhir_version, read.software) == ("4.0.1", "EHR")
    assert (read.transaction, read.batch) == (True, False)
    observation = read.of("Observation")
    assert (observation.conditional_create, observation.update_create) == (True, False)
    assert observation.interactions == {"create"}
    assert observation.search_parameters == {"identifier"}
    assert read.of("Provenance").interactions == frozenset()


@pytest.mark.parametrize(
    "statement",
    [
        {},
        {"rest": 1},
        {"rest": [1]},
        {"rest": [{"mode": "server", "resource": {"type": 1}}]},
        {"software": "x", "rest": [{"mode": "server", "resource": ["x"], "interaction": "y"}]},
    ],
)
def test_an_odd_capability_statement_promises_nothing(statement: dict[str, Any]) -> None:
    read = read_capabilities(statement)

    assert not read.transaction
    assert not read.of("Observation").conditional_create
