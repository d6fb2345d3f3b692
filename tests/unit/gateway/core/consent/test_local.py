from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.consent import ConsentRequest, ConsentSettings, decide, read_consent
from gateway.core.consent.local import (
    ConsentNotRecordable,
    Guardian,
    LocalConsent,
    Notice,
    age_on,
    insist_on_recordable,
    local_record,
    read_local,
)
from gateway.core.consent.record import under_policies
from gateway.core.consent.statement import canonical
from tests.factories import consent

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
ANA = "Patient/p1"
NOTICES = {"2026-1": frozenset({"en", "hi"})}
ADULT, CHILD = date(1961, 5, 1), date(2010, 5, 1)


def local(**changed: Any) -> LocalConsent:
    whole = {
        "patient": ANA,
        "system": "ehr",
        "decision": "permit",
        "purposes": ("TREAT",),
        "notice": Notice(version="2026-1", language="hi"),
        "means": "paper",
        "recorded_at": "2026-11-20T08:00:00Z",
        "recorded_by": "os-user:clerk",
        **changed,
    }
    return LocalConsent(**whole)


def with_content(**changed: Any) -> LocalConsent:
    return local(purposes=(), content=consent(**changed))


OPT_OUT = local(decision="ai-opt-out", purposes=(), notice=None)


def check(consent: LocalConsent, birth_date: date | None = ADULT) -> None:
    insist_on_recordable(consent, notices=NOTICES, birth_date=birth_date, now=NOW)


def is_permitted(*consents: LocalConsent, purpose: str = "TREAT", default: Any = "deny") -> bool:
    records = [local_record(each, f"Consent/{n}") for n, each in enumerate(consents)]
    return decide(ConsentRequest(ANA, purpose, NOW), records, default=default).is_permitted


# -- what it says ----------------------------------------------------------------------------


def test_a_permit_permits_its_purposes_and_no_others():
    check(local())

    assert is_permitted(local())
    assert not is_permitted(local(), purpose="HRESCH")


@pytest.mark.parametrize("over", [local(ends="2026-01-31"), local(starts="2020", ends="2020")])
@pytest.mark.parametrize("decision", ["permit", "deny"])
def test_what_is_over_already_is_not_recorded(over: LocalConsent, decision: Any):
    with pytest.raises(ConsentNotRecordable, match="over already"):
        check(replace(over, decision=decision))

    check(replace(over, decision=decision, ends=NOW.date().isoformat()))


@pytest.mark.parametrize("decision", ["permit", "deny"])
def test_what_would_end_before_it_begins_is_not_recorded(decision: Any):
    with pytest.raises(ConsentNotRecordable, match="end before it begins"):
        check(local(decision=decision, starts="2027-12-01", ends="2027-01-01"))

    check(local(decision=decision, starts="2027-01-01", ends="2027-01-01"))


def test_no_policy_makes_a_permit_of_what_staff_recorded():
    content = {**consent(), "policy": [{"uri": "urn:p:1"}], "provision": {}}
    content.pop("policyRule", None)
    record = local_record(local(decision="deny", purposes=(), content=content), "Consent/1")

    settled = under_policies(record, {"urn:p:1": True})

    assert not decide(ConsentRequest(ANA, "TREAT", NOW), [settled], default="permit").is_permitted


def test_a_permit_ends_with_its_last_day():
    assert is_permitted(local(ends="2026-11-23"))
    assert not is_permitted(local(ends="2026-11-22"))
    assert not is_permitted(local(starts="2026-11-24"))


def test_a_denial_without_purposes_denies_all_of_them():
    denial = local(decision="deny", purposes=(), notice=None)
    check(denial, birth_date=None)

    assert not is_permitted(denial, local(), default="permit")


def test_a_withdrawn_permit_is_not_replaced_by_the_default_of_a_route():
    withdrawn = local_record(local(), "Consent/1", is_withdrawn=True)
    request = ConsentRequest(ANA, "TREAT", NOW)

    assert not decide(request, [withdrawn], default="permit").is_permitted
    assert decide(request, [withdrawn, local_record(local(), "Consent/2")]).is_permitted


@pytest.mark.parametrize("decision", ["deny", "ai-opt-out"])
def test_a_refusal_that_was_taken_back_says_nothing_any_more(decision: Any):
    taken_back = local_record(
        local(decision=decision, purposes=(), notice=None), "Consent/1", is_withdrawn=True
    )

    decided = decide(ConsentRequest(ANA, "TREAT", NOW), [taken_back], default="permit")

    assert decided.is_permitted
    assert not decided.is_ai_refused


def test_limits_are_those_of_the_fhir_consent():
    limited = consent(provision={**consent()["provision"], "period": {"start": "2026-12-01"}})
    given_with = local(purposes=(), content=limited)
    check(given_with)

    assert not is_permitted(given_with)


# -- a refusal of all AI ---------------------------------------------------------------------


