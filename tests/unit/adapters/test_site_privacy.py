"""The key `privacy`: somebody can be reached, and who else is named falls back to the officer."""

import pytest
from pydantic import ValidationError

from adapters.site_privacy import PrivacyEntry

OFFICER = {"name": "Dr. K", "email": "dpo@h.example"}
LEAST = {"fiduciary": "District Hospital", "address": "Nashik", "officer": OFFICER}


def test_the_officer_stands_for_whom_the_file_does_not_name() -> None:
    made = PrivacyEntry.model_validate(LEAST).privacy()

    assert made.complaints is made.officer
    assert made.point_of_contact is made.officer
    assert made.officer.line == "Dr. K, dpo@h.example"


def test_those_who_are_named_are_used() -> None:
    more = {"grievance": {"name": "Cell", "phone": "+91 253 1"}, "incident": OFFICER}
    made = PrivacyEntry.model_validate({**LEAST, **more}).privacy()

    assert made.complaints.line == "Cell, +91 253 1"


@pytest.mark.parametrize(
    "officer", [{"name": "Dr. K"}, {"name": "Dr. K", "email": "nowhere"}, {"email": "a@b.example"}]
)
def test_a_contact_that_can_t_be_reached_is_refused(officer: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        PrivacyEntry.model_validate({**LEAST, "officer": officer})
