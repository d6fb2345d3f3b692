"""What can go wrong between Nadi and an EHR, in the families of `gateway.core.errors`.

No message holds anything that the EHR wrote or was sent: an EHR's `diagnostics` often quote the
patient's values. Only the status and the FHIR issue codes are kept.
"""

from collections.abc import Mapping, Sequence

from adapters.obstacles import Obstacle
from gateway.core.errors import ProcessingError, TransientError


class EhrUnreachable(TransientError):
    """The EHR can't be reached, or closed the connection without an answer."""


class EhrNameUnknown(EhrUnreachable):
    """Its host name is not known here."""


class EhrConnectionRefused(EhrUnreachable):
    """Nothing listens on its port."""


class EhrNoRoute(EhrUnreachable):
    """Its network can't be reached from here."""


class EhrNoConnection(EhrUnreachable):
    """No connection was made in time, so nothing was sent."""


class EhrNotTrusted(EhrUnreachable):
    """Its certificate can't be relied on: of whom, for when, or for which name it is."""


class EhrTlsFailed(EhrUnreachable):
    """It speaks no TLS there, or breaks it off, as for want of our certificate."""


_KINDS: Mapping[Obstacle, type[EhrUnreachable]] = {
    Obstacle.NAME_UNKNOWN: EhrNameUnknown,
    Obstacle.REFUSED: EhrConnectionRefused,
    Obstacle.NO_ROUTE: EhrNoRoute,
    Obstacle.NO_CONNECTION: EhrNoConnection,
    Obstacle.NO_TLS: EhrTlsFailed,
    Obstacle.SPEAKS_TLS: EhrTlsFailed,
    Obstacle.TLS_UNANSWERED: EhrTlsFailed,
    Obstacle.OLD_TLS: EhrTlsFailed,
    Obstacle.OURS_MISSING: EhrTlsFailed,
    Obstacle.OURS_EXPIRED: EhrTlsFailed,
    Obstacle.OURS_NOT_TAKEN: EhrTlsFailed,
    Obstacle.TLS_BROKEN_OFF: EhrTlsFailed,
}


def unreachable(obstacle: Obstacle) -> EhrUnreachable:
    """Give the error of an obstacle; what is not named here is about a certificate."""
    return _KINDS.get(obstacle, EhrNotTrusted)(f"The EHR {obstacle.says}")


class EhrTimeout(TransientError):
    """The EHR did not answer in time; whether it did what was asked is not known."""

    issue_type = "timeout"


class EhrOverloaded(TransientError):
    """The EHR is too busy, or under maintenance (429 or 503); it is asked again later."""

    issue_type = "throttled"


class EhrFailed(TransientError):
    """The EHR failed in itself (5xx)."""


class EhrConflict(TransientError):
    """The EHR is busy with the same resource (409, 423, 425); the same request may pass later."""

    issue_type = "lock-error"


class EhrLoginFailed(TransientError):
    """The EHR does not accept Nadi's credential (401).

    It is tried again, because the remedy is with the operator and not with the content: results
    must not be given up because a credential ran out overnight.
    """

    issue_type = "login"


class EhrAnswerUnreadable(TransientError):
    """The EHR's answer is not FHIR JSON; a proxy or a maintenance page may have answered."""


class EhrRefused(ProcessingError):
    """The EHR refuses the request for good."""

    def __init__(self, status: int, codes: Sequence[str] = ()) -> None:
        named = f" with {', '.join(codes)}" if codes else ""
        super().__init__(f"The EHR refused the request: HTTP {status}{named}.")
        self.status = status
        self.codes = tuple(codes)


class MultipleMatches(ProcessingError):
    """The condition of a conditional write matches several resources of the EHR (412)."""

    issue_type = "multiple-matches"


class EhrAnswerTooLarge(ProcessingError):
    """The EHR's answer is larger than `max_response_bytes`."""

    issue_type = "too-long"


class SearchNotWhole(ProcessingError):
    """A search has more matches than are read; the EHR may have ignored what it was asked for."""

    issue_type = "too-costly"


class ForeignAddress(ProcessingError):
    """An address lies outside the EHR's base URL and is not followed.

    Credentials and patient ids go to the configured base URL only. When the EHR's own links say
    another base, the site file has to name that one.
    """

    issue_type = "security"
