"""What must hold of consents from all sources together."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.consent import (
    STRICT,
    ConsentRecord,
    ConsentRequest,
    ConsentSettings,
    ResourceFacts,
    decide,
    explain,
    read_consent,
    resource_facts,
)
from gateway.core.consent.abdm import read_artefact
from gateway.core.consent.abdm_artefact import read_notification
from gateway.core.consent.local import LocalConsent, local_record
from tests import abdm
from tests.factories import ACT_REASON, consent, creatinine, patient

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
ANA = "Patient/p1"
PURPOSES = st.sampled_from(["TREAT", "CAREMGT", "BTG", "HRESCH", "ETREAT"])
SETTINGS = st.sampled_from(
    [
        STRICT,
        ConsentSettings(fulfils=frozenset({"REDACT"})),
        ConsentSettings(newer_supersedes=True, fulfils=frozenset({"REDACT"})),
    ]
)
DATA = st.sampled_from(
    [
        ResourceFacts(),
        resource_facts(patient()),
        resource_facts(creatinine()),
        resource_facts(creatinine(encounter={"reference": "Encounter/OPD-1"})),
        resource_facts(creatinine(encounter={"reference": "Encounter/OPD-2"})),
    ]
)


@st.composite
def requests(draw: Any) -> ConsentRequest:
    return ConsentRequest(
        ANA,
        draw(PURPOSES),
        NOW + timedelta(days=draw(st.integers(-400, 400))),
        resource=draw(DATA),
        use=draw(st.sampled_from([None, "event-1", "event-2"])),
    )


@st.composite
def by_staff(draw: Any, *decisions: str) -> ConsentRecord:
    decision = draw(st.sampled_from(decisions))
    purposes = () if decision == "ai-opt-out" else tuple(draw(st.lists(PURPOSES, max_size=2)))
    made = LocalConsent(
        patient=ANA,
        system="ehr",
        decision=decision,
        purposes=purposes,
        starts=draw(st.sampled_from([None, "2026-01-01", "2027-01-01"])),
        ends=draw(st.sampled_from([None, "2026-06-30", "2027-06-30"])),
        means="paper",
        recorded_at="2026-01-01T00:00:00Z",
        recorded_by="os-user:clerk",
    )
    return local_record(made, draw(refs()), is_withdrawn=draw(st.booleans()))


@st.composite
def artefacts(draw: Any) -> ConsentRecord:
    frequency = {"unit": "DAY", "value": 1, "repeats": draw(st.integers(0, 1))}
    hi_types = draw(st.sampled_from([["DiagnosticReport"], ["Prescription"], ["New"]]))
    purpose = {"code": draw(st.sampled_from(["CAREMGT", "BTG", "DSRCH", "NEW"]))}
    detail = abdm.detail(
        permission=abdm.permission(frequency=frequency), hiTypes=hi_types, purpose=purpose
    )
    statuses = draw(
        st.lists(st.sampled_from(["GRANTED", "REVOKED", "ODD"]), min_size=1, max_size=3)
    )
    said = [
        read_notification(abdm.raw(abdm.notification(each, consentDetail=detail)))
        for each in statuses
    ]
    record = read_artefact(said, draw(refs()), patient=ANA, policy=abdm.POLICY)
    used_by = frozenset(draw(st.sets(st.sampled_from(["event-1", "event-3"]))))
    return replace(record, terms=record.terms.with_uses(used_by))


@st.composite
def of_the_ehr(draw: Any) -> ConsentRecord:
    purpose = [{"system": ACT_REASON, "code": draw(PURPOSES)}]
    provision = {"type": draw(st.sampled_from(["permit", "deny"])), "purpose": purpose}
    dated = {"dateTime": draw(st.sampled_from(["2025-01-01", "2026-10-01"]))}
    content = consent(provision=provision, performer=[{"reference": ANA}], **dated)
    return read_consent(content, draw(refs()), patient=ANA)


def refs() -> st.SearchStrategy[str]:
    return st.integers(0, 10_000).map("Consent/{}".format)


ANY = st.one_of(by_staff("permit", "deny", "ai-opt-out"), artefacts(), of_the_ehr())
MANY = st.lists(ANY, max_size=4)
DEFAULTS = st.sampled_from(["deny", "permit"])


@given(requests(), MANY, by_staff("deny", "ai-opt-out"), DEFAULTS, SETTINGS)
def test_another_no_never_permits_more(
    request: ConsentRequest, records: list[ConsentRecord], no: ConsentRecord, default: Any, how: Any
):
    before = decide(request, records, default=default, settings=how)
    after = decide(request, [*records, no], default=default, settings=how)

    assert after.is_permitted <= before.is_permitted


@given(requests(), MANY, artefacts(), SETTINGS)
def test_one_artefact_less_never_permits_more(
    request: ConsentRequest, records: list[ConsentRecord], artefact: ConsentRecord, how: Any
):
    with_it = decide(request, [*records, artefact], settings=how)
    without = decide(request, records, settings=how)

    assert without.is_permitted <= with_it.is_permitted


@given(requests(), MANY, DEFAULTS, SETTINGS, st.randoms(use_true_random=False))
def test_the_order_of_consents_does_not_matter(
    request: ConsentRequest, records: list[ConsentRecord], default: Any, how: Any, random: Any
):
    shuffled = random.sample(records, len(records))

    one = decide(request, records, default=default, settings=how)
    other = decide(request, shuffled, default=default, settings=how)

    assert (one.is_permitted, one.is_ai_refused) == (other.is_permitted, other.is_ai_refused)


@given(requests(), MANY, DEFAULTS, SETTINGS)
def test_a_refusal_of_ai_in_force_is_above_everything(
    request: ConsentRequest, records: list[ConsentRecord], default: Any, how: Any
):
    made = LocalConsent(
        patient=ANA,
        system="ehr",
        decision="ai-opt-out",
        means="verbal",
        recorded_at="2020-01-01T00:00:00Z",
        recorded_by="os-user:clerk",
    )

    decided = decide(
        request, [*records, local_record(made, "Consent/x")], default=default, settings=how
    )

    assert not decided.is_permitted
    assert decided.is_ai_refused


@given(requests(), MANY, DEFAULTS, SETTINGS)
def test_an_explanation_of_all_sources_agrees_with_the_decision(
    request: ConsentRequest, records: list[ConsentRecord], default: Any, how: Any
):
    decided = decide(request, records, default=default, settings=how)

    explained = explain(request, records, default=default, settings=how)

    assert explained.decision == decided
    assert {each.rule.split(" ")[0] for each in explained.rules} == {each.ref for each in records}
