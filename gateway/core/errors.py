"""Every error of Nadi, in four families that answer "whose turn is it?".

* `ContentError`: the sender mends the content (FHIR issue type branch *invalid*).
* `AccessError`: identity, consent or scope (branch *security*).
* `ProcessingError`: final; resending the same content unchanged is pointless (branch *processing*).
* `TransientError`: the only family that is tried again (branch *transient*).

A message never holds a patient's value. The HTTP status is the edge's business:
`gateway.api.outcome` maps `issue_type` to it in one table.

Source: FHIR R4 value set `issue-type` (http://hl7.org/fhir/R4/valueset-issue-type.html).
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Issue:
    """One line of an OperationOutcome.

    Attributes:
        code: FHIR `issue-type` code.
        expression: FHIRPath of the element, for example `Observation.component[2].code`.
        diagnostics: What is wrong and how to mend it; never a value of the resource.
        severity: FHIR `issue-severity` code.
    """

    code: str
    diagnostics: str
    expression: str | None = None
    severity: str = "error"


class GatewayError(Exception):
    """Something Nadi can explain. The docstring of the class is its default message."""

    issue_type = "exception"

    def __init__(self, message: str | None = None, *, location: str | None = None) -> None:
        self.message = message or (type(self).__doc__ or "").strip().splitlines()[0]
        self.location = location
        super().__init__(self.message)

    @property
    def issues(self) -> tuple[Issue, ...]:
        """What an OperationOutcome says of this error: one issue unless a subclass has more."""
        return (Issue(self.issue_type, self.message, self.location),)


class ContentError(GatewayError):
    """The content is not acceptable; its sender has to mend it."""

    issue_type = "invalid"


class AccessError(GatewayError):
    """The caller may not do this."""

    issue_type = "forbidden"


class ProcessingError(GatewayError):
    """The content is understood but can't be processed; resending it unchanged is pointless."""

    issue_type = "processing"


class TransientError(GatewayError):
    """Something is away for the moment; the same request may succeed later."""

    issue_type = "transient"

    def __init__(
        self,
        message: str | None = None,
        *,
        location: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, location=location)
        self.retry_after_s = retry_after_s


class InvalidResource(ContentError):
    """The resource breaks the FHIR R4 definitions."""

    def __init__(self, issues: tuple[Issue, ...]) -> None:
        super().__init__(issues[0].diagnostics, location=issues[0].expression)
        self._issues = issues

    @property
    def issues(self) -> tuple[Issue, ...]:
        """Every problem found, the first few of them if there are many."""
        return self._issues


class MalformedJson(ContentError):
    """The body is not well-formed JSON as FHIR requires it."""

    issue_type = "structure"


class TooLarge(ContentError):
    """The body is larger or deeper than this gateway accepts."""

    issue_type = "too-long"


class UnsupportedFormat(ContentError):
    """This gateway reads FHIR R4 JSON (application/fhir+json) only."""

    issue_type = "not-supported"


class NotFound(ProcessingError):
    """No such resource here, or none that this caller may see."""

    issue_type = "not-found"


class ConfigurationError(ContentError):
    """The site configuration can't be used."""

    issue_type = "invalid"


class LoginRequired(AccessError):
    """A valid bearer credential is needed."""

    issue_type = "login"


class Forbidden(AccessError):
    """The role of this credential does not allow this."""

    issue_type = "forbidden"


class ConsentDenied(AccessError):
    """The patient's consent does not permit this use."""

    issue_type = "suppressed"


class InvalidTransition(ProcessingError):
    """A job can't go from its present state to the one asked for."""

    issue_type = "conflict"


class Unsealable(ProcessingError):
    """A sealed value can't be opened: it was changed, moved to another row, or its key is gone."""

    issue_type = "security"


class Erased(Unsealable):
    """What was held of this was erased: its key was destroyed, or its time of retention is over."""

    issue_type = "deleted"


class OnHold(ProcessingError):
    """A legal hold keeps what is held of this patient; lift it first."""

    issue_type = "business-rule"


class Busy(TransientError):
    """The gateway is overloaded; try again a little later."""

    issue_type = "throttled"


class RateTaken(TransientError):
    """The line before a system whose rate is capped is too long; nothing was sent."""

    issue_type = "throttled"


class StoreConflict(TransientError):
    """Somebody else changed the same thing at the same moment; nothing was written, try again."""

    issue_type = "lock-error"


class StoreRefused(ProcessingError):
    """The database can't hold this content; nothing was written."""


class StoreUnavailable(TransientError):
    """The database can't be written at the moment; nothing was accepted."""

    issue_type = "no-store"
