"""What was recorded or imported here, written as FHIR: valid, and the same when read back."""

import base64
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.consent import ConsentRequest, decide, read_consent
from gateway.core.consent.acts import Act, consent_of
from gateway.core.consent.local import Guardian, LocalConsent, Notice
from gateway.core.consent.writing import RECORDING, Named, kept, unreadable, written
from gateway.core.fhir import parse_resource
from tests import abdm
from tests.factories import consent
from tests.pcf import CONSENTS, labels

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
ANA = "Patient/p1"
NAMED = Named("0c1d", "f" * 64)
CONTENT = {**consent(1), "patient": {"reference": ANA}}


def act(kind: Any, form: Any, document: bytes | None = None, **told: Any) -> Act:
    statement = {
        "id": f"act-{kind}",
        "at": "2026-11-20T08:00:00.000+00:00",
        "by": "os-user:clerk",
        **told,
    }
    return Act(kind=kind, form=form, statement=statement, document=document)


def local(decision: Any = "permit", **changed: Any) -> Act:
    made = LocalConsent(
        patient=ANA,
        system="ehr",
        decision=decision,
        means="verbal",
        recorded_at="2026-11-20T08:00:00.000Z",
        recorded_by="os-user:clerk",
        **changed,
    )
    return act("record", "local", patient=ANA, local=made.as_json())


def imported(content: Any = CONTENT) -> Act:
    raw = orjson.dumps(content)
    return act("import", "fhir", raw, patient=ANA, signer="hie", identified="as it says")


def artefact(body: Any) -> Act:
    return act("import", "abdm", abdm.raw(body), patient=ANA, signer="hie")


def revoked(form: Any) -> Act:
    return act("revoke", form, reason="She asked for it.")


PERMIT = local(purposes=("TREAT",), ends="2027-03-31", notice=Notice(version="1", language="hi"))
CASES: dict[str, tuple[list[Act], str]] = {
    "permit": ([PERMIT], "active"),
    "permit taken back": ([PERMIT, revoked("local")], "inactive"),
    "denial of all": ([local("deny")], "active"),
    "denial of a purpose": ([local("deny", purposes=("HRESCH",), starts="2027")], "active"),
    "refusal of AI": ([local("ai-opt-out")], "active"),
    "of a minor": (
        [local(purposes=("TREAT",), guardian=Guardian(name="Mira", verified_by="card 7"))],
        "active",
    ),
    "under an exemption": (
        [local(purposes=("TREAT",), guardian=Guardian(name="", verified_by="Schedule 4"))],
        "active",
    ),
    "staff's FHIR": ([local(content=CONTENT)], "active"),
    "imported": ([imported()], "active"),
    "imported twice": ([imported(), imported({**CONTENT, "status": "inactive"})], "inactive"),
    "imported and taken back": ([imported(), revoked("fhir")], "inactive"),
    "artefact": ([artefact(abdm.notification())], "active"),
    "artefact revoked": ([artefact(abdm.notification()), artefact(abdm.ended())], "inactive"),
    "artefact denied": ([artefact(abdm.ended("DENIED"))], "rejected"),
    "artefact asked for": ([artefact(abdm.notification("REQUESTED"))], "proposed"),
    "artefact of unknown status": ([artefact(abdm.notification("PAUSED"))], "inactive"),
    "artefact without scope": (
        [artefact(abdm.notification(consentDetail=abdm.detail(hiTypes=None)))],
        "active",
    ),
    "artefact with an odd encounter": (
        [
            artefact(
                abdm.notification(
                    consentDetail=abdm.detail(
                        hiu=None,
                        hip=None,
                        purpose={"code": "MYSTERY"},
                        careContexts=[{"careContextReference": "OPD 1/2026"}],
                    )
                )
            )
        ],
        "active",
    ),
}


@pytest.mark.parametrize(("acts", "status"), CASES.values(), ids=CASES.keys())
def test_it_is_a_valid_consent_that_says_where_it_comes_from(acts: list[Act], status: str):
    content = written(NAMED, acts)

    parse_resource(orjson.dumps(content), expected_type="Consent")
    assert (content["id"], content["status"]) == (NAMED.id, status)
    assert content["patient"] == {"reference": ANA}
    source = {"local": "staff", "fhir": "imported", "abdm": "abdm"}[acts[0].form]
    assert content["meta"]["source"].endswith(f"#{source}")
    assert source in {tag["code"] for tag in content["meta"]["tag"]}
    values = [each["value"] for each in content["identifier"]]
    assert {NAMED.id, *(each.statement["id"] for each in acts)} <= set(values)


