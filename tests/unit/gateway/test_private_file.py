"""A file that only its owner may read: new, whole and on disk, or not there."""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.private_file import private_file, replace_private, write_private
from tests.unit.gateway.test_note_file import room

WAYS = pytest.mark.parametrize("write", [write_private, replace_private])

Write = Callable[[Path, bytes], None]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "secret"


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@WAYS
@pytest.mark.parametrize("mask", [0, 0o022, 0o277, 0o777], ids=oct)
def test_only_the_owner_may_read_and_write_it_whatever_the_umask(
    write: Write, file: Path, mask: int
) -> None:
    with umask(mask):
        write(file, b"a key")

    assert mode_of(file) == 0o600
    assert file.read_bytes() == b"a key"


def test_nobody_else_may_read_it_while_it_is_written(file: Path) -> None:
    with umask(0), private_file(file) as opened:
        opened.write(b"half a key")
        opened.flush()

        assert mode_of(file) == 0o600


def test_a_file_that_is_there_is_not_written_over(file: Path) -> None:
    file.write_bytes(b"in use")

    with pytest.raises(FileExistsError):
        write_private(file, b"another")

    assert file.read_bytes() == b"in use"


@pytest.mark.parametrize("is_there", [True, False], ids=["to a file", "to nowhere"])
def test_a_link_is_not_followed(file: Path, tmp_path: Path, *, is_there: bool) -> None:
    led_to = tmp_path / "of-somebody-else"
    if is_there:
        led_to.write_bytes(b"theirs")
    file.symlink_to(led_to)

    with pytest.raises(FileExistsError):
        write_private(file, b"a key")

    assert file.is_symlink()
    assert led_to.exists() is is_there


def test_what_can_not_be_written_as_a_whole_leaves_nothing(file: Path) -> None:
    with room(100), pytest.raises(OSError, match="too large"):
        write_private(file, b"k" * 200_000)

    assert list(file.parent.iterdir()) == []


def test_what_ends_half_way_leaves_nothing(file: Path) -> None:
    def tear() -> None:
        with private_file(file) as opened:
            opened.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tear()

    assert list(file.parent.iterdir()) == []


def test_another_comes_into_the_place_of_the_old_one_with_the_right_mode(file: Path) -> None:
    file.write_bytes(b"old")
    file.chmod(0o644)

    replace_private(file, b"new")

    assert file.read_bytes() == b"new"
    assert mode_of(file) == 0o600
    assert list(file.parent.iterdir()) == [file]


def test_the_old_one_stays_where_the_new_one_finds_no_room(file: Path) -> None:
    file.write_bytes(b"old")

    with room(100), pytest.raises(OSError, match="too large"):
        replace_private(file, b"n" * 200_000)

    assert file.read_bytes() == b"old"
    assert list(file.parent.iterdir()) == [file]


def test_a_link_is_replaced_and_what_it_led_to_stays(file: Path, tmp_path: Path) -> None:
    led_to = tmp_path / "of-somebody-else"
    led_to.write_bytes(b"theirs")
    file.symlink_to(led_to)

    replace_private(file, b"ours")

    assert not file.is_symlink()
    assert led_to.read_bytes() == b"theirs"


@WAYS
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_it_is_on_disk_with_its_name_when_the_writing_has_ended(write: Write, file: Path) -> None:
    code = (
        "from pathlib import Path\n"
        f"from gateway.private_file import {write.__name__} as write\n"
        f"write(Path({str(file)!r}), b'a key')\n"
    )

    called = synced_or_named_by(code)

    assert [call.split("(")[0] for call in called[:2]] == ["fsync", "fsync"]
    assert str(file.parent / "") in called[0]
    assert f"<{file.parent}>" in called[-1]


def synced_or_named_by(code: str) -> list[str]:
    """Run a program; give what it brought to disk and what it gave other names, in order."""
    traced = ["strace", "-y", "-qq", "-e", "trace=fsync,/rename", "-e", "signal=none"]
    done = subprocess.run(
        [*traced, sys.executable, "-B", "-c", code], capture_output=True, text=True, check=True
    )
    return done.stderr.splitlines()
