import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.notes import NOTE
from gateway.note_file import append_note

NOTES = [f"nadi.health/audit/one\n{size}\naGFzaA==\n\n— signer c2ln{size}\n" for size in range(4)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints.log"


@contextmanager
def room(size: int) -> Iterator[None]:
    """Let no file grow beyond a size, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_notes_stand_one_after_the_other_in_a_file_that_others_may_not_read(file: Path) -> None:
    for note in NOTES:
        append_note(file, note, 0o600)

    assert file.read_text("utf-8") == "".join(NOTES)
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("free", [1, 20, 40, len(NOTES[1].encode()) - 1])
def test_a_note_that_finds_no_room_leaves_nothing_behind(file: Path, free: int) -> None:
    append_note(file, NOTES[0], 0o600)

    with room(file.stat().st_size + free), pytest.raises(OSError, match="too large"):
        append_note(file, NOTES[1], 0o600)
    append_note(file, NOTES[2], 0o600)

    assert file.read_text("utf-8") == NOTES[0] + NOTES[2]


@given(cut=st.integers(0, len(NOTES[1].encode()) - 1))
def test_half_a_note_that_a_cut_of_the_power_left_makes_the_next_one_no_false_one(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    file = tmp_path_factory.mktemp("notes") / "checkpoints.log"
    file.write_bytes(NOTES[0].encode() + NOTES[1].encode()[:cut])

    append_note(file, NOTES[2], 0o600)

    assert NOTE.findall(file.read_text("utf-8")) == [NOTES[0], NOTES[2]]


def test_what_a_file_holds_that_has_no_note_is_left_alone(file: Path) -> None:
    file.write_bytes(b"kept by the district office\xff\n")

    append_note(file, NOTES[0], 0o600)

    assert file.read_bytes() == b"kept by the district office\xff\n" + NOTES[0].encode()


def test_a_long_file_keeps_all_its_notes(file: Path) -> None:
    file.write_text(NOTES[0] * 3000, encoding="utf-8")

    append_note(file, NOTES[1], 0o600)

    assert file.read_text("utf-8") == NOTES[0] * 3000 + NOTES[1]
