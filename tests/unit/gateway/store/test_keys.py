"""Key files are made once, read by their owner only, and never silently replaced."""

import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from gateway.core.errors import ConfigurationError
from gateway.core.ledger import (
    Checkpoint,
    read_verifier_key,
    sign_checkpoint,
    verifier_key,
    verify_checkpoint,
)
from gateway.store.keys import Keys, load_or_create

MASTER_HEX = bytes(range(32)).hex()


def identity(keys: Keys) -> tuple[bytes, bytes, bytes, str, str]:
    secrets = (keys.master.value, keys.signing.private_bytes_raw())
    return *secrets, keys.consents.private_bytes_raw(), keys.origin, keys.verifier


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_first_start_makes_keys_that_only_the_owner_reads(tmp_path: Path) -> None:
    load_or_create(tmp_path / "data")

    folder = tmp_path / "data" / "keys"
    assert {mode_of(tmp_path / "data"), mode_of(folder)} == {0o700}
    assert {path.name for path in folder.iterdir()} == {
        "master.key",
        "audit-signing.key",
        "audit.pub",
        "consent-signing.key",
        "consent.pub",
    }
    assert {mode_of(path) for path in folder.iterdir()} == {0o600}


def test_a_second_start_reads_the_same_keys(tmp_path: Path) -> None:
    first = load_or_create(tmp_path)

    assert identity(load_or_create(tmp_path)) == identity(first)


def test_two_installations_have_different_keys_and_logs(tmp_path: Path) -> None:
    one, two = load_or_create(tmp_path / "one"), load_or_create(tmp_path / "two")

    assert not set(identity(one)) & set(identity(two))


def test_processes_that_start_together_end_up_with_the_same_keys(tmp_path: Path) -> None:
    together = Barrier(8)

    def start(_: int) -> tuple[bytes, bytes, bytes, str, str]:
        together.wait()
        return identity(load_or_create(tmp_path))

    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(start, range(8)))

    assert len(found) == 1
    assert len(list((tmp_path / "keys").iterdir())) == 5


def test_the_public_key_verifies_what_the_signing_key_signed(tmp_path: Path) -> None:
    keys = load_or_create(tmp_path)
    checkpoint = Checkpoint(keys.origin, 1, bytes(32))

    note = sign_checkpoint(keys.signing, checkpoint)

    name, public_key = read_verifier_key((tmp_path / "keys" / "audit.pub").read_text())
    assert verify_checkpoint(note, public_key, origin=name) == checkpoint


@pytest.mark.parametrize("name", ["master.key", "audit-signing.key", "consent-signing.key"])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o622])
def test_a_key_file_open_to_others_is_refused_with_the_remedy(
    tmp_path: Path, name: str, mode: int
) -> None:
    load_or_create(tmp_path)
    path = tmp_path / "keys" / name
    path.chmod(mode)

    with pytest.raises(ConfigurationError, match=f"chmod 600 .*{name}"):
        load_or_create(tmp_path)


def test_a_key_folder_open_to_others_is_refused_with_the_remedy(tmp_path: Path) -> None:
    load_or_create(tmp_path)
    (tmp_path / "keys").chmod(0o755)

    with pytest.raises(ConfigurationError, match="chmod 700"):
        load_or_create(tmp_path)


@pytest.mark.parametrize("name", ["master.key", "audit-signing.key", "consent-signing.key"])
def test_a_lost_key_is_not_replaced_by_a_new_one(tmp_path: Path, name: str) -> None:
    load_or_create(tmp_path)
    (tmp_path / "keys" / name).unlink()

    with pytest.raises(ConfigurationError, match="backup"):
        load_or_create(tmp_path)

    assert not (tmp_path / "keys" / name).exists()


def test_a_lost_public_key_is_written_again(tmp_path: Path) -> None:
    first = load_or_create(tmp_path)
    (tmp_path / "keys" / "audit.pub").unlink()

    assert identity(load_or_create(tmp_path)) == identity(first)


def test_a_start_that_died_half_way_is_completed(tmp_path: Path) -> None:
    first = load_or_create(tmp_path)
    for name in ("audit.pub", "audit-signing.key"):
        (tmp_path / "keys" / name).unlink()

    second = load_or_create(tmp_path)

    assert second.master == first.master
    assert second.verifier != first.verifier


