"""What two FHIR Bundles say of the same message, compared fact by fact on what Nadi maps.

A fact is a type of resource, an element and a value. The Bundles of the shared pairs were made by
another converter, for public health, with resources and extensions of its own; only elements that
Nadi maps are compared, and times as moments.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from gateway.core import clinical_time

Fact = tuple[str, str, str]

#: The elements that are compared, by type; a path goes through every item of a list.
MAPPED: Mapping[str, tuple[str, ...]] = {
    "MessageHeader": ("eventCoding.code", "source.name"),
    "Patient": (
        "identifier.value",
        "name.family",
        "name.given",
        "name.use",
        "birthDate",
        "gender",
        "address.line",
        "address.city",
        "address.state",
        "address.postalCode",
        "address.use",
        "telecom.value",
        "telecom.system",
        "maritalStatus.coding.code",
        "communication.language.coding.code",
        "deceasedBoolean",
        "deceasedDateTime",
        "multipleBirthBoolean",
        "multipleBirthInteger",
        "contact.name.family",
        "contact.relationship.coding.code",
    ),
    "Observation": (
        "code.coding.code",
        "code.coding.system",
        "code.text",
        "status",
        "effectiveDateTime",
        "valueQuantity.value",
        "valueQuantity.unit",
        "valueQuantity.comparator",
        "valueCodeableConcept.coding.code",
        "valueString",
        "valueDateTime",
        "valueTime",
        "interpretation.coding.code",
        "referenceRange.text",
        "note.text",
        "dataAbsentReason.coding.code",
    ),
    "DiagnosticReport": (
        "identifier.value",
        "code.coding.code",
        "status",
        "effectiveDateTime",
        "issued",
    ),
    "ServiceRequest": ("identifier.value", "code.coding.code", "priority", "authoredOn"),
    "Specimen": (
        "identifier.value",
        "type.coding.code",
        "collection.collectedDateTime",
        "receivedTime",
    ),
}


def facts(bundle: Mapping[str, Any]) -> Counter[Fact]:
    """Give the facts of a Bundle."""
    found: Counter[Fact] = Counter()
    for entry in bundle.get("entry", ()):
        resource = entry["resource"]
        kind = resource["resourceType"]
        for path in MAPPED.get(kind, ()):
            found.update((kind, path, _plain(each)) for each in _at(resource, path.split(".")))
    return found


def _at(value: Any, steps: list[str]) -> Iterator[Any]:
    if isinstance(value, list):
        for each in value:
            yield from _at(each, steps)
    elif not steps:
        if value is not None:
            yield value
    elif isinstance(value, Mapping) and steps[0] in value:
        yield from _at(value[steps[0]], steps[1:])


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(float(value))
    text = " ".join(str(value).split())
    return _moment(text) if "T" in text else text


def _moment(text: str) -> str:
    span = clinical_time.parse(text)
    if span is None:
        return text
    return f"{span.first.timestamp():.3f}"
