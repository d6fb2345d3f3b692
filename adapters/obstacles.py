"""What stands between Nadi and a system it calls, told from the error of the connection.

An integrator mends each in another place: the name in the DNS, a port, a firewall, a certificate.
Nothing of the error itself is kept, since libraries quote what came over the line.

Source: X509_verify_cert_error codes of OpenSSL (x509_vfy.h), as `ssl` gives them.
"""

import errno
import socket
import ssl
from enum import StrEnum


class Obstacle(StrEnum):
    """Why there is no connection."""

    NAME_UNKNOWN = "name-unknown"
    REFUSED = "connection-refused"
    NO_ROUTE = "no-route"
    NO_CONNECTION = "no-connection-in-time"
    SELF_SIGNED = "certificate-self-signed"
    UNTRUSTED = "certificate-untrusted"
    EXPIRED = "certificate-expired"
    NOT_YET_VALID = "certificate-not-yet-valid"
    OF_ANOTHER = "certificate-of-another-name"
    NO_TLS = "no-tls"
    SPEAKS_TLS = "speaks-tls"
    TLS_UNANSWERED = "tls-unanswered"
    OLD_TLS = "old-tls"
    OURS_MISSING = "our-certificate-missing"
    OURS_EXPIRED = "our-certificate-expired"
    OURS_NOT_TAKEN = "our-certificate-not-taken"
    TLS_BROKEN_OFF = "tls-broken-off"

    @property
    def says(self) -> str:
        """What it means and how to mend it; a sentence whose subject is the system."""
        return _WORDS[self]


_WORDS = {
    Obstacle.NAME_UNKNOWN: "has a host name that is not known here: mend it in the site file, or "
    "the DNS of this machine.",
    Obstacle.REFUSED: "refuses the connection: does it run, and is the port right?",
    Obstacle.NO_ROUTE: "is in a network that can't be reached from here: look at routes, VPN and "
    "firewall.",
    Obstacle.NO_CONNECTION: "lets no connection be made in time: is the address right, and does a "
    "firewall let this machine through?",
    Obstacle.SELF_SIGNED: "has a certificate that signed itself: name that certificate's file in "
    "`tls.authority`.",
    Obstacle.UNTRUSTED: "has a certificate of an authority that is not trusted: name the "
    "hospital's own authority in `tls.authority`.",
    Obstacle.EXPIRED: "has a certificate that has run out: its administrator renews it.",
    Obstacle.NOT_YET_VALID: "has a certificate that is not valid yet: compare the clocks, here and "
    "there.",
    Obstacle.OF_ANOTHER: "has a certificate for another host name: use a name that stands in it, "
    "or have it issued for this one.",
    Obstacle.NO_TLS: "does not speak TLS there: is the port right, or is it http?",
    Obstacle.SPEAKS_TLS: "speaks TLS there, and was spoken to in clear: name whom to trust in "
    "`tls.authority`.",
    Obstacle.TLS_UNANSWERED: "does not answer the TLS handshake in time: does it speak TLS there, "
    "or does it wait for a message in clear?",
    Obstacle.OLD_TLS: "offers no TLS of version 1.2 or newer: its administrator turns that on.",
    Obstacle.OURS_MISSING: "wants a certificate of ours: name the file with it and its key in "
    "`tls.certificate`.",
    Obstacle.OURS_EXPIRED: "says that our certificate has run out: renew that in "
    "`tls.certificate`.",
    Obstacle.OURS_NOT_TAKEN: "does not take our certificate, or misses one: its administrator has "
    "to trust who signed that in `tls.certificate`.",
    Obstacle.TLS_BROKEN_OFF: "broke off the TLS handshake: does it want a certificate of ours "
    "(`tls.certificate`), or an older TLS than 1.2?",
}
_VERIFYING = {
    9: Obstacle.NOT_YET_VALID,
    10: Obstacle.EXPIRED,
    18: Obstacle.SELF_SIGNED,
    62: Obstacle.OF_ANOTHER,
    64: Obstacle.OF_ANOTHER,
}
_NO_ROUTE = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTDOWN})
_IN_CLEAR = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL"})
_OLD = frozenset({"UNSUPPORTED_PROTOCOL", "WRONG_SSL_VERSION", "TLSV1_ALERT_PROTOCOL_VERSION"})
#: Alerts of the other side, about us (RFC 8446 section 6.2).
_OF_OURS = {
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": Obstacle.OURS_MISSING,
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": Obstacle.OURS_EXPIRED,
    "TLSV1_ALERT_UNKNOWN_CA": Obstacle.OURS_NOT_TAKEN,
    "SSLV3_ALERT_BAD_CERTIFICATE": Obstacle.OURS_NOT_TAKEN,
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": Obstacle.OURS_NOT_TAKEN,
    "SSLV3_ALERT_CERTIFICATE_REVOKED": Obstacle.OURS_NOT_TAKEN,
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": Obstacle.OURS_NOT_TAKEN,
    "TLSV1_ALERT_ACCESS_DENIED": Obstacle.OURS_NOT_TAKEN,
}


def obstacle_of(error: BaseException) -> Obstacle | None:
    """Find in an error, and in what caused it, why a connection was not made.

    Args:
        error: Raised while connecting; a later break of a connection gives None as well.
    """
    cause: BaseException | None = error
    while cause is not None:
        found = _of_one(cause)
        if found is not None:
            return found
        cause = _beneath(cause)
    return None


def of_connecting(error: OSError | UnicodeError) -> Obstacle | None:
    """Find why a connection was not made where nothing else was tried.

    Args:
        error: What came of it: a time-out is one of connecting, a UnicodeError is of a name that
            can't be one.
    """
    if isinstance(error, TimeoutError):
        return Obstacle.NO_CONNECTION
    return Obstacle.NAME_UNKNOWN if isinstance(error, UnicodeError) else obstacle_of(error)


def why_unreached(place: str, error: OSError | UnicodeError) -> str:
    """Say why a port was not reached, and what to do about it.

    Args:
        place: Host and port.
        error: What came of connecting.
    """
    return said_of(place, of_connecting(error), error)


def said_of(place: str, obstacle: Obstacle | None, error: Exception) -> str:
    """Say what stands before a port, and what to do about it.

    Args:
        place: Host and port.
        obstacle: What is known of it.
        error: What came of the attempt.
    """
    unknown = f"can't be reached ({type(error).__name__}): look at the address and the network."
    return f"{place} {obstacle.says if obstacle else unknown}"


def _beneath(error: BaseException) -> BaseException | None:
    """Give what caused an error; an error that only came before it is none of its business.

    httpcore raises again `from None`: what it hides so is the cause.
    """
    return error.__cause__ or (error.__context__ if error.__suppress_context__ else None)


def _of_one(error: BaseException) -> Obstacle | None:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _VERIFYING.get(error.verify_code, Obstacle.UNTRUSTED)
    if isinstance(error, ssl.SSLError):
        return _of_reason(error.reason or "")
    if isinstance(error, socket.gaierror):
        return Obstacle.NAME_UNKNOWN
    if isinstance(error, ConnectionRefusedError):
        return Obstacle.REFUSED
    if isinstance(error, OSError) and error.errno in _NO_ROUTE:
        return Obstacle.NO_ROUTE
    return None


def _of_reason(reason: str) -> Obstacle:
    """Find it in what OpenSSL calls the error."""
    if reason in _IN_CLEAR:
        return Obstacle.NO_TLS
    return Obstacle.OLD_TLS if reason in _OLD else _OF_OURS.get(reason, Obstacle.TLS_BROKEN_OFF)
