"""What this EHR answers when it refuses: an HTTP status and an OperationOutcome.

Source: FHIR R4 RESTful API section 3.1.0.1.2 (http://hl7.org/fhir/R4/http.html#Status-Codes).
"""

import orjson

from gateway.core.errors import ProcessingError

FHIR_JSON = "application/fhir+json"


class Refusal(ProcessingError):
    """This EHR does not do what was asked."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code

    @property
    def body(self) -> bytes:
        """The OperationOutcome of this refusal as JSON."""
        return outcome(self.code, self.message)


def outcome(code: str, message: str, *, severity: str = "error") -> bytes:
    """Build an OperationOutcome with one issue.

    Args:
        code: FHIR `issue-type` code.
        message: Free of patient values.
        severity: FHIR `issue-severity` code.
    """
    issue = {"severity": severity, "code": code, "diagnostics": message}
    return orjson.dumps({"resourceType": "OperationOutcome", "issue": [issue]})
