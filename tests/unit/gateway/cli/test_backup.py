"""`nadi backup` and `nadi restore`: what is made, proven, put back, and what is refused and how."""

import json
import os
import resource
import shutil
import signal
import subprocess
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import orjson
import pytest

from adapters.dicom.spool import Spool, spools_folder
from gateway.cli.doctor_backup import backups
from gateway.core.audit import Step, noted
from gateway.core.clock import new_id, utc_now
from gateway.core.errors import ConfigurationError
from gateway.listeners.dicom import SpoolSeals
from gateway.store.audit_log import AuditFilter
from gateway.store.backing_up import Order, make_backup
from gateway.store.backup_file import header_of
from gateway.store.backup_key import SecretKey, keep_public, read_public, read_secret
from gateway.store.checkpoint_file import CheckpointFile
from gateway.store.erasing import Order as Erasure
from gateway.store.erasing import erase
from gateway.store.erasure_file import ErasureFile
from gateway.store.installation import Installation as Opened
from tests.installation import consent, creatinine, installation, reopened
from tests.registered import ACTOR
from tests.witnessing import newest, put_site


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """An installation with events, jobs, an imported model's files and a checkpoint."""
    folder = tmp_path_factory.mktemp("template") / "nadi"
    with installation(folder) as nadi:
        nadi.receive(consent("p1"), creatinine("p1"), creatinine("p2"))
        nadi.receive_bundle(consent("p3"), creatinine("p3"))
        nadi.integrate()
        package = folder / "models" / ("a" * 64)
        package.mkdir(parents=True)
        (package / "model.onnx").write_bytes(os.urandom(3 * 2**20))
        (package / ".hidden").write_bytes(b"")
    return folder


@pytest.fixture
def key(run, tmp_path) -> Path:
    run("backup", "key", "--out", str(tmp_path / "backup.key"))
    return tmp_path / "backup.key"


@pytest.fixture
def backup(run, key, tmp_path) -> Path:
    assert key.exists()
    file = tmp_path / "nas" / "one.nadibackup"
    run("backup", str(file))
    return file


def restored(run, backup, key, to, *more, code=0):
    arguments = (str(backup), "--key", str(key), "--data-dir", str(to), *more)
    return run("restore", *arguments, code=code)


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "nadi.db" not in path.name and "run" not in path.parts
    }


def on_record(nadi, event):
    with nadi.store.read() as uow:
        rows = uow.audit_log.search(AuditFilter(event=event))
    bodies = [orjson.loads(row.body) for row in rows]
    return [
        {d["type"]: d["valueString"] for entity in body["entity"] for d in entity["detail"]}
        for body in bodies
    ]


# -- making --------------------------------------------------------------------------------------


def test_everything_comes_back_byte_for_byte_and_its_log_verifies(nadi, run, backup, key, tmp_path):
    told = json.loads(restored(run, backup, key, tmp_path / "new", "--json").stdout)

    assert contents(tmp_path / "new") == contents(nadi.folder)
    with reopened(tmp_path / "new") as again, nadi.store.read() as before:
        assert again.keys.origin == nadi.keys.origin
        with again.store.read() as uow:
            events = [event.id for event in uow.events.of_patient(patient_key(again, "p1"))]
            assert events == [e.id for e in before.events.of_patient(patient_key(nadi, "p1"))]
            assert uow.events.content(uow.events.get(events[0]))
        verified = run("audit", "verify", "--data-dir", str(tmp_path / "new"))
        assert "The log holds" in verified.stdout
        [fact] = on_record(again, "restore")
    assert fact["backup"] == told["backup"]["id"]
    assert fact["log-size"] == str(told["log_size"]) == str(newest(nadi)[0])


def patient_key(nadi, name):
    return nadi.store.sealer.patient_key("ehr", f"Patient/{name}")


def test_it_is_on_record_as_an_export_with_the_digest_of_its_manifest(nadi, run, key, tmp_path):
    told = json.loads(run("backup", "--json", str(tmp_path / "b.nadibackup")).stdout)

    [fact] = on_record(nadi, "export")
    assert (fact["what"], fact["backup"]) == ("backup", told["id"])
    assert fact["sha256"] == told["manifest_sha256"]
    assert on_record(nadi, "keys")[0]["key"] == read_secret(key).public.id


