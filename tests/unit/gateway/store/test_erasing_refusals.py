"""A patient who refused all AI is erased: that she refused is kept, and nothing else of it."""

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.core.consent import ConsentRecord
from gateway.core.consent.local import LocalConsent, Notice
from gateway.core.errors import Erased, NotFound
from gateway.core.jobs import BusinessStatus
from gateway.core.retention import AfterErasure, Retention
from gateway.store.checkpoint_file import CheckpointFile
from gateway.store.consenting import TakenBackBefore, record, revoke
from gateway.store.erasing import Order, erase, needles_of
from gateway.store.erasures import Tombstone
from gateway.store.unit_of_work import Store
from gateway.store.verification import verify
from tests.arriving import add
from tests.audited import bodies
from tests.hospital import Hospital, consent_of, observation, patient
from tests.installation import Installation, consent, creatinine, installation
from tests.registered import ACTOR

ANA = "Patient/p1"
FORGER = Ed25519PrivateKey.from_private_bytes(b"f" * 32)


def key_of(store: Store) -> str:
    return store.sealer.patient_key("ehr", ANA)


def say(store: Store, decision: Any, **changed: Any) -> str:
    with store.write() as uow:
        said = LocalConsent(
            patient=ANA,
            system="ehr",
            decision=decision,
            purposes=() if decision == "ai-opt-out" else ("TREAT",),
            notice=Notice(version="1", language="en"),
            means="verbal",
            recorded_at=uow.now.isoformat(),
            recorded_by="os-user:tester",
            **changed,
        )
        return record(uow, said, key_of(store), ACTOR)


def take_back(store: Store, consent_id: str) -> None:
    with store.write() as uow:
        revoke(uow, consent_id, "She thought about it.", ACTOR)


def erased(store: Store, **ordered: Any) -> Tombstone:
    order = Order(patient_key=key_of(store), reason="She asked.", law="s.12(3)", **ordered)
    with store.write() as uow:
        bundles = uow.erasures.bundles_with(order.patient_key, needles_of([ANA]))
        return erase(uow, order, bundles, ACTOR).tombstone


def comes_again(store: Store) -> None:
    """The site lets her begin anew."""
    with store.write() as uow:
        uow.erasures.reopen([key_of(store)])
        uow.patient_keys.load([key_of(store)], create=True)


def on_record(store: Store) -> list[ConsentRecord]:
    with store.read() as uow:
        return uow.consents.of([key_of(store)])[key_of(store)]


# -- what is kept ----------------------------------------------------------------------------


def test_of_a_refusal_the_tombstone_keeps_that_it_was(store: Store):
    add(store, patient())
    say(store, "ai-opt-out")

    assert erased(store).refused_ai

    [kept] = on_record(store)
    assert kept.refuses_ai
    with store.read() as uow:
        [body] = bodies(uow.connection, "event = 'erase'")
    assert b"refused-ai" in body


@pytest.mark.parametrize("decision", ["permit", "deny"])
def test_nothing_else_that_she_said_is_kept(store: Store, decision: str):
    add(store, patient(), consent_of())
    say(store, decision)

    assert not erased(store).refused_ai
    assert on_record(store) == []


def test_a_refusal_that_was_taken_back_is_not_kept(store: Store):
    add(store, patient())
    take_back(store, say(store, "ai-opt-out"))

    assert not erased(store).refused_ai


@pytest.mark.parametrize(
    ("dates", "is_kept"),
    [
        ({"ends": "2020-01-01"}, False),
        ({"ends": "2099-01-01"}, True),
        ({"starts": "2099-01-01"}, True),
    ],
)
def test_a_refusal_is_kept_unless_its_time_is_over(store: Store, dates: Any, is_kept: bool):
    add(store, patient())
    say(store, "ai-opt-out", **dates)

    assert erased(store).refused_ai == is_kept


def test_what_can_no_longer_be_read_may_have_been_a_refusal(store: Store):
    add(store, patient())
    say(store, "permit")
    without_key = Store(store.engine.url.render_as_string(hide_password=False), store.sealer)

    is_kept = erased(without_key).refused_ai
    without_key.close()

    assert is_kept


def test_a_refusal_told_from_outside_is_kept(store: Store):
    assert erased(store, is_repeat=True, refused_ai=True).refused_ai


# -- until it is taken back ------------------------------------------------------------------


