"""What was kept is there after a crash, opens nowhere else, and is let go in time."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from adapters.dicom.spool import REMEMBERED_MS, Spool, copy_waiting, spools_folder
from gateway.core.clock import to_ms, utc_now
from gateway.core.errors import Unsealable
from gateway.listeners.dicom import SpoolSeals
from gateway.store.sealing import MasterKey, Sealer

STUDY, OTHER, FIRST, SECOND = "a" * 32, "d" * 32, "b" * 32, "c" * 32
NEVER = 10**15


@dataclass
class Kept:
    folder: Path
    spool: Spool
    now_ms: int = field(default_factory=lambda: to_ms(utc_now()))

    def again(self) -> Spool:
        """The spool as another process finds it."""
        return Spool(self.folder, seals())

    def hand_over(self, patient: str = "p") -> None:
        self.spool.end(STUDY, self.spool.begin(STUDY, self.now_ms), patient)


def seals() -> SpoolSeals:
    return SpoolSeals(Sealer(MasterKey(b"k" * 32)), "pacs/dicom")


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    spool = Spool(tmp_path / "spool", seals())
    assert spool.keep(STUDY, FIRST, b"film")
    return Kept(tmp_path / "spool", spool)


def test_an_image_is_opened_by_another_process_and_kept_once(kept: Kept):
    again = kept.again()

    assert again.open(STUDY, FIRST) == b"film"
    assert not again.keep(STUDY, FIRST, b"another")
    assert again.open(STUDY, FIRST) == b"film"


def test_an_image_opens_only_under_its_own_name(kept: Kept):
    (kept.folder / STUDY / FIRST).rename(kept.folder / STUDY / SECOND)

    with pytest.raises(Unsealable):
        kept.spool.open(STUDY, SECOND)


def test_a_study_is_due_when_it_is_quiet_and_not_any_more_when_it_was_handed_over(kept: Kept):
    assert kept.spool.due(60_000, kept.now_ms) == []
    assert kept.spool.due(60_000, kept.now_ms + 61_000) == [STUDY]

    kept.hand_over()

    assert kept.spool.due(0, NEVER) == []


def test_what_was_begun_is_begun_again_as_the_same_version_unless_something_came(kept: Kept):
    begun = kept.spool.begin(STUDY, kept.now_ms)

    assert kept.again().due(NEVER, kept.now_ms) == [STUDY]
    assert kept.again().begin(STUDY, kept.now_ms + 5) == begun

    kept.spool.keep(STUDY, SECOND, b"late")
    later = kept.again().begin(STUDY, kept.now_ms - 5)

    assert set(later.instances) == {FIRST, SECOND}
    assert later.at_ms > begun.at_ms


def test_an_image_that_was_being_written_is_none(kept: Kept):
    (kept.folder / STUDY / ".part0123").write_bytes(b"half")
    kept.hand_over()

    assert kept.spool.due(0, NEVER) == []


def test_what_was_handed_over_is_let_go_after_a_while_and_its_repeats_are_known(kept: Kept):
    kept.hand_over()

    kept.spool.let_go(60_000, kept.now_ms + 30_000, lambda _: False)
    assert kept.spool.open(STUDY, FIRST) == b"film"

    kept.spool.let_go(60_000, kept.now_ms + 120_000, lambda _: False)
    assert {path.name for path in (kept.folder / STUDY).iterdir()} == {"handed.json", "key"}
    assert not kept.spool.keep(STUDY, FIRST, b"film")
    assert kept.spool.due(0, NEVER) == []

    kept.spool.let_go(60_000, kept.now_ms + REMEMBERED_MS + 1, lambda _: False)
    assert list(kept.folder.iterdir()) == []


def test_a_late_image_of_a_study_that_was_let_go_makes_a_version_of_its_own(kept: Kept):
    kept.hand_over()
    kept.spool.let_go(0, kept.now_ms + 1, lambda _: False)

    assert kept.spool.keep(STUDY, SECOND, b"late")
    assert kept.again().due(0, NEVER) == [STUDY]
    begun = kept.again().begin(STUDY, kept.now_ms)

    assert (begun.instances, begun.let_go) == ((SECOND,), (FIRST,))
    assert kept.again().open(STUDY, SECOND) == b"late"


def test_an_image_that_was_let_go_when_all_ended_is_no_news(kept: Kept):
    kept.hand_over()
    left = (kept.folder / STUDY / FIRST).read_bytes()
    kept.spool.let_go(0, kept.now_ms + 1, lambda _: False)

    (kept.folder / STUDY / FIRST).write_bytes(left)

    assert kept.again().due(0, NEVER) == []


def test_a_study_without_news_is_looked_at_again_when_something_comes(kept: Kept):
    kept.hand_over()
    long_ago = kept.now_ms / 1000 - 60
    os.utime(kept.folder / STUDY, (long_ago, long_ago))
    assert kept.spool.due(0, kept.now_ms) == []

    kept.spool.keep(STUDY, SECOND, b"late")

    assert kept.spool.due(0, NEVER) == [STUDY]


def test_what_was_not_handed_over_is_never_let_go(kept: Kept):
    kept.spool.let_go(0, NEVER, lambda _: True)

    assert kept.spool.open(STUDY, FIRST) == b"film"


def test_everything_of_an_erased_patient_is_let_go_at_once(kept: Kept):
    kept.hand_over("erased")

    kept.spool.let_go(NEVER, kept.now_ms, {"erased"}.__contains__)

    assert list(kept.folder.iterdir()) == []


def test_a_backup_takes_the_images_of_studies_with_news_and_of_others_what_is_known(tmp_path: Path):
    spools = spools_folder(tmp_path)
    spool, now_ms = Spool(spools / "pacs", seals()), to_ms(utc_now())
    spool.keep(STUDY, FIRST, b"film")
    spool.keep(OTHER, SECOND, b"slice")
    spool.end(OTHER, spool.begin(OTHER, now_ms), "p")
    (spools / "pacs" / STUDY / f".part{SECOND}").write_bytes(b"half")

    assert copy_waiting(spools, tmp_path / "copy") == 1

    copied = Spool(tmp_path / "copy" / "pacs", seals())
    assert copied.open(STUDY, FIRST) == b"film"
    assert not copied.keep(OTHER, SECOND, b"slice"), "it is a repeat"
    assert copied.due(0, NEVER) == [STUDY]
    names = {path.name for path in (tmp_path / "copy").rglob("*") if path.is_file()}
    assert names == {"key", "handed.json", FIRST}


def test_a_backup_of_a_study_with_a_late_image_has_the_whole_of_it(kept: Kept, tmp_path: Path):
    kept.hand_over()
    kept.spool.keep(STUDY, SECOND, b"late")

    assert copy_waiting(kept.folder.parent, tmp_path / "copy") == 2

    copied = Spool(tmp_path / "copy" / kept.folder.name, seals())
    assert copied.begin(STUDY, NEVER).instances == (FIRST, SECOND)


def test_a_backup_without_a_spool_has_none(tmp_path: Path):
    assert copy_waiting(spools_folder(tmp_path), tmp_path / "copy") == 0
    assert not (tmp_path / "copy").exists()


def test_the_same_images_are_the_same_version_wherever_they_are_put_together(
    kept: Kept, tmp_path: Path
):
    first = kept.spool.begin(STUDY, kept.now_ms)
    kept.hand_over()
    kept.spool.keep(STUDY, SECOND, b"late")
    both = kept.spool.begin(STUDY, kept.now_ms)
    elsewhere = Spool(tmp_path / "after a restore", seals())
    elsewhere.keep(STUDY, SECOND, b"late")
    elsewhere.keep(STUDY, FIRST, b"film")

    again = elsewhere.begin(STUDY, kept.now_ms + 86_400_000)

    assert again.version == both.version != first.version


def test_a_late_image_of_what_was_let_go_gives_the_version_of_the_whole(kept: Kept):
    kept.spool.keep(STUDY, SECOND, b"slice")
    whole = kept.spool.begin(STUDY, kept.now_ms).version
    (kept.folder / STUDY / SECOND).unlink()
    kept.hand_over()
    kept.spool.let_go(0, kept.now_ms + 1, lambda _: False)
    kept.spool.keep(STUDY, SECOND, b"slice")

    assert kept.spool.begin(STUDY, kept.now_ms).version == whole