def test_images_that_were_accepted_and_not_handed_over_come_back(nadi, run, key, tmp_path):
    study, instance = "a" * 32, "b" * 32
    spool = Spool(spools_folder(nadi.folder) / "pacs", SpoolSeals(nadi.store.sealer, "pacs/dicom"))
    spool.keep(study, instance, b"a film")

    made = run("backup", str(tmp_path / "b"))
    restored(run, tmp_path / "b", key, tmp_path / "new")

    assert "1 accepted image(s) that were not handed over yet" in made.stdout
    with reopened(tmp_path / "new") as again:
        seals = SpoolSeals(again.store.sealer, "pacs/dicom")
        back = Spool(spools_folder(again.folder) / "pacs", seals)
        assert back.open(study, instance) == b"a film"
        assert back.due(0, 10**15) == [study]


@pytest.mark.usefixtures("key")
def test_in_a_folder_it_gets_a_name_of_site_and_time(run, tmp_path):
    (tmp_path / "nas").mkdir()

    run("backup", str(tmp_path / "nas"))

    [made] = (tmp_path / "nas").iterdir()
    assert made.name.startswith("nadi-sandbox-20")
    assert made.stat().st_mode & 0o777 == 0o600


def test_nothing_of_it_can_be_read_without_the_key(nadi, backup):
    sealed = backup.read_bytes()

    for secret in ("keys/master.key", "credentials/ehr.token", "audit/checkpoints.log"):
        assert (nadi.folder / secret).read_bytes().strip() not in sealed
    assert b"Patient" not in sealed
    assert b"SQLite" not in sealed


def test_a_file_is_never_overwritten(run, backup):
    before = backup.read_bytes()

    refused = run("backup", str(backup), code=1)

    assert "overwrites nothing" in refused.stderr
    assert backup.read_bytes() == before


def test_without_a_key_none_is_made(run, tmp_path):
    refused = run("backup", str(tmp_path / "b"), code=1)

    assert "nadi backup key --out FILE" in refused.stderr
    assert not (tmp_path / "b").exists()


def test_the_secret_half_does_not_go_into_the_data_folder(nadi, run):
    refused = run("backup", "key", "--out", str(nadi.folder / "backup.key"), code=2)

    assert "must not lie in the data folder" in refused.stderr


def test_a_second_key_opens_too_and_a_new_one_alone(run, key, tmp_path):
    assert "a backup key already" in run("backup", "key", "--out", str(key), code=2).stderr
    second, third = tmp_path / "second.key", tmp_path / "third.key"

    run("backup", "key", "--out", str(second), "--add")
    run("backup", str(tmp_path / "two"))
    run("backup", "key", "--out", str(third), "--replace")
    run("backup", str(tmp_path / "three"))

    for each in (key, second):
        run("backup", "verify", str(tmp_path / "two"), "--key", str(each))
    assert set(header_of(tmp_path / "three").wrapped) == {read_secret(third).public.id}


def test_what_is_written_meanwhile_is_not_in_it_and_is_not_held_up(nadi, run, key, tmp_path):
    """The copy is of one moment, and the checkpoint file is never ahead of it."""
    before = newest(nadi)[0]
    went_on = []

    def tell(phase, _done, _total):
        if phase == "database" and not went_on:
            nadi.receive(creatinine("p9"))
            nadi.integrate()
            went_on.append(newest(nadi)[0])

    order = Order(
        to=tmp_path / "b",
        site="sandbox",
        keys=read_public(nadi.folder),
        with_keys=True,
        record=lambda _: None,
        tell=tell,
    )
    manifest = make_backup(nadi.settings, Opened(nadi.keys, nadi.store), order)

    assert went_on[0] > before == manifest.database.log_size
    restored(run, tmp_path / "b", key, tmp_path / "new")
    with reopened(tmp_path / "new") as again:
        assert newest(again)[0] == before
        assert all(f"\n{went_on[0]}\n" not in note for note in CheckpointFile(again.folder).notes())


@pytest.mark.usefixtures("key")
def test_a_backup_that_was_killed_looks_like_none_and_the_next_cleans_up(nadi, run, tmp_path):
    left = nadi.folder / "run" / "backup"
    left.mkdir(parents=True)
    (left / "nadi.db").write_bytes(b"half")

    run("backup", str(tmp_path / "b"))

    assert not left.exists()
    assert [path.name for path in tmp_path.iterdir() if ".partial" in path.name] == []


