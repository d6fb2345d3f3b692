"""The whole public table, through FHIR and back, in two systems of units."""

from collections import Counter

import numpy as np
import pytest

from models.registry import load_installed
from models.runtime import Runtime
from tests.ckd import ARFF, AT, CkdRow, ckd_rows, model_input, to_fhir
from workers.features import Features, Refusal, extract

pytestmark = pytest.mark.skipif(not ARFF.exists(), reason="the public CKD table is not at hand")

MODEL = load_installed()["ckd-risk"]
PLAUSIBLE = {each.id: each.plausible for each in MODEL.manifest.inputs}
REFUSED = {
    "outside-intended-use": 18,
    "input-missing": 15,
    "patient-unknown": 9,
    "input-implausible": 5,
    "too-few-inputs": 2,
}


def why_refused(row: CkdRow) -> str | None:
    """The reason by the words of the model card, worked out without the code under test."""
    known = {name: value for name, value in row.values.items() if value is not None}
    if "age" not in known:
        return "patient-unknown"
    if any(not PLAUSIBLE[name][0] <= value <= PLAUSIBLE[name][1] for name, value in known.items()):
        return "input-implausible"
    if known["age"] < 18:
        return "outside-intended-use"
    if not known.keys() & {"creatinine", "urea"}:
        return "input-missing"
    return "too-few-inputs" if len(known) - 1 < 4 else None


@pytest.mark.parametrize("system_units", ["conventional", "si"])
def test_every_row_reaches_the_model_as_in_the_table_or_is_refused_for_its_reason(system_units):
    runtime, reasons = Runtime(MODEL), Counter()
    through_fhir, direct = [], []

    for row in ckd_rows():
        patient, *observations = to_fhir(row, system_units=system_units)
        outcome = extract(MODEL.manifest, observations, patient=patient, at=AT)
        if isinstance(outcome, Refusal):
            assert outcome.reason == why_refused(row)
            reasons[outcome.reason] += 1
        else:
            assert isinstance(outcome, Features)
            assert why_refused(row) is None
            through_fhir.append(outcome.vector)
            direct.append(model_input(row))

    np.testing.assert_allclose(through_fhir, direct, rtol=1e-6)
    answers = runtime.predict({"features": np.array(through_fhir)})
    np.testing.assert_allclose(answers, runtime.predict({"features": np.array(direct)}), atol=1e-6)
    assert (len(direct), reasons) == (351, REFUSED)
