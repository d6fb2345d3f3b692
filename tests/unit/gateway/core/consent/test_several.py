"""Several consents, obligations, and requests as LEAP asks them, with frozen clocks."""

from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.core.consent import (
    Actor,
    ConsentRequest,
    ConsentSettings,
    Obligation,
    decide,
    read_consent,
    resource_facts,
)
from tests.pcf import (
    ACTORS,
    CONSENTS,
    PATIENT,
    RESOURCES,
    Json,
    actors,
    agreed,
    but,
    labels,
    pcf_consent,
    purposes,
)

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
NEWER = ConsentSettings(newer_supersedes=True)
REDACTING = frozenset({"REDACT"})
PERMIT = {"type": "permit"}
DENY = {"type": "deny"}


def issued(at: str | None, provision: Json, **changed: Any) -> Json:
    content = {**pcf_consent(**provision), "dateTime": at, **changed}
    return {key: value for key, value in content.items() if value is not None}


def ask(*contents: Json, purpose: str = "TREAT", resource: str | None = None, **how: Any):
    records = [
        read_consent(each, f"Consent/{n}", patient=PATIENT) for n, each in enumerate(contents)
    ]
    facts = {} if resource is None else {"resource": resource_facts(RESOURCES[resource])}
    request = ConsentRequest(PATIENT, purpose, NOW, actor=ACTORS["clerk"], **facts)
    return decide(request, records, **how)


# -- newer and older -------------------------------------------------------------------------


def test_a_newer_permit_sets_an_older_denial_aside_only_where_the_site_says_so():
    older, newer = issued("2022-06-13", DENY), issued("2022-06-14", PERMIT)

    assert not ask(older, newer).is_permitted
    decision = ask(older, newer, settings=NEWER)
    assert decision.is_permitted
    assert decision.consents == ("Consent/1",)
    assert "Consent/0: is set aside by a newer one." in decision.reasons


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        pytest.param(issued("2022-06-13", DENY), issued("2022-06-13", PERMIT), id="same day"),
        pytest.param(issued("2022", DENY), issued("2022-06-13", PERMIT), id="same year"),
        pytest.param(issued(None, DENY), issued("2022-06-13", PERMIT), id="undated"),
        pytest.param(issued("2022", DENY), issued(None, PERMIT), id="newer is undated"),
        pytest.param(issued("2024", DENY), issued("2022", PERMIT), id="older permit"),
        pytest.param(
            issued("2020", DENY),
            issued("2022", PERMIT, performer=[{"reference": "RelatedPerson/1"}]),
            id="somebody else",
        ),
        pytest.param(
            issued("2020", DENY, performer=None),
            issued("2022", PERMIT, performer=None),
            id="nobody",
        ),
        pytest.param(
            issued("2020", DENY),
            issued("2022", PERMIT, policy=[{"uri": "http://p/2"}]),
            id="another policy",
        ),
        pytest.param(
            issued("2020", DENY),
            issued("2022", {**PERMIT, "purpose": purposes("HPAYMT")}),
            id="about another purpose",
        ),
        pytest.param(
            issued("2020", DENY, modifierExtension=[{"url": "http://x"}]),
            issued("2022", PERMIT),
            id="a denial that is not understood",
        ),
    ],
)
def test_otherwise_the_denial_stands(older: Json, newer: Json):
    assert not ask(older, newer, settings=NEWER).is_permitted


def test_a_newer_narrower_consent_sets_an_older_wider_one_aside():
    older = issued("2022", PERMIT)
    newer = issued("2023", {**PERMIT, "actor": actors("Practitioner/ex-practitioner")})

    assert ask(older, newer).is_permitted
    assert not ask(older, newer, settings=NEWER).is_permitted


def test_what_was_set_aside_once_stays_so_when_its_successor_falls_too():
    denial, permit = issued("2020", DENY), issued("2022", PERMIT)
    narrower = issued("2023", {**PERMIT, "actor": actors("Practitioner/ex-practitioner")})

    assert not ask(denial, permit, narrower, settings=NEWER).is_permitted


# -- obligations -----------------------------------------------------------------------------


def test_a_permit_beside_rules_about_other_data_comes_with_redaction():
    content = agreed(but("deny", securityLabel=labels("R")))

    decision = ask(content, resource="weight", settings=ConsentSettings(fulfils=REDACTING))

    assert decision.is_permitted
    path = "provision.provision[0]"
    assert decision.obligations == (
        Obligation("REDACT", "Consent/0", path, "denies securityLabel R"),
    )
    # What is kept does not tell what the patient hides.
    kept = decision.as_json("admit", NOW)
    assert kept["obligations"] == [{"code": "REDACT", "rule": f"Consent/0 {path}"}]


def test_an_obligation_that_nobody_sees_to_makes_a_denial():
    decision = ask(agreed(but("deny", securityLabel=labels("R"))), resource="weight")

    assert not decision.is_permitted
    assert decision.consents == ("Consent/0",)
    assert decision.reasons[-1] == (
        "Consent/0: demands REDACT (provision.provision[0]), which is not seen to here."
    )


def test_rules_about_other_data_hold_for_the_default_of_the_route_too():
    content = pcf_consent(type="deny", securityLabel=labels("R"))

    assert not ask(content, resource="weight", default="permit").is_permitted
    how = {"default": "permit", "settings": ConsentSettings(fulfils=REDACTING)}
    assert ask(content, resource="weight", **how).is_permitted


