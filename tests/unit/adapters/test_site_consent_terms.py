"""`consent` in a site file: who the models are, what holds where nobody has spoken."""

import pytest

from adapters.site import SiteInvalid, load_site
from gateway.core.consent import Implicit

SITE = """site: test
systems: {ehr: {kind: fhir-rest, base_url: "http://ehr.test/fhir"}}
routes:
  toy:
    source: ehr
    match: Observation.code.exists()
    consent: {purpose: ETREAT%s}
    model: toy@1
    sink: {system: ehr}
consent:
%s
"""
EMERGENCY = (
    "  implicit: {ETREAT: {decision: permit, basis: dpdp-7-emergency, evidence: Standing order 4}}"
)

TERMS = """  unlabelled_is_normal: true
  newer_supersedes: true
  actor:
    devices: [Device/nadi]
    identifiers: [{system: 'urn:x', value: '7'}]
    organizations: [Organization/ours]
    groups: [CareTeam/ai]
"""


def problem(consent: str, default: str = "") -> str:
    with pytest.raises(SiteInvalid) as refused:
        load_site(SITE % (default, consent))
    return str(refused.value)


def test_a_site_says_what_its_models_are_known_as():
    site = load_site(SITE % ("", TERMS))

    terms = site.routes[0].consent_terms
    assert terms == site.consent
    assert (terms.unlabelled_is_normal, terms.newer_supersedes) == (True, True)
    assert terms.actor.references == {"Device/nadi"}
    assert terms.actor.identifiers == {"urn:x|7"}
    assert terms.actor.organizations == {"Organization/ours"}
    assert terms.actor.groups == {"CareTeam/ai"}


def test_a_site_states_what_policies_say():
    stated = "  policies: {'https://ehr.test/policies/1': permit, 'urn:oid:1.2': deny}"

    terms = load_site(SITE % ("", stated)).consent

    assert terms.policies == {"https://ehr.test/policies/1": True, "urn:oid:1.2": False}
    assert "consent.policies" in problem("  policies: {'no uri': permit}")
    assert "consent.policies" in problem("  policies: {'urn:x:1': perhaps}")


def test_where_a_site_says_nothing_its_models_may_be_known_as_anything():
    actor = load_site(SITE % ("", "  newer_supersedes: false")).consent.actor

    assert (actor.references, actor.organizations, actor.groups) == (None, None, None)
    assert actor.may_have_others


def test_what_holds_for_a_purpose_is_the_default_of_its_routes():
    site = load_site(SITE % ("", EMERGENCY))

    assert site.routes[0].consent_default == "permit"
    stated = Implicit("permit", "dpdp-7-emergency", "Standing order 4")
    assert site.consent.implicit == {"ETREAT": stated}


def test_a_route_may_say_the_same_and_must_not_contradict():
    assert load_site(SITE % (", default: permit", EMERGENCY)).routes[0].consent_default == "permit"

    told = problem(EMERGENCY, ", default: deny")
    assert "routes.toy.consent.default" in told
    assert "contradicts consent.implicit.ETREAT" in told


@pytest.mark.parametrize(
    ("consent", "told"),
    [
        ("  implicit: {ETREAT: {decision: permit}}", "needs a `basis`"),
        (
            "  implicit: {ETREAT: {decision: permit, basis: dpdp-7-emergency}}",
            "dpdp-7-emergency needs `evidence`",
        ),
        ("  implicit: {ETREAT: {decision: deny, basis: consent}}", "a denial needs neither"),
        (
            "  implicit: {TREAT: {decision: permit, basis: dpdp-7-emergency, evidence: x}}",
            "dpdp-7-emergency is for",
        ),
        ("  implicit: {TRAET: {decision: deny}}", "unknown purpose of use 'TRAET'"),
        ("  implicit: {TREAT: {decision: permit, basis: trust, evidence: x}}", "must be"),
        ("  actor: {organizations: [Patient/1]}", "must be Organization/<id>"),
        ("  unlabeled_is_normal: true", "unknown key"),
    ],
)
def test_what_is_wrong_is_told_with_line_and_key(consent: str, told: str):
    said = problem(consent)

    assert told in said
    assert "consent" in said
    assert ":11:" in said or ":10:" in said