@pytest.mark.parametrize("name", [name for name in CASES if "artefact" not in name])
def test_read_back_its_rules_are_the_ones_that_decide(name: str):
    acts, status = CASES[name]

    again = read_consent(written(NAMED, acts), "Consent/1", patient=ANA)
    used = consent_of(acts, "Consent/1", None)

    assert again.is_readable
    assert not again.doubts
    if name == "refusal of AI":
        (actor,) = again.rule.conditions
        assert actor.words() == "somebody"
    else:
        assert again.rule == used.rule
    assert status == "inactive" or again.status == used.status


PURPOSES = st.lists(st.sampled_from(["TREAT", "HRESCH", "BTG"]), unique=True, max_size=2)
DATES = st.sampled_from([None, "2020", "2026-11", "2027-01-31"])


@given(st.sampled_from(["permit", "deny", "ai-opt-out"]), PURPOSES, DATES, DATES, st.booleans())
def test_whoever_reads_it_back_never_permits_more(
    decision: Any, purposes: list[str], starts: Any, ends: Any, is_taken_back: bool
):
    said = local(decision, purposes=tuple(purposes), starts=starts, ends=ends)
    acts = [said, revoked("local")] if is_taken_back else [said]

    again = read_consent(written(NAMED, acts), "Consent/1", patient=ANA)
    used = consent_of(acts, "Consent/1", None)

    for purpose in ("TREAT", "HRESCH", "BTG"):
        request = ConsentRequest(ANA, purpose, NOW)
        found, kept_here = decide(request, [again]), decide(request, [used])
        assert not found.is_permitted or kept_here.is_permitted
        denies = [each for each in kept_here.reasons if "denies" in each or "refuses" in each]
        assert not denies or found.consents == ("Consent/1",)


def test_what_was_recorded_beside_it_stands_in_the_extension():
    acts, _ = CASES["of a minor"]

    (told,) = written(NAMED, acts)["extension"]

    assert told["url"] == RECORDING
    facts = {each["url"]: each["valueString"] for each in told["extension"]}
    assert facts == {
        "record": "2026-11-20T08:00:00.000+00:00 os-user:clerk",
        "means": "verbal",
        "verified-by": "card 7",
    }


def test_an_artefact_is_written_with_its_limits_and_its_bytes():
    body = abdm.notification()

    content = written(NAMED, [artefact(body)])

    provision = content["provision"]
    assert provision["dataPeriod"] == {"start": "2025-11-01", "end": "2026-11-22"}
    assert provision["period"] == {"end": "2026-12-01T00:00:00+00:00"}
    assert provision["data"] == [
        {"meaning": "related", "reference": {"reference": "Encounter/OPD-1"}}
    ]
    assert [each["code"] for each in provision["class"]] == ["DiagnosticReport"]
    assert base64.b64decode(content["sourceAttachment"]["data"]) == abdm.raw(body)
    assert abdm.CONSENT_ID in {each["value"] for each in content["identifier"]}


def test_what_else_was_imported_stays_as_it_was():
    content = {**CONTENT, "id": "theirs", "meta": {"security": labels("R"), "tag": [{"code": "x"}]}}

    made = written(NAMED, [imported(content)])

    assert made["provision"] == content["provision"]
    assert made["meta"]["security"] == labels("R")
    assert [each["code"] for each in made["meta"]["tag"]] == ["x", "imported"]
    assert "theirs" in {each["value"] for each in made["identifier"]}


@pytest.mark.parametrize("name", CONSENTS)
def test_every_consent_of_the_profile_that_is_imported_decides_the_same(name: str):
    content = CONSENTS[name]

    again = read_consent(written(NAMED, [imported(content)]), "Consent/1", patient=ANA)
    used = read_consent(content, "Consent/1", patient=ANA)

    assert (again.rule, again.scope, again.doubts) == (used.rule, used.scope, used.doubts)


@pytest.mark.parametrize(
    "content",
    [
        unreadable(NAMED),
        unreadable(Named("0c1d", None)),
        kept(NAMED, is_taken_back=False),
        written(NAMED, [act("import", "fhir", b"[1]", patient=ANA)]),
        written(NAMED, [act("revoke", "local")]),
    ],
)
def test_what_can_not_be_read_and_what_an_erasure_left_over_denies(content: Any):
    parse_resource(orjson.dumps(content), expected_type="Consent")

    record = read_consent(content, "Consent/1", patient=ANA)
    for purpose in ("TREAT", "BTG"):
        assert decide(ConsentRequest(ANA, purpose, NOW), [record], default="permit").consents
    assert ANA not in orjson.dumps(content).decode()


def test_a_refusal_left_over_that_was_taken_back_is_inactive():
    assert kept(NAMED, is_taken_back=True)["status"] == "inactive"


def test_an_artefact_that_names_nobody_is_written_without_a_patient():
    ended = act("import", "abdm", abdm.raw(abdm.ended()), signer="hie")

    content = written(Named("0c1d", None), [ended])

    parse_resource(orjson.dumps(content), expected_type="Consent")
    assert "patient" not in content
