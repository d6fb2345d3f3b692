"""The TLS of ports that listen and of senders that try them, from PEM files."""

import ssl
from pathlib import Path

from gateway.core.errors import ConfigurationError


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
        context.load_cert_chain(certificate, key)
        if clients is not None:
            context.load_verify_locations(clients)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise _unusable(error, certificate, key, clients) from error
    return context


def sender_context(authority: Path | None, certificate: Path | None) -> ssl.SSLContext | None:
    """Make the TLS of a sender; None where it sends in clear.

    Args:
        authority: File with whom to trust, PEM; None for no TLS.
        certificate: File with its own certificate and key, PEM.

    Raises:
        ConfigurationError: A file is missing or no such thing.
    """
    if authority is None:
        return None
    try:
        context = ssl.create_default_context(cafile=str(authority))
        if certificate is not None:
            context.load_cert_chain(certificate)
    except (OSError, ssl.SSLError) as error:
        raise _unusable(error, authority, certificate) from error
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


def _unusable(error: Exception, *files: str | Path | None) -> ConfigurationError:
    names = ", ".join(Path(each).name for each in files if each)
    return ConfigurationError(f"The TLS files can't be used ({type(error).__name__}): {names}.")
