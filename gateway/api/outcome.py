"""Errors as HTTP: one table from FHIR issue type to status, one shape of body.

Source: FHIR R4 OperationOutcome, http.html#2.21.0.4 (status codes).
"""

from collections.abc import Sequence

import orjson
from starlette.responses import Response

from gateway.core.errors import ContentError, GatewayError, InvalidResource, Issue, TransientError

FHIR_JSON = "application/fhir+json; charset=utf-8"

STATUS = {
    "structure": 400,
    "invalid": 400,
    "value": 400,
    "required": 400,
    "login": 401,
    "security": 403,
    "forbidden": 403,
    "suppressed": 403,
    "not-found": 404,
    "conflict": 409,
    "deleted": 410,
    "too-long": 413,
    "not-supported": 415,
    "code-invalid": 422,
    "invariant": 422,
    "business-rule": 422,
    "processing": 422,
    "exception": 500,
    "transient": 503,
    "throttled": 503,
    "lock-error": 503,
    "no-store": 503,
    "timeout": 504,
}

# Of an element, rather than of the request as a whole, these say something else.
STATUS_OF_CONTENT = {**STATUS, "too-long": 422, "not-supported": 422}


class NotOffered(ContentError):
    """This method is not offered at this address."""

    issue_type = "not-supported"


def operation_outcome(issues: Sequence[Issue]) -> dict[str, object]:
    """Give an OperationOutcome resource with one issue per line."""
    return {"resourceType": "OperationOutcome", "issue": [_issue(issue) for issue in issues]}


def _issue(issue: Issue) -> dict[str, object]:
    line: dict[str, object] = {
        "severity": issue.severity,
        "code": issue.code,
        "diagnostics": issue.diagnostics,
    }
    if issue.expression:
        line["expression"] = [issue.expression]
    return line


def refuse(error: GatewayError, *, status: int | None = None) -> Response:
    """Turn an error into its response.

    Args:
        error: What happened.
        status: HTTP status where the issue type alone does not say it (405, 406).
    """
    headers = {}
    if error.issue_type == "login":
        headers["WWW-Authenticate"] = 'Bearer realm="nadi"'
    if isinstance(error, TransientError):
        headers["Retry-After"] = str(max(1, round(error.retry_after_s or 1)))
    statuses = STATUS_OF_CONTENT if isinstance(error, InvalidResource) else STATUS
    code = status or statuses.get(error.issues[0].code, statuses.get(error.issue_type, 422))
    return fhir_response(operation_outcome(error.issues), status=code, headers=headers)


def fhir_response(
    resource: dict[str, object], *, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """Answer with a FHIR resource as JSON."""
    return Response(
        orjson.dumps(resource), status_code=status, media_type=FHIR_JSON, headers=headers
    )
