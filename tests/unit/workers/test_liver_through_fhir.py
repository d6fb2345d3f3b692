"""The whole public liver table, through FHIR and back, in two systems of units."""

import csv
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest

from models.golden import read_golden
from models.registry import REFERENCE_MODELS, load
from models.runtime import Runtime
from models.statistics import auroc
from workers.features import Features, Refusal, extract

CSV = Path(__file__).resolve().parents[4] / "shared" / "data" / "ilpd" / "ilpd.csv"
pytestmark = pytest.mark.skipif(not CSV.exists(), reason="the public liver table is not at hand")

MODEL = load(REFERENCE_MODELS / "liver-risk")
AT = datetime(2026, 1, 15, 4, 30, tzinfo=UTC)
LOINC, UCUM = "http://loinc.org", "http://unitsofmeasure.org"
UMOL_PER_MG_DL = 10_000 / 584.66
CONVENTIONAL = {
    "bilirubin-total": ("TB", "1975-2", "mg/dL", 1.0),
    "bilirubin-direct": ("DB", "1968-7", "mg/dL", 1.0),
    "alp": ("Alkphos", "6768-6", "U/L", 1.0),
    "alt": ("Sgpt", "1742-6", "U/L", 1.0),
    "ast": ("Sgot", "1920-8", "U/L", 1.0),
    "protein": ("TP", "2885-2", "g/dL", 1.0),
    "albumin": ("ALB", "1751-7", "g/dL", 1.0),
    "albumin-globulin": ("A/G", "1759-0", "1", 1.0),
}
SI = CONVENTIONAL | {
    "bilirubin-total": ("TB", "14631-6", "umol/L", UMOL_PER_MG_DL),
    "bilirubin-direct": ("DB", "14629-0", "umol/L", UMOL_PER_MG_DL),
    "protein": ("TP", "2885-2", "g/L", 10.0),
    "albumin": ("ALB", "1751-7", "g/L", 10.0),
}


def rows():
    with CSV.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def to_fhir(row, dialect):
    born = date(AT.year - int(row["Age"]), AT.month, AT.day).isoformat()
    patient = {
        "resourceType": "Patient",
        "id": "p",
        "birthDate": born,
        "gender": row["Gender"].lower(),
    }
    results = [
        {
            "resourceType": "Observation",
            "id": name,
            "status": "final",
            "code": {"coding": [{"system": LOINC, "code": code}]},
            "subject": {"reference": "Patient/p"},
            "effectiveDateTime": AT.isoformat(),
            "valueQuantity": {
                "value": float(row[column]) * factor,
                "unit": unit,
                "system": UCUM,
                "code": unit,
            },
        }
        for name, (column, code, unit, factor) in dialect.items()
        if row[column]
    ]
    return patient, results


def direct(row):
    sex = {"Male": 0.0, "Female": 1.0}[row["Gender"]]
    values = (row[column] for column, _, _, _ in CONVENTIONAL.values())
    return [float(row["Age"]), sex, *(float(value) if value else np.nan for value in values)]


@pytest.mark.parametrize("dialect", [CONVENTIONAL, SI], ids=["conventional", "si"])
def test_every_man_reaches_the_model_as_in_the_table_and_no_woman_or_child_does(dialect):
    through_fhir, expected, truth = [], [], []

    for row in rows():
        patient, results = to_fhir(row, dialect)
        read = extract(MODEL.manifest, results, patient=patient, at=AT)
        if int(row["Age"]) < 18 or row["Gender"] == "Female":
            assert isinstance(read, Refusal)
            assert read.reason == "outside-intended-use"
            continue
        assert isinstance(read, Features)
        through_fhir.append(read.vector)
        expected.append(direct(row))
        truth.append(row["Selector"] == "1")

    np.testing.assert_allclose(through_fhir, np.array(expected, dtype=np.float32), rtol=1e-5)
    answers = Runtime(MODEL).predict({"features": np.array(through_fhir)})[:, 0]
    assert auroc(np.array(truth), answers.astype(float)) > 0.75  # patients it was trained on


@pytest.mark.parametrize(
    ("gender", "reason"),
    [
        ("female", "outside-intended-use"),
        ("other", "patient-unknown"),
        ("unknown", "patient-unknown"),
        (None, "patient-unknown"),
    ],
)
def test_nobody_but_a_man_is_given_an_answer(gender, reason):
    row = next(each for each in rows() if each["Gender"] == "Male" and int(each["Age"]) > 40)
    patient, results = to_fhir(row, CONVENTIONAL)
    about = {name: value for name, value in patient.items() if name != "gender"}
    if gender:
        about["gender"] = gender

    refused = extract(MODEL.manifest, results, patient=about, at=AT)

    assert isinstance(refused, Refusal)
    assert (refused.reason, refused.inputs) == (reason, ("sex",))
    assert isinstance(extract(MODEL.manifest, results, patient=patient, at=AT), Features)


def test_no_golden_case_is_one_that_would_be_refused():
    inputs = MODEL.manifest.inputs

    content = (MODEL.folder / MODEL.manifest.golden).read_bytes()
    for case in read_golden(content, MODEL.manifest):
        assert case.inputs is not None
        given = [(each, case.inputs[each.id]) for each in inputs]
        assert all(value is None or each.is_intended(value) for each, value in given)
        assert case.inputs["sex"] == 0
