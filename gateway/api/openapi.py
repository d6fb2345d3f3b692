"""The OpenAPI page of the thin routes, written by hand since they bypass FastAPI's machinery."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from gateway.api.audit_asking import QUESTIONS
from gateway.api.audit_parameters import PARAMETERS
from gateway.core.principal import PERMISSIONS, Permission
from gateway.core.worklist import SignOffReason

_ASKED = ("patient", "resource", "system", "model", "since", "until", "_count", "before")
_RESOURCE = {"application/fhir+json": {"schema": {"type": "object"}}}
_JSON, _LIST = ({"application/json": {"schema": {"type": each}}} for each in ("object", "array"))
_TEXT = {"text/plain": {"schema": {"type": "string"}}}
_PAGE = {each: {"schema": {"type": "string"}} for each in ("text/html", "application/pdf")}
_OUTCOME = {
    "description": "OperationOutcome: what is wrong, where, and how to mend it",
    "content": _RESOURCE,
}


def describe(app: FastAPI) -> None:
    """Give the app its OpenAPI document, shown at `/docs`."""

    def kept() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = document()
        return app.openapi_schema

    app.openapi = kept  # type: ignore[method-assign]  # FastAPI's documented way to replace it


def document() -> dict[str, Any]:
    """Give the OpenAPI document."""
    made = get_openapi(title="Nadi", version="R4", description=_ABOUT, routes=[])
    made["paths"] = _paths()
    made["components"] = {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}}
    return made


_ABOUT = (
    "On-premise FHIR R4 gateway: push resources, get a Task; results are written back into the "
    "EHR as AI-labelled Observations or RiskAssessments. Get a token with `nadi access add`."
)


def _paths() -> dict[str, Any]:
    kind, identifier = _parameter("type", "path"), _parameter("id", "path")
    searched = [_parameter(name, "query") for name in (*PARAMETERS, "_sort")]
    system, count = _parameter("system", "query"), [_parameter("_count", "query")]
    return {
        "/fhir": {"post": _push("Push a Bundle", 200, "A Task per entry")},
        "/fhir/{type}": {"post": _push("Push a resource", 202, "Its Task", [kind])},
        "/fhir/{type}/{id}": {
            "put": _push("Push a resource with its id", 202, "Its Task", [kind, identifier]),
            "delete": _call(
                "Say that a resource was deleted",
                "Its Task",
                [kind, identifier],
                needs=Permission.PUSH,
                status=202,
            ),
        },
        "/fhir/Task": {
            "get": _call(
                "List your newest events", "Bundle of Tasks", count, needs=Permission.READ_TASKS
            )
        },
        "/fhir/Task/{id}": {
            "get": _call(
                "See what became of an event or job",
                "Task",
                [identifier],
                needs=Permission.READ_TASKS,
            )
        },
        **_results([system, *count]),
        **_audit([*searched, system, *count], identifier),
        **_questions(),
        **_witnessed(),
        **_break_glass(identifier),
        **_worklist(count, identifier),
        **_consents(system, identifier),
        **_cds(identifier),
        "/fhir/metadata": {"get": _call("CapabilityStatement", "What this gateway can do")},
        "/health/ready": {"get": _readiness()},
        "/metrics": {"get": _call("Prometheus metrics", "Counts and times", gives=_TEXT)},
        "/site.schema.json": {"get": _call("JSON Schema of the site file", "Schema", gives=_JSON)},
    }


def _audit(parameters: list[dict[str, Any]], identifier: dict[str, Any]) -> dict[str, Any]:
    return {
        "/fhir/AuditEvent": {
            "get": _call(
                "Search the audit log",
                "Bundle of AuditEvents",
                parameters,
                needs=Permission.READ_AUDIT,
            )
        },
        "/audit/checkpoint": {
            "get": _call(
                "The newest signed checkpoint",
                "Signed note",
                needs=Permission.READ_AUDIT,
                gives=_TEXT,
            )
        },
        "/audit/proof/{id}": {
            "get": _call(
                "Prove that an event, or all of a job, is in the log",
                "Receipt for verify_receipt.py",
                [identifier],
                needs=Permission.READ_AUDIT,
                gives=_JSON,
            )
        },
        "/audit/report": {
            "get": _call(
                "A patient's own report, to be handed to her",
                "HTML, or with format=pdf PDF",
                [
                    _parameter("X-Nadi-Patient", "header"),
                    *(_parameter(name, "query") for name in ("patient", "system", "format")),
                ],
                needs=Permission.READ_AUDIT,
                gives=_PAGE,
            )
        },
    }


def _consents(system: dict[str, Any], identifier: dict[str, Any]) -> dict[str, Any]:
    patient, header = _parameter("patient", "query"), _parameter("X-Nadi-Patient", "header")
    may = Permission.READ_CONSENT
    decide = _call(
        "Ask what consent says now: patient, route or purpose, action, actor, resource",
        "decision, basis, obligations, rules, what would change it; Parameters for Parameters",
        needs=may,
        gives={**_JSON, **_RESOURCE},
    )
    asked = {"application/json": {"schema": {"type": "object"}}, **_RESOURCE}
    return {
        "/fhir/Consent": {
            "get": _call(
                "A patient's Consents: the EHR's, and what staff recorded or imported",
                "Bundle of Consents",
                [patient, header, system],
                needs=may,
            )
        },
        "/fhir/Consent/{id}": {
            "get": _call(
                "One Consent, by the id that decisions name", "Consent", [identifier], needs=may
            )
        },
        "/consent/$decide": {
            "post": {**decide, "requestBody": {"required": True, "content": asked}}
        },
    }


def _break_glass(identifier: dict[str, Any]) -> dict[str, Any]:
    asked = {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}
    use = _call(
        "Run a route in an emergency: patient, route, reason",
        "JSON: its job, and the review that was opened",
        needs=Permission.BREAK_GLASS,
        status=202,
        gives=_JSON,
    )
    review = _call(
        "Review a use of break-glass: verdict (justified, not-justified), comment",
        "JSON: the use with its review",
        [identifier],
        needs=Permission.REVIEW_BREAK_GLASS,
        gives=_JSON,
    )
    return {
        "/break-glass": {
            "get": _call(
                "List the uses of break-glass, newest first",
                "JSON: each with its reason and its review",
                [_parameter("open", "query")],
                needs=Permission.REVIEW_BREAK_GLASS,
                gives=_LIST,
            ),
            "post": {**use, "requestBody": asked},
        },
        "/break-glass/{id}/review": {"post": {**review, "requestBody": asked}},
    }


def _worklist(count: list[dict[str, Any]], identifier: dict[str, Any]) -> dict[str, Any]:
    asked = {"required": False, "content": {"application/json": {"schema": {"type": "object"}}}}
    listed = _call(
        "List what no EHR takes and nobody signed off",
        "Bundle of Tasks",
        [*count, _parameter("before", "query")],
        needs=Permission.READ_WORKLIST,
    )
    item = _call("One item", "Task", [identifier], needs=Permission.READ_WORKLIST)
    result = _call("Its result", "The result", [identifier], needs=Permission.READ_RESULTS)
    sign_off = _call(
        f"Sign it off: reason ({', '.join(SignOffReason)}), or nothing",
        "Task",
        [identifier, _parameter("If-Match", "header")],
        needs=Permission.SIGN_OFF,
    )
    retry = _call(
        "Have it written into the EHR after all",
        "Task",
        [identifier],
        needs=Permission.RETRY_RESULTS,
        status=202,
    )
    return {
        "/worklist": {"get": listed},
        "/worklist/{id}": {"get": item},
        "/worklist/{id}/result": {"get": result},
        "/worklist/{id}/sign-off": {"post": {**sign_off, "requestBody": asked}},
        "/worklist/{id}/retry": {"post": retry},
    }


def _results(parameters: list[dict[str, Any]]) -> dict[str, Any]:
    asked = [_parameter("patient", "query"), _parameter("worklist", "query")]
    return {
        f"/fhir/{name}": {
            "get": _call(
                "A patient's results, or (worklist=true) those on the worklist",
                f"Bundle of {name}s",
                [*asked, *parameters],
                needs=Permission.READ_RESULTS,
            )
        }
        for name in ("Observation", "RiskAssessment")
    }


def _cds(identifier: dict[str, Any]) -> dict[str, Any]:
    asked = {"required": True, "content": _JSON}
    invoke = _call(
        "Ask for cards (CDS Hooks 2.0)", "Cards", [identifier], needs=Permission.PUSH, gives=_JSON
    )
    invoke["responses"]["412"] = {**_OUTCOME, "description": "What the model needs is missing"}
    give = _call("Say what became of cards", "Nothing", [identifier], needs=Permission.PUSH)
    about = {"text/html": {"schema": {"type": "string"}}}
    return {
        "/cds-services": {
            "get": _call("Discover services", "Services", needs=Permission.PUSH, gives=_JSON)
        },
        "/cds-services/{id}": {"post": {**invoke, "requestBody": asked}},
        "/cds-services/{id}/feedback": {"post": {**give, "requestBody": asked}},
        "/cds-services/{id}/about": {
            "get": _call("What the model of a card is", "Page", [identifier], gives=about)
        },
    }


def _readiness() -> dict[str, Any]:
    made = _call("Readiness", "Ready to accept events", gives=_JSON)
    made["responses"]["503"] = {"description": "Not ready, and why", "content": _JSON}
    return made


def _questions() -> dict[str, Any]:
    return {
        "/audit/questions/{name}": {
            "get": _call(
                f"Ask one of: {', '.join(QUESTIONS)}",
                "JSON: groups, rows, and the address of the next page",
                [
                    _parameter("name", "path"),
                    _parameter("X-Nadi-Patient", "header"),
                    *(_parameter(name, "query") for name in _ASKED),
                ],
                needs=Permission.READ_AUDIT,
                gives=_JSON,
            )
        },
    }


def _witnessed() -> dict[str, Any]:
    origin = _parameter("origin", "query", is_required=True)
    return {
        "/witness/checkpoints": {
            "get": _call(
                "The newest checkpoint kept of another log", "Signed note", [origin], gives=_TEXT
            ),
            "post": _witness(),
        },
    }


def _witness() -> dict[str, Any]:
    made = _call("Have a checkpoint of another log kept", "Its size", gives=_TEXT)
    made["requestBody"] = {"required": True, "content": _TEXT}
    known = {"text/x.tlog.size": {"schema": {"type": "string"}}}
    made["responses"]["409"] = {"description": "The size that is kept here", "content": known}
    return made


def _parameter(name: str, place: str, *, is_required: bool = False) -> dict[str, Any]:
    return {
        "name": name,
        "in": place,
        "required": is_required or place == "path",
        "schema": {"type": "string"},
    }


def _push(
    summary: str, status: int, answer: str, parameters: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    call = _call(summary, answer, parameters, needs=Permission.PUSH, status=status)
    return {**call, "requestBody": {"required": True, "content": _RESOURCE}}


def _call(
    summary: str,
    answer: str,
    parameters: list[dict[str, Any]] | None = None,
    *,
    needs: Permission | None = None,
    status: int = 200,
    gives: dict[str, Any] = _RESOURCE,
) -> dict[str, Any]:
    """Describe one call.

    Args:
        summary: What it is for.
        answer: What it gives.
        parameters: Those of path and query.
        needs: What the caller has to be permitted; None when everybody may call it.
        status: Of the answer when all is well.
        gives: Content types of that answer.
    """
    return {
        "summary": summary,
        "security": [{"token": []}] if needs else [],
        "x-nadi-roles": [role.value for role, may in PERMISSIONS.items() if needs in may],
        "parameters": parameters or [],
        "responses": {
            str(status): {"description": answer, "content": gives},
            "4XX": _OUTCOME,
            "503": _OUTCOME,
        },
    }
