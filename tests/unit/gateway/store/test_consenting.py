from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.exc import DBAPIError

from gateway.core.consent import (
    ConsentDecision,
    ConsentRequest,
    ConsentSettings,
    decide,
    resource_facts,
)
from gateway.core.consent.abdm import AbdmPolicy
from gateway.core.consent.importing import Document, documents_in
from gateway.core.consent.local import LocalConsent, Notice
from gateway.core.consent.record import under_policies
from gateway.core.errors import ConfigurationError, ContentError, NotFound, StoreConflict
from gateway.store.audit_log import AuditFilter
from gateway.store.consent_acts import NewAct
from gateway.store.consenting import (
    Owner,
    PatientMismatch,
    Signed,
    TakenBackBefore,
    birth_date_of,
    latest_day,
    record,
    revoke,
    take,
)
from gateway.store.sealing import Sealer
from gateway.store.unit_of_work import Store
from tests import abdm
from tests.arriving import add
from tests.conftest import MASTER
from tests.consenting import CONSENT_KEY
from tests.factories import consent, creatinine, patient, raw
from tests.pcf import purposes
from tests.registered import ACTOR

ANA, BEN = "Patient/p1", "Patient/p2"
SIGNED = Signed(signer="hie", key="ed25519:x", signature="e..s", sha256="0" * 64)
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.fixture
def clocked(database_url: str) -> Any:
    """A store with a clock that stands still until it is turned."""
    now = [NOW]
    opened = Store(database_url, Sealer(MASTER), clock=lambda: now[0], consents=CONSENT_KEY)
    yield opened, now
    opened.close()


def key_of(store: Store, reference: str = ANA) -> str:
    return store.sealer.patient_key("ehr", reference)


def owner(store: Store, reference: str = ANA) -> Owner:
    key = key_of(store, reference)
    return Owner(system="ehr", reference=reference, key=key, identified="by the ABHA address")


def local(**changed: Any) -> LocalConsent:
    whole = {
        "patient": ANA,
        "system": "ehr",
        "decision": "permit",
        "purposes": ("TREAT",),
        "notice": Notice(version="2026-1", language="hi"),
        "means": "paper",
        "recorded_at": "2026-11-20T08:00:00Z",
        "recorded_by": "os-user:tester",
        **changed,
    }
    return LocalConsent(**whole)


def recorded(store: Store, **changed: Any) -> str:
    with store.write() as uow:
        return record(uow, local(**changed), key_of(store), ACTOR)


def imported(store: Store, body: Any, whose: Owner | None = None) -> str:
    (document,) = documents_in(raw(body))
    with store.write() as uow:
        return take(uow, document, whose or owner(store), SIGNED, ACTOR).consent_id


def decided(
    store: Store, policy: AbdmPolicy | None = abdm.POLICY, **changed: Any
) -> ConsentDecision:
    with store.read() as uow:
        records = uow.consents.of([key_of(store)], policy)[key_of(store)]
    request = ConsentRequest(ANA, "TREAT", NOW, **changed)
    settings = ConsentSettings(fulfils=frozenset({"REDACT"}))
    return decide(request, records, default="permit", settings=settings)


def lab() -> Any:
    return resource_facts(creatinine(encounter={"reference": "Encounter/OPD-1"}))


def events_of(store: Store, event: str) -> list[Any]:
    with store.read() as uow:
        return uow.audit_log.search(AuditFilter(event=event))


def change(store: Store, statement: str) -> None:
    """Do what only somebody with the owner's rights can: past the triggers."""
    with store.engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("alter table consent_acts disable trigger all")
        else:
            for verb in ("update", "delete"):
                connection.exec_driver_sql(f"drop trigger consent_acts_refuses_{verb}")
        connection.exec_driver_sql(statement)


# -- recorded by staff -----------------------------------------------------------------------


def test_what_staff_record_is_decided_on_and_on_record(store: Store):
    consent_id = recorded(store)

    assert decided(store).consents == (f"Consent/{consent_id}",)
    (event,) = events_of(store, "consent-record")
    assert event.patient_key == key_of(store)
    assert f"Consent/{consent_id}".encode() in event.body
    assert b"p1" not in event.body


