"""(4.3) One patient's FHIR resources → the numbers a model asks for, or a reasoned refusal.

The rules, in the order they are applied:

1. Of several versions of a resource only the newest counts, and only then is its status looked
   at: `final`, `amended` and `corrected` are results; `preliminary`, `registered`, `unknown`,
   `cancelled` and `entered-in-error` are not.
2. What an AI wrote (label AIAST) never feeds an AI. A resource of another patient is not read.
3. A value counts from the time it was true of the patient (`effective[x]`, never `issued`), if
   that is not after the event. One without a readable time can't be shown to be fresh: stale.
4. Newest first; at the same time, what set the model going. A newest value that is wrong (unit
   unknown, not convertible, censored by a comparator, not a number, implausible) is refused
   whatever the missing policy: an older value or a mask must not hide it.
5. No value, or only stale ones: the input's policy decides (refuse, mask, impute).
6. Text is never parsed into numbers; `<5` is a bound and not a value.

Pure: no I/O, no clock. No text it produces holds a patient's value.

Source: FHIR R4 Observation (http://hl7.org/fhir/R4/observation.html), v3-ObservationValue AIAST.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import isfinite
from statistics import fmean
from types import NoneType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from gateway.core import clinical_time
from gateway.core.event import reference_of
from gateway.core.remembered import once_per_object
from models.manifest import Aggregation, CodeRef, Input, Manifest
from models.tensors import Tensors
from workers import units
from workers.readings import (
    NO_LOCAL_CODES,
    Json,
    LocalCodes,
    Reading,
    Readings,
    Slot,
    find_readings,
    newest_first,
    newest_of,
)
from workers.reasons import REASONS, Reason

Status = Literal["present", "missing", "stale", "imputed"]

_AGGREGATE: Mapping[Aggregation, Any] = {"latest": fmean, "mean": fmean, "min": min, "max": max}
_HOUR = timedelta(hours=1)
_NO_NUMBERS = (bool, str, NoneType)


@dataclass(frozen=True)
class FeatureInput:
    """One input as the model was given it; for the audit trail and for `derivedFrom`.

    Attributes:
        id: Id of the manifest's input.
        value: In `unit`; None where the model was told "not known".
        unit: UCUM code of the manifest.
        effective: When it was true of the patient, the newest if there are several.
        sources: References of what it was read from, with the version where there is one.
        status: Whether it was there.
        note: What it is, for people, where it is no number; nothing of its content.
    """

    id: str
    value: float | None
    unit: str
    effective: datetime | None
    sources: tuple[str, ...]
    status: Status
    note: str = ""


@dataclass(frozen=True, eq=False)
class Features:
    """What the model is given for one patient at one time.

    Attributes:
        tensors: By the names of the graph's inputs, without the batch axis.
        inputs: The numbers, explained, in the manifest's order.
        documents: The image or text, explained.
    """

    tensors: Tensors
    inputs: tuple[FeatureInput, ...]
    documents: tuple[FeatureInput, ...] = ()

    @property
    def vector(self) -> npt.NDArray[np.float32]:
        """The numbers: float32 of shape (k,), in the manifest's order; NaN where masked."""
        return _vector(self.inputs)

    @property
    def present(self) -> int:
        """How many inputs have a value read from the record."""
        return sum(each.status == "present" for each in self.inputs)

    @property
    def used(self) -> tuple[FeatureInput, ...]:
        """Everything the model is given: the image or text first, then the numbers."""
        return (*self.documents, *self.inputs)

    @property
    def sources(self) -> tuple[str, ...]:
        """Every resource read, once, in the order of the inputs."""
        return tuple(dict.fromkeys(source for each in self.used for source in each.sources))


@dataclass(frozen=True)
class Refusal:
    """Why the model was not asked.

    Attributes:
        reason: The weightiest reason.
        inputs: Ids of the inputs it applies to.
        sources: References of the resources it is about.
        text: For people; without any value.
    """

    reason: Reason
    inputs: tuple[str, ...]
    sources: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class _Problem:
    input: Input
    reason: Reason
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Record:
    """One patient's record as one model sees it: read once, asked as often as is needed.

    Attributes:
        manifest: What the model needs.
        patient: The Patient resource, if it is known.
        readings: What carries a value for the inputs.
        local_codes: The hospital's own codes and what they mean.
    """

    manifest: Manifest
    patient: Json | None
    readings: Readings
    local_codes: LocalCodes

    def features(self, at: datetime) -> Features | Refusal:
        """Read the model's inputs.

        Args:
            at: The clinical time of the event; nothing later is used.
        """
        found = [self._resolve(each, at) for each in self.manifest.inputs]
        problems = [each for each in found if isinstance(each, _Problem)]
        inputs = tuple(each for each in found if isinstance(each, FeatureInput))
        if refusal := _refusal(problems) or _too_little(self.manifest, inputs):
            return refusal
        name = self.manifest.weights.input_name
        return Features({} if name is None else {name: _vector(inputs)}, inputs)

    def still_missing(self, at: datetime) -> tuple[CodeRef, ...]:
        """The codes to ask an EHR for, see the function of this name."""
        wanted = [
            code
            for each, codes in _requests(self.manifest)
            if _is_wanting(each, self.readings.get(each.id, ()), at)
            for code in codes
        ]
        keys = {(code.key, code.display): code for code in wanted}
        meanings = {code.key for code in wanted}
        local = [
            CodeRef(system=system, code=code)
            for (system, code), meaning in self.local_codes.items()
            if meaning in meanings
        ]
        return (*keys.values(), *local)

    def _resolve(self, each: Input, at: datetime) -> FeatureInput | _Problem:
        if each.source == "observation":
            return _observed(each, self.readings.get(each.id, ()), at)
        return _personal(each, self.patient, at)


