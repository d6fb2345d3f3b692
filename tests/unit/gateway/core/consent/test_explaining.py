from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.core.consent import (
    ConsentRequest,
    Explanation,
    RuleVerdict,
    explain,
    read_consent,
    resource_facts,
    unreadable_consent,
)
from gateway.core.consent.local import LocalConsent, local_record
from tests.pcf import (
    ACTORS,
    CONSENTS,
    PATIENT,
    RESOURCES,
    TERMINOLOGY,
    Json,
    actors,
    agreed,
    but,
    pcf_consent,
    purposes,
)

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


def told(*contents: Json, purpose: str = "TREAT", actor: str = "clerk", **how: Any) -> Explanation:
    records = [
        read_consent(each, f"Consent/{n}", patient=PATIENT) for n, each in enumerate(contents)
    ]
    request = ConsentRequest(
        PATIENT,
        purpose,
        NOW,
        actor=ACTORS[actor],
        resource=resource_facts(RESOURCES["weight"]),
    )
    return explain(request, records, **how)


def test_every_rule_is_told_with_its_conditions():
    explanation = told(CONSENTS["advanced-normal-break-glass-restricted"], actor="unknown")

    assert explanation.rules == (
        RuleVerdict(
            "Consent/0 provision",
            "permit",
            "permit",
            "purpose (HOPERAT, HPAYMT, TREAT) holds; securityLabel (N) holds.",
        ),
        RuleVerdict(
            "Consent/0 provision.provision[0]",
            "permit",
            "silent",
            "purpose (BTG) does not hold; actor (Group/ex-privilegedUsers) is not known; "
            "securityLabel (R) holds.",
        ),
    )


def test_a_rule_without_conditions_says_so():
    assert told(pcf_consent(type="permit")).rules[0].why == "it has no conditions."


def test_a_consent_that_is_not_asked_is_told_as_a_whole():
    explanation = told({**agreed(), "status": "inactive"})

    assert explanation.rules == (
        RuleVerdict("Consent/0", "permit", "silent", "is not in force (status inactive)."),
    )


def test_a_consent_that_cant_be_read_is_told_as_a_denial():
    request = ConsentRequest(PATIENT, "TREAT", NOW)

    explanation = explain(request, [unreadable_consent("Consent/1")])

    assert explanation.rules[0].verdict == "deny"
    assert explanation.changes == (
        "Consent/1 withdrawn and a new Consent of the patient that permits TREAT",
    )


@pytest.mark.parametrize(
    ("contents", "purpose", "change"),
    [
        pytest.param([], "TREAT", "a new Consent of the patient that permits TREAT", id="none yet"),
        pytest.param(
            [agreed()], "TREAT", "a new Consent of the patient that denies TREAT", id="no"
        ),
        pytest.param([agreed()], "TREAT", "Consent/0 withdrawn", id="withdrawn"),
        pytest.param(
            [{**agreed(), "status": "inactive"}],
            "TREAT",
            "Consent/0 in force (status active)",
            id="inactive",
        ),
        pytest.param(
            [agreed(), pcf_consent(type="deny"), pcf_consent(type="deny")],
            "TREAT",
            "Consent/1, Consent/2 withdrawn",
            id="two denials",
        ),
        pytest.param(
            [agreed(period={"start": "2027-01-01"})],
            "TREAT",
            "from 2027-01-01T00:00:00+00:00 on",
            id="not yet in force",
        ),
        pytest.param(
            [agreed(period={"end": "2026-11-30"})],
            "TREAT",
            "from 2026-12-01T00:00:00+00:00 on",
            id="will expire",
        ),
        pytest.param([agreed()], "HRESCH", "for purpose HPAYMT", id="another purpose"),
        pytest.param(
            [agreed(actor=actors("Practitioner/ex-practitioner"))],
            "TREAT",
            "asked by Practitioner/ex-practitioner",
            id="another actor",
        ),
        pytest.param(
            [
                agreed(
                    action=[{"coding": [{"system": f"{TERMINOLOGY}/consentaction", "code": "use"}]}]
                )
            ],
            "TREAT",
            "for use only",
            id="action",
        ),
        pytest.param([], "TREAT", "a route whose default is to permit", id="default"),
        pytest.param(
            [CONSENTS["advanced-normal"]],
            "TREAT",
            "REDACT seen to by whoever asks",
            id="obligation",
        ),
        pytest.param(
            [pcf_consent(type="deny"), {**agreed(), "dateTime": "2024"}],
            "TREAT",
            "a site where the newer consent sets aside the older",
            id="newer",
        ),
    ],
)
def test_what_would_change_the_verdict_is_told(contents: list[Json], purpose: str, change: str):
    assert change in told(*contents, purpose=purpose).changes


