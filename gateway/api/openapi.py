"""The OpenAPI page of the thin routes, written by hand since they bypass FastAPI's machinery."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

_FHIR = "application/fhir+json"
_OUTCOME = {
    "description": "OperationOutcome: what is wrong, where, and how to mend it",
    "content": {_FHIR: {"schema": {"type": "object"}}},
}


def describe(app: FastAPI) -> None:
    """Give the app its OpenAPI document, shown at `/docs`."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(title="Nadi", version="R4", description=_ABOUT, routes=[])
            made["paths"] = _paths()
            made["components"] = {
                "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}
            }
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way to replace it


_ABOUT = (
    "On-premise FHIR R4 gateway: push resources, get a Task; results are written back into the "
    "EHR as AI-labelled Observations. Get a token with `nadi access add`."
)


def _paths() -> dict[str, Any]:
    kind, identifier = _parameter("type", "path"), _parameter("id", "path")
    searched = [_parameter(name, "query") for name in ("patient", "date", "outcome", "_count")]
    return {
        "/fhir": {"post": _call("Push a Bundle", 200, "A Task per entry", takes_body=True)},
        "/fhir/{type}": {
            "post": _call("Push a resource", 202, "Its Task", [kind], takes_body=True)
        },
        "/fhir/{type}/{id}": {
            "put": _call(
                "Push a resource with its id", 202, "Its Task", [kind, identifier], takes_body=True
            )
        },
        "/fhir/Task": {"get": _call("List your newest events", 200, "Bundle of Tasks")},
        "/fhir/Task/{id}": {
            "get": _call("See what became of an event or job", 200, "Task", [identifier])
        },
        "/fhir/Observation": {
            "get": _call(
                "A patient's results", 200, "Bundle of Observations", searched[:1] + searched[3:]
            )
        },
        "/fhir/AuditEvent": {
            "get": _call("Search the audit log", 200, "Bundle of AuditEvents", searched)
        },
        "/audit/checkpoint": {"get": _call("The newest signed checkpoint", 200, "Signed note")},
        "/fhir/metadata": {
            "get": _call("CapabilityStatement", 200, "What this gateway can do", is_open=True)
        },
        "/health/ready": {"get": _call("Readiness", 200, "Ready to accept events", is_open=True)},
        "/metrics": {"get": _call("Prometheus metrics", 200, "Counts and times", is_open=True)},
        "/site.schema.json": {
            "get": _call("JSON Schema of the site file", 200, "Schema", is_open=True)
        },
    }


def _parameter(name: str, place: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": place,
        "required": place == "path",
        "schema": {"type": "string"},
    }


def _call(
    summary: str,
    status: int,
    answer: str,
    parameters: list[dict[str, Any]] | None = None,
    *,
    takes_body: bool = False,
    is_open: bool = False,
) -> dict[str, Any]:
    content = {_FHIR: {"schema": {"type": "object"}}}
    call: dict[str, Any] = {
        "summary": summary,
        "security": [] if is_open else [{"token": []}],
        "parameters": parameters or [],
        "responses": {
            str(status): {"description": answer, "content": content},
            "4XX": _OUTCOME,
            "503": _OUTCOME,
        },
    }
    if takes_body:
        call["requestBody"] = {"required": True, "content": content}
    return call