@pytest.mark.parametrize("purpose", ["TREAT", "BTG", "ETREAT", "PUBHLTH"])
@pytest.mark.parametrize("newer_supersedes", [False, True])
def test_a_refusal_of_ai_is_above_everything(purpose: str, newer_supersedes: bool):
    newer = consent(dateTime="2026-11-22", performer=[{"reference": ANA}])
    others = [
        read_consent(newer, "Consent/2", patient=ANA),
        local_record(local(purposes=(purpose,)), "Consent/3"),
    ]
    settings = ConsentSettings(newer_supersedes=newer_supersedes)
    refusal = local_record(OPT_OUT, "Consent/1")

    decided = decide(
        ConsentRequest(ANA, purpose, NOW), [refusal, *others], default="permit", settings=settings
    )

    assert not decided.is_permitted
    assert decided.is_ai_refused
    assert "Consent/1: refuses all AI." in decided.reasons
    assert decided.as_json("admit", NOW)["ai_refused"] is True


def test_a_denial_is_no_refusal_of_ai():
    denial = local_record(local(decision="deny"), "Consent/1")

    assert not decide(ConsentRequest(ANA, "TREAT", NOW), [denial]).is_ai_refused


# -- what may be recorded --------------------------------------------------------------------

FHIR = consent()
NOT_RECORDABLE: dict[str, tuple[LocalConsent, date | None, str]] = {
    "no purpose": (local(purposes=()), ADULT, "names what for"),
    "a purpose that is none": (local(purposes=("FUN",)), ADULT, "not a code"),
    "no notice": (local(notice=None), ADULT, "needs the notice"),
    "a notice nobody knows": (local(notice=Notice(version="9", language="en")), ADULT, "2026-1"),
    "a language nobody has": (
        local(notice=Notice(version="2026-1", language="ta")),
        ADULT,
        "en, hi",
    ),
    "a minor alone": (local(), CHILD, "is a minor"),
    "nobody knows how old": (local(), None, "date of birth"),
    "an unverified guardian": (
        local(guardian=Guardian(name="B", verified_by=" ")),
        CHILD,
        "verified",
    ),
    "a limited refusal of AI": (local(decision="ai-opt-out", notice=None), ADULT, "neither"),
    "purposes beside a FHIR Consent": (local(content=FHIR), ADULT, "belong into"),
    "another decision in it": (
        local(decision="deny", purposes=(), content=FHIR),
        ADULT,
        "otherwise",
    ),
    "an unknown element in it": (with_content(modifierExtension=[{}]), ADULT, "not understood"),
    "a Consent not in force": (with_content(status="inactive"), ADULT, "active"),
    "a Consent of somebody else": (with_content(subject="Patient/p2"), ADULT, "another patient"),
    "a period that is none": (local(ends="never"), ADULT, "period"),
}


@pytest.mark.parametrize(
    ("wrong", "birth_date", "says"), NOT_RECORDABLE.values(), ids=NOT_RECORDABLE.keys()
)
def test_what_may_not_be_recorded_is_refused_with_its_reason(
    wrong: LocalConsent, birth_date: date | None, says: str
):
    with pytest.raises(ConsentNotRecordable, match=says):
        check(wrong, birth_date)


@pytest.mark.parametrize(
    "guardian",
    [
        Guardian(name="Her mother", verified_by="DigiLocker token 4711"),
        Guardian(name="", verified_by="Fourth Schedule Part A"),
    ],
)
def test_a_minor_consents_through_a_guardian_or_under_an_exemption(guardian: Guardian):
    check(local(guardian=guardian), CHILD)


def test_to_say_no_is_never_harder_than_to_say_yes():
    check(OPT_OUT, None)
    check(local(decision="deny", purposes=(), notice=None), CHILD)


def test_age_is_counted_in_whole_years():
    assert age_on(date(2026, 11, 23), date(2008, 11, 24)) == 17
    assert age_on(date(2026, 11, 24), date(2008, 11, 24)) == 18


# -- the statement ---------------------------------------------------------------------------

TEXTS = st.text(max_size=8)
CONSENTS = st.builds(
    LocalConsent,
    patient=TEXTS,
    system=TEXTS,
    decision=st.sampled_from(["permit", "deny", "ai-opt-out"]),
    purposes=st.lists(TEXTS, max_size=2).map(tuple),
    starts=st.none() | TEXTS,
    ends=st.none() | TEXTS,
    notice=st.none() | st.builds(Notice, version=TEXTS, language=TEXTS),
    guardian=st.none() | st.builds(Guardian, name=TEXTS, verified_by=TEXTS),
    means=st.sampled_from(["paper", "verbal", "digital"]),
    recorded_at=TEXTS,
    recorded_by=TEXTS,
    content=st.none() | st.dictionaries(TEXTS, TEXTS, max_size=2),
)


@given(CONSENTS)
def test_what_was_written_is_read_back(consent: LocalConsent):
    assert read_local(consent.as_json()) == consent
    assert canonical(consent.as_json()) == canonical(read_local(consent.as_json()).as_json())


@given(CONSENTS, st.text(min_size=1, max_size=8))
def test_a_statement_with_a_field_that_is_not_known_is_not_read(consent: LocalConsent, name: str):
    written = consent.as_json()
    if name in LocalConsent.__dataclass_fields__:
        return

    with pytest.raises(ConsentNotRecordable):
        read_local({**written, name: "x"})


@given(CONSENTS, st.booleans())
def test_whatever_was_written_is_decided_on_without_an_error(
    consent: LocalConsent, withdrawn: bool
):
    record = local_record(replace(consent, patient=ANA), "Consent/1", is_withdrawn=withdrawn)

    decided = decide(ConsentRequest(ANA, "TREAT", NOW), [record])

    assert decided.is_permitted <= (consent.decision == "permit" and not withdrawn)