def test_a_refusal_of_ai_is_above_a_consent_that_the_ehr_sends_later(store: Store):
    recorded(store, decision="ai-opt-out", purposes=(), notice=None)
    add(store, consent(1))

    decision = decided(store)

    assert not decision.is_permitted
    assert decision.is_ai_refused


def test_what_was_taken_back_never_holds_again(store: Store):
    consent_id = recorded(store)

    with store.write() as uow:
        revoke(uow, f"Consent/{consent_id}", "She asked for it.", ACTOR)

    assert not decided(store).is_permitted
    with store.write() as uow, pytest.raises(TakenBackBefore):
        revoke(uow, consent_id, "again", ACTOR)
    (event,) = events_of(store, "consent-revoke")
    assert b"She asked" not in event.body


def test_a_refusal_of_ai_can_be_taken_back(store: Store):
    consent_id = recorded(store, decision="ai-opt-out", purposes=(), notice=None)

    with store.write() as uow:
        revoke(uow, consent_id, "She changed her mind.", ACTOR)

    assert decided(store).is_permitted


def test_a_consent_of_the_ehr_is_changed_in_the_ehr(store: Store):
    (sent,) = add(store, consent(1))

    with store.write() as uow, pytest.raises(ContentError, match="changed there"):
        revoke(uow, sent.id, "x", ACTOR)
    with store.write() as uow, pytest.raises(NotFound):
        revoke(uow, "unknown", "x", ACTOR)


def test_without_the_key_that_signs_nothing_is_recorded_and_all_denies(
    store: Store, database_url: str
):
    recorded(store)
    other = Store(database_url, Sealer(MASTER))

    decision = decided(other)

    assert not decision.is_permitted
    with other.write() as uow, pytest.raises(ConfigurationError):
        record(uow, local(), key_of(other), ACTOR)
    other.close()


def test_what_another_key_signed_denies(store: Store, database_url: str):
    forger = Store(
        database_url, Sealer(MASTER), consents=Ed25519PrivateKey.from_private_bytes(b"f" * 32)
    )
    recorded(forger)

    decision = decided(store)

    assert not decision.is_permitted
    assert decision.reasons[0].endswith("can't be read, and in doubt the answer is no.")
    forger.close()


@pytest.mark.parametrize("verb", ["update consent_acts set act = act", "delete from consent_acts"])
def test_the_database_itself_refuses_to_change_what_was_recorded(store: Store, verb: str):
    recorded(store)

    with store.engine.begin() as connection, pytest.raises(DBAPIError, match="append-only"):
        connection.exec_driver_sql(verb)


# -- 11: what is stored was altered ----------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "update consent_acts set document = statement",
        "update consent_acts set statement = document",
        "update consent_acts set signature = 'e30..AAAA'",
        "update consent_acts set form = 'fhir'",
        "update consent_acts set act = 'record'",
        "update consent_acts set document = null",
        "update consent_acts set id = 'other'",
        "update consent_acts set consent_id = 'other'",
    ],
)
def test_an_artefact_that_was_altered_in_the_database_denies(store: Store, statement: str):
    imported(store, abdm.notification())
    assert decided(store, resource=lab()).is_permitted

    change(store, statement)

    decision = decided(store, resource=lab())
    assert not decision.is_permitted
    assert decision.reasons[0].endswith("can't be read, and in doubt the answer is no.")


def test_one_flipped_bit_of_what_was_received_denies(store: Store):
    imported(store, abdm.notification())
    with store.read() as uow:
        document = bytes(
            uow.connection.execute(sa.text("select document from consent_acts")).scalar_one()
        )
    flipped = document[:-1] + bytes([document[-1] ^ 1])

    with store.engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("alter table consent_acts disable trigger all")
        else:
            connection.exec_driver_sql("drop trigger consent_acts_refuses_update")
        connection.execute(sa.text("update consent_acts set document = :d"), {"d": flipped})

    assert not decided(store, resource=lab()).is_permitted


def test_nothing_of_the_patient_stands_there_in_the_clear(store: Store):
    imported(store, abdm.notification())

    with store.read() as uow:
        (row,) = uow.connection.execute(sa.text("select * from consent_acts")).all()
    whole = b"|".join(
        bytes(v) if isinstance(v, memoryview | bytes) else str(v).encode() for v in row
    )
    for secret in (b"ana.test", b"OPD-1", b"MRN-1", abdm.CONSENT_ID.encode(), b"GRANTED"):
        assert secret not in whole


