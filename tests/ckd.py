"""The 400 patients of the public kidney disease table as FHIR, as hospitals would send them.

Used by the tests of ckd-risk and by integration tests: `ckd_rows` reads the table, `to_fhir` writes
a Patient and Observations, `model_input` is the row as the model wants it, without FHIR between.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from models import arff

ARFF = (
    Path(__file__).resolve().parents[2]
    / "shared" / "data" / "ckd" / "chronic_kidney_disease_full.arff"
)  # fmt: skip
AT = datetime(2026, 1, 15, 4, 30, tzinfo=UTC)
UnitSystem = Literal["conventional", "si"]

_LOINC, _UCUM = "http://loinc.org", "http://unitsofmeasure.org"
_PLAIN = {
    "age": "age", "diastolic": "bp", "creatinine": "sc", "urea": "bu", "sodium": "sod",
    "potassium": "pot", "haemoglobin": "hemo", "haematocrit": "pcv", "leukocytes": "wbcc",
    "erythrocytes": "rbcc", "glucose": "bgr",
}  # fmt: skip


@dataclass(frozen=True)
class CkdRow:
    """One patient of the table.

    Attributes:
        number: Place in the table, from 0.
        values: Input id → value in the manifest's unit; None where it is missing.
        has_ckd: The table's label.
    """

    number: int
    values: dict[str, float | None]
    has_ckd: bool

    @property
    def patient_id(self) -> str:
        """Logical id of the Patient."""
        return f"ckd-{self.number:03d}"


@dataclass(frozen=True)
class _Dialect:
    """How one kind of hospital writes one result."""

    code: str
    unit: str
    from_manifest: Callable[[float], float] = float
    spelling: str | None = None


_CONVENTIONAL = {
    "creatinine": _Dialect("2160-0", "mg/dL", spelling="mg/dl"),
    "urea": _Dialect("3091-6", "mg/dL", spelling="mg %"),
    "sodium": _Dialect("2951-2", "meq/L", spelling="mEq/L"),
    "potassium": _Dialect("2823-3", "meq/L", spelling="mEq/L"),
    "haemoglobin": _Dialect("718-7", "g/dL", spelling="gm%"),
    "haematocrit": _Dialect("4544-3", "%", spelling="%"),
    "leukocytes": _Dialect("6690-2", "/uL", lambda value: value * 1000, "cells/cumm"),
    "erythrocytes": _Dialect("789-8", "10*6/uL", spelling="millions/cmm"),
    "glucose": _Dialect("2339-0", "mg/dL", spelling="mg/dl"),
}
_UREA_NITROGEN = _Dialect("3094-0", "mg/dL", lambda value: value * 28.014 / 60.056)
_SI = {
    "creatinine": _Dialect("14682-9", "umol/L", lambda value: value * 10_000 / 113.12, "µmol/L"),
    "urea": _Dialect("22664-7", "mmol/L", lambda value: value * 10 / 60.056, "mmol/l"),
    "sodium": _Dialect("2951-2", "mmol/L", spelling="mmol/L"),
    "potassium": _Dialect("2823-3", "mmol/L", spelling="mmol/L"),
    "haemoglobin": _Dialect("718-7", "g/L", lambda value: value * 10, "g/l"),
    "haematocrit": _Dialect("20570-8", "L/L", lambda value: value / 100, "l/l"),
    "leukocytes": _Dialect("26464-8", "10*9/L", spelling="x 10^9/L"),
    "erythrocytes": _Dialect("26453-1", "10*12/L", spelling="10^12/l"),
    "glucose": _Dialect("14749-6", "mmol/L", lambda value: value * 10 / 180.156, "mmol/L"),
}


def ckd_rows(path: Path = ARFF) -> list[CkdRow]:
    """Every patient of the table."""
    table = arff.read(path)
    columns = {name: table.column(column) for name, column in _PLAIN.items()}
    return [
        CkdRow(number, {name: _value(name, column[number]) for name, column in columns.items()},
               label == "ckd")
        for number, label in enumerate(table.column("class"))
    ]  # fmt: skip


def model_input(row: CkdRow) -> npt.NDArray[np.float32]:
    """The row as the model takes it: shape (11,), NaN where a value is missing."""
    values = [np.nan if value is None else value for value in row.values.values()]
    return np.asarray(values, dtype=np.float32)


def to_fhir(row: CkdRow, *, system_units: UnitSystem, at: datetime = AT) -> list[dict[str, Any]]:
    """The Patient, then an Observation per known value.

    Even rows carry UCUM codes. Odd rows carry only what a person typed as unit. In conventional
    units every third row reports urea nitrogen instead of urea.

    Args:
        row: The patient.
        system_units: Which units the hospital uses.
        at: When everything was measured; also sets the birth date.
    """
    dialects = _CONVENTIONAL if system_units == "conventional" else _SI
    if system_units == "conventional" and row.number % 3 == 0:
        dialects = dialects | {"urea": _UREA_NITROGEN}
    results = [
        _observation(row, name, at, code=dialect.code, quantity=_quantity(row, dialect, value))
        for name, dialect in dialects.items()
        if (value := row.values[name]) is not None
    ]
    return [_patient(row, at), *_blood_pressure(row, at), *results]


def _value(name: str, text: str | None) -> float | None:
    if text is None:
        return None
    return float(text) * (1e-3 if name == "leukocytes" else 1.0)


def _patient(row: CkdRow, at: datetime) -> dict[str, Any]:
    patient: dict[str, Any] = {"resourceType": "Patient", "id": row.patient_id}
    age = row.values["age"]
    if age is not None:
        born = date(at.year - int(age), at.month, min(at.day, 28))
        patient["birthDate"] = born.isoformat()
    return patient


def _quantity(row: CkdRow, dialect: _Dialect, value: float) -> dict[str, Any]:
    amount = dialect.from_manifest(value)
    if row.number % 2 and dialect.spelling:
        return {"value": amount, "unit": dialect.spelling}
    return {"value": amount, "unit": dialect.unit, "system": _UCUM, "code": dialect.unit}


def _blood_pressure(row: CkdRow, at: datetime) -> list[dict[str, Any]]:
    value = row.values["diastolic"]
    if value is None:
        return []
    quantity = {"value": value, "unit": "mmHg", "system": _UCUM, "code": "mm[Hg]"}
    if row.number % 2:
        return [_observation(row, "diastolic", at, code="8462-4", quantity=quantity)]
    unknown = {"coding": [{
        "system": "http://terminology.hl7.org/CodeSystem/data-absent-reason", "code": "unknown",
    }]}  # fmt: skip
    panel = _observation(row, "blood-pressure", at, code="85354-9", quantity=None)
    panel["component"] = [
        {"code": {"coding": [{"system": _LOINC, "code": "8480-6"}]}, "dataAbsentReason": unknown},
        {"code": {"coding": [{"system": _LOINC, "code": "8462-4"}]}, "valueQuantity": quantity},
    ]
    return [panel]


def _observation(
    row: CkdRow, name: str, at: datetime, *, code: str, quantity: dict[str, Any] | None
) -> dict[str, Any]:
    observation: dict[str, Any] = {
        "resourceType": "Observation",
        "id": f"{row.patient_id}-{name}",
        "status": "final",
        "code": {"coding": [{"system": _LOINC, "code": code}]},
        "subject": {"reference": f"Patient/{row.patient_id}"},
        "effectiveDateTime": at.isoformat(),
    }
    return observation | ({"valueQuantity": quantity} if quantity else {})
