"""A patient is erased: her key is gone, nothing of hers opens, and the log still verifies."""

import sqlite3
import threading

import pytest
import sqlalchemy as sa

from gateway.core.audit import AgentKind, AuditAgent, Source, Step
from gateway.core.audit_rights import changed
from gateway.core.clock import new_id
from gateway.core.errors import Erased, NotFound, OnHold
from gateway.core.jobs import BusinessStatus, JobState
from gateway.core.principal import Principal, Role
from gateway.core.retention import AfterErasure, Retention
from gateway.erasure_watch import ErasureWatch
from gateway.store.break_glass import ReviewVerdict, Use
from gateway.store.checkpoint_file import CheckpointFile
from gateway.store.engine import open_engine
from gateway.store.erasing import Order, erase, needles_of
from gateway.store.erasures import LegalHold
from gateway.store.privileges import grant_service_role
from gateway.store.registering import Actor
from gateway.store.sealing import Sealer
from gateway.store.shredding import Trace, compact, shred
from gateway.store.unit_of_work import Store
from gateway.store.verification import verify
from tests.arriving import add, arrival
from tests.audited import bodies
from tests.conftest import MASTER
from tests.hospital import Hospital, consent_of, observation, patient
from tests.installation import consent, creatinine, installation
from tests.waiting import ready
from workers.delivery import deliver

BY = AuditAgent("os-user:ada", "ada", AgentKind.USER, role="operator")
ACTOR = Actor(Source("site", "cli@here"), BY, "ada")


def erase_in(store: Store, name: str = "p1", *, law: str = "DPDP Act 2023, s.12(3)"):
    key = store.sealer.patient_key("ehr", f"Patient/{name}")
    order = Order(patient_key=key, reason="She asked for it.", law=law)
    with store.write() as uow:
        bundles = uow.erasures.bundles_with(key, needles_of([f"Patient/{name}"]))
        return erase(uow, order, bundles, ACTOR)


def findings(nadi):
    outside = CheckpointFile(nadi.folder).notes()
    with nadi.store.read() as uow:
        return verify(uow, nadi.keys.verifier, outside=outside, progress=lambda *_: None).findings


@pytest.fixture
def hospital(tmp_path):
    made = Hospital(tmp_path)
    made.admit_patient()
    yield made
    made.close()


@pytest.fixture
def nadi(tmp_path):
    with installation(tmp_path / "nadi") as made:
        made.receive(consent("p1"), creatinine("p1"), consent("p2"), creatinine("p2"))
        made.receive_bundle(consent("p3"), creatinine("p3"), creatinine("p1", 2))
        made.integrate()
        yield made


# -- nothing opens again ---------------------------------------------------------------------


def test_nothing_of_an_erased_patient_opens_and_each_read_says_erased(store: Store):
    [kept] = add(store, patient())
    with store.read() as uow:
        before = uow.events.get(kept.id)
        sealed = before.payload

    erase_in(store)

    with store.read() as uow:
        after = uow.events.get(kept.id)
        assert after.is_erased
        assert uow.events.patient(after) is None
        with pytest.raises(Erased):
            uow.events.content(after)
        # Somebody who kept the sealed bytes can't open them either.
        assert sealed
        with pytest.raises(Erased):
            uow.events.content(before)


def test_what_is_kept_of_a_row_says_nothing_of_her_record(store: Store):
    [kept] = add(store, observation())

    erase_in(store)

    with store.read() as uow:
        row = uow.connection.execute(sa.text("select * from events")).mappings().one()
    assert (row["sha256"], row["resource_type"]) == (kept.sha256, "Observation")
    assert (row["codes"], row["effective_ms"], row["patient_ref"]) == ("", None, None)
    assert (row["resource_key"], bytes(row["payload"])) == (None, b"")
    assert row["dedupe_key"] != kept.dedupe_key


def test_another_patient_keeps_everything(store: Store):
    add(store, patient("p1"))
    [other] = add(store, patient("p2"))

    erase_in(store, "p1")

    with store.read() as uow:
        assert uow.events.content(uow.events.get(other.id)) == other.raw


def test_nobody_is_erased_of_whom_nothing_is_held(store: Store):
    with pytest.raises(NotFound):
        erase_in(store, "stranger")


def test_a_legal_hold_refuses_the_erasure(store: Store):
    add(store, patient())
    key = store.sealer.patient_key("ehr", "Patient/p1")
    with store.write() as uow:
        hold = LegalHold(
            id=new_id(),
            patient_key=key,
            placed_ms=uow.now_ms,
            placed_by="ada",
            reason="A case is pending.",
            law="Order 12/2026",
        )
        uow.erasures.place(hold)
        step = Step(id=new_id(), recorded=uow.now, source=ACTOR.source, patient_key=key)
        uow.audit(changed(step, "hold", by=BY, about=hold.id, details={"what": "placed"}))

    with pytest.raises(OnHold):
        erase_in(store)

    with store.read() as uow:
        assert uow.erasures.held(key)["events"] == 1


