from typing import Any

import orjson
import pytest

from gateway.core.consent.acts import Act
from gateway.core.consent.giver import giver_of_acts, giver_of_resource
from gateway.core.consent.local import Guardian, LocalConsent


def recorded(guardian: Guardian | None) -> Act:
    consent = LocalConsent(
        patient="Patient/p1",
        system="ehr",
        decision="permit",
        purposes=("TREAT",),
        guardian=guardian,
        means="paper",
        recorded_at="2026-11-26T06:00:00.000Z",
        recorded_by="user-1",
    )
    return Act(kind="record", form="local", statement={"local": consent.as_json()})


@pytest.mark.parametrize(
    ("guardian", "says"),
    [
        (None, ""),
        (
            Guardian(name="Mira Rao", verified_by="passport seen"),
            "Said for you by your guardian Mira Rao (verified by: passport seen).",
        ),
        (
            Guardian(name="", verified_by="Fourth Schedule, part A"),
            "Said without a guardian: Fourth Schedule, part A.",
        ),
    ],
    ids=["herself", "a guardian", "an exemption"],
)
def test_what_staff_recorded_tells_who_said_it(guardian: Guardian | None, says: str) -> None:
    revoked = Act(kind="revoke", form="local", statement={"reason": "She asked."})

    assert giver_of_acts([recorded(guardian), revoked]) == says


@pytest.mark.parametrize(
    ("performer", "says"),
    [
        (None, ""),
        ([{"reference": "Patient/p1", "display": "Ana"}], ""),
        ([{"type": "Patient", "display": "Ana"}], ""),
        ([{"reference": "RelatedPerson/7"}], ""),
        ([{"reference": "RelatedPerson/7", "display": "Mira"}], "Said for you by Mira."),
        ([{"display": "Mira"}, {"display": "Jon"}], "Said for you by Mira, Jon."),
        ("Mira", ""),
        (["Mira"], ""),
    ],
)
def test_a_fhir_consent_tells_by_whom_but_the_patient_it_was_given(
    performer: Any, says: str
) -> None:
    content = orjson.dumps({"resourceType": "Consent", "performer": performer})
    imported = Act(kind="import", form="fhir", statement={}, document=content)

    assert giver_of_resource(content) == says
    assert giver_of_acts([imported]) == says


def test_what_can_not_be_read_names_nobody() -> None:
    broken = Act(kind="record", form="local", statement={"local": {"guardian": {"name": "Mira"}}})
    artefact = Act(kind="import", form="abdm", statement={}, document=b"{}")

    assert giver_of_acts([broken]) == ""
    assert giver_of_acts([artefact]) == ""
    assert giver_of_resource(b"no JSON") == ""
