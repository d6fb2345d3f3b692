"""Running a case with its variants: in batches, within limits, and what the differences say."""

from collections.abc import Callable

import numpy as np
import pytest

from models.occlusion import Measured, Plan, Unexplainable, check_budget, measure, read
from models.tensors import FloatArray, Tensors
from tests.result_models import CLASSES, LABELS, RISK

PLAN = Plan(
    "inputs",
    ("a", "b", "c"),
    tuple({"x": np.array(row, np.float32)} for row in ([0, 2, 3], [1, 0, 3], [1, 2, 0], [0] * 3)),
)
CASE = {"x": np.array([1, 2, 3], np.float32)}


class Network:
    """Adds up its row; keeps the sizes of its batches."""

    def __init__(self, *, shifts: bool = False) -> None:
        self.sizes: list[int] = []
        self._shifts = shifts

    def __call__(self, batch: Tensors) -> FloatArray:
        rows = batch["x"]
        self.sizes.append(len(rows))
        # As dynamic quantization does: a case is answered otherwise beside others.
        shift = 0.5 * len(self.sizes) if self._shifts else 0.0
        return (rows.sum(axis=1, keepdims=True) + np.float32(shift)).astype(np.float32)


def run(network: Callable[[Tensors], FloatArray], max_batch: int) -> Measured:
    return measure(network, CASE, PLAN, max_batch=max_batch, is_late=lambda: False)


@pytest.mark.parametrize(
    ("max_batch", "sizes"),
    [(64, [5]), (5, [5]), (3, [3, 3]), (2, [2, 2, 2, 2]), (1, [1, 1, 1, 1, 1])],
)
def test_a_case_and_its_variants_run_in_as_few_batches_as_the_model_allows(
    max_batch: int, sizes: list[int]
) -> None:
    network = Network()

    measured = run(network, max_batch)

    assert network.sizes == sizes
    assert measured.answer.tolist() == [6]
    assert measured.changes.tolist() == [[1], [2], [3], [6]]


def test_what_is_compared_has_run_together() -> None:
    measured = run(Network(shifts=True), 3)

    assert measured.changes.tolist() == [[1], [2], [3], [6]]


def test_runs_that_take_too_long_are_given_up_between_two_batches() -> None:
    network = Network()

    with pytest.raises(Unexplainable, match="longer than the model may take"):
        measure(network, CASE, PLAN, max_batch=3, is_late=lambda: bool(network.sizes))

    assert network.sizes == [3]


def measured(answer: list[float], *changes: list[float]) -> Measured:
    return Measured(np.array(answer, np.float32), np.array(changes, np.float32))


def two_parts(kind: str = "inputs") -> Plan:
    return Plan(kind, ("a", "b"), (), kept=("Age",))  # type: ignore[arg-type]


def test_the_chief_answer_is_explained() -> None:
    told = read(RISK, two_parts(), measured([0.7], [0.3], [0.1], [0.4]))

    assert [each.change for each in told.effects] == pytest.approx([0.3, 0.1])
    assert (told.subject, told.kept) == ("", ("Age",))
    assert told.is_additive


def test_of_a_class_the_probability_of_the_likeliest_is_explained() -> None:
    changes = ([0.0, 0.3, 0.0], [0.1, 0.2, 0.1], [0.0, 0.5, 0.0])

    told = read(CLASSES, two_parts(), measured([0.1, 0.8, 0.1], *changes))

    assert told.subject == "Urology"
    assert [each.change for each in told.effects] == pytest.approx([0.3, 0.2])


def test_an_uncertain_answer_is_explained_by_its_likeliest_class() -> None:
    changes = ([0.1, 0.0, 0.0], [0.0, 0.0, 0.0], [0.1, 0.0, 0.0])

    told = read(CLASSES, two_parts(), measured([0.4, 0.35, 0.25], *changes))

    assert told.subject == "Cardiology: most likely, not said"


def test_of_several_labels_the_likeliest_is_explained() -> None:
    told = read(LABELS, two_parts(), measured([0.2, 0.9], [0, 0.3], [0, 0.1], [0, 0.4]))

    assert told.subject == "Cardiomegaly"
    assert told.total == pytest.approx(0.4)


def test_a_network_that_has_no_answer_without_a_part_is_not_explained() -> None:
    with pytest.raises(Unexplainable, match="no answer when a part"):
        read(RISK, two_parts(), measured([0.7], [np.nan], [0.1], [0.4]))


def test_what_is_no_answer_is_not_explained_either() -> None:
    with pytest.raises(ValueError, match="outside its range"):
        read(RISK, two_parts(), measured([1.7], [0.3], [0.1], [0.4]))


@pytest.mark.parametrize(("parts", "why"), [(0, "nothing"), (64, "more than")])
def test_nothing_and_too_much_are_not_hidden(parts: int, why: str) -> None:
    with pytest.raises(Unexplainable, match=why):
        check_budget(RISK, parts)

    check_budget(RISK, 63)
