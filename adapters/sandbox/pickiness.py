"""What a picky EHR refuses to keep, although it is valid FHIR."""

from adapters.sandbox.faults import Faults
from adapters.sandbox.keys import Resource
from adapters.sandbox.refusal import Refusal


def refused(resource: Resource, faults: Faults) -> Refusal | None:
    """Give the refusal of a resource; None where this EHR keeps it."""
    kind = str(resource["resourceType"])
    if faults.writable_types and kind not in faults.writable_types:
        return Refusal(405, "not-supported", "This EHR lets nobody write that type.")
    if kind == "Observation" and not _is_known(resource, faults):
        return Refusal(422, "code-invalid", "This EHR has no such concept.")
    for path in faults.required_elements:
        of_type, _, element = path.partition(".")
        if of_type == kind and element not in resource:
            return Refusal(422, "required", "An element that this EHR needs is missing.")
    if resource.get("status") in faults.refused_statuses:
        return Refusal(422, "not-supported", "This EHR has no such status.")
    return None


def _is_known(resource: Resource, faults: Faults) -> bool:
    codings = resource.get("code", {}).get("coding", ())
    codes = {coding.get("code") for coding in codings}
    return not faults.known_codes or not codes.isdisjoint(faults.known_codes)