def test_what_would_change_nothing_is_not_told():
    changes = told(pcf_consent(type="deny"), pcf_consent(type="deny")).changes

    assert changes == (
        "Consent/0, Consent/1 withdrawn and a new Consent of the patient that permits TREAT",
    )


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"period": {"start": "2020", "end": "2030"}}, "period (from 2020-01-01T00:00:00+00:00"),
        ({"period": {"end": "soon"}}, "period (a period that can't be read)"),
        ({"purpose": [{"display": "x"}]}, "purpose (a purpose that is not coded)"),
        ({"action": [{"text": "x"}]}, "action (an action that is not coded)"),
        ({"class": [{"display": "x"}]}, "class (a class that is not coded)"),
        ({"code": [{"text": "x"}]}, "code (a code that is written as text only)"),
        ({"securityLabel": [{"display": "x"}]}, "securityLabel (a label that is not coded)"),
        ({"dataPeriod": {"start": "2022"}}, "dataPeriod (from 2022-01-01T00:00:00)"),
        ({"dataPeriod": {"start": "x"}}, "dataPeriod (a period that can't be read)"),
        (
            {"data": [{"meaning": "instance", "reference": {"display": "x"}}]},
            "data (instance unnamed)",
        ),
        ({"actor": [{"role": {"text": "x"}, "reference": {"display": "x"}}]}, "actor (somebody)"),
    ],
)
def test_every_condition_is_told_in_words(limits: Json, words: str):
    rules = told(agreed(but("deny", **limits))).rules

    assert words in rules[1].why


@pytest.mark.parametrize(
    ("content", "purpose", "why"),
    [
        (agreed(actor=actors("Group/1")), "TREAT", "permits TREAT only where its actor holds, and"),
        (
            pcf_consent(type="deny", actor=actors("Group/1")),
            "TREAT",
            "does not speak of this: its actor does not hold.",
        ),
        (
            agreed(but("permit", purpose=purposes("BTG")), but("deny", code=[{"text": "x"}])),
            "BTG",
            "does not permit BTG where provision.provision[1] denies it.",
        ),
        (agreed(but("deny")), "TREAT", "denies TREAT (provision.provision[0])."),
        (agreed(but("permit", purpose=purposes("BTG"))), "BTG", "permits BTG (provision.provision"),
        (
            agreed(but("deny", action=[{"text": "x"}])),
            "TREAT",
            "denies TREAT (provision.provision[0]), as far as is known",
        ),
    ],
)
def test_what_a_consent_says_is_told_in_one_sentence(content: Json, purpose: str, why: str):
    assert told(content, purpose=purpose).decision.reasons[0].startswith(f"Consent/0: {why}")


def test_where_taking_a_consent_back_is_enough_nothing_more_is_told():
    request = ConsentRequest(PATIENT, "BTG", NOW)
    refusal = local_record(
        LocalConsent(
            patient=PATIENT,
            system="ehr",
            decision="ai-opt-out",
            means="verbal",
            recorded_at="2026-11-20T08:00:00Z",
            recorded_by="os-user:clerk",
        ),
        "Consent/1",
    )

    refused = explain(request, [refusal], breaks_glass=True)
    nothing = explain(request, [], breaks_glass=True)

    assert refused.changes == ("Consent/1 withdrawn",)
    assert nothing.changes == ("a new Consent of the patient that denies BTG",)
