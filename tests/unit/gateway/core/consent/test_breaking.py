"""What the glass can be broken over, and what it can't."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.consent import BREAK_GLASS, ConsentRequest, decide, decide_broken, read_consent
from gateway.core.consent.explaining import explain
from gateway.core.consent.record import unreadable_consent
from tests.hospital import consent_of

NOW = datetime(2026, 11, 26, tzinfo=UTC)
REQUEST = ConsentRequest("Patient/p1", BREAK_GLASS, NOW)
REASON = "http://terminology.hl7.org/CodeSystem/v3-ActReason"


def consent(kind: str = "deny", *purposes: str, **provision: Any):
    content = consent_of("p1", kind)
    content["policyRule"] = {"text": "the hospital's"}
    if purposes:
        provision["purpose"] = [{"system": REASON, "code": code} for code in purposes]
    content["provision"] = {"type": kind, **provision}
    return read_consent(content, ref="Consent/c1", patient="Patient/p1")


def test_what_nobody_forbade_is_permitted_in_an_emergency():
    decision = decide_broken(REQUEST, [])

    assert decision.is_permitted
    assert decision.reasons == ("An emergency: nobody forbade it.",)


def test_what_would_change_an_emergency_is_tried_by_its_own_rules():
    forbidden = [consent("deny", "BTG"), consent("deny")]

    told = explain(REQUEST, forbidden, breaks_glass=True)

    assert not told.decision.is_permitted
    assert "a new Consent of the patient that permits BTG" not in told.changes
    assert not any(each.startswith(("for purpose", "a route")) for each in told.changes)
    assert explain(REQUEST, [consent("deny")], breaks_glass=True).decision.is_permitted


def test_a_denial_for_whatever_purpose_is_what_the_glass_is_broken_over():
    record = consent("deny")

    decision = decide_broken(REQUEST, [record])

    assert not decide(REQUEST, [record], default="permit").is_permitted
    assert decision.is_permitted
    assert decision.purpose == "BTG"
    assert "The glass was broken over it." in decision.reasons[0]


def test_a_denial_of_treatment_says_nothing_of_emergencies():
    assert decide_broken(REQUEST, [consent("deny", "TREAT")]).is_permitted


def test_a_denial_that_names_emergencies_holds():
    decision = decide_broken(REQUEST, [consent("deny", "BTG")])

    assert not decision.is_permitted


def test_a_permit_for_another_actor_does_not_withhold_it():
    actor = {"role": {"text": "x"}, "reference": {"reference": "Practitioner/other"}}

    assert decide_broken(REQUEST, [consent("permit", actor=[actor])]).is_permitted


def test_a_consent_that_can_t_be_read_holds():
    record = unreadable_consent("Consent/c1")

    assert not decide_broken(REQUEST, [record]).is_permitted


def test_a_consent_with_an_element_nobody_knows_holds():
    content = {**consent_of("p1", "deny"), "modifierExtension": [{"url": "urn:x"}]}

    assert not decide_broken(
        REQUEST, [read_consent(content, ref="Consent/c1", patient="Patient/p1")]
    ).is_permitted


@given(st.lists(st.sampled_from(["TREAT", "BTG", "HRESCH", ""]), max_size=4), st.data())
def test_to_add_a_denial_never_permits_more(purposes, data):
    records = [consent("deny", *filter(None, [each])) for each in purposes]
    one_more = consent("deny", *filter(None, [data.draw(st.sampled_from(["BTG", "TREAT", ""]))]))

    before = decide_broken(REQUEST, records).is_permitted
    after = decide_broken(REQUEST, [*records, one_more]).is_permitted

    assert before or not after


@pytest.mark.parametrize("purpose", ["TREAT", "BTG"])
def test_a_refusal_of_all_ai_is_above_break_glass(purpose):
    refusal = replace(consent("deny"), refuses_ai=True)
    permit = consent("permit", "BTG")

    decision = decide_broken(ConsentRequest("Patient/p1", purpose, NOW), [permit, refusal])

    assert not decision.is_permitted
    assert decision.is_ai_refused
