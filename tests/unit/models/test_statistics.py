import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, f1_score, roc_auc_score

from models.statistics import (
    auroc,
    auroc_of,
    average_of,
    bootstrap,
    brier,
    calibration_error,
    compare,
    macro_f1_of,
    mean_of,
    root_mean_of,
    sensitivity,
    specificity,
)

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


def ones(count):
    return np.ones((1, count))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1))
def test_macro_f1_agrees_with_scikit_learn(rows):
    truth, said = np.array(rows).T

    (value,) = macro_f1_of(truth, said)(ones(len(rows)))

    assert value == pytest.approx(f1_score(truth, said, average="macro", zero_division=0))


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=4, max_size=20),
    st.integers(0, 10**6),
)
def test_a_weighted_measure_is_the_measure_of_the_drawn_cases(rows, seed):
    truth, score = np.array(rows).T
    truth = truth.astype(bool)
    drawn = np.random.default_rng(seed).integers(0, len(rows), len(rows))
    weights = np.bincount(drawn, minlength=len(rows))[None, :].astype(float)
    has_both = 0 < truth[drawn].sum() < len(rows)

    (area,) = auroc_of(truth, score.astype(float))(weights)
    (mean,) = mean_of(score.astype(float))(weights)
    (root,) = root_mean_of(score.astype(float))(weights)

    assert mean == pytest.approx(score[drawn].mean())
    assert root == pytest.approx(np.sqrt(score[drawn].mean()))
    if has_both:
        assert area == pytest.approx(roc_auc_score(truth[drawn], score[drawn]))
    else:
        assert np.isnan(area)


def test_the_mean_of_measures_leaves_out_what_a_draw_does_not_allow():
    always, never = (lambda w: np.full(len(w), 0.5)), (lambda w: np.full(len(w), np.nan))

    assert average_of((always, never))(ones(3)) == [0.5]
    assert np.isnan(average_of((never,))(ones(3))).all()


def test_a_loss_is_paired_so_that_what_both_get_wrong_does_not_blur_it():
    generator = np.random.default_rng(1)
    right = (generator.random(400) < 0.7).astype(float)
    worse = right.copy()
    worse[np.flatnonzero(right)[:4]] = 0
    patients = np.arange(400)

    paired = compare(mean_of(right), mean_of(worse), patients, confidence=0.95)

    assert paired.loss == pytest.approx(0.01)
    assert 0.01 < paired.bound < 0.025
    assert paired.before.high - paired.before.low > 0.08


def test_the_bound_covers_the_true_loss_as_often_as_it_says():
    generator = np.random.default_rng(2)
    truth = 0.05
    covered = 0
    for _ in range(300):
        lost = (generator.random(300) < truth).astype(float)
        bound = compare(mean_of(1 + 0 * lost), mean_of(1 - lost), np.arange(300), draws=400).bound
        covered += bound >= truth

    assert 0.90 <= covered / 300 <= 0.99


def test_cases_of_one_patient_stay_together():
    lost = np.zeros(200)
    lost[:10] = 1
    alone, together = np.arange(200), np.repeat(np.arange(20), 10)

    free = compare(mean_of(1 - 0 * lost), mean_of(1 - lost), alone)
    bound = compare(mean_of(1 - 0 * lost), mean_of(1 - lost), together)

    assert bound.loss == free.loss
    assert bound.bound > free.bound


def test_for_an_error_more_is_worse():
    error, larger = np.full(50, 1.0), np.full(50, 1.5)

    paired = compare(mean_of(error), mean_of(larger), np.arange(50), more_is_better=False)

    assert paired.loss == paired.bound == pytest.approx(0.5)


def test_a_measure_that_is_not_defined_is_said_to_be_so():
    alike = auroc_of(np.ones(5, dtype=bool), np.arange(5.0))

    with pytest.raises(ValueError, match="is a class absent"):
        compare(alike, alike, np.arange(5))