@pytest.mark.parametrize(
    "content",
    [
        b"",
        MASTER_HEX[:-2].encode(),
        MASTER_HEX.encode() * 3,
        b"SECRET" + MASTER_HEX.encode()[6:],
        b"\xff" * 32,
    ],
)
def test_a_malformed_key_is_refused_without_showing_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "secret"
    path.write_bytes(content)

    with pytest.raises(ConfigurationError, match="64 hexadecimal digits") as caught:
        load_or_create(tmp_path / "data", master_key_file=path)

    assert "SECRET" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_keys_are_read_from_files_that_are_named(tmp_path: Path) -> None:
    names = ("master", "signing", "consents")
    master, signing, consents = (tmp_path / name for name in names)
    master.write_text(MASTER_HEX)
    signing.write_text("ab" * 32 + "\n")
    consents.write_text("cd" * 32 + "\n")
    for path in (master, signing, consents):
        path.chmod(0o444)

    keys = load_or_create(
        tmp_path / "data",
        master_key_file=master,
        audit_key_file=signing,
        consent_key_file=consents,
    )

    assert keys.master.value.hex() == MASTER_HEX
    assert keys.signing.private_bytes_raw().hex() == "ab" * 32
    assert keys.consents.private_bytes_raw().hex() == "cd" * 32
    made = {path.name for path in (tmp_path / "data" / "keys").iterdir()}
    assert made == {"audit.pub", "consent.pub"}


def test_a_named_file_that_others_may_write_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "master"
    path.write_text(MASTER_HEX)
    path.chmod(0o666)

    with pytest.raises(ConfigurationError, match="chmod go-w"):
        load_or_create(tmp_path / "data", master_key_file=path)


def test_another_signing_key_than_the_published_one_is_refused(tmp_path: Path) -> None:
    load_or_create(tmp_path)
    other = tmp_path / "other"
    other.write_text("ab" * 32)
    other.chmod(0o600)

    with pytest.raises(ConfigurationError, match="another signing key"):
        load_or_create(tmp_path, audit_key_file=other)


def test_an_installation_of_before_consents_were_signed_gets_its_key(tmp_path: Path) -> None:
    first = load_or_create(tmp_path)
    for name in ("consent.pub", "consent-signing.key"):
        (tmp_path / "keys" / name).unlink()

    second = load_or_create(tmp_path)

    assert identity(second)[:2] == identity(first)[:2]
    assert second.consents.private_bytes_raw() != first.consents.private_bytes_raw()


def test_another_consent_key_than_the_published_one_is_refused(tmp_path: Path) -> None:
    load_or_create(tmp_path)
    other = tmp_path / "other"
    other.write_text("ab" * 32)
    other.chmod(0o600)

    with pytest.raises(ConfigurationError, match="another key"):
        load_or_create(tmp_path, consent_key_file=other)


def test_a_public_key_that_was_changed_is_refused(tmp_path: Path) -> None:
    load_or_create(tmp_path)
    (tmp_path / "keys" / "audit.pub").write_text("nonsense\n")

    with pytest.raises(ConfigurationError, match=r"audit\.pub can't be read"):
        load_or_create(tmp_path)


def test_a_name_that_was_given_to_the_log_is_kept(tmp_path: Path) -> None:
    first = load_or_create(tmp_path)
    public = tmp_path / "keys" / "audit.pub"
    name, public_key = read_verifier_key(first.verifier)
    public.write_text(verifier_key("hospital.example/audit", public_key))

    assert load_or_create(tmp_path).origin == "hospital.example/audit"
    assert name != "hospital.example/audit"


def _folder_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("")


def _master_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir(mode=0o700)
    (tmp_path / "keys" / "master.key").mkdir()


@pytest.mark.parametrize("spoil", [_folder_is_a_file, _master_is_a_folder])
def test_what_the_file_system_refuses_is_told(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(tmp_path)

    with pytest.raises(ConfigurationError, match="can't be"):
        load_or_create(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_can_not_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir(mode=0o500)

    with pytest.raises(ConfigurationError, match="can't be written"):
        load_or_create(tmp_path)


def test_keys_do_not_show_in_a_repr(tmp_path: Path) -> None:
    keys = load_or_create(tmp_path)

    assert keys.master.value.hex() not in repr(keys)
    assert repr(keys.master.value) not in repr(keys)
    assert "Private" not in repr(keys)
