"""Hiding numbers: by a baseline, by "not known", or not at all; linear models add up exactly."""

from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.explain import answer_and_explain
from models.explained import Explained
from models.manifest import Manifest
from models.occlusion import Unexplainable
from models.occlusion_numbers import plan_numbers
from models.registry import REFERENCE_MODELS, load
from models.runtime import Runtime
from models.tensors import FloatArray, Tensors
from tests.result_models import RISK

NAN = float("nan")


def manifest(*inputs: dict[str, Any], **explanation: int) -> Manifest:
    """A regression of any number; each input is the toy model's first, with changes."""
    told = orjson.loads(RISK.model_dump_json())
    first = {**told["inputs"][0], "baseline": None}
    told["inputs"] = [
        {
            **first,
            "id": f"i{n}",
            "label": f"Input {n}",
            "codes": [{"system": "s", "code": str(n)}],
            "plausible": (-1e6, 1e6),
            **change,
        }
        for n, change in enumerate(inputs)
    ]
    told["outputs"][0] |= {
        "kind": "regression",
        "unit": "mL",
        "unit_text": None,
        "range": (-1e9, 1e9),
        "bands": [],
        "outcome": None,
    }
    told["explanation"] = explanation
    return Manifest.model_validate(told)


def case(*values: float) -> Tensors:
    return {"x": np.array(values, np.float32)}


def hidden(planned: Manifest, *values: float) -> list[list[float]]:
    return [variant["x"].tolist() for variant in plan_numbers(planned, case(*values)).hidden]


def test_a_number_is_hidden_by_its_baseline_and_at_last_all_are() -> None:
    model = manifest({"baseline": 10}, {"baseline": 20})

    assert hidden(model, 1, 2) == [[10, 2], [1, 20], [10, 20]]


def test_without_a_baseline_it_is_what_the_model_is_told_of_an_unknown_value() -> None:
    imputed = {"missing": "impute", "impute_value": 7, "impute_reason": "Usual."}

    found = hidden(manifest({}, imputed), 1, 2)

    np.testing.assert_equal(found, [[NAN, 2], [1, 7], [NAN, 7]])


def test_a_number_that_the_model_can_t_do_without_is_kept_and_named() -> None:
    plan = plan_numbers(manifest({"missing": "refuse"}, {}), case(1, 2))

    assert (plan.names, plan.kept) == (("Input 1",), ("Input 0",))


def test_what_is_not_there_or_is_the_baseline_already_costs_no_run() -> None:
    plan = plan_numbers(manifest({}, {"baseline": 2}, {"baseline": 0}), case(NAN, 2, 5))

    assert (plan.names, plan.kept) == (("Input 2",), ())
    assert len(plan.hidden) == 2


def test_the_case_itself_is_left_as_it_was() -> None:
    given_case = case(1, 2)

    plan_numbers(manifest({}, {}), given_case)

    assert given_case["x"].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (manifest({"missing": "refuse"}, {"missing": "refuse"}), "nothing"),
        (manifest({}, {}, max_evaluations=2), "more than"),
    ],
    ids=["nothing-to-hide", "too-much"],
)
def test_what_can_t_be_explained_says_why(model: Manifest, why: str) -> None:
    with pytest.raises(Unexplainable, match=why):
        plan_numbers(model, case(1, 2))


def explain(model: Manifest, network: Any, *values: float) -> Explained:
    _, explained = answer_and_explain(
        network, model, case(*values), encoder=None, is_late=lambda: False
    )
    return explained


@given(st.data())
def test_the_effects_of_a_linear_model_are_its_terms_and_add_up(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 8))
    numbers = st.integers(-1000, 1000)
    weights, values, baselines = (
        np.array(data.draw(st.lists(numbers, min_size=size, max_size=size)), np.float32)
        for _ in range(3)
    )
    model = manifest(*({"baseline": float(each)} for each in baselines))

    def network(batch: Tensors) -> FloatArray:
        return (batch["x"] @ weights)[:, None].astype(np.float32)

    moved = values != baselines
    if not moved.any():
        with pytest.raises(Unexplainable):
            explain(model, network, *values.tolist())
        return
    told = explain(model, network, *values.tolist())

    terms = (weights * (values - baselines))[moved]
    assert [each.change for each in told.effects] == terms.tolist()
    assert told.gap == 0
    assert told.is_additive
    # Where no term changes anything, nothing is named that could be added up.
    assert ("which is their sum" in told.describe()) == bool(terms.any())


def test_a_model_that_multiplies_says_that_its_effects_do_not_add_up() -> None:
    def network(batch: Tensors) -> FloatArray:
        return batch["x"].prod(axis=1, keepdims=True)

    told = explain(manifest({"baseline": 0}, {"baseline": 0}), network, 3, 4)

    assert [each.change for each in told.effects] == [12, 12]
    assert (told.total, told.gap) == (12, -12)
    assert "they do not add up" in told.describe()


def test_the_kidney_model_names_what_moved_a_high_risk() -> None:
    runtime = Runtime(load(REFERENCE_MODELS / "ckd-risk"))
    model = runtime.model.manifest
    values = {"age": 61, "creatinine": 5.2, "urea": 140, "haemoglobin": 8.1, "sodium": 131}
    row = [values.get(each.id, NAN) for each in model.inputs]
    given_case = {str(model.weights.input_name): np.array(row, np.float32)}

    answer, told = answer_and_explain(
        runtime.predict, model, given_case, encoder=None, is_late=lambda: False
    )

    alone = runtime.predict({name: each[None] for name, each in given_case.items()})[0]
    assert answer == pytest.approx(alone.tolist(), abs=1e-6)
    assert {each.part for each in told.effects} == {
        model.input(name).label for name in values if name != "age"
    }
    assert told.kept == ("Age",)


def test_an_early_warning_score_is_the_sum_of_the_points_of_its_signs() -> None:
    runtime = Runtime(load(REFERENCE_MODELS / "news2"))
    model = runtime.model.manifest
    signs = {"respiration": 26, "saturation": 91, "pulse": 118, "temperature": 38.4}
    usual = {each.id: 70.0 if each.baseline is None else each.baseline for each in model.inputs}
    row = [(usual | signs)[each.id] for each in model.inputs]
    given_case = {str(model.weights.input_name): np.array(row, np.float32)}

    answer, told = answer_and_explain(
        runtime.predict, model, given_case, encoder=None, is_late=lambda: False
    )

    # The published table: 25 and more breaths 3, 91 % or less 3, 111 to 130 beats 2, 38.1 °C 1.
    points = {each.part: each.change for each in told.effects}
    assert {name: points[model.input(name).label] for name in signs} == {
        "respiration": 3,
        "saturation": 3,
        "pulse": 2,
        "temperature": 1,
    }
    assert (answer[0], told.total, told.is_additive) == (9, 9, True)
