from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.consent import (
    ACT_CODE,
    ConsentRecord,
    ConsentRequest,
    decide,
    read_consent,
    unreadable_consent,
)
from tests.factories import ACT_REASON, SCOPE, Json, consent

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
ANA = "Patient/p1"
PERMIT = consent()
CENTURIES = timedelta(days=300_000)


def provided(**changed: object) -> Json:
    """The usual consent with parts of its provision changed; None takes a part away."""
    provision = {**PERMIT["provision"], **changed}
    kept = {name: value for name, value in provision.items() if value is not None}
    return consent(provision=kept)


def purposes(*codes: str, system: str = ACT_REASON) -> list[Json]:
    return [{"system": system, "code": code} for code in codes]


def read(content: Json, ref: str = "Consent/1", patient: str | None = ANA) -> ConsentRecord:
    return read_consent(content, ref, patient=patient)


def is_permitted(*contents: Json, purpose: str = "TREAT", now: datetime = NOW) -> bool:
    records = [read(content, f"Consent/{n}") for n, content in enumerate(contents)]
    return decide(ConsentRequest(ANA, purpose, now), records).is_permitted


def test_an_active_consent_that_permits_the_purpose_permits():
    decision = decide(ConsentRequest(ANA, "TREAT", NOW), [read(PERMIT)])

    assert decision.is_permitted
    assert decision.consents == ("Consent/1",)
    assert decision.reasons == ("Consent/1: permits TREAT.",)


@pytest.mark.parametrize("default", ["deny", "permit"])
def test_without_any_consent_the_default_of_the_route_holds(default: str):
    decision = decide(ConsentRequest(ANA, "TREAT", NOW), [], default=default)

    assert decision.is_permitted == (default == "permit")
    assert decision.reasons == (
        f"No consent on record applies; the route's default is to {default}.",
    )


@pytest.mark.parametrize(
    "status", ["draft", "proposed", "rejected", "inactive", "entered-in-error"]
)
def test_a_consent_that_is_not_active_says_nothing(status: str):
    decision = decide(ConsentRequest(ANA, "TREAT", NOW), [read(consent(status=status))])

    assert not decision.is_permitted
    assert decision.consents == ()
    assert decision.reasons[0] == f"Consent/1: is not in force (status {status})."


@pytest.mark.parametrize(
    ("content", "why"),
    [
        pytest.param(
            consent(scope={"coding": [{"system": "http://x", "code": "patient-privacy"}]}),
            "is not about this use of data",
            id="scope of another vocabulary",
        ),
        pytest.param(
            consent(scope={"text": "privacy"}), "is not about this use", id="scope as text"
        ),
        pytest.param(provided(period={"start": "2026-12-01"}), "is not yet in force", id="not yet"),
        pytest.param(provided(period={"end": "2026-11-22"}), "has expired", id="expired"),
        pytest.param(
            provided(period={"end": "2026-02-30"}), "a period that can't be read", id="no such day"
        ),
        pytest.param(
            provided(period={"_start": {"extension": []}}),
            "a period that can't be read",
            id="period without dates",
        ),
        pytest.param(
            provided(period={"start": "2026-01-01T10:00:00"}),
            "a period that can't be read",
            id="time without zone",
        ),
        pytest.param(
            provided(purpose=purposes("HPAYMT")), "does not speak of purpose TREAT", id="purpose"
        ),
        pytest.param(
            provided(purpose=[{"system": ACT_REASON, "display": "treatment"}]),
            "does not speak of purpose TREAT",
            id="purpose without code",
        ),
    ],
)
def test_a_consent_that_does_not_apply_leaves_the_default(content: Json, why: str):
    decision = decide(ConsentRequest(ANA, "TREAT", NOW), [read(content)])

    assert not decision.is_permitted
    assert why in decision.reasons[0]
    assert decide(ConsentRequest(ANA, "TREAT", NOW), [read(content)], default="permit").is_permitted


def scoped(*codes: str, system: str = SCOPE) -> Json:
    return {"coding": [{"system": system, "code": code} for code in codes]}


@pytest.mark.parametrize(
    ("scope", "denied"),
    [
        pytest.param(scoped("patient-privacy"), {"TREAT", "HRESCH", "CLINTRCH"}, id="privacy"),
        pytest.param(scoped("treatment"), {"TREAT", "HRESCH", "CLINTRCH"}, id="treatment"),
        pytest.param(scoped("adr"), {"HRESCH", "CLINTRCH"}, id="adr"),
        pytest.param(scoped("research"), {"HRESCH", "CLINTRCH"}, id="research"),
        pytest.param(
            scoped("research", "treatment"), {"TREAT", "HRESCH", "CLINTRCH"}, id="two scopes"
        ),
        pytest.param(
            scoped("research", system="http://x"),
            {"TREAT", "HRESCH", "CLINTRCH"},
            id="another vocabulary",
        ),
        pytest.param({"text": "privacy"}, {"TREAT", "HRESCH", "CLINTRCH"}, id="text"),
        pytest.param({}, {"TREAT", "HRESCH", "CLINTRCH"}, id="missing"),
    ],
)
def test_the_scope_of_a_denial_silences_it_only_where_it_is_plainly_about_something_else(
    scope: Json, denied: set[str]
):
    permit = provided(purpose=None)
    denial = {**provided(type="deny", purpose=None), "scope": scope}

    found = {
        p for p in ("TREAT", "HRESCH", "CLINTRCH") if not is_permitted(permit, denial, purpose=p)
    }

    assert found == denied


