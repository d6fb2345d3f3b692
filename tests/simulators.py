"""How the EHRs of the profiles behave, each as a variation of the sandbox EHR.

The facts are those of their sources (named in `adapters/profiles`), written down once more and not
taken from there, so that a profile that says something else shows.
"""

from dataclasses import dataclass, field
from typing import Any

#: A concept that the hospital made for the toy model's result.
CONCEPT = "5089a0b1-aaaa-4aaa-8aaa-aaaaaaaaaaaa"

#: Those that it made for panels that name the model.
PANEL, MODEL = "6089a0b1-bbbb-4bbb-8bbb-bbbbbbbbbbbb", "7089a0b1-cccc-4ccc-8ccc-cccccccccccc"

_OPENMRS_DROPS = (
    "identifier",
    "category",
    "note",
    "method",
    "device",
    "performer",
    "component",
    "contained",
    "extension",
    "dataAbsentReason",
    "derivedFrom",
    "issued",
    "text",
    "referenceRange",
    "code.text",
    "valueQuantity.unit",
    "valueQuantity.system",
    "valueQuantity.code",
    "meta.security",
    "meta.tag",
)


def _openmrs(*keeps: str) -> dict[str, Any]:
    dropped = [name for name in _OPENMRS_DROPS if name not in keeps]
    return {
        "software": "HAPI FHIR Server",
        "no_transaction": True,
        "no_batch": True,
        "no_conditional_create": True,
        "no_update_create": True,
        "ignored_params": ["identifier", "_tag", "_security"],
        "writable_types": ["Observation"],
        "unsupported_types": ["Subscription", "Provenance", "Device", "RiskAssessment", "Media"],
        "known_codes": [CONCEPT, PANEL, MODEL],
        "required_elements": ["Observation.effectiveDateTime"],
        "refused_statuses": ["entered-in-error", "registered", "cancelled", "unknown"],
        "drop_elements": [f"Observation.{name}" for name in dropped],
        "page_size": 10,
        "max_page_size": 100,
        "unknown_id_status": 404,
    }


@dataclass(frozen=True)
class Simulator:
    """One EHR.

    Attributes:
        profile: What the site calls it; empty leaves it to be recognised.
        site: The example in `adapters/sites` that is for it.
        faults: What makes the sandbox EHR behave so.
        statuses: With which it fails.
        fails_after: It may fail so although it has done what was asked.
        rung: Where a plain result ends.
        kept_as: The type under which it is there; empty: nowhere.
        lost: Labels that have to be reported, and no other.
        has_number: Whether the value is still a number there.
    """

    profile: str
    faults: dict[str, Any] = field(default_factory=dict)
    statuses: tuple[int, ...] = (500, 503)
    fails_after: bool = False
    rung: str = "observation"
    kept_as: str = "Observation"
    lost: tuple[str, ...] = ()
    has_number: bool = True
    site: str = "sandbox"

    def takes(self, resource_type: str) -> bool:
        """Say whether such a resource may be written there."""
        writable = self.faults.get("writable_types", ())
        is_there = resource_type not in self.faults.get("unsupported_types", ())
        return is_there and (not writable or resource_type in writable)

    def drops(self, resource_type: str, element: str) -> bool:
        """Say whether it loses an element of such a resource in silence."""
        return not {element, f"{resource_type}.{element}"}.isdisjoint(
            self.faults.get("drop_elements", ())
        )


#: The stand-in EHR as it is, without a quirk.
PLAIN = Simulator("")
SIMULATORS = {
    "generic": Simulator("", {"no_conditional_create": True}),
    "generic-that-drops-labels": Simulator(
        "",
        {
            "no_conditional_create": True,
            "no_batch": True,
            "no_transaction": True,
            "drop_elements": ["meta.security", "Observation.identifier", "Observation.device"],
        },
        lost=("meta.security", "identifier", "device"),
    ),
    # In a race on one condition it answers 409 or 412 to who came second; both mean that the
    # result is there. A 500 may come after the commit as well.
    "hapi": Simulator(
        "",
        {"software": "HAPI FHIR Server"},
        statuses=(409, 412, 500, 503),
        fails_after=True,
        site="hapi",
    ),
    # Built on that library, as its name and its transactions say; keeps less.
    "hapi-that-drops-labels": Simulator(
        "",
        {
            "software": "HAPI FHIR Server",
            "drop_elements": ["meta.security", "Observation.identifier"],
        },
        fails_after=True,
        lost=("meta.security", "identifier"),
        site="sandbox",
    ),
    "medplum": Simulator(
        "",
        {"software": "medplum", "no_update_create": True, "posts_pushes": True},
        statuses=(429, 500),
        site="medplum",
    ),
    "openmrs": Simulator(
        "openmrs-fhir2",
        _openmrs(),
        lost=("meta.security", "identifier", "device", "note", "method", "text", "derivedFrom"),
        has_number=False,
        site="openmrs",
    ),
    "bahmni": Simulator(
        "bahmni",
        _openmrs("note"),
        lost=("meta.security", "identifier", "device", "method", "text", "derivedFrom"),
        site="bahmni",
    ),
    "openemr": Simulator(
        "",
        {
            "software": "OpenEMR",
            "no_transaction": True,
            "no_batch": True,
            "no_conditional_create": True,
            "writable_types": ["Patient", "Practitioner", "Organization"],
        },
        rung="worklist",
        kept_as="",
        site="openemr",
    ),
    "openemr-that-takes-documents": Simulator(
        "",
        {
            "software": "OpenEMR",
            "no_transaction": True,
            "no_batch": True,
            "no_conditional_create": True,
            "writable_types": ["Patient", "DocumentReference"],
            "drop_elements": ["meta.security", "DocumentReference.identifier"],
        },
        rung="document-reference",
        kept_as="DocumentReference",
        lost=("meta.security", "identifier"),
        site="openemr",
    ),
    "care": Simulator(
        "care",
        {
            "no_metadata": True,
            "no_reads": True,
            "no_transaction": True,
            "no_batch": True,
            "writable_types": ["None"],
        },
        rung="worklist",
        kept_as="",
        site="care",
    ),
}
