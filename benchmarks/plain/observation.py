"""The result of the plain build: an Observation put together from the models of fhir.resources."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from fhir.resources.R4B.annotation import Annotation
from fhir.resources.R4B.codeableconcept import CodeableConcept
from fhir.resources.R4B.coding import Coding
from fhir.resources.R4B.identifier import Identifier
from fhir.resources.R4B.meta import Meta
from fhir.resources.R4B.observation import Observation
from fhir.resources.R4B.quantity import Quantity
from fhir.resources.R4B.reference import Reference

from models.registry import InstalledModel
from workers.features import Features

IDENTIFIER_SYSTEM = "urn:plain:result"
UCUM = "http://unitsofmeasure.org"
TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"


def result_observation(
    model: InstalledModel,
    probability: float,
    identifier: str,
    trigger: Mapping[str, Any],
    features: Features,
) -> Observation:
    """Build the Observation that tells the result.

    Args:
        model: Which one answered.
        probability: What it answered.
        identifier: What the result is recognised by.
        trigger: The Observation that caused it.
        features: What the model was given.
    """
    output = model.manifest.outputs[0]
    return Observation(
        meta=Meta(security=[Coding(system=f"{TERMINOLOGY}/v3-ObservationValue", code="AIAST")]),
        identifier=[Identifier(system=IDENTIFIER_SYSTEM, value=identifier)],
        status="preliminary",
        code=CodeableConcept(
            coding=[Coding(system=output.code.system, code=output.code.code)],
            text=output.code.display,
        ),
        subject=Reference(reference=trigger["subject"]["reference"]),
        effectiveDateTime=trigger["effectiveDateTime"],
        issued=datetime.now(UTC),
        valueQuantity=Quantity(value=probability, unit=output.unit, system=UCUM, code=output.unit),
        interpretation=[CodeableConcept(text=output.read([probability]).label)],
        note=[Annotation(text=f"{model.reference}, demonstration only")],
        derivedFrom=[Reference(reference=source) for source in _observations(features)],
    )


def result_identifier(model: InstalledModel, trigger: Mapping[str, Any]) -> str:
    """Give the identifier of a result: the same for the same version of the same trigger."""
    version = trigger.get("meta", {}).get("versionId", "")
    return f"{trigger['id']}.{version}.{model.name}.{model.manifest.version}"


def _observations(features: Features) -> list[str]:
    return [source for source in features.sources if source.startswith("Observation/")]
