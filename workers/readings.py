"""(4.3) Which Observations of a patient's record carry a value for a model's inputs.

The first two rules of `workers.features`: of several versions of a resource only the newest
counts, and only then is its status looked at; what an AI wrote never feeds an AI, and a resource
of another patient is not read. What carries no code of the model is put aside first.

Of several readings that were true at the same time the triggering resource's is the newest,
whatever version of it counts: who sends a value gets a result that was computed from it.

Pure: no I/O, no clock.

Source: FHIR R4 Observation (http://hl7.org/fhir/R4/observation.html), v3-ObservationValue AIAST.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from gateway.core import clinical_time
from gateway.core.clinical_time import Span
from gateway.core.event import SETTLED, is_made_by_ai, reference_of
from gateway.core.remembered import once_per_object
from models.manifest import Input, InputCode, Manifest
from workers.units import Converter, Substance

Json = Mapping[str, Any]
CodeKey = tuple[str, str]
LocalCodes = Mapping[CodeKey, CodeKey]
"""(system, code) as this hospital writes it → (system, code) as the manifest knows it."""

NO_LOCAL_CODES: LocalCodes = MappingProxyType({})

_LONG_AGO = datetime.min.replace(tzinfo=UTC)

_Recency = tuple[datetime, bool, datetime, str]


@dataclass(frozen=True, eq=False)
class Slot:
    """A code of a manifest, and the input that it feeds.

    Attributes:
        input_id: Id of the input.
        code: The code.
        converter: Gives the input's unit for what is measured under this code.
    """

    input_id: str
    code: InputCode
    converter: Converter


@dataclass(frozen=True, eq=False)
class Reading:
    """An Observation, or one of its components, that carries a code of an input.

    Attributes:
        resource: The Observation.
        element: The part of it that holds the value.
        slot: What its code says it is; None when its codes contradict each other.
        time: When it was true of the patient.
        is_trigger: Whether the Observation is the one that set the model going.
    """

    resource: Json
    element: Json
    slot: Slot | None
    time: Span | None
    is_trigger: bool = False

    @property
    def moment(self) -> datetime:
        """The earliest time at which it can have been true; long ago where nothing tells."""
        return self.time.first if self.time else _LONG_AGO

    @property
    def recency(self) -> _Recency:
        """Newest by clinical time; at the same time the trigger, then the one published last.

        What is left is told apart by reference, so that the order is the same every time.
        """
        issued = clinical_time.parse(self.resource.get("issued"))
        published = issued.last if issued else _LONG_AGO
        return (self.moment, self.is_trigger, published, self.reference)

    @property
    def reference(self) -> str:
        """Reference of the Observation, with the version where there is one."""
        return reference_of(self.resource)


Readings = Mapping[str, Sequence[Reading]]
"""By id of the input; inputs without any are not in it."""


def find_readings(
    manifest: Manifest,
    resources: Sequence[Json],
    *,
    patient: Json | None,
    local_codes: LocalCodes = NO_LOCAL_CODES,
    trigger: Json | None = None,
) -> Readings:
    """Find what carries a value for the inputs of a model, whenever it was true.

    Args:
        manifest: What the model needs.
        resources: Any number of versions, in any order; only Observations are looked at.
        patient: The Patient resource, if it is known.
        local_codes: The hospital's own codes and what they mean.
        trigger: The resource that set the model going.
    """
    slots = _slots(manifest)
    subject = f"Patient/{patient['id']}" if patient and "id" in patient else None
    found: dict[str, list[Reading]] = {}
    for resource in _current(resources):
        matching = [
            (element, matches)
            for element in (resource, *(resource.get("component") or ()))
            if (matches := _matches(element, slots, local_codes)) and _has_value(element)
        ]
        if matching and _is_usable(resource, subject):
            is_trigger = trigger is not None and _is_of(trigger, resource)
            for element, matches in matching:
                _file(found, resource, element, matches, is_trigger=is_trigger)
    return found


def newest_of(readings: Sequence[Reading], at: datetime) -> Reading | None:
    """Give the newest of what was known to be true at a time."""
    dated = [each for each in readings if each.time is not None and each.time.first <= at]
    if len(dated) > 1:
        return max(dated, key=_recency)
    return dated[0] if dated else None


def newest_first(readings: Sequence[Reading]) -> list[Reading]:
    """Put readings in order."""
    return sorted(readings, key=_recency, reverse=True)


def _recency(reading: Reading) -> _Recency:
    return reading.recency


@once_per_object
def _slots(manifest: Manifest) -> Mapping[CodeKey, Slot]:
    return {code.key: _slot(each, code) for each in manifest.inputs for code in each.codes}


def _slot(each: Input, code: InputCode) -> Slot:
    wanted = each.molar_mass_g_per_mol
    substance = Substance(code.molar_mass_g_per_mol or wanted, wanted, each.valence)
    return Slot(each.id, code, Converter(each.unit, substance))


def _file(
    found: dict[str, list[Reading]],
    resource: Json,
    element: Json,
    matches: Sequence[Slot],
    *,
    is_trigger: bool,
) -> None:
    slot = matches[0] if len(matches) == 1 or _is_one_meaning(matches) else None
    time = clinical_time.effective(resource)
    reading = Reading(resource, element, slot, time, is_trigger)
    for input_id in {slot.input_id for slot in matches}:
        found.setdefault(input_id, []).append(reading)


def _is_one_meaning(slots: Sequence[Slot]) -> bool:
    return len({(slot.input_id, slot.code.molar_mass_g_per_mol) for slot in slots}) == 1


def _current(resources: Sequence[Json]) -> list[Json]:
    """The newest version of every Observation; later in the sequence wins where nothing tells."""
    newest: dict[object, Json] = {}
    for position, resource in enumerate(resources):
        if resource.get("resourceType") != "Observation":
            continue
        key = resource.get("id") or position
        known = newest.get(key)
        if known is None or _version(resource) >= _version(known):
            newest[key] = resource
    return list(newest.values())


def _version(resource: Json) -> tuple[datetime, int]:
    meta = resource.get("meta") or {}
    updated = clinical_time.parse(meta.get("lastUpdated"))
    version = str(meta.get("versionId", ""))
    return (updated.first if updated else _LONG_AGO, int(version) if version.isdecimal() else -1)


def _is_usable(resource: Json, subject: str | None) -> bool:
    return (
        resource.get("status") in SETTLED
        and not is_made_by_ai(resource)
        and (subject is None or _may_be_about(resource, subject))
    )


def _may_be_about(resource: Json, subject: str) -> bool:
    """False when the subject is another Patient; `urn:uuid:` and the like pass."""
    reference = str((resource.get("subject") or {}).get("reference", ""))
    if reference == subject:
        return True
    _, is_patient, rest = reference.rpartition("Patient/")
    return not is_patient or f"Patient/{rest.split('/')[0]}" == subject


def _matches(
    element: Json, slots: Mapping[CodeKey, Slot], local_codes: LocalCodes
) -> Sequence[Slot]:
    """What the codes of an element mean to the model, in their order, each once."""
    found: dict[Slot, None] = {}
    for coding in (element.get("code") or {}).get("coding") or ():
        key = (str(coding.get("system", "")), str(coding.get("code", "")))
        if slot := slots.get(key):
            found[slot] = None
        if (meaning := local_codes.get(key)) and (slot := slots.get(meaning)):
            found[slot] = None
    return list(found)


def _is_of(trigger: Json, observation: Json) -> bool:
    """Say whether an Observation is the triggering resource, in whatever version."""
    if observation is trigger:
        return True
    known = trigger.get("id") if trigger.get("resourceType") == "Observation" else None
    return known is not None and observation.get("id") == known


def _has_value(element: Json) -> bool:
    return "valueQuantity" in element or any(name.startswith("value") for name in element)
