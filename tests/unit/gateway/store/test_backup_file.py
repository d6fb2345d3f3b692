"""The sealed file of a backup gives back what was put in, and nothing that was changed."""

import io
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.store.backup_file import (
    BLOCK_BYTES,
    BackupAltered,
    BackupCut,
    BackupUnusable,
    NoBackup,
    SealedReader,
    WrongBackupKey,
    header_of,
    new_writer,
)
from gateway.store.backup_key import SecretKey

KEY = SecretKey(b"k" * 32)
SEALED_BLOCK = BLOCK_BYTES + 16


def seal(file: Path, *pieces: bytes, keys=(KEY,)) -> bytes:
    stream = io.BytesIO()
    writer = new_writer(
        stream,
        [key.public for key in keys],
        made_at="2026-11-26T03:00:00Z",
        nadi="0.1.0",
        origin="nadi.health/audit/1",
    )
    for piece in pieces:
        writer.write(piece)
    writer.finish()
    file.write_bytes(stream.getvalue())
    return stream.getvalue()


def opened(file: Path, key: SecretKey = KEY) -> bytes:
    with SealedReader(file, key) as reader:
        return reader.read()


@settings(max_examples=25)
@given(
    pieces=st.lists(st.tuples(st.binary(max_size=8), st.integers(0, BLOCK_BYTES + 1)), max_size=3)
)
def test_what_is_sealed_opens_again(tmp_path_factory, pieces):
    file = tmp_path_factory.mktemp("sealed") / "b"
    content = [seed + bytes(length) for seed, length in pieces]

    seal(file, *content)

    assert opened(file) == b"".join(content)


@pytest.mark.parametrize("length", [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1])
def test_a_content_of_about_a_block_opens_again(tmp_path, length):
    content = os.urandom(length)

    seal(tmp_path / "b", content)

    assert opened(tmp_path / "b") == content


def test_what_stands_in_front_is_for_everybody(tmp_path):
    other = SecretKey(b"o" * 32)
    seal(tmp_path / "b", b"content", keys=(KEY, other))

    header = header_of(tmp_path / "b")

    assert (header.made_at, header.nadi) == ("2026-11-26T03:00:00Z", "0.1.0")
    assert set(header.wrapped) == {KEY.public.id, other.public.id}
    assert opened(tmp_path / "b", other) == b"content"


def test_another_key_is_named_and_opens_nothing(tmp_path):
    seal(tmp_path / "b", b"content")

    with pytest.raises(WrongBackupKey, match=f"key {KEY.public.id}; this is") as refused:
        opened(tmp_path / "b", SecretKey(b"x" * 32))

    assert SecretKey(b"x" * 32).public.id in refused.value.message


def test_every_changed_byte_is_found(tmp_path):
    whole = seal(tmp_path / "b", b"what a hospital can't lose")

    for at in range(len(whole)):
        changed = bytearray(whole)
        changed[at] ^= 1
        (tmp_path / "b").write_bytes(changed)
        with pytest.raises(BackupUnusable):
            opened(tmp_path / "b")


def test_a_changed_byte_in_the_middle_is_placed(tmp_path):
    whole = bytearray(seal(tmp_path / "b", os.urandom(3 * BLOCK_BYTES)))
    whole[-2 * SEALED_BLOCK] ^= 1
    (tmp_path / "b").write_bytes(whole)

    with pytest.raises(BackupAltered, match="block 2 of 3"):
        opened(tmp_path / "b")


def test_every_cut_is_found(tmp_path):
    whole = seal(tmp_path / "b", b"what a hospital can't lose")
    begins = whole.index(b"\n", whole.index(b"\n") + 1) + 1

    for length in range(len(whole)):
        (tmp_path / "b").write_bytes(whole[:length])
        with pytest.raises(BackupCut if length >= begins else NoBackup):
            header_of(tmp_path / "b")


def test_a_block_left_out_or_moved_is_found(tmp_path):
    whole = seal(tmp_path / "b", os.urandom(3 * BLOCK_BYTES + 5))
    begins = whole.index(b"\n", whole.index(b"\n") + 1) + 1
    front, one = whole[:begins], whole[begins : begins + SEALED_BLOCK]
    two = whole[begins + SEALED_BLOCK : begins + 2 * SEALED_BLOCK]
    rest = whole[begins + 2 * SEALED_BLOCK :]

    for blocks in (one + rest, two + one + rest, one + two, one + two + two + rest):
        end = b"" if blocks.endswith(b"end\n") else whole[-len(b"\nnadi-backup end\n") :]
        (tmp_path / "b").write_bytes(front + blocks + end)
        with pytest.raises(BackupAltered):
            opened(tmp_path / "b")


def test_a_file_of_something_else_is_no_backup(tmp_path):
    (tmp_path / "b").write_bytes(b"PK\x03\x04 something else\n" * 9)

    with pytest.raises(NoBackup, match="is no backup of Nadi"):
        header_of(tmp_path / "b")
    with pytest.raises(NoBackup, match="can't be read"):
        header_of(tmp_path / "none")
