"""Whatever is changed in the database behind Nadi's back is found, and named."""

import shutil
import sqlite3

import pytest

from gateway.core.audit import Source, Step, noted
from gateway.core.clock import new_id
from gateway.store.checkpoint_file import CheckpointFile
from gateway.store.packing import teach
from gateway.store.registering import retire
from gateway.store.verification import verify
from gateway.store.verification_report import FirstBad, Kind
from tests.installation import consent, creatinine, installation, reopened
from tests.registered import ACTOR


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """An installation with events, a Bundle, jobs and a log with two checkpoints."""
    folder = tmp_path_factory.mktemp("original") / "nadi"
    with installation(folder) as nadi:
        nadi.receive(consent("p1"), creatinine("p1"), creatinine("p2"))
        nadi.integrate()
        nadi.receive(consent("p1", rule="deny", version="2"))
        nadi.receive_bundle(consent("p3"), creatinine("p3"))
        retire_one(nadi)
        nadi.integrate()
    return folder


def retire_one(nadi):
    with nadi.store.write() as uow:
        name, _, digest = uow.models.in_service()[0]
        retire(uow, digest, f"{name} was found wanting.", ACTOR)


@pytest.fixture
def nadi(original, tmp_path):
    """A copy of it, whose append-only triggers are gone as an attacker would have them gone."""
    folder = tmp_path / "nadi"
    shutil.copytree(original, folder)
    with sqlite3.connect(folder / "nadi.db") as database:
        triggers = database.execute("select name from sqlite_master where type = 'trigger'")
        for (name,) in triggers.fetchall():
            database.execute(f"drop trigger {name}")
    with reopened(folder) as copy:
        yield copy


def change(nadi, *statements):
    nadi.store.close()
    with sqlite3.connect(nadi.folder / "nadi.db") as database:
        teach(database)
        for statement in statements:
            database.execute(statement)


def findings(nadi):
    outside = CheckpointFile(nadi.folder).notes()
    with nadi.store.read() as uow:
        return verify(uow, nadi.keys.verifier, outside=outside, progress=lambda *_: None)


def test_an_untouched_database_holds(nadi):
    report = findings(nadi)

    assert report.findings == []
    assert report.counted["events"] == 6
    assert report.counted["jobs"] == 3
    assert report.counted["submissions"] == 1