# -- imported --------------------------------------------------------------------------------


def test_an_artefact_permits_what_it_grants_and_keeps_its_bytes(store: Store):
    body = abdm.notification()
    consent_id = imported(store, body)

    assert decided(store, resource=lab()).consents == (f"Consent/{consent_id}",)
    with store.read() as uow:
        found = uow.consent_acts.get(consent_id)
        assert found is not None
        (act,) = uow.consent_acts.open(found)
    assert act.document == raw(body)
    assert act.statement["signer"] == "hie"


def test_a_site_that_takes_no_artefacts_is_permitted_nothing_by_one(store: Store):
    imported(store, abdm.notification())

    assert not decided(store, policy=None, resource=lab()).is_permitted


def test_a_revocation_without_detail_finds_its_artefact_and_stays(store: Store):
    consent_id = imported(store, abdm.notification())
    with store.write() as uow:
        (document,) = documents_in(raw(abdm.ended()))
        assert take(uow, document, None, SIGNED, ACTOR).consent_id == consent_id

    again = abdm.notification(grantAcknowledgement=True)
    assert imported(store, again) == consent_id

    decision = decided(store, resource=lab())
    assert not decision.is_permitted
    assert decision.reasons == (f"Consent/{consent_id}: was revoked by the patient.",)


def test_a_revocation_that_comes_first_is_remembered(store: Store):
    (document,) = documents_in(raw(abdm.ended()))
    with store.write() as uow:
        take(uow, document, None, SIGNED, ACTOR)

    imported(store, abdm.notification())

    assert not decided(store, resource=lab()).is_permitted


def test_an_unknown_status_is_kept_as_received_and_refuses(store: Store):
    consent_id = imported(store, abdm.notification("SUSPENDED"))

    assert not decided(store, resource=lab()).is_permitted
    with store.read() as uow:
        found = uow.consent_acts.get(consent_id)
        assert found is not None
        assert b"SUSPENDED" in (uow.consent_acts.open(found)[0].document or b"")


def test_the_same_document_twice_is_one_act(store: Store):
    body = abdm.notification()
    first = imported(store, body)

    assert imported(store, body) == first
    assert len(events_of(store, "consent-import")) == 1


def test_an_artefact_on_record_for_one_patient_is_never_anothers(store: Store):
    imported(store, abdm.notification())

    with pytest.raises(PatientMismatch):
        imported(store, abdm.notification("EXPIRED"), owner(store, BEN))


def test_staff_can_take_an_artefact_back(store: Store):
    consent_id = imported(store, abdm.notification())

    with store.write() as uow:
        revoke(uow, consent_id, "x", ACTOR)

    assert not decided(store, resource=lab()).is_permitted


def test_an_imported_fhir_consent_counts_and_its_newest_version_only(store: Store):
    first = imported(store, consent(1))
    assert decided(store).is_permitted

    assert imported(store, consent(1, provision={"type": "deny"})) == first

    assert not decided(store).is_permitted


def test_a_denial_in_a_fhir_consent_that_was_taken_back_is_silent_and_a_permit_withholds(
    store: Store,
):
    denial = imported(store, consent(1, provision={"type": "deny"}))
    with store.write() as uow:
        revoke(uow, denial, "x", ACTOR)
    assert decided(store).is_permitted

    permit = imported(store, consent(2))
    with store.write() as uow:
        revoke(uow, permit, "x", ACTOR)
    assert not decided(store).is_permitted


def test_an_imported_permit_of_a_policy_that_was_taken_back_withholds_whatever_the_site_states(
    store: Store,
):
    bare = {name: each for name, each in consent(1).items() if name != "policyRule"}
    content = {**bare, "policy": [{"uri": "urn:p:1"}], "provision": {"purpose": purposes("TREAT")}}
    consent_id = imported(store, content)
    assert states(store, {"urn:p:1": True}) == (True, True)
    assert states(store, {}) == (False, False)

    with store.write() as uow:
        revoke(uow, consent_id, "x", ACTOR)

    assert states(store, {"urn:p:1": True}) == (False, False)


