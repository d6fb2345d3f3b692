"""Why a peer that connects to a port of ours is refused, before it could say anything.

The other way round is `adapters.obstacles`: why we do not get in somewhere. An integrator mends
each reason in another place, here or at the peer's. Nothing of the error itself is kept, since
libraries quote what came over the line.

Source: X509_verify_cert_error codes of OpenSSL (x509_vfy.h); RFC 8446 section 6.2 (alerts).
"""

import ssl
from enum import StrEnum


class PeerRefusal(StrEnum):
    """Why; the values are labels of a metric, so they are few."""

    NO_CERTIFICATE = "no-certificate"
    UNTRUSTED = "certificate-untrusted"
    EXPIRED = "certificate-expired"
    NOT_YET_VALID = "certificate-not-yet-valid"
    UNFIT = "certificate-unfit"
    OURS_NOT_TRUSTED = "ours-not-trusted"
    IN_CLEAR = "no-tls"
    OLD_TLS = "old-tls"
    NO_COMMON_CIPHER = "no-common-cipher"
    BROKEN_OFF = "broken-off"
    TOO_SLOW = "too-slow"
    LEFT = "left"
    TLS_IN_CLEAR = "tls-to-clear-port"
    NO_MLLP = "not-mllp"
    NOT_ALLOWED = "not-allowed"
    TOO_MANY = "too-many"

    @property
    def says(self) -> str:
        """What was wrong; a sentence whose subject is the peer."""
        return _WORDS[self][0]

    @property
    def remedy(self) -> str:
        """How to mend it."""
        return _WORDS[self][1]

    @property
    def is_told(self) -> bool:
        """Whether somebody should hear of it: who looks whether a port is open says nothing."""
        return self is not PeerRefusal.LEFT


_WORDS = {
    PeerRefusal.NO_CERTIFICATE: (
        "showed no certificate",
        "it has to send one of an authority in `tls.clients`",
    ),
    PeerRefusal.UNTRUSTED: (
        "showed a certificate of an authority that is not trusted",
        (
            "add the authority that signed it to the file in `tls.clients`, or give it a "
            "certificate of one that is there"
        ),
    ),
    PeerRefusal.EXPIRED: (
        "showed a certificate that has run out, or its authority has",
        "its administrator renews it",
    ),
    PeerRefusal.NOT_YET_VALID: (
        "showed a certificate that is not valid yet",
        "compare the clocks, here and there",
    ),
    PeerRefusal.UNFIT: (
        "showed a certificate that does not pass",
        "have it issued for TLS clients (extended key usage clientAuth), with the whole chain",
    ),
    PeerRefusal.OURS_NOT_TRUSTED: (
        "does not trust the certificate of this port",
        (
            "it has to trust the authority that signed the file in `tls.certificate`, and to call "
            "us by a name in it; look when that runs out"
        ),
    ),
    PeerRefusal.IN_CLEAR: (
        "spoke in clear, without TLS",
        "it has to use MLLP over TLS, or another port",
    ),
    PeerRefusal.OLD_TLS: (
        "offered no TLS of version 1.2 or newer",
        "it has to be set up for TLS 1.2 or 1.3",
    ),
    PeerRefusal.NO_COMMON_CIPHER: (
        "offered no cipher or key exchange that is taken here",
        "it has to allow a modern one, such as ECDHE with AES-GCM",
    ),
    PeerRefusal.BROKEN_OFF: (
        "broke off the TLS handshake",
        "its own log says why; often it does not trust the certificate of this port",
    ),
    PeerRefusal.TOO_SLOW: (
        "did not finish the TLS handshake in time",
        "does it speak TLS, and does a firewall let its packets through?",
    ),
    PeerRefusal.LEFT: ("left without a word", "most often something that looks for open ports"),
    PeerRefusal.TLS_IN_CLEAR: (
        "spoke TLS, and this port has none",
        "write `tls` into the site file, or set it up for MLLP in clear",
    ),
    PeerRefusal.NO_MLLP: (
        "sent what is no MLLP",
        "a message stands between the bytes 0B and 1C 0D; is the port right?",
    ),
    PeerRefusal.NOT_ALLOWED: (
        "is not at an address that may connect",
        "where it should be, add the address to `allow` in the site file",
    ),
    PeerRefusal.TOO_MANY: (
        "came while all connections were taken",
        "does it open one for each message and leave it open? Else raise `max_connections`",
    ),
}
_VERIFYING = {9: PeerRefusal.NOT_YET_VALID, 10: PeerRefusal.EXPIRED}
#: Signed by itself, by one who is not known, or by a chain that does not end with one who is.
_UNTRUSTED = frozenset({2, 18, 19, 20, 21})
_OLD = frozenset(
    {
        "UNSUPPORTED_PROTOCOL", "WRONG_SSL_VERSION", "VERSION_TOO_LOW", "UNKNOWN_PROTOCOL",
        "TLSV1_ALERT_PROTOCOL_VERSION", "WRONG_VERSION_NUMBER", "INAPPROPRIATE_FALLBACK",
    }
)  # fmt: skip
_NOTHING_COMMON = frozenset(
    {"NO_SHARED_CIPHER", "NO_SUITABLE_KEY_SHARE", "NO_SUITABLE_SIGNATURE_ALGORITHM",
     "NO_SHARED_GROUPS", "NO_SHARED_SIGNATURE_ALGORITHMS"}
)  # fmt: skip
#: First byte of a record that holds a handshake, and of the hello of SSL 2, which TLS 1.0 may send.
_RECORD, _OLD_HELLO = 0x16, 0x80


def refusal_of(error: Exception, begins: bytes) -> PeerRefusal:
    """Say why a handshake failed.

    Args:
        error: Raised by it.
        begins: The first bytes that came.
    """
    if isinstance(error, TimeoutError):
        return PeerRefusal.TOO_SLOW
    if not begins:
        return PeerRefusal.LEFT
    if begins[0] not in {_RECORD, _OLD_HELLO}:
        return PeerRefusal.IN_CLEAR
    if isinstance(error, ssl.SSLCertVerificationError):
        found = PeerRefusal.UNTRUSTED if error.verify_code in _UNTRUSTED else PeerRefusal.UNFIT
        return _VERIFYING.get(error.verify_code, found)
    return _of_reason(getattr(error, "reason", None) or "")


def _of_reason(reason: str) -> PeerRefusal:
    if reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return PeerRefusal.NO_CERTIFICATE
    if reason in _OLD:
        return PeerRefusal.OLD_TLS
    if reason in _NOTHING_COMMON:
        return PeerRefusal.NO_COMMON_CIPHER
    if "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason):
        return PeerRefusal.OURS_NOT_TRUSTED
    return PeerRefusal.BROKEN_OFF


def is_tls(begins: bytes) -> bool:
    """Say whether what came first on a connection in clear is TLS."""
    return len(begins) > 1 and begins[0] == _RECORD and begins[1] == 3  # noqa: PLR2004 (SSL 3 on)
