"""The CapabilityStatement: what this EHR says it can do, its present faults included.

Source: FHIR R4 CapabilityStatement (http://hl7.org/fhir/R4/capabilitystatement.html).
"""

from typing import Any

import orjson

from adapters.sandbox.faults import Faults
from adapters.sandbox.parameters import KNOWN_TYPES, Parameter, parameters_of
from adapters.sandbox.refusal import FHIR_JSON

_PUBLISHED = "2026-01-01"


def capability_statement(faults: Faults) -> bytes:
    """Write the CapabilityStatement that is true under these faults."""
    rest: dict[str, Any] = {
        "mode": "server",
        "resource": [
            _resource(each, faults) for each in KNOWN_TYPES if each not in faults.unsupported_types
        ],
        "interaction": [
            {"code": code}
            for code, is_lacking in (
                ("batch", faults.no_batch),
                ("transaction", faults.no_transaction),
            )
            if not is_lacking
        ],
    }
    statement = {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": _PUBLISHED,
        "kind": "instance",
        "software": {"name": faults.software or "Nadi sandbox EHR"},
        "implementation": {"description": "A stand-in EHR with synthetic patients"},
        "fhirVersion": "4.0.1",
        "format": [FHIR_JSON, "json"],
        "rest": [rest],
    }
    return orjson.dumps(statement)


def _resource(resource_type: str, faults: Faults) -> dict[str, Any]:
    codes = ["read", "vread", "search-type", *([] if faults.no_history else ["history-type"])]
    if not faults.writable_types or resource_type in faults.writable_types:
        codes += ["create", "update", "delete"]
    return {
        "type": resource_type,
        "interaction": [{"code": code} for code in codes],
        "versioning": "versioned-update",
        "readHistory": True,
        "updateCreate": not faults.no_update_create,
        "conditionalCreate": not faults.no_conditional_create,
        "conditionalUpdate": True,
        "conditionalDelete": "not-supported",
        "searchParam": [_search_param(each) for each in parameters_of(resource_type).values()],
    }


def _search_param(parameter: Parameter) -> dict[str, str]:
    return {"name": parameter.name, "type": parameter.kind}
