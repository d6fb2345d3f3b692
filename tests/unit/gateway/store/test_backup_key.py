"""The backup key: one half seals, the other opens, and neither is taken for something else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import ConfigurationError
from gateway.store.backup_key import (
    SecretKey,
    keep_public,
    make_key,
    public_file,
    read_public,
    read_secret,
)

keys = st.binary(min_size=32, max_size=32).map(SecretKey)


@given(key=keys, other=keys, secret=st.binary(min_size=32, max_size=32))
def test_what_is_wrapped_opens_with_the_other_half_alone(key, other, secret):
    sealed = key.public.wrap(secret)

    assert key.unwrap(sealed) == secret
    assert (other.unwrap(sealed) == secret) == (other.public == key.public)
    assert key.unwrap(sealed[:-8]) is None
    assert key.unwrap("not base64") is None


def test_both_halves_are_read_as_they_were_written(tmp_path):
    (tmp_path / "keys").mkdir()
    made, more = make_key(tmp_path / "a.key"), make_key(tmp_path / "b.key")
    keep_public(tmp_path, [made.public, more.public])

    assert read_secret(tmp_path / "a.key").value == made.value
    assert read_public(tmp_path) == [made.public, more.public]
    assert made.value.hex() not in public_file(tmp_path).read_text()
    assert (tmp_path / "a.key").stat().st_mode & 0o777 == 0o600
    assert made.value.hex() not in repr(made)


def test_a_key_file_is_never_overwritten(tmp_path):
    made = make_key(tmp_path / "a.key")

    with pytest.raises(ConfigurationError, match="is there already"):
        make_key(tmp_path / "a.key")

    assert read_secret(tmp_path / "a.key").value == made.value


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is not the file of a backup key"),
        ("NADI-BACKUP-PUB-1 " + "00" * 32, "is not the file of a backup key"),
        ("NADI-BACKUP-KEY-1 " + "00" * 31, "64 hexadecimal digits"),
        ("NADI-BACKUP-KEY-1 what", "64 hexadecimal digits"),
    ],
)
def test_another_file_is_not_taken_for_a_key(tmp_path, text, says):
    (tmp_path / "a.key").write_text(text)
    (tmp_path / "a.key").chmod(0o600)

    with pytest.raises(ConfigurationError, match=says):
        read_secret(tmp_path / "a.key")


def test_a_key_that_others_can_read_is_refused(tmp_path):
    make_key(tmp_path / "a.key")
    (tmp_path / "a.key").chmod(0o644)

    with pytest.raises(ConfigurationError, match="chmod 600"):
        read_secret(tmp_path / "a.key")


def test_without_a_public_half_the_way_to_one_is_told(tmp_path):
    with pytest.raises(ConfigurationError, match="nadi backup key --out FILE"):
        read_public(tmp_path)