def _vector(inputs: Sequence[FeatureInput]) -> npt.NDArray[np.float32]:
    values = [np.nan if each.value is None else each.value for each in inputs]
    return np.asarray(values, dtype=np.float32)


def read_record(
    manifest: Manifest,
    resources: Sequence[Json],
    *,
    patient: Json | None,
    local_codes: LocalCodes = NO_LOCAL_CODES,
    trigger: Json | None = None,
) -> Record:
    """Find in a patient's record what a model needs.

    Args:
        manifest: What the model needs.
        resources: Observations of the patient, any number of versions, in any order; the rest is
            ignored.
        patient: The Patient resource, if it is known.
        local_codes: The hospital's own codes and what they mean.
        trigger: The resource that set the model going; it counts among readings of one time.
    """
    readings = find_readings(
        manifest, resources, patient=patient, local_codes=local_codes, trigger=trigger
    )
    return Record(manifest, patient, readings, local_codes)


def extract(
    manifest: Manifest,
    resources: Sequence[Json],
    *,
    patient: Json | None,
    at: datetime,
    local_codes: LocalCodes = NO_LOCAL_CODES,
    trigger: Json | None = None,
) -> Features | Refusal:
    """Read a model's inputs out of one patient's record, at once.

    Args:
        manifest: What the model needs.
        resources: Observations of the patient, any number of versions, in any order; the rest is
            ignored.
        patient: The Patient resource, if it is known.
        at: The clinical time of the event (`clinical_time.clinical_time`); nothing later is used.
        local_codes: The hospital's own codes and what they mean.
        trigger: The resource that set the model going; it counts among readings of one time.
    """
    record = read_record(
        manifest, resources, patient=patient, local_codes=local_codes, trigger=trigger
    )
    return record.features(at)


def still_missing(
    manifest: Manifest,
    resources: Sequence[Json],
    *,
    patient: Json | None,
    at: datetime,
    local_codes: LocalCodes = NO_LOCAL_CODES,
) -> tuple[CodeRef, ...]:
    """The codes to ask an EHR for: of inputs without a fresh value, and of all that look back.

    Local codes that mean the same are included, since an EHR is searched by the codes it writes.
    How far back to ask is `manifest.look_back_h`.
    """
    record = read_record(manifest, resources, patient=patient, local_codes=local_codes)
    return record.still_missing(at)


@once_per_object
def _requests(manifest: Manifest) -> tuple[tuple[Input, tuple[CodeRef, ...]], ...]:
    """The inputs that an EHR can be asked for, each with the codes to ask by."""
    return tuple(
        (
            each,
            tuple(
                CodeRef(system=code.system, code=code.code, display=code.display)
                for code in (*each.codes, *each.panels)
            ),
        )
        for each in manifest.inputs
        if each.source == "observation"
    )


def _is_wanting(each: Input, readings: Sequence[Reading], at: datetime) -> bool:
    if each.aggregation != "latest":
        return True
    newest = newest_of(readings, at)
    return newest is None or _age_h(newest, at) > (each.max_age_h or 0)


def _personal(each: Input, patient: Json | None, at: datetime) -> FeatureInput | _Problem:
    value = _of_patient(each, patient, at)
    if patient is None or value is None:
        return _absent(each, "patient-unknown")
    if reason := _judge(each, value):
        return _Problem(each, reason, _sources(patient))
    return FeatureInput(each.id, value, each.unit, None, _sources(patient), "present")


def _of_patient(each: Input, patient: Json | None, at: datetime) -> float | None:
    if patient is None:
        return None
    if each.source == "patient-age":
        years = clinical_time.completed_years(patient.get("birthDate"), at)
        return None if years is None else float(years)
    gender = patient.get("gender")
    return next((known.value for known in each.categories if known.code == gender), None)


def _sources(resource: Json) -> tuple[str, ...]:
    reference = reference_of(resource)
    return (reference,) if reference else ()


