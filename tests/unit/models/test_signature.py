import base64
import hashlib
import json
import os
import shutil
import stat
import subprocess

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from models.refusals import SignatureBad, SignatureMissing, SignerUnknown
from models.signature import (
    KeyUnusable,
    Trust,
    key_id,
    new_key,
    public_key,
    read_key,
    read_signature,
    sign,
    written_key,
)
from tests.packages import KEY, PUBLIC_KEY, STRANGER

DIGEST = "a" * 64
SIGNED = sign(DIGEST, KEY)


def test_a_signature_is_of_its_digest_and_key_and_of_no_other():
    SIGNED.insist_on(DIGEST)

    with pytest.raises(SignatureBad, match="not one of this content"):
        SIGNED.insist_on("b" * 64)
    forged = SIGNED.model_copy(update={"key": written_key(STRANGER.public_key())})
    with pytest.raises(SignatureBad):
        forged.insist_on(DIGEST)


def test_only_a_key_on_the_list_makes_its_signer_known():
    assert SIGNED.signer(Trust({PUBLIC_KEY: "the-makers"})) == "the-makers"

    with pytest.raises(SignerUnknown, match=r"\(ed25519:.*\) is not on the list") as caught:
        SIGNED.signer(Trust({written_key(STRANGER.public_key()): "a-stranger"}))
    assert PUBLIC_KEY in str(caught.value)


def test_a_signature_for_something_else_does_not_fit():
    signature = base64.b64encode(KEY.sign(DIGEST.encode())).decode()

    with pytest.raises(SignatureBad):
        SIGNED.model_copy(update={"signature": signature}).insist_on(DIGEST)


@given(digest=st.from_regex(r"[0-9a-f]{64}", fullmatch=True))
def test_what_is_written_can_be_read_back(digest):
    signed = sign(digest, KEY)

    assert read_signature(signed.to_bytes()) == signed


@given(data=st.data())
def test_any_changed_byte_of_a_signature_is_refused(data):
    content = bytearray(SIGNED.to_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))

    with pytest.raises(SignatureBad):
        read_signature(bytes(content)).insist_on(DIGEST)


def test_bits_that_say_nothing_are_no_second_signature():
    written = SIGNED.signature
    hidden = written[:-3] + chr(ord(written[-3]) + 1) + "=="
    assert base64.b64decode(hidden) == base64.b64decode(written)

    with pytest.raises(SignatureBad):
        SIGNED.model_copy(update={"signature": hidden}).insist_on(DIGEST)


@pytest.mark.parametrize(
    "changed",
    [{"more": 1}, {"key_id": "0" * 16}, {"signature": 7}, {"key": "rsa:AAAA"}],
    ids=["more", "another id", "a number", "another kind"],
)
def test_a_signature_of_another_form_is_refused(changed):
    content = json.dumps({**SIGNED.model_dump(), **changed}, indent=1) + "\n"

    with pytest.raises(SignatureBad):
        read_signature(content.encode()).insist_on(DIGEST)


def test_an_empty_signature_is_a_missing_one():
    with pytest.raises(SignatureMissing):
        read_signature(b"")


@pytest.mark.parametrize(
    "written",
    ["", "ed25519:", "ed25519:AAAA", PUBLIC_KEY + "=", PUBLIC_KEY[8:], PUBLIC_KEY + "\n", "é"],
)
def test_a_key_is_read_in_one_form_only(written):
    with pytest.raises(KeyUnusable, match="not a public key"):
        public_key(written)


def test_a_public_key_comes_back_as_it_was_written():
    assert written_key(public_key(PUBLIC_KEY)) == PUBLIC_KEY
    assert key_id(KEY.public_key()) == hashlib.sha256(PUBLIC_KEY.encode()).hexdigest()[:16]


def test_a_new_private_key_is_for_its_owner_only_and_never_overwrites_one(tmp_path):
    file = tmp_path / "maker.pem"

    made = new_key(file)

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert read_key(file).private_bytes_raw() == made.private_bytes_raw()
    with pytest.raises(KeyUnusable, match="can't be written"):
        new_key(file)


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_a_private_key_that_others_can_read_is_not_used(tmp_path):
    new_key(tmp_path / "maker.pem")
    (tmp_path / "maker.pem").chmod(0o640)

    with pytest.raises(KeyUnusable, match="chmod 600"):
        read_key(tmp_path / "maker.pem")


def other_files():
    ec = generate_private_key(SECP256R1())
    pem, pkcs8 = Encoding.PEM, PrivateFormat.PKCS8
    return {
        "nothing": b"",
        "noise": b"\0\1\2",
        "another kind": ec.private_bytes(pem, pkcs8, NoEncryption()),
        "a public key": KEY.public_key().public_bytes(pem, PublicFormat.SubjectPublicKeyInfo),
        "encrypted": KEY.private_bytes(pem, pkcs8, BestAvailableEncryption(b"secret")),
    }


@pytest.mark.parametrize(("kind", "content"), other_files().items(), ids=other_files())
def test_a_file_that_holds_no_ed25519_key_is_refused_without_quoting_it(kind, content, tmp_path):
    file = tmp_path / "maker.pem"
    file.write_bytes(content)
    file.chmod(0o600)

    with pytest.raises(KeyUnusable, match="holds no Ed25519 key") as caught:
        read_key(file)
    assert caught.value.__cause__ is None, kind


def test_a_key_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(KeyUnusable, match=r"nowhere\.pem can't be read"):
        read_key(tmp_path / "nowhere.pem")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not on this machine")
def test_openssl_verifies_a_signature_without_us(tmp_path):
    public = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "key.pem").write_bytes(public)
    (tmp_path / "sig").write_bytes(base64.b64decode(SIGNED.signature))
    (tmp_path / "text").write_text(f"nadi.health model package, version 1\n{DIGEST}\n")

    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "key.pem", "-rawin"]
    command += ["-in", "text", "-sigfile", "sig"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)

    assert done.returncode == 0, done.stderr
