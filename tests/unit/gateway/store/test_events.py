from hashlib import sha256

import orjson
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.clock import new_id, to_ms
from gateway.core.errors import NotFound, StoreConflict, Unsealable
from gateway.core.event import VersionMark, facts
from gateway.store.events import Submission, cut_bundle
from gateway.store.unit_of_work import Store, UnitOfWork
from tests.arriving import add, arrival
from tests.factories import consent, creatinine, meta, patient, raw


def current_of(uow: UnitOfWork) -> set[str]:
    return set(uow.connection.scalars(sa.text("select id from events where is_current")))


def test_an_event_is_read_back_as_it_arrived(store: Store):
    content = creatinine(1, **meta(3, "2026-11-20T08:01:02+05:30"))
    (sent,) = add(store, content)

    with store.read() as uow:
        event = uow.events.get(sent.id)
        assert event is not None
        assert uow.events.content(event) == sent.raw
        assert uow.events.patient(event) == "Patient/p1"
    assert (event.resource_type, event.version_id, event.system) == ("Observation", "3", "ehr")
    assert (event.sha256, event.patient_key) == (sent.sha256, sent.patient_key)
    assert event.last_updated_ms == to_ms(sent.facts.last_updated)
    assert event.effective_ms == to_ms(sent.facts.effective)
    assert event.is_current


def test_an_event_without_a_patient_is_kept_too(store: Store):
    (sent,) = add(store, {"resourceType": "Practitioner", "id": "1"})

    with store.read() as uow:
        event = uow.events.get(sent.id)
        assert event is not None
        assert (event.patient_key, event.codes, uow.events.patient(event)) == (None, (), None)
        assert uow.events.content(event) == sent.raw


def test_nothing_of_the_content_lies_in_the_clear(store: Store):
    content = creatinine(
        "ZZCANARY",
        subject="Patient/ZZCANARY",
        code={"coding": [{"system": "http://ZZCANARY", "code": "ZZCANARY"}]},
    )
    add(store, content)

    with store.engine.connect() as connection:
        rows = connection.execute(sa.text("select * from events")).all()

    assert "ZZCANARY" not in str(rows)


def test_an_unknown_event_is_none(store: Store):
    with store.read() as uow:
        assert uow.events.get("no-such-id") is None


def test_what_is_known_is_told_by_its_dedupe_key(store: Store):
    (sent,) = add(store, creatinine(1, **meta(1)))
    same, other = arrival(store, creatinine(1, **meta(1))), arrival(store, creatinine(2))

    with store.read() as uow:
        known = uow.events.known([same.dedupe_key, other.dedupe_key])

    assert {key: (k.id, k.is_current, k.sha256) for key, k in known.items()} == {
        same.dedupe_key: (sent.id, True, sent.sha256)
    }


def test_the_same_version_cannot_be_stored_twice(store: Store):
    add(store, creatinine(1, **meta(1)))

    with pytest.raises(StoreConflict):
        add(store, creatinine(1, valueString="other bytes", **meta(1)), is_current=False)


def test_a_new_current_version_replaces_the_one_before(store: Store):
    (first,) = add(store, creatinine(1, **meta(1)))
    (second,) = add(store, creatinine(1, **meta(2)))

    with store.read() as uow:
        assert current_of(uow) == {second.id}
        assert uow.events.newest([str(first.resource_key)]) == {
            second.resource_key: VersionMark("2", None)
        }


def test_two_processes_cannot_both_make_their_version_the_current_one(store: Store):
    add(store, creatinine(1, **meta(1)))

    def insert_behind_the_back() -> None:
        with store.write() as uow:
            second = arrival(store, creatinine(1, **meta(2)))
            uow.patient_keys.load([second.patient_key])
            uow.connection.execute(
                sa.text(
                    "insert into events select :id, :key, submission_id, entry_index, system, "
                    "principal_id, request_id, resource_type, resource_key, version_id, "
                    "last_updated_ms, patient_key, patient_ref, codes, effective_ms, lane, "
                    "is_current, sha256, payload, received_ms from events"
                ),
                {"id": second.id, "key": second.dedupe_key},
            )

    with pytest.raises(StoreConflict):
        insert_behind_the_back()


def test_what_came_again_is_current_again(store: Store):
    (first,) = add(store, consent(1))
    (second,) = add(store, consent(1, status="inactive"))

    with store.write() as uow:
        uow.events.reinstate({str(first.resource_key): first.id})

    with store.read() as uow:
        assert current_of(uow) == {first.id}
        assert second.id not in current_of(uow)


def test_reinstating_nothing_changes_nothing(store: Store):
    (sent,) = add(store, consent(1))

    with store.write() as uow:
        uow.events.reinstate({})

    with store.read() as uow:
        assert current_of(uow) == {sent.id}


def test_the_current_version_is_found_through_its_index(store: Store):
    if store.engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL chooses by the size of the table")
    seen: list[str] = []
    with store.read() as uow:
        sa.event.listen(uow.connection, "before_cursor_execute", lambda *a: seen.append(a[2]))
        uow.events.newest(["k"])
        plan = uow.connection.exec_driver_sql(f"explain query plan {seen[0]}", ("k",)).all()

    assert "uq_events_current" in str(plan)