def _observed(each: Input, readings: Sequence[Reading], at: datetime) -> FeatureInput | _Problem:
    newest = newest_of(readings, at)
    if newest is None:
        undated = any(reading.time is None for reading in readings)
        return _absent(each, "input-stale" if undated else "input-missing")
    if _age_h(newest, at) > (each.max_age_h or 0):
        return _absent(each, "input-stale")
    window = [newest] if each.look_back_h is None else _window(readings, at, each.look_back_h)
    values: list[float] = []
    for reading in window:
        value = _number(each, reading)
        if not isinstance(value, float):
            return _Problem(each, value, (reading.reference,) if reading.reference else ())
        values.append(value)
    sources = tuple(filter(None, [reading.reference for reading in window]))
    value = values[0] if len(values) == 1 else float(_AGGREGATE[each.aggregation](values))
    return FeatureInput(each.id, value, each.unit, newest.moment, sources, "present")


def _age_h(reading: Reading, at: datetime) -> float:
    return (at - reading.moment) / _HOUR


def _window(readings: Sequence[Reading], at: datetime, hours: float) -> list[Reading]:
    inside = [each for each in readings if 0 <= _age_h(each, at) <= hours]
    return newest_first(inside)


def _absent(each: Input, reason: Reason) -> FeatureInput | _Problem:
    if each.missing == "refuse":
        return _Problem(each, reason)
    if each.missing == "impute":
        return FeatureInput(each.id, each.impute_value, each.unit, None, (), "imputed")
    status: Status = "stale" if reason == "input-stale" else "missing"
    return FeatureInput(each.id, None, each.unit, None, (), status)


def _number(each: Input, reading: Reading) -> float | Reason:
    if reading.slot is None:
        return "input-unreadable"
    value = _value(each, reading.slot, reading.element)
    return (_judge(each, value) or value) if isinstance(value, float) else value


def _judge(each: Input, value: float) -> Reason | None:
    if not each.is_plausible(value):
        return "input-implausible"
    return None if each.is_intended(value) else "outside-intended-use"


def _value(each: Input, slot: Slot, element: Json) -> float | Reason:
    found = _stated(each, slot, element)
    # Where numbers stand for words, another number stands for nothing.
    coded = {known.value for known in each.categories} if each.unit == "1" else None
    return "input-unreadable" if coded and found not in coded else found


def _stated(each: Input, slot: Slot, element: Json) -> float | Reason:
    if "valueQuantity" in element:
        return _quantity(slot, element["valueQuantity"])
    if "valueInteger" in element and (each.categories or each.unit == "1"):
        return float(element["valueInteger"])
    if "valueCodeableConcept" in element:
        return _category(each, element["valueCodeableConcept"])
    return "input-unreadable"


def _category(each: Input, concept: Json) -> float | Reason:
    keys = {(coding.get("system"), coding.get("code")) for coding in concept.get("coding") or ()}
    values = {known.value for known in each.categories if known.key in keys}
    return values.pop() if len(values) == 1 else "input-unreadable"


def _quantity(slot: Slot, quantity: Json) -> float | Reason:
    value = quantity.get("value")
    if isinstance(value, _NO_NUMBERS) or not isfinite(value):
        return "input-unreadable"
    if quantity.get("comparator"):
        return "input-censored"
    try:
        return slot.converter.conversion(quantity)(float(value))
    except units.UnitUnknown:
        return "unit-unknown"
    except units.UnitNotConvertible:
        return "unit-not-convertible"


def _refusal(problems: Sequence[_Problem]) -> Refusal | None:
    if not problems:
        return None
    weight = list(REASONS).index
    reason = min((problem.reason for problem in problems), key=weight)
    said = sorted(problems, key=lambda problem: weight(problem.reason))
    return Refusal(
        reason=reason,
        inputs=tuple(problem.input.id for problem in problems if problem.reason == reason),
        sources=tuple(source for problem in said for source in problem.sources),
        text=". ".join(f"{each.input.label}: {REASONS[each.reason]}" for each in said) + ".",
    )


def _too_little(manifest: Manifest, inputs: Sequence[FeatureInput]) -> Refusal | None:
    has_value = {each.id for each in inputs if each.status == "present"}
    for group in manifest.any_of:
        if not has_value.intersection(group):
            labels = " or ".join(manifest.input(name).label for name in group)
            return Refusal("input-missing", group, (), f"{labels}: {REASONS['input-missing']}.")
    observed = [each.id for each in manifest.inputs if each.source == "observation"]
    absent = tuple(name for name in observed if name not in has_value)
    if len(observed) - len(absent) >= manifest.min_present:
        return None
    text = (
        f"At least {manifest.min_present} of {len(observed)} results are needed to use this model."
    )
    return Refusal("too-few-inputs", absent, (), text)