def states(store: Store, policies: dict[str, bool]) -> tuple[bool, bool]:
    """Say what is permitted under policies, where the default is to deny and to permit."""
    with store.read() as uow:
        records = uow.consents.of([key_of(store)])[key_of(store)]
    found = [under_policies(each, policies) for each in records]
    asked = ConsentRequest(ANA, "TREAT", NOW)
    denying, permitting = (
        decide(asked, found, default=default).is_permitted for default in ("deny", "permit")
    )
    return denying, permitting


# -- 8: frequency, counted -------------------------------------------------------------------


def test_uses_are_counted_with_the_use_and_forgotten_with_it(clocked: Any):
    store, now = clocked
    frequency = {"unit": "HOUR", "value": 1, "repeats": 1}
    body = abdm.notification(
        consentDetail=abdm.detail(permission=abdm.permission(frequency=frequency))
    )
    ref = f"Consent/{imported(store, body)}"

    def use(event_id: str) -> None:
        with store.write() as uow:
            records = uow.consents.of([key_of(store)], abdm.POLICY)[key_of(store)]
            uow.consents.use(records, [ref], event_id)

    use("event-1")
    use("event-1")

    assert decided(store, resource=lab(), use="event-1").is_permitted
    assert not decided(store, resource=lab(), use="event-2").is_permitted
    now[0] += timedelta(hours=1)
    assert decided(store, resource=lab(), use="event-2").is_permitted


def test_two_that_count_at_once_meet(store: Store):
    def twice() -> None:
        with store.write() as uow:
            row = {"c": "x", "n": 1, "e": "e", "m": 0}
            insert = sa.text("insert into consent_uses values (:c, :n, :e, :m)")
            uow.connection.execute(insert, row)
            uow.connection.execute(insert, row)

    with pytest.raises(StoreConflict):
        twice()


# -- who is a minor --------------------------------------------------------------------------


def test_the_date_of_birth_is_that_of_the_patient_received(store: Store):
    add(store, patient(1, birthDate="2010-05"))

    with store.read() as uow:
        assert birth_date_of(uow, "ehr", ANA) == date(2010, 5, 31)
        assert birth_date_of(uow, "ehr", BEN) is None


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("2008", date(2008, 12, 31)),
        ("2008-02", date(2008, 2, 29)),
        ("2008-02-03", date(2008, 2, 3)),
        ("2008-13", None),
        ("2008-02-31", None),
        ("soon", None),
    ],
)
def test_in_doubt_a_patient_is_as_young_as_can_be(written: str, expected: date | None):
    assert latest_day(written) == expected


def test_an_act_of_a_patient_whose_key_is_gone_denies(store: Store):
    recorded(store)
    with store.engine.begin() as connection:
        connection.exec_driver_sql("delete from patient_keys")

    assert not decided(store).is_permitted


def test_a_new_act_without_document_or_owner_is_sealed_under_nobody(store: Store):
    new = NewAct(form="abdm", kind="import", patient_key=None, told={}, document=b"{}")
    with store.write() as uow:
        act = uow.consent_acts.add(new)
        found = uow.consent_acts.get(act.consent_id)
        assert found is not None
        assert uow.consent_acts.open(found)[0].document == b"{}"


def test_a_document_without_an_id_of_its_own_is_known_by_its_bytes_and_stays_taken_back(
    store: Store,
):
    document = Document(form="fhir", foreign_id="", patient=ANA, content=raw(consent(1)))
    other = replace(document, content=raw(consent(1)) + b" ")

    with store.write() as uow:
        one = take(uow, document, owner(store), SIGNED, ACTOR)
        revoke(uow, one.consent_id, "She asked for it.", ACTOR)
        two = take(uow, document, owner(store), SIGNED, ACTOR)
        three = take(uow, other, owner(store), SIGNED, ACTOR)
        kept = uow.consent_acts.get(one.consent_id)

    assert (two.consent_id, two.is_new) == (one.consent_id, False)
    assert (three.consent_id == one.consent_id, three.is_new) == (False, True)
    assert kept is not None
    assert [row.act for row in kept.rows] == ["import", "revoke"]
