"""Until when certificates are valid: those in files of ours, and those that others show.

Source: RFC 5280 section 4.1.2.5 (Validity).
"""

import socket
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from gateway.core.errors import ConfigurationError


def ends_in_file(file: Path) -> Sequence[datetime]:
    """Give when each certificate of a PEM file runs out.

    Raises:
        ConfigurationError: It can't be read, or holds none.
    """
    try:
        found = x509.load_pem_x509_certificates(file.read_bytes())
    except OSError as error:
        message = f"{file} can't be read ({type(error).__name__})."
        raise ConfigurationError(message) from error
    except ValueError as error:
        raise ConfigurationError(f"{file} holds no certificate in PEM.") from error
    return [each.not_valid_after_utc for each in found]


def end_of_peer(
    host: str, port: int, context: ssl.SSLContext, *, timeout_s: float
) -> datetime | None:
    """Give when the certificate runs out that a server shows; None where it shows none.

    Args:
        host: Where to ask.
        port: Where to ask.
        context: How its certificate is checked: only one that passes has dates to rely on.
        timeout_s: Longest wait.

    Raises:
        OSError: There is no connection, or the certificate does not pass.
    """
    with (
        socket.create_connection((host, port), timeout=timeout_s) as plain,
        context.wrap_socket(plain, server_hostname=host) as connection,
    ):
        shown = connection.getpeercert() or {}
    end = shown.get("notAfter")
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(end)), UTC) if end else None
