"""A result that must not be used says so, and why: consent was withdrawn, or the data was wrong."""

from datetime import UTC, datetime

import pytest
from fhir.resources.R4B.observation import Observation
from fhir.resources.R4B.provenance import Provenance

from gateway.core.retraction import CORRECTED, is_retracted, retracted, retraction_provenance

AT = datetime(2026, 11, 26, tzinfo=UTC)
WRONG = f"{CORRECTED} The sample was mixed up."
WITHDRAWN = "Consent/c1: denies TREAT."
RESULT = {
    "resourceType": "Observation",
    "id": "r1",
    "status": "final",
    "code": {"text": "risk"},
    "valueString": "high",
    "note": [{"text": "before"}],
}


@pytest.mark.parametrize(
    ("reason", "says", "not_says"),
    [
        (WRONG, "data that was corrected", "consent"),
        (WITHDRAWN, "withdrew the consent", "corrected"),
    ],
    ids=["wrong", "withdrawn"],
)
def test_what_stands_in_the_chart_says_why_and_keeps_the_value(
    reason: str, says: str, not_says: str
) -> None:
    marked = retracted(RESULT, AT, reason)

    Observation.model_validate(marked)
    assert is_retracted(marked)
    assert marked["valueString"] == "high"
    for text in (marked["text"]["div"], marked["note"][-1]["text"]):
        assert says in text
        assert not_says not in text
    assert marked["note"][0] == {"text": "before"}


@pytest.mark.parametrize(("reason", "codes"), [(WRONG, []), (WITHDRAWN, ["PATRQT"])])
def test_only_what_a_patient_asked_for_says_that_she_did(reason: str, codes: list[str]) -> None:
    made = retraction_provenance("r1", ["Observation/r1"], reason=reason, at=AT, who="ward")

    Provenance.model_validate(made)
    [given] = made["reason"]
    assert given["text"] == reason
    assert [each["code"] for each in given.get("coding", [])] == codes