@pytest.mark.parametrize(
    ("statement", "table", "what"),
    [
        (
            "update audit_events set body = replace(nadi_unpacked(body), 'ckd-risk', 'ckd-rixk')",
            "audit_leaves",
            "",
        ),
        (
            "update audit_events set outcome = '4' where event = 'configure'",
            "audit_events",
            "outcome",
        ),
        (
            "update audit_events set patient_key = null where event = 'admit'",
            "audit_events",
            "patient_key",
        ),
        ("update audit_events set recorded_ms = recorded_ms + 1", "audit_events", "recorded_ms"),
        ("delete from audit_terms where term like 'agent:%'", "audit_terms", "by all that"),
        ("update audit_terms set recorded_ms = recorded_ms + 1", "audit_terms", "does not say"),
        ("insert into audit_terms values ('agent:x', 1, 99999)", "audit_terms", "no such"),
        ("insert into audit_terms values ('agent:x', 1, 'x')", "audit_terms", "no such"),
        (
            "insert into audit_terms select 'agent:x', recorded_ms, seq from audit_events",
            "audit_terms",
            "does not say",
        ),
        (
            "update audit_leaves set leaf_hash = zeroblob(32) where leaf_index = 3",
            "audit_leaves",
            "",
        ),
        ("delete from audit_leaves where leaf_index = 2", "audit_leaves", "leaf 2 is missing"),
        ("delete from audit_events where seq = 5", "audit_leaves", "is gone"),
        ("delete from audit_checkpoints", "audit_checkpoints", "have none"),
        (
            "update audit_checkpoints set note = replace(note, 'nadi', 'nady')",
            "audit_checkpoints",
            "",
        ),
        ("update audit_checkpoints set frontier = '[]'", "audit_checkpoints", "frontier"),
        ("update key_check set value = 'x'", "key_check", "master key"),
        ("update key_check set id = 2", "key_check", "one row"),
        ("delete from key_check", "key_check", "not there"),
        ("update events set payload = zeroblob(80)", "events", "opened"),
        ("update events set sha256 = lower(hex(zeroblob(32)))", "events", "sha256"),
        ("update events set resource_type = 'Patient'", "events", "resource_type"),
        ("update events set patient_key = lower(hex(zeroblob(32)))", "events", "opened"),
        ("update events set codes = 'x'", "events", "codes"),
        ("update events set effective_ms = 1", "events", "effective_ms"),
        ("update events set version_id = '7'", "events", "version_id"),
        ("update events set is_current = 0", "events", "current"),
        ("update events set system = 'ehs'", "events", "dedupe_key"),
        ("update events set principal_id = 'x'", "events", "principal_id"),
        ("update events set received_ms = received_ms + 1", "events", "received_ms"),
        ("update events set submission_id = 'x'", "events", "Bundle"),
        ("delete from events where resource_type = 'Consent'", "events", "not there"),
        ("update submissions set skeleton = zeroblob(80)", "submissions", "opened"),
        ("update submissions set sha256 = 'x'", "submissions", "sha256"),
        ("update submissions set bundle_type = 'batch'", "submissions", "bundle_type"),
        ("update jobs set state = 'completed' where state = 'ready'", "jobs", "state"),
        ("update jobs set state = 'ready' where state = 'rejected'", "jobs", "state"),
        ("update jobs set reason = 'because' where state = 'rejected'", "jobs", "state"),
        ("update jobs set route = 'other'", "jobs", "route"),
        ("update jobs set patient_key = 'x'", "jobs", "patient_key"),
        ("update jobs set decisions = replace(decisions, 'deny', 'permit')", "jobs", "decisions"),
        (
            """update jobs set decisions = replace(decisions, '"basis":"', '"basis":"x')""",
            "jobs",
            "decisions",
        ),
        (
            """update jobs set decisions = replace(decisions, '}]', ',"ai_refused":true}]')""",
            "jobs",
            "decisions",
        ),
        (
            """update jobs set decisions = replace(decisions, '}]', ',"another":1}]')""",
            "jobs",
            "decisions",
        ),
        ("update jobs set decisions = '['", "jobs", "can't be read"),
        ("delete from jobs", "jobs", "not there"),
        ("update patient_keys set wrapped_key = zeroblob(61)", "patient_keys", "opened"),
        ("update sites set yaml = replace(yaml, 'deny', 'permit')", "sites", "not the file"),
        ("update sites set applied_by = 'x'", "sites", "applied_by"),
        ("update credentials set role = 'operator'", "credentials", "not the credential"),
        ("update credentials set secret_sha256 = 'x'", "credentials", "not the credential"),
        ("update credentials set revoked_ms = 1", "credentials", "revoked"),
        ("update models set intended_use = 'Anything.'", "models", "not the model that was"),
        ("update models set not_after = '2099-01-01'", "models", "not the model that was"),
        ("update models set demonstration_only = 9", "models", "can't be read"),
        ("update models set signer = 'x'", "models", "not the model that was"),
        ("update models set registered_ms = registered_ms + 1", "models", "registered_ms"),
        ("update models set registered_by = 'x'", "models", "registered_by"),
        ("update models set state = 'retired'", "models", "whether it is retired"),
        ("update models set state = 'active' where reason <> ''", "models", "whether it is"),
        ("update models set retired_ms = 0 where reason = ''", "models", "when and why"),
        ("update models set retired_ms = 1 where reason <> ''", "models", "retired_ms"),
        ("update models set retired_by = 'x' where reason <> ''", "models", "retired_by"),
        ("update models set reason = 'Never mind.'", "models", "when and why"),
        ("delete from models", "models", "not there"),
        (
            "insert into credentials values ('x', 'y', 'operator', null, 'z', 1, null)",
            "credentials",
            "not on record",
        ),
    ],
    ids=lambda value: value[:64] if isinstance(value, str) else None,
)
def test_a_change_is_found_and_named(nadi, statement, table, what):
    change(nadi, statement)

    report = findings(nadi)

    assert not report.holds
    assert any(each.table == table and what in each.what for each in report.findings), (
        report.findings
    )


@pytest.fixture
def long_log(nadi):
    """The same with enough AuditEvents for inner nodes to be kept."""
    source = Source("site", "test")
    with nadi.store.write() as uow:
        steps = [
            Step(id=new_id(), recorded=uow.now, source=source, patient_key=None) for _ in range(600)
        ]
        uow.audit(*(noted(step, "note") for step in steps))
    nadi.integrate()
    return nadi


def test_a_long_log_holds(long_log):
    assert findings(long_log).findings == []


@pytest.mark.parametrize(
    ("statement", "row", "what"),
    [
        ("update audit_nodes set hash = zeroblob(32) where first_leaf = 256", "256", "is not that"),
        ("delete from audit_nodes where first_leaf = 0", "0", "is not there"),
        ("insert into audit_nodes values (512, 256, zeroblob(32))", "512", "has no node"),
    ],
    ids=["changed", "deleted", "invented"],
)
def test_an_inner_node_that_is_not_that_of_the_log_is_named(long_log, statement, row, what):
    change(long_log, statement)

    report = findings(long_log)

    assert [(each.table, each.row) for each in report.findings] == [("audit_nodes", row)]
    assert what in report.findings[0].what


def test_a_log_that_was_cut_is_shorter_than_the_checkpoint_outside(nadi):
    change(
        nadi,
        "delete from audit_leaves where leaf_index >= (select min(size) from audit_checkpoints)",
        "delete from audit_events where seq > (select max(audit_seq) from audit_leaves)",
        "delete from audit_checkpoints where size > (select count(*) from audit_leaves)",
        "update sqlite_sequence set seq = (select max(seq) from audit_events) "
        "where name = 'audit_events'",
    )

    report = findings(nadi)

    assert any(each.table == "checkpoint file" for each in report.findings)