def test_a_use_of_break_glass_is_reviewed_before_she_is_erased(store: Store):
    add(store, patient())
    key = store.sealer.patient_key("ehr", "Patient/p1")
    reviewer = Principal("r", "Ben", Role.COMPLIANCE)
    with store.write() as uow:
        use = Use(
            id=new_id(),
            job_id=new_id(),
            patient_key=key,
            route="toy",
            clinician_id="c",
            clinician="Dr. A",
            used_ms=uow.now_ms,
            due_ms=uow.now_ms,
        )
        uow.break_glass.add(use, "She was unconscious.")

    with pytest.raises(OnHold, match="break-glass"):
        erase_in(store)
    with store.write() as uow:
        assert uow.break_glass.review(use, reviewer, ReviewVerdict.JUSTIFIED, "Right.")
    erase_in(store)

    with store.read() as uow:
        [kept] = uow.break_glass.of_patient(key)
        assert kept.verdict is ReviewVerdict.JUSTIFIED
        with pytest.raises(Erased):
            uow.break_glass.reason(kept)


# -- work under way --------------------------------------------------------------------------


def test_her_waiting_jobs_and_results_are_cancelled(hospital: Hospital):
    hospital.push(observation())
    hospital.push(observation(2.0, name="o2"))
    with hospital.store.read() as uow:
        [first, _] = ready(uow.jobs, 10)
    from workers.inference import infer

    infer([first[0]], hospital.ports)

    done = erase_in(hospital.store)

    assert done.stopped == 2
    assert {(job.state, job.business_status) for job in hospital.jobs()} == {
        (JobState.CANCELLED, BusinessStatus.ERASED)
    }
    assert hospital.deliver() == 0
    assert hospital.ehr.results() == []


def test_a_worker_that_holds_her_job_writes_nothing_afterwards(hospital: Hospital):
    hospital.push(observation())
    model, predict = hospital.models.model, hospital.models.model.predict

    def erased_meanwhile(tensors):
        erase_in(hospital.store)
        return predict(tensors)

    model.predict = erased_meanwhile

    hospital.infer()

    assert hospital.job().business_status is BusinessStatus.ERASED
    assert hospital.delivery() is None
    assert ("infer", "0") not in hospital.audited()


def test_a_patient_with_several_results_is_erased(hospital: Hospital):
    hospital.push(observation(), observation(1.5, name="o2"), observation(1.7, name="o3"))
    hospital.infer()
    delivered = [job.id for job in hospital.jobs()][:1]
    with hospital.store.read() as uow:
        first = [each.id for each in uow.deliveries.of_jobs(delivered).values()]
    deliver(first, hospital.ports)

    erased = erase_in(hospital.store)

    assert erased.removed["deliveries"] == 3
    with hospital.store.read() as uow:
        kept = uow.deliveries.of_jobs([job.id for job in hospital.jobs()])
    assert {each.state for each in kept.values()} == {"delivered", "cancelled"}
    assert hospital.deliver() == 0


def test_a_refused_job_s_report_that_waits_is_not_delivered(tmp_path):
    hospital = Hospital(tmp_path, refusals="observation")
    hospital.admit_patient()
    hospital.push(observation(9999.0))
    hospital.infer()
    assert hospital.delivery().state == "pending"

    erase_in(hospital.store)

    assert hospital.deliver() == 0
    assert hospital.delivery().state == "cancelled"
    assert hospital.job().state is JobState.REJECTED
    hospital.close()


def test_a_failed_job_of_hers_that_is_tried_again_ends_as_erased(hospital: Hospital):
    hospital.push(observation())
    hospital.infer()
    erase_in(hospital.store)
    with hospital.store.write() as uow:
        statement = "update jobs set state = 'ready', available_ms = 0"
        uow.connection.execute(sa.text(statement))

    hospital.infer()

    assert hospital.job().business_status is BusinessStatus.ERASED
    assert hospital.job().state is JobState.CANCELLED


# -- she comes again -------------------------------------------------------------------------


def test_what_arrives_of_her_is_refused_and_makes_no_key(hospital: Hospital):
    hospital.push(observation())
    erase_in(hospital.store)

    hospital.push(observation(), observation(1.5, name="o9"), patient("p2"))

    with hospital.store.read() as uow:
        keys = uow.connection.scalars(sa.text("select patient_key from patient_keys")).all()
        events = uow.events.recent(principal_id=None, limit=10)
    assert hospital.store.sealer.patient_key("ehr", "Patient/p1") not in keys
    assert [each.is_erased for each in events].count(False) == 1


