"""What a route asks: foreseen without the data, then of each resource by itself."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.consent import (
    READ,
    About,
    Asks,
    ConsentTerms,
    Implicit,
    Model,
    high_water_mark,
    question,
    read_consent,
)
from tests.pcf import ACTORS, CONSENTS, PATIENT, RESOURCES, Json, agreed, labels
from tests.unit.gateway.core.consent.test_properties import DEFAULTS, MANY, NOW

ABOUT = About(PATIENT, "event-1", NOW)
MODEL = Model("toy@1", "d" * 64)


def asked(contents, **changed):
    records = [
        read_consent(content, f"Consent/{number}", patient=PATIENT)
        for number, content in enumerate(contents)
    ]
    asks = Asks(changed.pop("purpose", "TREAT"), changed.pop("default", "deny"))
    return question(replace(asks, **changed), ABOUT, records, MODEL, READ)


@given(
    MANY,
    st.sampled_from(sorted(RESOURCES)),
    DEFAULTS,
    st.sampled_from(["TREAT", "HRESCH", "BTG"]),
    st.sampled_from(sorted(ACTORS)),
    st.booleans(),
)
def test_what_is_foreseen_to_be_denied_is_denied_for_any_data(
    contents: list[Json], data: str, default: str, purpose: str, who: str, newer: bool
):
    terms = ConsentTerms(actor=ACTORS[who], newer_supersedes=newer)
    found = asked(contents, default=default, purpose=purpose, terms=terms)

    if found.decide(RESOURCES[data]).is_permitted:
        assert found.foresee().is_permitted


def test_what_is_asked_of_no_limited_consent_is_the_same_before_and_after():
    found = asked([agreed()])

    assert not found.is_limited
    assert found.foresee() == found.decide(RESOURCES["restricted"])


def test_the_same_is_explained_that_is_decided():
    found = asked([CONSENTS["advanced-normal"]])

    for name in ("weight", "restricted"):
        facts = found.facts(RESOURCES[name])
        assert found.explain(facts).decision == found.decide(RESOURCES[name])


def test_a_permit_names_its_basis_and_a_denial_none():
    emergency = Implicit("permit", "dpdp-7-emergency", "Standing order 4")
    terms = ConsentTerms(implicit={"ETREAT": emergency})

    assert asked([agreed()]).foresee().basis == "consent"
    assert asked([], default="permit").foresee().basis == "route-default"
    assert asked([]).foresee().basis == ""
    decision = asked([], purpose="ETREAT", terms=terms).foresee()
    assert (decision.is_permitted, decision.basis) == (True, "dpdp-7-emergency")
    assert decision.as_json("admit", NOW)["basis"] == "dpdp-7-emergency"


def test_what_the_site_states_for_a_purpose_does_not_outweigh_a_denial():
    terms = ConsentTerms(implicit={"TREAT": Implicit("permit", "dpdp-7-public-health", "x")})

    assert not asked([CONSENTS["basic-reject"]], terms=terms).foresee().is_permitted


@pytest.mark.parametrize(
    ("named", "is_normal", "codes"),
    [
        (("weight", "low"), False, ["N"]),
        (("weight", "restricted"), False, ["R"]),
        (("weight", "psychiatry", "very restricted"), False, ["V", "PSY"]),
        (("weight", "unlabelled"), False, []),
        (("weight", "unlabelled"), True, ["N"]),
        (("restricted", "unlabelled"), False, ["R"]),
        (("unlabelled",), True, []),
        (("sensitive without level", "weight"), False, ["R", "HIV"]),
    ],
)
def test_a_result_is_as_confidential_as_the_most_confidential_input(
    named: tuple[str, ...], is_normal: bool, codes: list[str]
):
    found = high_water_mark([RESOURCES[each] for each in named], unlabelled_is_normal=is_normal)

    assert list(found) == labels(*codes)


CODES = st.lists(st.sampled_from(["U", "L", "M", "N", "R", "V", "PSY", "HIV"]), max_size=3)


@given(st.lists(CODES, min_size=1, max_size=4), CODES)
def test_more_inputs_never_lower_the_level_and_never_drop_a_sensitivity(many, more):
    def content(codes: list[str]) -> Json:
        return {"resourceType": "Observation", "meta": {"security": labels(*codes)}}

    before = {each["code"] for each in high_water_mark([content(each) for each in many])}
    after = {each["code"] for each in high_water_mark([content(each) for each in (*many, more)])}
    assert {each for each in before if len(each) > 1} <= after
    order = "ULMNRV"
    level = [order.index(each) for each in after if len(each) == 1]
    below = [order.index(each) for each in before if len(each) == 1]
    assert not below or not level or max(level) >= max(below)


def test_a_moment_is_asked_with_the_question():
    expired = asked([CONSENTS["expired-treat"]])
    in_2022 = replace(
        expired, request=replace(expired.request, now=datetime(2022, 6, 1, tzinfo=UTC))
    )

    assert not expired.foresee().is_permitted
    assert in_2022.foresee().is_permitted
