"""A day's work of a whole Nadi, read back out of its log: every event keeps BALP's rules."""

import json
from typing import Any

import pytest

from tests import balp
from tests.people import person, versioned
from tests.running import RunningNadi, push_chart

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def bodies(shared_nadi: RunningNadi) -> list[dict[str, Any]]:
    """Everything in the log after results, refusals, reads, queries, and strangers at the door."""
    nadi = shared_nadi
    permits, denies = person("balp"), person("balp")
    push_chart(nadi, *permits.chart(permits.consent()), permits.creatinine())
    push_chart(nadi, *denies.chart(denies.consent("deny")), denies.creatinine())
    push_chart(nadi, versioned(permits.consent(), 2))
    nadi.settle()
    with nadi.client("clinician") as client:
        client.get("/fhir/Observation", params={"patient": permits.reference}).raise_for_status()
        assert client.get("/fhir/AuditEvent").status_code == 403
        assert client.get("/fhir/Task", headers={"Authorization": "Bearer no"}).status_code == 401
    with nadi.client("compliance") as client:
        client.get("/fhir/AuditEvent", params={"patient": permits.reference}).raise_for_status()
        client.get("/audit/checkpoint").raise_for_status()
    with nadi.client("ehr") as client:
        spoilt = {"content": b"{", "headers": {"Content-Type": "application/fhir+json"}}
        assert client.post("/fhir/Observation", **spoilt).status_code == 400
    nadi.nadi("audit", "verify", check=False)
    return [json.loads(body) for body in nadi.audit_bodies()]


def names(bodies: list[dict[str, Any]]) -> set[str]:
    """Give our own names of the events; the consent decision has none."""
    system = "https://nadi.health/fhir/CodeSystem/audit-event"
    found = set()
    for body in bodies:
        own = [coding["code"] for coding in body["subtype"] if coding["system"] == system]
        found.add(own[0] if own else "consent")
    return found


def test_what_happened_is_there(bodies: list[dict[str, Any]]) -> None:
    expected = (
        "keys start model credential configure receive consent admit infer deliver complete "
        "query sign-in-failure forbid verify"
    )
    assert set(expected.split()) <= names(bodies)


def test_every_event_keeps_the_rules_of_the_profile_it_claims(bodies: list[dict[str, Any]]) -> None:
    broken = [(body["subtype"], why) for body in bodies if (why := balp.violations(body))]

    assert broken == []
    assert {name for body in bodies for name in balp.claimed(body)} >= {
        "IHE.BasicAudit.AuthZconsent",
        "IHE.BasicAudit.PatientCreate",
        "IHE.BasicAudit.PatientQuery",
    }


def test_every_call_has_its_request_id(bodies: list[dict[str, Any]]) -> None:
    called = [b for b in bodies if b["subtype"][0].get("code") in ("create", "read", "search")]
    of_api = [body for body in called if body["source"]["observer"]["display"] == "api"]

    assert of_api
    for body in of_api:
        types = [entity["type"].get("code") for entity in body["entity"]]
        assert types.count("XrequestId") == 1, body["subtype"]


def test_permits_and_denials_are_told_as_success_and_failure(bodies: list[dict[str, Any]]) -> None:
    decisions = [b for b in bodies if b["subtype"][0].get("code") == "AuthZ-Consent"]

    assert {body["outcome"] for body in decisions} == {"0", "8"}
