import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from models.manifest import Band, ClassLabel, CodeRef, Gate, Output
from models.task import Task

CODE = CodeRef(system="http://loinc.org", code="1-8")
EVERYONE = np.ones((1, 4))


def bands(*starts):
    return tuple(Band(at_least=start, label=f"from {start}", advice="Look.") for start in starts)


def chance(name="risk", column=0, starts=(0.0, 0.3)):
    return Output(name=name, column=column, code=CODE, unit="1", range=(0, 1), bands=bands(*starts))


def classes(**extra):
    labels = tuple(ClassLabel(system="x", code=each) for each in "abc")
    return Output(name="kind", kind="class", column=0, code=CODE, classes=labels, **extra)


def value(kind):
    return Output(
        name="value", kind=kind, column=0, code=CODE, unit="1", range=(0, 20), bands=bands(0, 5, 7)
    )


def measured(task, metric, truth, scores):
    return float(task.measure(metric, np.array(truth), np.array(scores))(EVERYONE)[0])


def test_a_risk_is_decided_where_its_bands_meet():
    task = Task.of([chance()], Gate(metric="accuracy"))

    assert task.decisions(np.array([[0.29], [0.3], [0.9]])).tolist() == [[0], [1], [1]]
    assert measured(task, "accuracy", [0, 1, 1, 0], [[0.1], [0.35], [0.9], [0.4]]) == 0.75
    assert measured(task, "macro-f1", [0, 1, 1, 0], [[0.1], [0.35], [0.9], [0.2]]) == 1


def test_the_gate_may_name_the_threshold_of_a_risk_with_many_bands():
    task = Task.of([chance(starts=(0.0, 0.1, 0.8))], Gate(metric="accuracy", threshold=0.5))

    assert task.decisions(np.array([[0.05], [0.5], [0.9]])).tolist() == [[0], [1], [2]]
    assert measured(task, "accuracy", [0, 1, 1, 1], [[0.4], [0.5], [0.9], [0.4]]) == 0.75


def test_labels_are_judged_each_and_averaged():
    task = Task.of([chance(), chance("other", 1)], Gate(metric="auroc"))
    truth = np.array([[0, 1], [1, 0], [1, 1], [0, 0]])
    scores = np.array([[0.2, 0.9], [0.1, 0.3], [0.8, 0.2], [0.3, 0.1]])

    found = measured(task, "auroc", truth, scores)

    assert found == pytest.approx(roc_auc_score(truth, scores, average="macro"))
    assert task.decisions(scores).shape == (4, 2)
    assert task.rarest(truth) == 2


def test_classes_are_judged_by_the_likeliest():
    task = Task.of([classes(min_confidence=0.5)], Gate(metric="accuracy"))
    truth = np.array([0, 1, 2, 1])
    scores = np.array([[0.8, 0.1, 0.1], [0.1, 0.6, 0.3], [0.3, 0.4, 0.3], [0.0, 1.0, 0.0]])

    area = measured(task, "auroc", truth, scores)

    assert measured(task, "accuracy", truth, scores) == 0.75
    assert measured(task, "macro-f1", truth, scores) == pytest.approx((1 + 0.8 + 0) / 3)
    assert area == pytest.approx(roc_auc_score(truth, scores, multi_class="ovr", average="macro"))
    assert task.decisions(scores).ravel().tolist() == [0, 1, -1, 1]
    assert task.rarest(truth) == 4


def test_the_calibration_of_classes_is_that_of_the_likeliest():
    task = Task.of([classes()], Gate(metric="accuracy"))

    sure_and_right = task.calibration(np.array([0, 1]), np.array([[1.0, 0, 0], [0, 1, 0]]))
    sure_and_wrong = task.calibration(np.array([1, 0]), np.array([[1.0, 0, 0], [0, 1, 0]]))

    assert (sure_and_right, sure_and_wrong) == (0, 1)


def test_the_calibration_of_labels_is_averaged():
    task = Task.of([chance(), chance("other", 1)], Gate(metric="auroc"))

    found = task.calibration(np.array([[1, 0], [1, 0]]), np.array([[1.0, 1.0], [1.0, 1.0]]))

    assert found == 0.5


@pytest.mark.parametrize("kind", ["regression", "score"])
def test_values_are_judged_by_their_errors(kind):
    task = Task.of([value(kind)], Gate(metric="mae"))
    truth, said = np.array([1.0, 5.0, 8.0, 0.0]), np.array([[1.0], [5.0], [6.0], [1.0]])

    assert measured(task, "mae", truth, said) == 0.75
    assert measured(task, "rmse", truth, said) == pytest.approx(np.sqrt(5 / 4))
    assert measured(task, "accuracy", truth, said) == 0.5
    assert task.decisions(said).ravel().tolist() == [0, 1, 1, 0]
    assert task.calibration(truth, said) is None
    assert task.rarest(truth) == 4


def test_a_score_is_rounded_before_it_is_judged():
    score, quantity = Task.of([value("score")], Gate(metric="mae")), Task("value")

    assert score.decisions(np.array([[4.999]])).tolist() == [[1]]
    assert measured(score, "mae", [5, 5, 5, 5], [[4.999]] * 4) == 0
    assert measured(quantity, "mae", [5, 5, 5, 5], [[4.75]] * 4) == 0.25


@pytest.mark.parametrize(
    ("task", "metric"),
    [(Task("value"), "auroc"), (Task("value"), "macro-f1"), (Task("probability"), "mae")],
)
def test_a_metric_that_means_nothing_is_refused(task, metric):
    with pytest.raises(ValueError, match="use"):
        task.measure(metric, np.array([0, 1]), np.array([[0.1], [0.2]]))


def test_auroc_needs_both_sides():
    with pytest.raises(ValueError, match="cases without"):
        Task("probability").measure("auroc", np.array([1, 1]), np.array([[0.1], [0.2]]))


@pytest.mark.parametrize(
    ("task", "truth", "match"),
    [
        (Task("probability"), [0, 2], "from 0 to 1"),
        (Task("probability"), [0], "1 cases have a truth and 2"),
        (Task("probability"), [[0, 1], [1, 0]], "truth has 2 columns"),
        (Task("class", (0, 1)), [0, 5], "from 0 to 1"),
        (Task("class", (0, 1)), [0.5, 1], "from 0 to 1"),
    ],
)
def test_a_truth_that_does_not_fit_is_refused(task, truth, match):
    with pytest.raises(ValueError, match=match):
        task.check(np.array(truth), np.array([[0.5, 0.5], [0.5, 0.5]]))


def test_a_truth_that_fits_is_accepted():
    Task("value").check(np.array([3.5, 4.5]), np.array([[0.5], [0.5]]))
    Task("class", (0, 1)).check(np.array([1, 0]), np.array([[0.5, 0.5], [0.5, 0.5]]))