def test_rules_about_other_data_of_other_purposes_or_times_demand_nothing():
    other = agreed(but("deny", securityLabel=labels("R"), purpose=purposes("HRESCH")))
    past = agreed(but("deny", securityLabel=labels("R"), period={"end": "2025"}))
    old = {**agreed(but("deny", securityLabel=labels("R"))), "status": "inactive"}

    assert ask(other, past, old).obligations == ()
    assert ask(other, past, old).is_permitted


def test_a_permit_of_some_data_demands_that_the_rest_is_left_out():
    limited = agreed(securityLabel=labels("N"))

    decision = ask(limited, resource="weight", settings=ConsentSettings(fulfils=REDACTING))

    assert [each.limits for each in decision.obligations] == ["permits only securityLabel N"]
    assert not ask(limited, resource="weight").is_permitted
    # Another consent permits all of it.
    assert ask(limited, agreed(), resource="weight").obligations == ()


def test_labels_to_redact_are_denied_and_the_rest_is_permitted():
    content = agreed(securityLabel=labels("REDACT", "PSY"))
    how = {"settings": ConsentSettings(fulfils=REDACTING)}

    assert ask(content, resource="weight", **how).is_permitted
    assert not ask(content, resource="psychiatry", **how).is_permitted
    assert ask(content, resource="weight", **how).obligations[0].code == "REDACT"


def test_to_redact_nothing_in_particular_is_not_understood():
    decision = ask(agreed(securityLabel=labels("REDACT")))

    assert not decision.is_permitted
    assert "provision does not tell what to redact" in decision.reasons[0]


def test_other_obligations_hold_as_well():
    content = agreed(securityLabel=labels("DELAU", "N"))

    assert not ask(
        content, resource="weight", settings=ConsentSettings(fulfils=REDACTING)
    ).is_permitted
    both = ConsentSettings(fulfils=frozenset({"REDACT", "DELAU"}))
    decision = ask(content, resource="weight", settings=both)
    assert decision.is_permitted
    assert [each.code for each in decision.obligations] == ["DELAU", "REDACT"]


def test_of_two_permits_it_is_enough_to_fulfil_one():
    demanding = agreed(securityLabel=labels("MASK"))
    limited = agreed(securityLabel=labels("N"))
    how = {"resource": "weight", "settings": ConsentSettings(fulfils=REDACTING)}

    assert not ask(demanding, **how).is_permitted
    assert ask(demanding, limited, **how).is_permitted


# -- as LEAP asks ----------------------------------------------------------------------------

# One purpose or one actor is asked for a patient, at a moment that stands still. LEAP's own cases
# of expiry and category have consents that are inactive anyway; these are active.
IN_2024 = datetime(2024, 6, 1, tzinfo=UTC)
IN_2025 = datetime(2025, 6, 2, tzinfo=UTC)
LAPSING = agreed(period={"start": "2023-01-01", "end": "2025-06-01"})
RESEARCH_ONLY = {
    **pcf_consent(type="permit"),
    "category": [
        {
            "coding": [
                {
                    "system": "http://terminology.hl7.org/CodeSystem/consentcategorycodes",
                    "code": "research",
                }
            ]
        }
    ],
}
NOT_HER = agreed(but("deny", actor=actors("Practitioner/ex-practitioner")))
ONLY_HER = pcf_consent(
    type="deny", provision=[but("permit", actor=actors("Practitioner/ex-practitioner"))]
)


@pytest.mark.parametrize(
    ("content", "actor", "purpose", "now", "expected"),
    [
        pytest.param(LAPSING, "clerk", "TREAT", IN_2024, True, id="in force"),
        pytest.param(LAPSING, "clerk", "TREAT", IN_2025, False, id="lapsed"),
        pytest.param(
            LAPSING, "clerk", "TREAT", datetime(2022, 1, 1, tzinfo=UTC), False, id="early"
        ),
        pytest.param(RESEARCH_ONLY, "clerk", "HRESCH", IN_2024, True, id="category, its purpose"),
        pytest.param(RESEARCH_ONLY, "clerk", "TREAT", IN_2024, False, id="category, another"),
        pytest.param(NOT_HER, "clerk", "TREAT", IN_2024, True, id="all but her: another"),
        pytest.param(NOT_HER, "practitioner", "TREAT", IN_2024, False, id="all but her: she"),
        pytest.param(NOT_HER, "unknown", "TREAT", IN_2024, False, id="all but her: who?"),
        pytest.param(ONLY_HER, "practitioner", "TREAT", IN_2024, True, id="only she: she"),
        pytest.param(ONLY_HER, "clerk", "TREAT", IN_2024, False, id="only she: another"),
        pytest.param(ONLY_HER, "unknown", "TREAT", IN_2024, False, id="only she: who?"),
        pytest.param(CONSENTS["basic-treat"], "clerk", "HMARKT", IN_2024, False, id="purpose"),
    ],
)
def test_one_consent_asked_at_one_moment(
    content: Json, actor: str, purpose: str, now: datetime, expected: bool
):
    record = read_consent(content, "Consent/1", patient=PATIENT)
    request = ConsentRequest(PATIENT, purpose, now, actor=ACTORS[actor])

    assert decide(request, [record]).is_permitted == expected


def test_an_actor_that_cant_be_resolved_is_denied_whatever_the_default():
    record = read_consent(NOT_HER, "Consent/1", patient=PATIENT)
    request = ConsentRequest(PATIENT, "TREAT", IN_2024, actor=Actor(groups=frozenset()))

    assert not decide(request, [record], default="permit").is_permitted
