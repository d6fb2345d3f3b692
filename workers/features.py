"""(4.3) One patient's FHIR resources → the numbers a model asks for, or a reasoned refusal.

The rules, in the order they are applied:

1. Of several versions of a resource only the newest counts, and only then is its status looked
   at: `final`, `amended` and `corrected` are results; `preliminary`, `registered`, `unknown`,
   `cancelled` and `entered-in-error` are not.
2. What an AI wrote (label AIAST) never feeds an AI. A resource of another patient is not read.
3. A value counts from the time it was true of the patient (`effective[x]`, never `issued`), if
   that is not after the event. One without a readable time can't be shown to be fresh: stale.
4. Newest first. A newest value that is wrong (unit unknown, not convertible, censored by a
   comparator, not a number, implausible) is refused whatever the missing policy: an older value
   or a mask must not hide it.
5. No value, or only stale ones: the input's policy decides (refuse, mask, impute).
6. Text is never parsed into numbers; `<5` is a bound and not a value.

Pure: no I/O, no clock. No text it produces holds a patient's value.

Source: FHIR R4 Observation (http://hl7.org/fhir/R4/observation.html), v3-ObservationValue AIAST.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import isfinite
from statistics import fmean
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from gateway.core import clinical_time
from gateway.core.clinical_time import Span
from models.manifest import Aggregation, CodeRef, Input, InputCode, Manifest
from workers import units

Json = Mapping[str, Any]
CodeKey = tuple[str, str]
LocalCodes = Mapping[CodeKey, CodeKey]
"""(system, code) as this hospital writes it → (system, code) as the manifest knows it."""

NO_LOCAL_CODES: LocalCodes = MappingProxyType({})

Status = Literal["present", "missing", "stale", "imputed"]
Reason = Literal[
    "patient-unknown",
    "unit-unknown",
    "unit-not-convertible",
    "input-unreadable",
    "input-censored",
    "input-implausible",
    "outside-intended-use",
    "input-stale",
    "input-missing",
    "too-few-inputs",
]

REASONS: Mapping[Reason, str] = MappingProxyType(
    {
        "patient-unknown": "the Patient resource or its birth date or gender is not known",
        "unit-unknown": "the unit is absent, is not UCUM, or contradicts itself",
        "unit-not-convertible": "the unit can't be converted to the one the model needs",
        "input-unreadable": "the newest result is not one number or code that the model knows",
        "input-censored": "the newest result is only a bound (below or above a limit)",
        "input-implausible": "the newest result is outside what a living person can have",
        "outside-intended-use": "the model was not made for such a patient",
        "input-stale": "the newest result is too old, or carries no date",
        "input-missing": "there is no result",
        "too-few-inputs": "too few of the results the model uses are there",
    }
)
"""What each reason says to people; in order of weight: the first that applies is given."""

_RESULTS = frozenset({"final", "amended", "corrected"})
_AGGREGATE: Mapping[Aggregation, Any] = {"latest": fmean, "mean": fmean, "min": min, "max": max}
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


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
    """

    id: str
    value: float | None
    unit: str
    effective: datetime | None
    sources: tuple[str, ...]
    status: Status


@dataclass(frozen=True, eq=False)
class Features:
    """What the model is given for one patient at one time.

    Attributes:
        vector: float32 of shape (k,), in the manifest's order; NaN where masked.
        inputs: The same, explained.
    """

    vector: npt.NDArray[np.float32]
    inputs: tuple[FeatureInput, ...]

    @property
    def present(self) -> int:
        """How many inputs have a value read from the record."""
        return sum(each.status == "present" for each in self.inputs)

    @property
    def sources(self) -> tuple[str, ...]:
        """Every resource read, once, in the order of the inputs."""
        return tuple(dict.fromkeys(source for each in self.inputs for source in each.sources))


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
class _Reading:
    """An Observation, or one of its components, that carries a code of an input."""

    element: Json
    code: InputCode | None  # None: its codes contradict each other
    time: Span | None
    issued: Span | None
    reference: str


@dataclass(frozen=True)
class _Problem:
    input: Input
    reason: Reason
    sources: tuple[str, ...] = ()


