from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.core.consent import ConsentRecord, read_consent, unreadable_consent
from gateway.core.consent.abdm import read_artefact
from gateway.core.consent.abdm_artefact import read_notification
from gateway.core.consent.local import LocalConsent, kept_refusal, local_record
from gateway.core.consent.summary import Covered, Says, coverage, summary
from tests import abdm
from tests.factories import ACT_REASON, consent

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
ANA = "Patient/p1"


def fhir(**changed: Any) -> ConsentRecord:
    return read_consent(consent(**changed), "Consent/1", patient=ANA)


def local(decision: Any, *, is_withdrawn: bool = False, **changed: Any) -> ConsentRecord:
    made = LocalConsent(
        patient=ANA,
        system="ehr",
        decision=decision,
        means="verbal",
        recorded_at="2026-11-20T08:00:00Z",
        recorded_by="os-user:clerk",
        **changed,
    )
    return local_record(made, "Consent/2", is_withdrawn=is_withdrawn)


def artefact(*bodies: abdm.Json) -> ConsentRecord:
    said = [read_notification(abdm.raw(body)) for body in bodies]
    return read_artefact(said, "Consent/3", patient=ANA, policy=abdm.POLICY)


TREAT = [{"system": ACT_REASON, "code": "TREAT"}]
PERMIT = local("permit", purposes=("TREAT",))
OPT_OUT = local("ai-opt-out")

LINES = {
    "permit": (PERMIT, Says.PERMITS, ("TREAT",), "in force"),
    "denial of all": (local("deny"), Says.DENIES, (), "in force"),
    "refusal": (OPT_OUT, Says.REFUSES_AI, (), "in force"),
    "withdrawn": (local("permit", is_withdrawn=True), Says.PERMITS, (), "was withdrawn"),
    "inactive": (
        fhir(status="inactive"),
        Says.PERMITS,
        ("TREAT",),
        "not in force (status inactive)",
    ),
    "early": (local("permit", starts="2027-01-01"), Says.PERMITS, (), "not yet in force"),
    "late": (local("permit", ends="2026-11-01"), Says.PERMITS, (), "ended"),
    "unreadable": (
        unreadable_consent("Consent/4"),
        Says.UNREADABLE,
        (),
        "denies all, since it can't be read",
    ),
    "unreliable": (
        fhir(provision={"type": "permit", "purpose": TREAT, "colour": "red"}),
        Says.UNRELIABLE,
        (),
        "in force",
    ),
    "artefact": (artefact(abdm.notification()), Says.PERMITS, ("CAREMGT", "TREAT"), "in force"),
}


@pytest.mark.parametrize(("record", "says", "purposes", "state"), LINES.values(), ids=LINES.keys())
def test_a_consent_in_a_line(
    record: ConsentRecord, says: Says, purposes: tuple[str, ...], state: str
):
    line = summary(record, NOW)

    assert (line.says, line.purposes, line.state) == (says, purposes, state)
    assert line.is_in_force == (state == "in force")


def test_the_earliest_end_is_told_and_whether_it_is_about_some_data_only():
    line = summary(artefact(abdm.notification()), NOW)

    assert line.ends == datetime(2026, 12, 1, tzinfo=UTC)
    assert line.is_limited
    assert not summary(PERMIT, NOW).is_limited


LIMITED_IN_TIME = {
    "type": "permit",
    "period": {"end": "2026-11-01"},
    "purpose": [{"system": ACT_REASON, "code": "HRESCH"}],
    "provision": [{"type": "permit", "purpose": TREAT}],
}
COVERED = {
    "none": ([], Covered.NOTHING),
    "other purpose": ([local("permit", purposes=("HRESCH",))], Covered.NOTHING),
    "permit": ([PERMIT], Covered.PERMITTED),
    "denial beside a permit": ([PERMIT, local("deny")], Covered.DENIED),
    "refusal beside all": ([PERMIT, local("deny"), OPT_OUT], Covered.REFUSES_AI),
    "some data": ([artefact(abdm.notification())], Covered.LIMITED),
    "ended": ([artefact(abdm.notification(), abdm.ended())], Covered.ENDED),
    "ended beside a permit": ([artefact(abdm.ended()), PERMIT], Covered.PERMITTED),
    "over": ([local("permit", purposes=("TREAT",), ends="2026-11-01")], Covered.NOT_IN_FORCE),
    "yet to begin": ([local("deny", starts="2027-01-01")], Covered.NOT_IN_FORCE),
    "inactive": ([fhir(status="inactive")], Covered.NOT_IN_FORCE),
    "taken back": ([local("ai-opt-out", is_withdrawn=True)], Covered.NOT_IN_FORCE),
    "over, of another purpose": (
        [local("permit", purposes=("HRESCH",), ends="2026-11-01")],
        Covered.NOTHING,
    ),
    "over, its exception too": (
        [fhir(provision=LIMITED_IN_TIME)],
        Covered.NOT_IN_FORCE,
    ),
    "over beside a permit": ([local("deny", ends="2026-11-01"), PERMIT], Covered.PERMITTED),
    "entered in error": ([fhir(status="entered-in-error")], Covered.NOTHING),
    "draft": ([fhir(status="draft")], Covered.NOTHING),
    "unreadable alone": ([unreadable_consent("Consent/4")], Covered.DENIED),
}


@pytest.mark.parametrize(("records", "expected"), COVERED.values(), ids=COVERED.keys())
def test_what_all_consents_of_a_patient_come_to(records: list[ConsentRecord], expected: Covered):
    assert coverage(records, "TREAT", NOW) == expected


def test_a_refusal_that_an_erasure_left_over_is_counted_as_one():
    kept, over = (kept_refusal("Consent/4", is_taken_back=each) for each in (False, True))

    assert coverage([kept], "TREAT", NOW) is Covered.REFUSES_AI
    assert coverage([kept, PERMIT], "TREAT", NOW) is Covered.REFUSES_AI
    assert coverage([over], "TREAT", NOW) is Covered.NOT_IN_FORCE
    assert coverage([over, PERMIT], "TREAT", NOW) is Covered.PERMITTED
    assert summary(kept, NOW).says is Says.REFUSES_AI


def test_when_it_begins_is_told():
    begins = datetime(2027, 1, 1, tzinfo=UTC)

    assert summary(local("deny", starts="2027-01-01"), NOW).starts == begins
    assert summary(PERMIT, NOW).starts is None