def test_a_cut_is_named_by_its_first_entry_also_where_nothing_outside_shows_it(nadi):
    [kept] = nadi_rows(nadi, "select min(size) from audit_checkpoints")
    change(
        nadi,
        f"delete from audit_leaves where leaf_index >= {kept}",  # noqa: S608
        "delete from audit_events where seq > (select max(audit_seq) from audit_leaves)",
        f"delete from audit_checkpoints where size > {kept}",  # noqa: S608
        "update sqlite_sequence set seq = (select max(seq) from audit_events) "
        "where name = 'audit_events'",
    )
    (nadi.folder / "audit" / "checkpoints.log").unlink()

    assert findings(nadi).first_bad == FirstBad(Kind.TRUNCATED, kept, kept)


def test_an_entry_removed_with_its_leaf_makes_nothing_else_look_invented(nadi):
    [seq] = nadi_rows(nadi, "select min(seq) from audit_events where event = 'note' or seq = 3")
    change(
        nadi,
        f"delete from audit_leaves where audit_seq = {seq}",  # noqa: S608
        f"delete from audit_events where seq = {seq}",  # noqa: S608
        f"delete from audit_terms where audit_seq = {seq}",  # noqa: S608
    )

    report = findings(nadi)

    assert report.first_bad == FirstBad(Kind.MISSING, seq - 1, seq - 1)
    log = {"audit_leaves", "audit_events", "audit_checkpoints", "checkpoint file"}
    others = [each for each in report.findings if each.table not in log]
    # What this one entry itself made: nothing else may follow.
    assert len(others) <= 1, others


def nadi_rows(nadi, query):
    with nadi.store.read() as uow:
        return uow.connection.exec_driver_sql(query).scalars().all()


def test_events_cut_off_before_they_were_in_the_log_are_missed(nadi):
    nadi.receive(creatinine("p4"))
    change(nadi, "delete from audit_events where seq = (select max(seq) from audit_events)")

    report = findings(nadi)

    assert any("were written" in each.what for each in report.findings)


def test_it_sorts_in_files_so_that_a_large_database_needs_no_large_memory(nadi):
    def kept_in(uow):
        return uow.connection.exec_driver_sql("pragma temp_store").scalar_one()

    during = set()
    with nadi.store.read() as uow:
        before = kept_in(uow)
    with nadi.store.read() as uow:
        tell = lambda *_: during.add(kept_in(uow))  # noqa: E731
        verify(uow, nadi.keys.verifier, outside=[], progress=tell)
    with nadi.store.read() as uow:
        after = kept_in(uow)

    assert (before, during, after) == (2, {1}, 2)


def test_what_has_no_place_in_the_log_yet_is_told(nadi):
    nadi.receive(creatinine("p4"))

    report = findings(nadi)

    assert report.holds
    assert any("wait for their place" in note for note in report.notes)


def test_a_text_that_is_no_utf_8_names_its_row(nadi):
    change(nadi, "update jobs set route = cast(x'ff41' as text)")

    report = findings(nadi)

    assert any(each.table == "jobs" and "route" in each.what for each in report.findings)


def test_a_damaged_file_is_found(nadi):
    nadi.store.close()
    path = nadi.folder / "nadi.db"
    content = bytearray(path.read_bytes())
    # The header of an inner page: how many cells it has.
    content[4096 * 3 + 4] ^= 1
    path.write_bytes(bytes(content))

    report = findings(nadi)

    assert any(each.table in ("database file", "database") for each in report.findings)


def test_a_checkpoint_file_that_was_tampered_with_is_found(nadi):
    file = nadi.folder / "audit" / "checkpoints.log"
    file.write_text(file.read_text() + "and more\n")

    report = findings(nadi)

    assert [each.table for each in report.findings] == ["checkpoint file"]


def test_the_checkpoint_file_stays_small(tmp_path):
    file = CheckpointFile(tmp_path)
    note = "origin\n{}\nroot\n" + "extension\n" * 40_000 + "\n\u2014 origin signature\n"

    for size in range(8):
        file.append(note.format(size))

    assert (tmp_path / "audit" / "checkpoints.log").stat().st_size < 2**21
    assert file.notes()[-1] == note.format(7)


def test_what_comes_after_a_version_that_names_no_moment_is_current_whatever_it_names(tmp_path):
    moments = ("2025-01-26T12:00:00Z", None, "2025-01-26T11:50:00Z")
    with installation(tmp_path / "nadi") as nadi:
        for version, moment in zip(("a1", "b1", "c1"), moments, strict=True):
            meta = {"versionId": version, **({"lastUpdated": moment} if moment else {})}
            nadi.receive({**creatinine("p1"), "meta": meta})
            nadi.integrate()
        before = findings(nadi).findings
        nadi.receive({**creatinine("p1"), "meta": {"versionId": "d1", "lastUpdated": moments[0]}})
        nadi.integrate()
        change(
            nadi,
            "update events set is_current = 0",
            "update events set is_current = 1 where version_id = 'c1'",
        )
    with reopened(tmp_path / "nadi") as nadi:
        after = findings(nadi).findings

    assert before == []
    assert [each.what for each in after] == ["it is current but not the newest"]