def extract(
    manifest: Manifest,
    resources: Sequence[Json],
    *,
    patient: Json | None,
    at: datetime,
    local_codes: LocalCodes = NO_LOCAL_CODES,
) -> Features | Refusal:
    """Read a model's inputs out of one patient's record.

    Args:
        manifest: What the model needs.
        resources: Observations of the patient, any number of versions, in any order; the rest is
            ignored.
        patient: The Patient resource, if it is known.
        at: The clinical time of the event (`clinical_time.clinical_time`); nothing later is used.
        local_codes: The hospital's own codes and what they mean.
    """
    readings = _readings(manifest, resources, patient=patient, local_codes=local_codes)
    found = [_resolve(each, readings.get(each.id, ()), patient, at) for each in manifest.inputs]
    problems = [each for each in found if isinstance(each, _Problem)]
    inputs = tuple(each for each in found if isinstance(each, FeatureInput))
    if refusal := _refusal(problems) or _too_little(manifest, inputs):
        return refusal
    values = [np.nan if each.value is None else each.value for each in inputs]
    return Features(np.asarray(values, dtype=np.float32), inputs)


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
    readings = _readings(manifest, resources, patient=patient, local_codes=local_codes)
    wanted = [
        code
        for each in manifest.inputs
        if each.source == "observation" and _is_wanting(each, readings.get(each.id, ()), at)
        for code in (*each.codes, *each.panels)
    ]
    keys = dict.fromkeys(CodeRef(system=c.system, code=c.code, display=c.display) for c in wanted)
    meanings = {code.key for code in keys}
    local = [CodeRef(system=s, code=c) for (s, c), to in local_codes.items() if to in meanings]
    return (*keys, *local)


def _is_wanting(each: Input, readings: Sequence[_Reading], at: datetime) -> bool:
    if each.aggregation != "latest":
        return True
    newest = _newest(readings, at)
    return newest is None or _age_h(newest, at) > (each.max_age_h or 0)


def _readings(
    manifest: Manifest, resources: Sequence[Json], *, patient: Json | None, local_codes: LocalCodes
) -> dict[str, list[_Reading]]:
    index = {code.key: (each.id, code) for each in manifest.inputs for code in each.codes}
    found: dict[str, list[_Reading]] = {}
    for resource in _current(resources):
        if not _is_usable(resource, patient):
            continue
        for element in (resource, *(resource.get("component") or ())):
            keys = _keys(element, local_codes)
            matches = dict.fromkeys(index[key] for key in keys if key in index)
            if matches and _has_value(element):
                for input_id in {input_id for input_id, _ in matches}:
                    found.setdefault(input_id, []).append(_reading(resource, element, [*matches]))
    return found


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


def _is_usable(resource: Json, patient: Json | None) -> bool:
    if resource.get("status") not in _RESULTS or _is_by_ai(resource):
        return False
    return patient is None or _may_be_about(resource, patient)


def _is_by_ai(resource: Json) -> bool:
    meta = resource.get("meta") or {}
    labels = (*(meta.get("security") or ()), *(meta.get("tag") or ()))
    return any(label.get("code") == "AIAST" for label in labels)


def _may_be_about(resource: Json, patient: Json) -> bool:
    """False when the subject is a Patient with another id; `urn:uuid:` and the like pass."""
    reference = str((resource.get("subject") or {}).get("reference", ""))
    _, is_patient, rest = reference.rpartition("Patient/")
    return not is_patient or "id" not in patient or rest.split("/")[0] == patient["id"]


def _keys(element: Json, local_codes: LocalCodes) -> Iterator[CodeKey]:
    for coding in (element.get("code") or {}).get("coding") or ():
        key = (str(coding.get("system", "")), str(coding.get("code", "")))
        yield key
        if key in local_codes:
            yield local_codes[key]


def _has_value(element: Json) -> bool:
    return any(name.startswith("value") for name in element)


