"""Binary as HTTP knows it: bytes in, bytes out, JSON only for who asks for FHIR.

Source: FHIR R4 Binary, "Serving Binary Resources using the RESTful API"
(http://hl7.org/fhir/R4/binary.html#rest).
"""

import base64

import orjson
from starlette.requests import Request
from starlette.responses import Response

from adapters.sandbox.keys import Resource
from adapters.sandbox.refusal import FHIR_JSON
from adapters.sandbox.store import Record

_JSON = (FHIR_JSON, "application/json", "json")


def is_native(request: Request, media_type: str) -> bool:
    """Say whether a request brings the content of a Binary as it is, not as FHIR."""
    return request.path_params.get("type") == "Binary" and media_type not in _JSON


async def binary_of(request: Request, media_type: str) -> Resource:
    """Make a Binary of the body of a request."""
    binary: Resource = {
        "resourceType": "Binary",
        "contentType": media_type,
        "data": base64.b64encode(await request.body()).decode(),
    }
    if owner := request.headers.get("x-security-context"):
        binary["securityContext"] = {"reference": owner}
    if "id" in request.path_params:
        binary["id"] = request.path_params["id"]
    return binary


def wants_content(request: Request, record: Record) -> bool:
    """Say whether a read is answered with the content itself."""
    wanted = request.query_params.get("_format") or request.headers.get("accept", "")
    return record.reference.startswith("Binary/") and not any(kind in wanted for kind in _JSON)


def content_of(record: Record, headers: dict[str, str]) -> Response:
    """Give the content of a Binary, under its own type."""
    binary = orjson.loads(record.body)
    content = base64.b64decode(binary.get("data", ""))
    return Response(content, 200, headers, binary.get("contentType"))