@pytest.mark.parametrize("code", ["treatment", "research", "adr"])
def test_a_permit_of_another_scope_permits_nothing(code: str):
    permit = {**provided(purpose=None), "scope": scoped(code)}

    assert not is_permitted(permit, purpose="TREAT")
    assert not is_permitted(permit, purpose="HRESCH")


@pytest.mark.parametrize("patient", ["Patient/p2", None])
def test_a_consent_of_somebody_else_says_nothing(patient: str | None):
    decision = decide(ConsentRequest(ANA, "TREAT", NOW), [read(PERMIT, patient=patient)])

    assert not decision.is_permitted
    assert "is about another patient" in decision.reasons[0]


@pytest.mark.parametrize(
    "limit",
    [
        {"actor": [{"role": {"text": "x"}, "reference": {"display": "x"}}]},
        {"action": [{"text": "read"}]},
        {"class": [{"code": "Observation"}]},
        {"code": [{"text": "labs"}]},
        {"securityLabel": [{"code": "N"}]},
        {"dataPeriod": {"start": "2026"}},
        {"data": [{"meaning": "related", "reference": {"display": "x"}}]},
        {"provision": [{"type": "deny"}]},
        {"modifierExtension": [{"url": "http://x", "valueBoolean": True}]},
    ],
    ids=lambda limit: next(iter(limit)),
)
@pytest.mark.parametrize("rule", ["permit", "deny"])
def test_a_limit_that_cannot_be_evaluated_denies(rule: str, limit: Json):
    decision = decide(ConsentRequest(ANA, "TREAT", NOW), [read(provided(type=rule, **limit))])

    assert not decision.is_permitted
    assert decision.consents == ("Consent/1",)
    assert next(iter(limit)) in decision.reasons[0]


@pytest.mark.parametrize(
    "extra",
    [
        {"modifierExtension": [{"url": "http://x", "valueBoolean": True}]},
        {"implicitRules": "http://x"},
    ],
    ids=["modifierExtension", "implicitRules"],
)
def test_what_changes_the_meaning_of_the_whole_consent_denies(extra: Json):
    assert not is_permitted(consent(**extra))


@pytest.mark.parametrize(
    ("listed", "asked", "expected"),
    [
        (("TREAT",), "TREAT", True),
        (("TREAT",), "ETREAT", True),
        (("TREAT",), "COC", True),
        (("TREAT",), "BTG", False),
        (("BTG",), "BTG", True),
        (("BTG",), "TREAT", False),
        (("ETREAT",), "TREAT", False),
        (("HRESCH",), "CLINTRCH", True),
        (("HRESCH",), "TREAT", False),
        (("HOPERAT", "TREAT"), "HQUALIMP", True),
    ],
)
def test_a_purpose_covers_its_descendants_but_never_break_glass(
    listed: tuple[str, ...], asked: str, expected: bool
):
    assert is_permitted(provided(purpose=purposes(*listed)), purpose=asked) == expected


def test_a_consent_without_a_purpose_speaks_of_all():
    assert is_permitted(provided(purpose=None), purpose="HMARKT")


def test_a_permit_for_a_purpose_of_another_vocabulary_permits_nothing():
    assert not is_permitted(provided(purpose=purposes("TREAT", system="http://example.org")))


def test_a_denial_for_a_purpose_of_another_vocabulary_denies():
    denial = provided(type="deny", purpose=purposes("CAREMGT", system="urn:oid:1.2.3"))

    assert not is_permitted(PERMIT, denial)


@pytest.mark.parametrize(
    ("codings", "expected"),
    [
        ([{"system": ACT_CODE, "code": "OPTIN"}], True),
        ([{"system": ACT_CODE, "code": "OPTOUT"}], False),
        ([{"system": ACT_CODE, "code": "OPTINR"}], False),
        ([{"system": ACT_CODE, "code": "OPTOUTE"}], False),
        ([{"system": "http://example.org", "code": "OPTIN"}], False),
        ([{"code": "OPTIN"}], False),
        ([{"system": ACT_CODE, "code": "OPTIN"}, {"system": "http://x", "code": "y"}], False),
        ([], False),
    ],
)
def test_without_a_type_the_policy_rule_decides(codings: list[Json], expected: bool):
    rule = {"coding": codings} if codings else {"text": "opt in"}

    assert is_permitted({**provided(type=None), "policyRule": rule}) == expected


def test_a_consent_that_says_nothing_at_all_denies():
    bare = {"resourceType": "Consent", "status": "active", "scope": PERMIT["scope"]}

    decision = decide(ConsentRequest(ANA, "TREAT", NOW), [read(bare)], default="permit")

    assert not is_permitted(PERMIT, bare)
    assert decision.reasons == ("Consent/1: permits nothing (no provision).",)


