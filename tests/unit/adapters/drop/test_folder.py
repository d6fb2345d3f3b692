"""A drop folder is emptied by renames: what is still written is left, what was claimed is kept."""

import os
from pathlib import Path

import pytest

from adapters.drop.folder import DropFolder
from gateway.core.errors import ConfigurationError


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path, clock: Clock) -> DropFolder:
    made = DropFolder(tmp_path, settle_s=2, monotonic=clock)
    made.prepare()
    return made


def test_a_file_is_taken_when_it_did_not_change_for_a_while(
    folder: DropFolder, clock: Clock, tmp_path: Path
):
    (tmp_path / "a.json").write_bytes(b"{")
    assert folder.claim() == []
    clock.now_s = 1.9
    (tmp_path / "a.json").write_bytes(b"{}")
    assert folder.claim() == []
    clock.now_s = 3.8
    assert folder.claim() == []
    clock.now_s = 4.0

    (claimed,) = folder.claim()

    assert claimed == tmp_path / "taking" / "a.json"
    assert not (tmp_path / "a.json").exists()


def test_with_finished_files_renamed_into_it_there_is_nothing_to_wait_for(tmp_path: Path):
    folder = DropFolder(tmp_path, settle_s=0)
    folder.prepare()
    (tmp_path / "a.json").write_bytes(b"{}")

    assert [path.name for path in folder.claim()] == ["a.json"]


@pytest.mark.parametrize("name", [".a.json", "~a.json", "a.json.part", "a.xml", "a.JSON.tmp"])
def test_unfinished_and_other_files_are_left_alone(tmp_path: Path, name: str):
    folder = DropFolder(tmp_path, settle_s=0)
    folder.prepare()
    (tmp_path / name).write_bytes(b"{}")

    assert folder.claim() == []
    assert (tmp_path / name).exists()


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path):
    folder = DropFolder(tmp_path, settle_s=0)
    folder.prepare()
    (tmp_path / "secret").write_bytes(b"{}")
    (tmp_path / "a.json").symlink_to(tmp_path / "secret")

    assert folder.claim() == []


def test_what_was_claimed_before_a_crash_is_found_again(tmp_path: Path):
    (tmp_path / "taking").mkdir()
    (tmp_path / "taking" / "a.json").write_bytes(b"{}")

    again = DropFolder(tmp_path, settle_s=2)

    assert again.left() == [tmp_path / "taking" / "a.json"]


def test_a_file_ends_with_its_outcome_beside_it_and_replaces_none(
    folder: DropFolder, tmp_path: Path
):
    for content in (b"1", b"2"):
        claimed = tmp_path / "taking" / "a.json"
        claimed.write_bytes(content)
        folder.finish(claimed, "failed", b"outcome " + content)

    found = {path.name: path.read_bytes() for path in (tmp_path / "failed").iterdir()}
    assert found == {
        "a.json": b"1",
        "a.json.outcome.json": b"outcome 1",
        "a.2.json": b"2",
        "a.2.json.outcome.json": b"outcome 2",
    }


def test_what_was_done_is_deleted_after_its_days(folder: DropFolder, tmp_path: Path):
    for end in ("done", "failed"):
        claimed = tmp_path / "taking" / f"{end}.json"
        claimed.write_bytes(b"{}")
        folder.finish(claimed, end, b"{}")

    assert folder.sweep(1) == 0
    assert folder.sweep(0) == 1
    assert not list((tmp_path / "done").iterdir())
    assert len(list((tmp_path / "failed").iterdir())) == 2


def test_a_folder_that_anybody_may_read_is_told_of(folder: DropFolder, tmp_path: Path):
    tmp_path.chmod(0o700)
    assert folder.exposed_to() == ""
    tmp_path.chmod(0o757)
    assert "read and write it: chmod o-rwx" in folder.exposed_to()
    tmp_path.chmod(0o700)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_explained(tmp_path: Path):
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigurationError, match="let the user that runs Nadi write"):
        DropFolder(tmp_path, settle_s=0).prepare()
    tmp_path.chmod(0o700)


def test_a_folder_that_is_not_there_is_explained(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="No such file or directory"):
        DropFolder(tmp_path / "absent", settle_s=0).prepare()
