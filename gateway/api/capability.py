"""`GET /fhir/metadata`: what this gateway can do, and nothing that it can't.

Source: FHIR R4 CapabilityStatement (http://hl7.org/fhir/R4/capabilitystatement.html).
"""

from functools import cache
from importlib.metadata import version

from gateway.api.audit_parameters import PARAMETERS
from gateway.core.r4_schema import resource_types

_BUILT = "2026-11-23"


@cache
def capability_statement() -> dict[str, object]:
    """Give the CapabilityStatement; readable without a credential."""
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": _BUILT,
        "kind": "instance",
        "software": {"name": "Nadi", "version": version("nadi")},
        "implementation": {"description": "Nadi, on-premise FHIR gateway for AI models"},
        "fhirVersion": "4.0.1",
        "format": ["application/fhir+json", "json"],
        "rest": [
            {
                "mode": "server",
                "documentation": "Pushed resources are stored, matched against the routes of the "
                "site and answered with a Task. FHIR XML is not read.",
                "security": {
                    "description": "Authorization: Bearer <token>; make one with `nadi access add`."
                },
                "resource": [_resource(name) for name in sorted(resource_types())],
                "interaction": [{"code": "batch"}, {"code": "transaction"}],
            }
        ],
    }


def _resource(name: str) -> dict[str, object]:
    codes = ["create", "update"]
    described: dict[str, object] = {"type": name}
    if name == "Task":
        codes += ["read", "search-type"]
    if name in {"Observation", "RiskAssessment"}:
        codes += ["search-type"]
        described["searchParam"] = [{"name": "patient", "type": "reference"}]
    if name == "Consent":
        codes += ["read", "search-type"]
        described["searchParam"] = [{"name": "patient", "type": "reference"}]
    if name == "AuditEvent":
        codes += ["search-type"]
        described["searchParam"] = [
            {"name": name, "type": kind} for name, kind in PARAMETERS.items()
        ]
    described["interaction"] = [{"code": code} for code in codes]
    return described