def _reading(resource: Json, element: Json, matches: list[tuple[str, InputCode]]) -> _Reading:
    meanings = {(input_id, code.molar_mass_g_per_mol) for input_id, code in matches}
    return _Reading(
        element=element,
        code=matches[0][1] if len(meanings) == 1 else None,
        time=clinical_time.effective(resource),
        issued=clinical_time.parse(resource.get("issued")),
        reference=_reference(resource),
    )


def _reference(resource: Json) -> str:
    if "id" not in resource:
        return ""
    version = (resource.get("meta") or {}).get("versionId")
    plain = f"{resource['resourceType']}/{resource['id']}"
    return f"{plain}/_history/{version}" if version else plain


def _resolve(
    each: Input, readings: Sequence[_Reading], patient: Json | None, at: datetime
) -> FeatureInput | _Problem:
    if each.source == "observation":
        return _observed(each, readings, at)
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
    reference = _reference(resource)
    return (reference,) if reference else ()


def _observed(each: Input, readings: Sequence[_Reading], at: datetime) -> FeatureInput | _Problem:
    newest = _newest(readings, at)
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
    sources = tuple(reading.reference for reading in window if reading.reference)
    value = float(_AGGREGATE[each.aggregation](values))
    return FeatureInput(each.id, value, each.unit, _moment(newest), sources, "present")


def _newest(readings: Sequence[_Reading], at: datetime) -> _Reading | None:
    dated = [each for each in readings if each.time is not None and each.time.first <= at]
    return max(dated, key=_recency, default=None)


def _recency(reading: _Reading) -> tuple[datetime, datetime, str]:
    """Newest by clinical time; at the same time the one published last; then by reference."""
    issued = reading.issued.last if reading.issued else _LONG_AGO
    return (_moment(reading), issued, reading.reference)


def _moment(reading: _Reading) -> datetime:
    return reading.time.first if reading.time else _LONG_AGO


def _age_h(reading: _Reading, at: datetime) -> float:
    return (at - _moment(reading)) / timedelta(hours=1)


def _window(readings: Sequence[_Reading], at: datetime, hours: float) -> list[_Reading]:
    inside = [each for each in readings if 0 <= _age_h(each, at) <= hours]
    return sorted(inside, key=_recency, reverse=True)


def _absent(each: Input, reason: Reason) -> FeatureInput | _Problem:
    if each.missing == "refuse":
        return _Problem(each, reason)
    if each.missing == "impute":
        return FeatureInput(each.id, each.impute_value, each.unit, None, (), "imputed")
    status: Status = "stale" if reason == "input-stale" else "missing"
    return FeatureInput(each.id, None, each.unit, None, (), status)


def _number(each: Input, reading: _Reading) -> float | Reason:
    if reading.code is None:
        return "input-unreadable"
    value = _value(each, reading.code, reading.element)
    return (_judge(each, value) or value) if isinstance(value, float) else value


def _judge(each: Input, value: float) -> Reason | None:
    if not each.is_plausible(value):
        return "input-implausible"
    return None if each.is_intended(value) else "outside-intended-use"


def _value(each: Input, code: InputCode, element: Json) -> float | Reason:
    if "valueQuantity" in element:
        return _quantity(each, code, element["valueQuantity"])
    if "valueInteger" in element and (each.categories or each.unit == "1"):
        return float(element["valueInteger"])
    if "valueCodeableConcept" in element:
        return _category(each, element["valueCodeableConcept"])
    return "input-unreadable"


def _category(each: Input, concept: Json) -> float | Reason:
    keys = {(coding.get("system"), coding.get("code")) for coding in concept.get("coding") or ()}
    values = {known.value for known in each.categories if known.key in keys}
    return values.pop() if len(values) == 1 else "input-unreadable"


def _quantity(each: Input, code: InputCode, quantity: Json) -> float | Reason:
    value = quantity.get("value")
    if isinstance(value, bool | str | None) or not isfinite(value):
        return "input-unreadable"
    if quantity.get("comparator"):
        return "input-censored"
    wanted = each.molar_mass_g_per_mol
    substance = units.Substance(code.molar_mass_g_per_mol or wanted, wanted, each.valence)
    try:
        unit = units.unit_of(quantity, substance)
        return units.conversion(unit, each.unit, substance)(float(value))
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