def test_a_policy_rule_that_denies_is_told_as_a_denial():
    rule = {"coding": [{"system": ACT_CODE, "code": "OPTOUT"}]}
    content = {name: value for name, value in PERMIT.items() if name != "provision"}

    decision = decide(ConsentRequest(ANA, "TREAT", NOW), [read({**content, "policyRule": rule})])

    assert decision.reasons == ("Consent/1: denies TREAT.",)


def test_a_denial_overrides_every_permit_in_any_order():
    denial = provided(type="deny")

    assert not is_permitted(PERMIT, denial)
    assert not is_permitted(denial, PERMIT)


def test_a_permit_holds_beside_what_does_not_apply():
    assert is_permitted(consent(status="inactive"), PERMIT, provided(period={"end": "2020"}))


def test_a_denial_with_an_unreadable_period_goes_on_denying():
    assert not is_permitted(PERMIT, provided(type="deny", period={"start": "soon"}))


@pytest.mark.parametrize(
    ("period", "moment", "expected"),
    [
        ({"start": "2026-11-23"}, "2026-11-22T23:59:59Z", False),
        ({"start": "2026-11-23"}, "2026-11-23T00:00:00Z", True),
        ({"end": "2026-11-23"}, "2026-11-23T23:59:59Z", True),
        ({"end": "2026-11-23"}, "2026-11-24T00:00:00Z", False),
        ({"end": "2026-11"}, "2026-11-30T23:59:59Z", True),
        ({"end": "2026-11"}, "2026-12-01T00:00:00Z", False),
        ({"end": "2026-12"}, "2026-12-31T23:59:59Z", True),
        ({"end": "2026-12"}, "2027-01-01T00:00:00Z", False),
        ({"end": "2026"}, "2026-12-31T23:59:59Z", True),
        ({"end": "2026"}, "2027-01-01T00:00:00Z", False),
        ({"end": "2026-11-23T10:00:00+05:30"}, "2026-11-23T04:30:00Z", True),
        ({"end": "2026-11-23T10:00:00+05:30"}, "2026-11-23T04:30:01Z", False),
        ({"start": "2026-11-23T10:00:00+05:30"}, "2026-11-23T04:29:59Z", False),
        ({"start": "0001-01-01T00:00:00+14:00"}, "2026-11-23T00:00:00Z", True),
    ],
)
def test_a_period_includes_the_whole_of_its_ends(period: Json, moment: str, expected: bool):
    now = datetime.fromisoformat(moment)

    assert is_permitted(provided(period=period), now=now) == expected


@pytest.mark.parametrize(
    "end", ["9999-12-31", "9999", "9999-12", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-14:00"]
)
def test_the_end_of_the_calendar_means_no_end(end: str):
    assert is_permitted(provided(period={"start": "2020", "end": end}))


@given(
    st.lists(st.sampled_from(["permit", "deny", "silent"]), max_size=6),
    st.sampled_from(["deny", "permit"]),
)
def test_one_denial_is_enough_whatever_else_there_is(kinds: list[str], default: str):
    contents = {
        "permit": PERMIT,
        "deny": provided(type="deny"),
        "silent": consent(status="inactive"),
    }
    records = [read(contents[kind], f"Consent/{n}") for n, kind in enumerate(kinds)]

    decision = decide(ConsentRequest(ANA, "TREAT", NOW), records, default=default)

    if "deny" in kinds:
        assert not decision.is_permitted
    else:
        assert decision.is_permitted == ("permit" in kinds or default == "permit")
    assert len(decision.reasons) >= len(kinds)


@given(
    st.timedeltas(min_value=-CENTURIES, max_value=CENTURIES).map(lambda span: NOW + span),
    st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=400)),
)
def test_a_permit_never_holds_outside_of_its_period(start: datetime, length: timedelta):
    first = start.replace(microsecond=0)
    last = first + length
    record = read(provided(period={"start": first.isoformat(), "end": last.isoformat()}))

    def permits(now: datetime) -> bool:
        return decide(ConsentRequest(ANA, "TREAT", now), [record]).is_permitted

    assert permits(first)
    assert not permits(first - timedelta(seconds=1))
    assert not permits(last + timedelta(seconds=1))


def test_a_decision_is_kept_with_its_stage_and_time():
    decision = decide(ConsentRequest(ANA, "TREAT", NOW), [read(PERMIT)])

    assert decision.as_json("admit", NOW) == {
        "stage": "admit",
        "at": "2026-11-23T12:00:00.000+00:00",
        "decision": "permit",
        "purpose": "TREAT",
        "reasons": ["Consent/1: permits TREAT."],
        "consents": ["Consent/1"],
    }
    refused = replace(decision, is_permitted=False).as_json("deliver", NOW)
    assert (refused["decision"], refused["stage"]) == ("deny", "deliver")


def test_a_consent_that_cant_be_read_denies_whatever_others_permit():
    request = ConsentRequest(ANA, "TREAT", NOW)

    decision = decide(request, [read(PERMIT), unreadable_consent("Consent/2")], default="permit")

    assert not decision.is_permitted
    assert decision.consents == ("Consent/2",)
