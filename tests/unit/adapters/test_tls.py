"""What is wrong with a file of TLS is said with the name of the file, and never its content."""

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from adapters.tls import sender_context, tls_context
from gateway.core.errors import ConfigurationError
from tests.certificates import Authority

_BEGIN_KEY = b"-----BEGIN PRIVATE"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files with a certificate and its key, apart, and with what is not them."""
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority(folder)
    for name in ("own", "other"):
        both = authority.issue(name).read_bytes()
        at = both.index(_BEGIN_KEY)
        (folder / f"{name}.crt").write_bytes(both[:at])
        (folder / f"{name}.key").write_bytes(both[at:])
    key = serialization.load_pem_private_key((folder / "own.key").read_bytes(), None)
    locked = serialization.BestAvailableEncryption(b"secret")
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (folder / "locked.key").write_bytes(key.private_bytes(pem, form, locked))
    certificate = x509.load_pem_x509_certificate((folder / "own.crt").read_bytes())
    (folder / "own.der").write_bytes(certificate.public_bytes(serialization.Encoding.DER))
    cut = (folder / "own.crt").read_bytes()
    (folder / "cut.crt").write_bytes(cut[:200] + cut[260:])
    return folder


def test_certificate_and_key_may_be_in_two_files_or_in_one(folder: Path) -> None:
    apart = sender_context(folder / "ca.pem", folder / "own.crt", folder / "own.key")
    together = sender_context(folder / "ca.pem", folder / "own.pem")

    assert isinstance(apart, ssl.SSLContext)
    assert isinstance(together, ssl.SSLContext)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (("ca.pem", "own.crt", "gone.key"), "gone.key can't be read (No such file or directory)"),
        (("ca.pem", "own.der", "own.key"), "own.der holds no certificate in PEM"),
        (("own.key", "own.crt", "own.key"), "own.key holds no certificate in PEM"),
        (("ca.pem", "own.crt", "own.crt"), "own.crt holds no private key in PEM"),
        (
            ("ca.pem", "own.crt", "other.key"),
            "the key in other.key is not that of the certificate in own.crt",
        ),
        (
            ("ca.pem", "own.crt", "locked.key"),
            (
                "the key in locked.key is protected by a password, which nobody types at a "
                "restart; `openssl pkey -in LOCKED -out OPEN` takes it off"
            ),
        ),
        (
            ("ca.pem", "cut.crt", "own.key"),
            "something in cut.crt, own.key, ca.pem is damaged",
        ),
    ],
    ids=["gone", "DER", "a key", "no key", "another's key", "locked", "damaged"],
)
@pytest.mark.parametrize(
    "make",
    [
        lambda ca, certificate, key: sender_context(Path(ca), Path(certificate), Path(key)),
        lambda ca, certificate, key: tls_context(certificate, key, ca),
    ],
    ids=["sender", "port"],
)
def test_which_file_is_wrong_and_how_is_said(
    folder: Path, make: Callable[..., object], files: tuple[str, str, str], says: str
) -> None:
    with pytest.raises(ConfigurationError) as raised:
        make(*(str(folder / each) for each in files))

    assert raised.value.message == f"The TLS files can't be used: {says}."