def test_two_backups_at_once_are_refused(nadi, run, key, tmp_path):
    def again(*_):
        refused = run("backup", str(tmp_path / "c"), code=1)
        assert "Another backup is being made" in refused.stderr
        raise ConfigurationError("enough")

    order = Order(
        to=tmp_path / "b",
        site="",
        keys=read_public(nadi.folder),
        with_keys=True,
        record=lambda _: None,
        tell=again,
    )
    with pytest.raises(ConfigurationError, match="enough"):
        make_backup(nadi.settings, Opened(nadi.keys, nadi.store), order)

    assert list(tmp_path.glob("*b*")) == [key]


@contextmanager
def files_of_at_most(count):
    """Let the operating system refuse to write more into a file, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.usefixtures("key")
def test_where_a_disk_is_full_no_backup_is_made_and_nothing_is_left(nadi, run, tmp_path):
    (tmp_path / "nas").mkdir()
    with files_of_at_most(2 * 2**20):
        refused = run("backup", str(tmp_path / "nas" / "b"), code=1)

    assert "is full" in refused.stderr
    assert list((tmp_path / "nas").iterdir()) == []
    assert not (nadi.folder / "run" / "backup").exists()
    assert on_record(nadi, "export") == []


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small disk can be made by root only, where mounting is allowed")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_on_a_small_disk_neither_a_backup_nor_a_restored_folder_is_left_half(
    run, backup, key, small_disk
):
    refused = run("backup", str(small_disk / "b"), code=1)
    assert f"{small_disk / 'b'}: the disk is full. No backup was made" in refused.stderr
    refused = restored(run, backup, key, small_disk / "new", code=1)
    assert "are needed for the copy of the database. Make room" in refused.stderr

    assert list(small_disk.iterdir()) == []


def test_the_doctor_says_whether_backups_are_made(nadi, run, tmp_path):
    def says():
        return backups(nadi.folder, nadi.store)

    assert "No backup key, so no backup" in says()[0]
    run("backup", "key", "--out", str(tmp_path / "backup.key"))
    assert "none was made yet" in says()[0]
    run("backup", str(tmp_path / "b"))
    run("audit", "export", "--patient", "Patient/p1", "--out", str(tmp_path / "hers.ndjson"))
    what, is_well = says()
    assert (what.startswith("the last one is of 20"), is_well) == (True, True)


def test_a_backup_of_last_week_is_too_old_for_the_doctor(nadi):
    keep_public(nadi.folder, [SecretKey(b"k" * 32).public])
    week_ago = utc_now() - timedelta(days=7)
    with nadi.store.write() as uow:
        step = Step(id=new_id(), recorded=week_ago, source=ACTOR.source)
        uow.audit(noted(step, "export", details={"what": "backup"}))

    says, is_well = backups(nadi.folder, nadi.store)

    assert (f"The last one is of {week_ago:%Y-%m-%d}" in says, is_well) == (True, False)


# -- proving -------------------------------------------------------------------------------------


def test_a_whole_backup_is_proven_without_being_restored(nadi, run, backup, key):
    note = nadi.folder / "audit" / "checkpoints.log"
    arguments = ("backup", "verify", str(backup), "--key", str(key), "--from", str(note))

    told = json.loads(run(*arguments, "--json").stdout)

    assert (told["holds"], told["is_log_verified"], told["findings"]) == (True, True, [])
    assert told["backup"]["counts"]["events"] == 5
    assert "is whole and can be restored" in run(*arguments).stdout


def test_a_log_that_was_changed_before_the_backup_is_found_and_not_restored(
    nadi, run, key, tmp_path
):
    with nadi.store.engine.begin() as connection:
        connection.exec_driver_sql("update jobs set state = 'completed'")
    run("backup", str(tmp_path / "b"))

    found = run("backup", "verify", str(tmp_path / "b"), "--key", str(key), code=1)
    refused = restored(run, tmp_path / "b", key, tmp_path / "new", code=1)

    assert "its log does not verify" in found.stdout
    assert "Take an earlier backup" in refused.stderr
    assert not (tmp_path / "new").exists()
    told = restored(run, tmp_path / "b", key, tmp_path / "new", "--accept-findings", "--json")
    with reopened(tmp_path / "new") as again:
        [fact] = on_record(again, "restore")
    assert int(fact["findings-accepted"]) == len(json.loads(told.stdout)["findings"]) > 0


# -- refusing ------------------------------------------------------------------------------------


def altered(backup, at):
    content = bytearray(backup.read_bytes())
    content[at] ^= 1
    backup.write_bytes(content)


def newer(nadi, file):
    """Make a backup as a newer Nadi would."""
    with nadi.store.engine.begin() as connection:
        connection.exec_driver_sql("update alembic_version set version_num = '9001'")
    order = Order(
        to=file,
        site="",
        keys=read_public(nadi.folder),
        with_keys=True,
        record=lambda _: None,
        tell=lambda *_: None,
    )
    make_backup(nadi.settings, Opened(nadi.keys, nadi.store), order)


@pytest.fixture
def spoilt(request, nadi, run, backup, key, tmp_path):
    """Give a backup with something wrong, and the key to try."""
    if request.param == "other key":
        other = tmp_path / "other.key"
        run("backup", "key", "--out", str(other), "--replace")
        return backup, other
    if request.param == "cut":
        os.truncate(backup, backup.stat().st_size - 2**20)
    elif request.param == "flipped":
        altered(backup, backup.stat().st_size // 2)
    elif request.param == "first lines":
        altered(backup, 30)
    elif request.param == "newer":
        newer(nadi, tmp_path / "newer")
        return tmp_path / "newer", key
    else:
        backup.write_bytes(b"something else")
    return backup, key


@pytest.mark.parametrize(
    ("spoilt", "says"),
    [
        ("other key", "Take the key file that names that one."),
        ("cut", "was cut, or is still being copied"),
        ("flipped", "is not as it was written: block"),
        ("first lines", "is not as it was written"),
        ("newer", "schema 9001. This Nadi knows"),
        ("something else", "is no backup of Nadi"),
    ],
    indirect=["spoilt"],
)
def test_each_fault_has_its_message_and_nothing_is_half_done(run, spoilt, says, tmp_path):
    file, key = spoilt

    verified = run("backup", "verify", str(file), "--key", str(key), code=1)
    refused = restored(run, file, key, tmp_path / "new", code=1)

    assert says in verified.stderr
    assert says in refused.stderr
    assert not (tmp_path / "new").exists()


def test_a_backup_goes_into_an_empty_folder_only(run, backup, key, tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "theirs").write_text("kept")

    refused = restored(run, backup, key, tmp_path / "new", code=1)

    assert "is not empty (theirs)" in refused.stderr
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["theirs"]


def test_what_a_restore_left_that_was_killed_is_no_hindrance(run, backup, key, tmp_path):
    (tmp_path / "new" / ".restore-0a").mkdir(parents=True)
    (tmp_path / "new" / ".restore-0a" / "nadi.db").write_bytes(b"half")

    restored(run, backup, key, tmp_path / "new")

    assert not (tmp_path / "new" / ".restore-0a").exists()


def test_a_database_url_of_another_kind_is_refused(run, backup, key, tmp_path, monkeypatch):
    monkeypatch.setenv("NADI_DATABASE_URL", "sqlite:////elsewhere/nadi.db")
    to = (str(backup), "--key", str(key), "--data-dir", str(tmp_path / "new"))

    refused = run("restore", *to, code=1)

    assert "unset NADI_DATABASE_URL" in refused.stderr
    assert not (tmp_path / "new").exists()


# -- keys kept apart -----------------------------------------------------------------------------


def test_keys_that_were_kept_apart_are_asked_for_and_put_to_it(nadi, run, key, tmp_path):
    file, kept = tmp_path / "b", nadi.folder / "keys"
    run("backup", str(file), "--without-keys")

    alone = json.loads(run("backup", "verify", str(file), "--key", str(key), "--json").stdout)
    refused = restored(run, file, key, tmp_path / "new", code=1)
    shutil.copytree(kept, tmp_path / "safe")
    whole = run("backup", "verify", str(file), "--key", str(key), "--keys", str(tmp_path / "safe"))
    restored(run, file, key, tmp_path / "new", "--keys", str(tmp_path / "safe"))

    assert "only the log itself was verified" in alone["notes"][0]
    assert "was made without the keys" in refused.stderr
    assert "can be restored" in whole.stdout
    with reopened(tmp_path / "new") as again:
        again.store.check_key()


def test_keys_of_another_installation_are_refused(run, key, tmp_path):
    run("backup", str(tmp_path / "b"), "--without-keys")
    with installation(tmp_path / "other"):
        pass

    refused = restored(
        run, tmp_path / "b", key, tmp_path / "new", "--keys", str(tmp_path / "other/keys"), code=1
    )

    assert "belongs to another" in refused.stderr
    assert not (tmp_path / "new").exists()


# -- what came after the backup ------------------------------------------------------------------


def test_who_was_erased_after_the_backup_is_erased_again(nadi, run, backup, key, tmp_path):
    erased = patient_key(nadi, "p1")
    with nadi.store.write() as uow:
        done = erase(
            uow, Erasure(patient_key=erased, reason="She asked.", law="s.12"), frozenset(), ACTOR
        )
    ErasureFile(nadi.folder).append(done.tombstone)
    saved = tmp_path / "erasures.log"
    shutil.copy(nadi.folder / "audit" / "erasures.log", saved)

    told = restored(run, backup, key, tmp_path / "new", "--erasures", str(saved), "--json")

    assert json.loads(told.stdout)["erased_again"] == 1
    with reopened(tmp_path / "new") as again, again.store.read() as uow:
        assert uow.erasures.closed([erased])
        assert uow.events.get(uow.events.of_patient(erased)[0].id).is_erased
    verified = run("audit", "verify", "--data-dir", str(tmp_path / "new"))
    assert "The log holds" in verified.stdout


def test_entries_that_the_backup_lacks_are_named_and_on_record(nadi, run, backup, key, tmp_path):
    at = newest(nadi)[0]
    nadi.receive(creatinine("p4"), creatinine("p5"))
    nadi.integrate()
    size, note = newest(nadi)
    (tmp_path / "mail.txt").write_text(f"Dear auditor,\n\n{note}")

    arguments = ("--from", str(tmp_path / "mail.txt"), "--json")
    told = json.loads(restored(run, backup, key, tmp_path / "new", *arguments).stdout)

    assert (told["log_size"], told["witnessed_size"]) == (at, size)
    assert told["lost_entries"] == size - at > 0
    assert f"Entries {at} to {size - 1} ({size - at}) are lost" in told["says"]
    with reopened(tmp_path / "new") as again:
        [fact] = on_record(again, "restore")
        assert (fact["lost-entries"], fact["witnessed-size"]) == (str(size - at), str(size))
        # The log goes on, from where the backup has it.
        again.integrate()
        assert newest(again)[0] > at


def test_witnesses_of_the_site_are_asked_and_one_that_is_away_is_named(nadi, run, key, tmp_path):
    mount = tmp_path / "mount.log"
    put_site(
        nadi,
        "witnesses:\n"
        f"  mount: {{kind: file, path: {mount}}}\n"
        f"  gone: {{kind: file, path: {tmp_path / 'no' / 'mount.log'}}}\n",
    )
    nadi.integrate()
    run("backup", str(tmp_path / "b"))
    nadi.receive(creatinine("p6"))
    nadi.integrate()
    size, note = newest(nadi)
    mount.write_text(note)

    told = json.loads(restored(run, tmp_path / "b", key, tmp_path / "new", "--json").stdout)

    assert (told["witnessed_size"], told["witness"]) == (size, "witness mount")
    assert told["witnesses_not_asked"] == ["gone"]
    shown = restored(run, tmp_path / "b", key, tmp_path / "shown").stdout
    assert "are lost with what they recorded" in shown
    assert "Tell the keepers of the witnesses" in shown


# -- looking after them --------------------------------------------------------------------------


@pytest.mark.usefixtures("key")
def test_the_newest_stay_and_others_are_left_alone(nadi, run, tmp_path):
    folder = tmp_path / "nas"
    for number in range(3):
        run("backup", str(folder / f"{number}.nadibackup"))
    (folder / "odd.nadibackup").write_bytes(b"half a copy")
    with installation(tmp_path / "other") as other:
        theirs = ("--data-dir", str(other.folder))
        run("backup", "key", "--out", str(tmp_path / "other.key"), *theirs)
        run("backup", str(folder / "theirs.nadibackup"), *theirs)

    told = json.loads(run("backup", "list", str(folder), "--json").stdout)
    listed = {each["file"]: each for each in told}
    run("backup", "prune", str(folder), "--keep", "1", "--yes")

    assert listed["0.nadibackup"]["state"] == "whole"
    assert "is no backup" in listed["odd.nadibackup"]["state"]
    left = {path.name for path in folder.iterdir()}
    assert left == {"2.nadibackup", "odd.nadibackup", "theirs.nadibackup"}
    assert on_record(nadi, "note")[0]["what"] == "backups deleted"
