"""Certificates for tests of TLS: an authority, and what it signs."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Authority:
    """Signs certificates; its own is in `file`."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._certificate = self._sign(self._key, self._name, is_authority=True)
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    @classmethod
    def of_itself(cls, folder: Path, name: str = "own") -> Path:
        """Make a certificate that signed itself, and its key; give the file with both."""
        made = cls(folder, name)
        made.file.write_bytes(made.file.read_bytes() + _pem(made._key))
        return made.file

    def issue(self, name: str, *, host: str = "127.0.0.1", days: float = 1) -> Path:
        """Make a certificate and its key; give the file with both.

        Args:
            name: Of its owner and of the file.
            host: The address that it is for.
            days: How long it is valid from now; below 0 it has run out.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = self._sign(key, subject, host=host, days=days)
        file = self._folder / f"{name}.pem"
        file.write_bytes(made.public_bytes(serialization.Encoding.PEM) + _pem(key))
        return file

    def _sign(
        self,
        key: ec.EllipticCurvePrivateKey,
        subject: x509.Name,
        *,
        host: str = "127.0.0.1",
        days: float = 1,
        is_authority: bool = False,
    ) -> x509.Certificate:
        until = datetime.now(UTC) + timedelta(days=days)
        begin = min(datetime.now(UTC), until) - timedelta(hours=1)
        names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(host))])
        basic = x509.BasicConstraints(ca=is_authority, path_length=None)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(until)
            .add_extension(basic, critical=True)
            .add_extension(names, critical=False)
            .sign(self._key, hashes.SHA256())
        )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