def test_no_writer_makes_a_key_for_her_behind_the_door(store: Store):
    add(store, patient())
    erase_in(store)

    with pytest.raises(Erased), store.write() as uow:
        uow.patient_keys.load([store.sealer.patient_key("ehr", "Patient/p1")], create=True)


def test_she_begins_anew_where_the_site_says_so(hospital: Hospital):
    hospital.push(observation())
    hospital.infer()
    hospital.deliver()
    erase_in(hospital.store)
    from dataclasses import replace

    hospital.site = replace(hospital.site, retention=Retention(after_erasure=AfterErasure.AFRESH))

    hospital.push(patient(), observation())

    newest = max(hospital.jobs(), key=lambda job: job.id)
    assert newest.business_status is BusinessStatus.CONSENT_DENIED, "no consent from before"
    hospital.push(consent_of("p1", version="1"), observation(1.9, version="2"))
    assert hospital.infer() == 1
    assert hospital.deliver() == 1
    assert ("reopen", "0") in hospital.audited()


# -- the log ---------------------------------------------------------------------------------


def test_the_log_verifies_after_an_erasure(nadi):
    erase_in(nadi.store, "p1")
    nadi.integrate()

    assert findings(nadi) == []


def test_the_bundle_she_came_in_no_longer_names_her(nadi):
    done = erase_in(nadi.store, "p1")

    assert done.removed == {"events": 3, "submissions": 1, "deliveries": 0}
    with nadi.store.read() as uow:
        assert uow.connection.scalar(sa.text("select length(skeleton) from submissions")) == 0


@pytest.mark.parametrize(
    ("statement", "table"),
    [
        ("update events set payload = x'' where patient_ref is not null", "events"),
        ("update erasures set law = 'none'", "erasures"),
        ("delete from erasures", "erasures"),
        ("update erasures set reopened_ms = 1", "erasures"),
        (
            "insert into patient_keys select patient_key, x'00', 1 from erasures",
            "patient_keys",
        ),
        ("update events set codes = 'x' where payload = x''", "events"),
    ],
)
def test_a_removal_that_is_not_on_record_is_found(nadi, statement, table):
    erase_in(nadi.store, "p1")
    nadi.integrate()
    with sqlite3.connect(nadi.folder / "nadi.db") as database:
        # Somebody who can do this drops what stands in the way first.
        database.execute("drop trigger erasures_refuses_delete")
        database.execute(statement)

    assert table in {finding.table for finding in findings(nadi)}


def test_no_reason_for_an_erasure_is_lost_from_the_record(nadi):
    done = erase_in(nadi.store, "p1")

    with nadi.store.read() as uow:
        [body] = bodies(uow.connection, "event = 'erase'")
    assert b"DPDP Act 2023, s.12(3)" in body
    assert done.tombstone.id.encode() in body
    assert b"Patient/p1" not in body


# -- the bytes of the key --------------------------------------------------------------------


def wrapped_key_of(store: Store, name: str) -> bytes:
    with store.read() as uow:
        return uow.connection.scalar(
            sa.text("select wrapped_key from patient_keys where patient_key = :key"),
            {"key": store.sealer.patient_key("ehr", f"Patient/{name}")},
        )


def test_the_key_s_bytes_are_in_no_file_of_the_database(nadi):
    for number in range(60):  # pages are split, and may leave copies behind
        nadi.receive(consent(f"q{number}"))
    wrapped = wrapped_key_of(nadi.store, "p1")
    files = [path for path in nadi.folder.iterdir() if path.name.startswith("nadi.db")]
    assert any(wrapped in path.read_bytes() for path in files)

    done = erase_in(nadi.store, "p1")
    shredded = shred(nadi.store.engine, done.wrapped_key)

    assert done.wrapped_key == wrapped
    assert shredded.trace is Trace.NONE
    assert not any(wrapped in path.read_bytes() for path in files if path.exists())


def test_a_reader_that_keeps_the_log_open_is_told_of(nadi):
    wrapped = wrapped_key_of(nadi.store, "p1")
    other = sqlite3.connect(nadi.folder / "nadi.db", isolation_level=None)
    other.execute("begin")
    other.execute("select count(*) from events").fetchone()

    done = erase_in(nadi.store, "p1")
    shredded = shred(nadi.store.engine, done.wrapped_key, pause=lambda _: None)

    assert shredded.trace is Trace.FOUND
    other.close()
    assert compact(nadi.store.engine)
    assert shred(nadi.store.engine, wrapped).trace is Trace.NONE


