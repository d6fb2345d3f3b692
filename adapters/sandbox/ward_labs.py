"""Vitals and labs of the synthetic ward, in the mixed codes and units that real labs send.

Each measurement has one distribution for people who look healthy and one for people whose kidneys
have failed for long; a severity between 0 and 1 mixes the two, so that a patient's results fit
together (high creatinine with high urea and low haemoglobin). The figures are ours, rounded from
textbook ranges; they teach nobody medicine.

Source: LOINC codes; UCUM units; R4 Observation and the vital signs profile for blood pressure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from types import MappingProxyType
from typing import Any

LOINC = "http://loinc.org"
UCUM = "http://unitsofmeasure.org"
LOCAL_SYSTEM = "https://hospital.example/lab-codes"
_CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"

#: What the hospital's own codes of this ward mean, (system, code) -> (system, code): a site file
#: has to say so, or those results are not understood.
LOCAL_CODES: Mapping[tuple[str, str], tuple[str, str]] = MappingProxyType(
    {
        (LOCAL_SYSTEM, "TLC"): (LOINC, "6690-2"),
        (LOCAL_SYSTEM, "RBCC"): (LOINC, "789-8"),
    }
)


@dataclass(frozen=True)
class _Form:
    """One way in which a lab reports a measurement.

    Attributes:
        unit: As people read it.
        ucum: As machines read it; empty when the lab sends the text only.
        factor: From the measurement's own unit to this one.
        decimals: To which the lab rounds.
    """

    code: str
    unit: str
    ucum: str
    factor: float
    decimals: int
    system: str = LOINC


@dataclass(frozen=True)
class _Measurement:
    """A quantity with its spread (mean, deviation) in health and in long kidney failure."""

    name: str
    healthy: tuple[float, float]
    failing: tuple[float, float]
    lowest: float
    forms: tuple[_Form, ...]


_CREATININE = _Measurement(
    "Creatinine",
    (0.9, 0.12),
    (6.5, 1.8),
    0.4,
    (
        _Form("2160-0", "mg/dL", "mg/dL", 1, 2),
        _Form("2160-0", "mg%", "", 1, 1),
        _Form("14682-9", "µmol/L", "umol/L", 88.42, 0),
    ),
)
_LABS = (
    _Measurement("Urea nitrogen", (15, 3), (55, 12), 5, (_Form("3094-0", "mg/dL", "mg/dL", 1, 0),)),
    _Measurement(
        "Sodium",
        (141.5, 2.2),
        (132, 4),
        110,
        (_Form("2951-2", "mmol/L", "mmol/L", 1, 0), _Form("2951-2", "mEq/L", "meq/L", 1, 0)),
    ),
    _Measurement(
        "Potassium",
        (4.2, 0.3),
        (5.4, 0.5),
        2.6,
        (_Form("2823-3", "mmol/L", "mmol/L", 1, 1), _Form("2823-3", "mEq/L", "meq/L", 1, 1)),
    ),
    _Measurement(
        "Haemoglobin",
        (14.9, 0.9),
        (8.8, 1.1),
        4.5,
        (
            _Form("718-7", "g/dL", "g/dL", 1, 1),
            _Form("718-7", "g/L", "g/L", 10, 0),
            _Form("718-7", "gm%", "", 1, 1),
        ),
    ),
    _Measurement(
        "Haematocrit",
        (46, 2.5),
        (27, 3.5),
        14,
        (_Form("4544-3", "%", "%", 1, 0), _Form("20570-8", "%", "%", 1, 0)),
    ),
    _Measurement(
        "Leucocytes",
        (7.4, 1.3),
        (9.6, 2.4),
        3,
        (
            _Form("6690-2", "10*3/uL", "10*3/uL", 1, 1),
            _Form("6690-2", "/uL", "/uL", 1000, 0),
            _Form("6690-2", "cells/cumm", "", 1000, 0),
            _Form("TLC", "10*3/uL", "10*3/uL", 1, 1, LOCAL_SYSTEM),
        ),
    ),
    _Measurement(
        "Erythrocytes",
        (5.3, 0.35),
        (3.5, 0.4),
        2.2,
        (
            _Form("789-8", "10*6/uL", "10*6/uL", 1, 1),
            _Form("789-8", "10*12/L", "10*12/L", 1, 1),
            _Form("RBCC", "10*6/uL", "10*6/uL", 1, 1, LOCAL_SYSTEM),
        ),
    ),
    _Measurement(
        "Glucose",
        (108, 14),
        (190, 55),
        60,
        (_Form("2345-7", "mg/dL", "mg/dL", 1, 0), _Form("14749-6", "mmol/L", "mmol/L", 0.0555, 1)),
    ),
)


@dataclass(frozen=True)
class Result:
    """A measured Observation, still without id, patient and time."""

    category: str
    body: Mapping[str, Any]


def other_labs(dice: Random, severity: float) -> Sequence[Result]:
    """Measure everything but creatinine, in an order of the lab's own."""
    results = [_measured(dice, each, severity) for each in _LABS]
    dice.shuffle(results)
    return results


