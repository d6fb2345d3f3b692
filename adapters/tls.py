"""The TLS of ports that listen and of senders that try them, from PEM files."""

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.core.errors import ConfigurationError

_CERTIFICATE, _KEY = b"-----BEGIN CERTIFICATE", b"PRIVATE KEY-----"
_NOT_ITS_KEY = "KEY_VALUES_MISMATCH"


def tls_context(certificate: str, key: str, clients: str | None) -> ssl.SSLContext:
    """Make the TLS of a port, at least version 1.2.

    Args:
        certificate: File with its certificate and chain, PEM.
        key: File with its private key, PEM.
        clients: File with the authorities of client certificates, which are then insisted on.

    Raises:
        ConfigurationError: A file is missing or no such thing.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key, password=_nobody_types)
        if clients is not None:
            context.load_verify_locations(clients)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, _Locked) as error:
        files = _Files(Path(certificate), Path(key), Path(clients) if clients else None)
        raise files.unusable(error) from error
    return context


def sender_context(
    authority: Path | None, certificate: Path | None, key: Path | None = None
) -> ssl.SSLContext | None:
    """Make the TLS of a sender; None where it sends in clear.

    Args:
        authority: File with whom to trust, PEM; None for no TLS.
        certificate: File with its own certificate, PEM.
        key: File with its key, PEM; None where that is in the file of the certificate.

    Raises:
        ConfigurationError: A file is missing or no such thing.
    """
    if authority is None:
        return None
    try:
        context = ssl.create_default_context(cafile=str(authority))
        if certificate is not None:
            context.load_cert_chain(certificate, key, password=_nobody_types)
    except (OSError, _Locked) as error:
        raise _Files(certificate, key or certificate, authority).unusable(error) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def peer_verify(files: tuple[str, str | None] | None) -> ssl.SSLContext | bool:
    """Say how the certificate of a system is checked, as HTTP clients want it.

    Args:
        files: With whom to trust, and with our own certificate; None trusts those of the web.

    Raises:
        ConfigurationError: A file is missing or no such thing.
    """
    if files is None:
        return True
    authority, certificate = files
    return sender_context(Path(authority), Path(certificate) if certificate else None) or True


class _Locked(Exception):
    """A key is protected by a password."""


def _nobody_types() -> str:
    """Refuse to ask for a password on a terminal: at a restart by night nobody is there."""
    raise _Locked


@dataclass(frozen=True)
class _Files:
    """The files of one side; OpenSSL does not say which of them it dislikes."""

    certificate: Path | None
    key: Path | None
    authority: Path | None

    def unusable(self, error: Exception) -> ConfigurationError:
        """Say what is wrong with which of them."""
        names = ", ".join(each.name for each in self._all())
        says = next(self._faults(error), f"something in {names} is damaged")
        return ConfigurationError(f"The TLS files can't be used: {says}.")

    def _all(self) -> list[Path]:
        files = (self.certificate, self.key, self.authority)
        return list(dict.fromkeys(each for each in files if each is not None))

    def _faults(self, error: Exception) -> Iterator[str]:
        for file in self._all():
            try:
                content = file.read_bytes()
            except OSError as unread:
                yield f"{file.name} can't be read ({unread.strerror})"
                continue
            if file in {self.certificate, self.authority} and _CERTIFICATE not in content:
                yield f"{file.name} holds no certificate in PEM"
            if file == self.key and _KEY not in content:
                yield f"{file.name} holds no private key in PEM"
        if isinstance(error, _Locked):
            yield (
                f"the key in {self._name_of_key} is protected by a password, which nobody types at "
                "a restart; `openssl pkey -in LOCKED -out OPEN` takes it off"
            )
        if getattr(error, "reason", None) == _NOT_ITS_KEY:
            certificate = self.certificate.name if self.certificate else ""
            yield f"the key in {self._name_of_key} is not that of the certificate in {certificate}"

    @property
    def _name_of_key(self) -> str:
        return self.key.name if self.key else ""