def test_it_is_taken_back_when_she_has_come_again_and_not_before(store: Store):
    add(store, patient())
    say(store, "ai-opt-out")
    tombstone = erased(store)

    with pytest.raises(Erased):
        take_back(store, tombstone.id)
    comes_again(store)
    take_back(store, f"Consent/{tombstone.id}")

    [kept] = on_record(store)
    assert kept.status == "inactive"
    with pytest.raises(TakenBackBefore):
        take_back(store, tombstone.id)


def test_an_erasure_that_left_no_refusal_over_is_no_consent(store: Store):
    add(store, patient())

    with pytest.raises(NotFound):
        take_back(store, erased(store).id)


def test_another_erasure_carries_it_on_unless_it_was_taken_back(store: Store):
    add(store, patient())
    say(store, "ai-opt-out")
    erased(store)
    comes_again(store)

    again = erased(store)
    assert again.refused_ai
    comes_again(store)
    take_back(store, again.id)

    assert not erased(store).refused_ai


def test_an_act_that_was_not_signed_here_takes_nothing_back(store: Store):
    add(store, patient())
    say(store, "ai-opt-out")
    tombstone = erased(store)
    comes_again(store)
    forger = Store(
        store.engine.url.render_as_string(hide_password=False), store.sealer, consents=FORGER
    )
    take_back(forger, tombstone.id)
    forger.close()

    [kept] = on_record(store)
    assert kept.status == "active"


# -- through a job ---------------------------------------------------------------------------


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    made = Hospital(tmp_path)
    made.site = replace(made.site, retention=Retention(after_erasure=AfterErasure.AFRESH))
    made.admit_patient()
    yield made
    made.close()


def newest(hospital: Hospital) -> Any:
    hospital.infer()
    hospital.deliver()
    return max(hospital.jobs(), key=lambda job: job.id)


def test_she_is_asked_by_no_model_when_she_comes_again_until_it_is_taken_back(hospital: Hospital):
    say(hospital.store, "ai-opt-out")
    tombstone = erased(hospital.store)
    hospital.pass_time(60)

    # Neither her newer Consents nor what staff record for a purpose take a refusal back.
    hospital.push(patient(), consent_of(version="7"), observation())
    say(hospital.store, "permit")
    hospital.push(observation(1.9, name="o2"))
    refused = newest(hospital)

    assert refused.business_status is BusinessStatus.CONSENT_DENIED
    assert refused.decisions[-1]["ai_refused"]
    assert refused.decisions[-1]["consents"] == [f"Consent/{tombstone.id}"]
    assert "before her data was erased" in refused.reason
    take_back(hospital.store, tombstone.id)
    hospital.push(observation(2.1, name="o3"))
    assert newest(hospital).business_status is BusinessStatus.DELIVERED


# -- the log ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("refuses", "statement", "is_found"),
    [
        (True, "", False),
        (False, "", False),
        (True, "update erasures set refused_ai = 0", True),
        (False, "update erasures set refused_ai = 1", True),
    ],
)
def test_a_refusal_that_was_cleared_or_invented_in_the_database_is_found(
    tmp_path: Path, refuses: bool, statement: str, is_found: bool
):
    with installation(tmp_path / "nadi") as nadi:
        nadi.receive(consent("p1"), creatinine("p1"))
        if refuses:
            say(nadi.store, "ai-opt-out")
        tombstone = erased(nadi.store)
        comes_again_on_record(nadi)
        if refuses:
            take_back(nadi.store, tombstone.id)
        nadi.integrate()
        with sqlite3.connect(nadi.folder / "nadi.db") as database:
            database.executescript(statement)

        outside = CheckpointFile(nadi.folder).notes()
        with nadi.store.read() as uow:
            found = verify(uow, nadi.keys.verifier, outside=outside, progress=lambda *_: None)

    # The site was applied here without a record.
    tables = [each.table for each in found.findings if each.table != "sites"]
    assert tables == ["erasures"] * is_found


def comes_again_on_record(nadi: Installation) -> None:
    with nadi.store.write() as uow:
        site = uow.sites.current().yaml
        uow.sites.apply(f"{site}\nretention: {{after_erasure: afresh}}\n", "test")
    later = nadi.store._clock() + timedelta(seconds=60)
    nadi.store._clock = lambda: later
    nadi.receive(creatinine("p1", 2))