def creatinine(dice: Random, severity: float) -> Result:
    """Measure the creatinine, which is what starts the demonstration's route."""
    return _measured(dice, _CREATININE, severity)


def odd_creatinine(value: float, unit: Mapping[str, str]) -> Result:
    """Report a creatinine that should be refused."""
    code = _concept(LOINC, "2160-0", _CREATININE.name)
    return Result("laboratory", {"code": code, "valueQuantity": {"value": value, **unit}})


def blood_pressure(dice: Random, severity: float) -> Result:
    """Measure the blood pressure, as a panel with two components.

    Source: http://hl7.org/fhir/R4/bp.html.
    """
    systolic = round(_mixed(dice, (115, 8), (158, 14), severity))
    diastolic = round(_mixed(dice, (72, 5), (94, 8), severity))
    components = [
        _component("8480-6", "Systolic blood pressure", systolic),
        _component("8462-4", "Diastolic blood pressure", diastolic),
    ]
    code = _concept(LOINC, "85354-9", "Blood pressure panel")
    return Result("vital-signs", {"code": code, "component": components})


def observation(result: Result, *, patient_id: str, observation_id: str, at: str) -> dict[str, Any]:
    """Make an R4 Observation, without `meta`, of a result.

    Args:
        result: What was measured.
        patient_id: Of whom.
        observation_id: Logical id.
        at: FHIR dateTime at which it was true of the patient.
    """
    return {
        "resourceType": "Observation",
        "id": observation_id,
        "status": "final",
        "category": [{"coding": [{"system": _CATEGORY, "code": result.category}]}],
        "code": result.body["code"],
        "subject": {"reference": f"Patient/{patient_id}"},
        "effectiveDateTime": at,
        **{key: value for key, value in result.body.items() if key != "code"},
    }


def _measured(dice: Random, what: _Measurement, severity: float) -> Result:
    form = dice.choice(what.forms)
    true_value = max(_mixed(dice, what.healthy, what.failing, severity), what.lowest)
    value = round(true_value * form.factor, form.decimals)
    code = _concept(form.system, form.code, what.name)
    quantity = {"value": value if form.decimals else int(value), "unit": form.unit}
    coded = {"system": UCUM, "code": form.ucum} if form.ucum else {}
    return Result("laboratory", {"code": code, "valueQuantity": quantity | coded})


def _mixed(
    dice: Random, healthy: tuple[float, float], failing: tuple[float, float], severity: float
) -> float:
    mean = healthy[0] + severity * (failing[0] - healthy[0])
    deviation = healthy[1] + severity * (failing[1] - healthy[1])
    return max(min(dice.gauss(mean, deviation), mean + 2 * deviation), mean - 2 * deviation)


def _component(code: str, name: str, value: int) -> dict[str, Any]:
    quantity = {"value": value, "unit": "mmHg", "system": UCUM, "code": "mm[Hg]"}
    return {"code": _concept(LOINC, code, name), "valueQuantity": quantity}


def _concept(system: str, code: str, text: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}], "text": text}