def test_the_record_of_a_patient_holds_current_versions_of_the_types_wanted(store: Store):
    add(store, creatinine(1, **meta(1)))
    (old,) = add(store, creatinine(1, **meta(0)), is_current=False)
    add(store, patient(1), consent(1), creatinine(2, "Patient/p2"))

    with store.read() as uow:
        key = str(old.patient_key)
        found = uow.events.record(key, ("Observation", "Patient"))

        read = [facts(orjson.loads(uow.events.content(each))) for each in found]

    assert [(each.resource_type, each.version_id) for each in read] == [
        ("Observation", "1"),
        ("Patient", None),
    ]


def test_the_record_can_be_limited_in_time_and_to_codes(store: Store):
    sodium = {"coding": [{"system": "http://loinc.org", "code": "2951-2"}]}
    sent = add(
        store,
        creatinine(1),
        creatinine(2, effectiveDateTime="2020-01-01T00:00:00Z"),
        creatinine(3, code=sodium),
        patient(1),
    )
    since = to_ms(sent[0].facts.effective) - 1

    with store.read() as uow:
        found = uow.events.record(
            str(sent[0].patient_key),
            ("Observation", "Patient"),
            since_ms=since,
            codes=["http://loinc.org|2160-0"],
        )

    assert {event.id for event in found} == {sent[0].id, sent[3].id}


def test_recent_events_come_newest_first_and_by_whom_they_came_from(store: Store):
    mine = add(store, creatinine(1), creatinine(2))
    theirs = arrival(store, creatinine(3), principal_id="principal-2")
    with store.write() as uow:
        uow.events.add([(theirs, True)])

    with store.read() as uow:
        ids = sorted((event.id for event in mine), reverse=True)
        everything = uow.events.recent(principal_id=None, limit=10)
        assert {e.id for e in everything} == {theirs.id, *ids}
        page = uow.events.recent(principal_id="principal-1", limit=1)
        assert [e.id for e in page] == ids[:1]
        following = uow.events.recent(principal_id="principal-1", limit=5, before=page[0].id)
        assert [e.id for e in following] == ids[1:]


def test_a_bundle_is_put_together_again_byte_for_byte(store: Store):
    body = b'{ "resourceType":"Bundle",\n "type":"collection", "entry": [%s , %s]}\n'
    first, second = raw({"resource": patient(1)}), raw({"resource": creatinine(1)})
    whole = body % (first, second)
    sent = [arrival(store, patient(1)), arrival(store, creatinine(1))]
    submission = Submission(
        id=new_id(),
        dedupe_key="k",
        system="ehr",
        bundle_type="collection",
        sha256=sha256(whole).hexdigest(),
        skeleton=cut_bundle(whole, [(each.raw, each.id) for each in sent]),
    )
    with store.write() as uow:
        uow.events.add([(each, True) for each in sent])
        uow.events.add_submission(submission)

    with store.read() as uow:
        assert uow.events.submission_bytes(submission.id) == whole
        assert uow.events.known_submissions(["k", "other"]) == {"k"}


def test_a_bundle_that_is_not_here_or_lost_an_event_is_told(store: Store):
    submission = Submission(
        id=new_id(),
        dedupe_key="k",
        system="ehr",
        bundle_type="batch",
        sha256="",
        skeleton=[b"{", "gone"],
    )
    with store.write() as uow:
        uow.events.add_submission(submission)

    with store.read() as uow:
        with pytest.raises(Unsealable, match="An event of this Bundle is gone"):
            uow.events.submission_bytes(submission.id)
        with pytest.raises(NotFound):
            uow.events.submission_bytes("unknown")


@given(
    st.lists(st.binary(max_size=8), max_size=5),
    st.lists(st.binary(min_size=1, max_size=4), min_size=6, max_size=6),
)
def test_cutting_and_joining_gives_back_every_byte(resources: list[bytes], between: list[bytes]):
    pieces = [piece for pair in zip(between, resources, strict=False) for piece in pair]
    whole = b"".join([*pieces, between[len(resources)]])

    parts = cut_bundle(whole, [(resource, str(n)) for n, resource in enumerate(resources)])

    joined = b"".join(resources[int(p)] if isinstance(p, str) else p for p in parts)
    assert joined == whole
    assert [part for part in parts if isinstance(part, str)] == [
        str(n) for n in range(len(resources))
    ]


def test_events_of_a_patient_without_key_row_do_not_open(store: Store):
    (sent,) = add(store, creatinine(1))
    with store.write() as uow:
        uow.connection.execute(sa.text("delete from patient_keys"))

    with store.read() as uow:
        event = uow.events.get(sent.id)
        assert event is not None
        with pytest.raises(Unsealable):
            uow.events.content(event)


def test_the_consents_in_force_of_a_system_are_given_a_part_at_a_time(store: Store):
    (first,) = add(store, consent(1))
    (second,) = add(store, consent(2, "Patient/p2"))
    add(store, creatinine(1))

    with store.read() as uow:
        found = uow.events.current_of("ehr", "Consent", after="", limit=9)
        rest = uow.events.current_of("ehr", "Consent", after=first.id, limit=9)

    assert ([each.id for each in found], [each.id for each in rest]) == (
        [first.id, second.id],
        [second.id],
    )


def test_of_a_patients_events_of_one_time_the_one_received_last_comes_first(store: Store):
    sent = [add(store, creatinine(name))[0] for name in ("b", "c", "a")]

    with store.read() as uow:
        found = uow.events.newest_of_patient(str(sent[0].patient_key), "ehr", "Observation")

    assert [each.id for each in found] == [each.id for each in reversed(sent)]