@pytest.mark.integration
def test_postgresql_writes_the_table_of_keys_anew(postgresql_url: str):
    store = Store(postgresql_url, Sealer(MASTER))
    add(store, patient())
    done = erase_in(store)
    shredded = shred(store.engine, done.wrapped_key)
    store.close()

    assert shredded.was_rewritten
    assert shredded.is_done
    assert shredded.trace is Trace.UNKNOWN


@pytest.mark.integration
def test_a_role_that_does_not_own_the_table_is_told_whose_turn_it_is(postgresql_url: str):
    url = postgresql_url.replace("nadi@", f"service_{new_id()[-12:]}@")
    grant_service_role(postgresql_url, url)
    store = Store(url, Sealer(MASTER))
    add(store, patient())

    done = erase_in(store)
    shredded = shred(store.engine, done.wrapped_key)
    is_service_able = compact(store.engine)
    store.close()
    owner = open_engine(postgresql_url)
    is_owner_able = compact(owner)
    owner.dispose()

    assert not shredded.was_rewritten
    assert not shredded.is_done
    assert "as its owner (NADI_DATABASE_OWNER_URL)" in shredded.says
    assert (is_service_able, is_owner_able) == (False, True)


# -- at the same moment ----------------------------------------------------------------------


def test_what_arrives_at_the_moment_of_the_erasure_is_erased_too(store: Store):
    """On PostgreSQL both transactions run at once; on SQLite one waits for the other."""
    add(store, patient())
    arriving = arrival(store, observation())
    begun, may_end, done = threading.Event(), threading.Event(), threading.Event()

    def receive() -> None:
        with store.write() as uow:
            uow.events.add([(arriving, True)])
            begun.set()
            may_end.wait(10)

    def erased() -> None:
        erase_in(store)
        done.set()

    threads = [threading.Thread(target=receive), threading.Thread(target=erased)]
    threads[0].start()
    assert begun.wait(10)
    threads[1].start()
    assert not done.wait(0.3), "the erasure waits for who is sealing"
    may_end.set()
    for each in threads:
        each.join(30)

    with store.read() as uow:
        assert done.is_set()
        assert all(each.is_erased for each in uow.events.recent(principal_id=None, limit=9))


def test_who_seals_while_she_is_erased_gets_no_new_key(store: Store):
    add(store, patient())
    key = store.sealer.patient_key("ehr", "Patient/p1")
    begun, may_end, refused = threading.Event(), threading.Event(), threading.Event()

    def erased() -> None:
        with store.write() as uow:
            erase(uow, Order(patient_key=key, reason="x", law="y"), set(), ACTOR)
            begun.set()
            may_end.wait(10)

    def receive() -> None:
        try:
            with store.write() as uow:
                uow.patient_keys.load([key], create=True)
        except Erased:
            refused.set()

    threads = [threading.Thread(target=erased), threading.Thread(target=receive)]
    threads[0].start()
    assert begun.wait(10)
    threads[1].start()
    assert not refused.wait(0.3)
    may_end.set()
    for each in threads:
        each.join(30)

    assert refused.is_set()


# -- what processes remember -----------------------------------------------------------------


def test_every_process_lets_go_of_opened_keys_and_consents(store: Store):
    add(store, patient(), consent_of())
    with store.read() as uow:
        [key] = {each.patient_key for each in uow.events.recent(principal_id=None, limit=5)}
        assert uow.consents.of([key])[key]
    assert store.sealer._data_cipher.cache_info().currsize > 0
    watch = ErasureWatch(store, every_s=0.01)
    watch.look()
    with store.read() as uow:
        uow.consents.of([key])

    erase_in(store)
    watch.look()

    assert store.sealer._data_cipher.cache_info().currsize == 0
    with store.read() as uow:
        assert uow.consents.of([key]) == {key: []}


def test_the_watch_lets_go_once_more_of_what_was_being_read_meanwhile(store: Store):
    [sent, _] = add(store, consent_of(), consent_of("p2"))
    watch = ErasureWatch(store, every_s=0.01)
    watch.look()
    watch.look()

    def is_held() -> bool:
        with store.read() as uow:
            uow.consents.of([store.sealer.patient_key("ehr", "Patient/p2")])
        watch.look()
        return store.sealer._data_cipher.cache_info().currsize > 0

    assert is_held()
    erase_in(store)

    assert [is_held() for _ in range(3)] == [False, False, True]
    assert sent.patient_key


def test_the_watch_notices_by_itself(store: Store):
    add(store, patient())
    watch = ErasureWatch(store, every_s=0.01)
    watch.start()
    noticed = threading.Event()
    store.forget_opened = lambda: noticed.set() or 0

    erase_in(store)

    assert noticed.wait(10)
    watch.stop()
