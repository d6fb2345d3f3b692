import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, roc_auc_score

from models.evaluate import auroc, bootstrap, brier, calibration_error, sensitivity, specificity

TRUTH = np.array([True, True, True, False, False])
SCORE = np.array([0.9, 0.8, 0.3, 0.4, 0.1])


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0])), min_size=2))
def test_measures_agree_with_scikit_learn(rows):
    truth, score = np.array([each[0] for each in rows]), np.array([each[1] for each in rows])

    if truth.any() and not truth.all():
        assert auroc(truth, score) == pytest.approx(roc_auc_score(truth, score))
    assert brier(truth, score) == pytest.approx(brier_score_loss(truth, score, pos_label=True))


def test_thresholded_measures_count_both_sides():
    assert sensitivity(0.5)(TRUTH, SCORE) == pytest.approx(2 / 3)
    assert specificity(0.4)(TRUTH, SCORE) == pytest.approx(1 / 2)


def test_calibration_error_is_nothing_for_an_honest_score_and_large_for_a_liar():
    honest = np.array([0.5, 0.5, 1.0, 0.0])
    truth = np.array([True, False, True, False])

    assert calibration_error(truth, honest) == 0
    assert calibration_error(truth, 1 - truth.astype(float)) == 1


def test_an_interval_holds_its_estimate_and_is_the_same_every_time():
    first, second = (bootstrap(auroc, TRUTH, SCORE, draws=200) for _ in range(2))

    assert first == second
    assert first.low <= first.value <= first.high
    assert str(first) == f"0.833 ({first.low:.3f} to 1.000)"


def test_one_class_alone_can_not_be_measured():
    with pytest.raises(ValueError, match="both classes"):
        bootstrap(auroc, np.array([True, True]), np.array([0.1, 0.2]))
