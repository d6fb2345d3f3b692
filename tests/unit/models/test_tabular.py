"""Networks for tables: what scikit-learn fitted and what the graph computes are the same."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.onnx_engine import open_session
from models.tabular import (
    INPUT_NAME,
    OUTPUT_NAME,
    Network,
    Scaling,
    hide_shares,
    platt,
    sigmoid,
    swap_gaps,
    to_onnx,
)
from models.tabular_report import bands_by_rule
from models.tabular_validation import FP32, INT8, RECORDED, Cohort, cross_validate, quantized

LOGGED = np.array([False, True, False])
GENERATOR = np.random.default_rng(0)
VALUES = np.column_stack(
    [GENERATOR.normal(50, 10, 300), GENERATOR.lognormal(1, 1, 300), GENERATOR.normal(0, 1, 300)]
)
TRUTH = VALUES[:, 0] + 10 * VALUES[:, 2] + GENERATOR.normal(0, 8, 300) > 50


def network(seed: int = 0) -> Network:
    generator = np.random.default_rng(seed)
    scaling = Scaling.of(VALUES, LOGGED)
    layers = (
        (generator.normal(0, 0.5, (6, 32)), generator.normal(0, 0.1, 32)),
        (generator.normal(0, 0.5, (32, 1)), np.zeros(1)),
    )
    return Network(scaling, layers)


def linear(values, truth, _seed):
    """Fit the two inputs that matter by least squares, as a network of one layer."""
    scaling = Scaling.of(values, LOGGED)
    signal = np.column_stack([scaling.signal(values), np.ones(len(values))])
    weights = np.linalg.lstsq(signal, np.where(truth, 2.0, -2.0), rcond=None)[0]
    first = (np.eye(6), np.full(6, 10.0))  # a layer that passes its input on, kept positive
    last = (weights[:6, None], np.array([weights[6] - 10 * weights[:6].sum()]))
    return Network(scaling, (first, last))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.one_of(st.none(), st.floats(1e-3, 1e4)), min_size=3, max_size=3))
def test_the_graph_answers_what_the_network_answers(row):
    values = np.array([[np.nan if each is None else each for each in row]])
    session = open_session(to_onnx(network(), "toy"), exact_int8=True)

    (answer,) = session.run([OUTPUT_NAME], {INPUT_NAME: values.astype(np.float32)})

    expected = sigmoid(network().logit(values.astype(np.float32).astype(float)))
    np.testing.assert_allclose(answer[:, 0], expected, atol=1e-5)


def test_calibration_lies_in_the_last_layer():
    raw = network()

    calibrated = raw.calibrated(2.0, -1.0)

    np.testing.assert_allclose(calibrated.logit(VALUES), 2 * raw.logit(VALUES) - 1)


def test_platt_makes_logits_that_are_too_bold_honest():
    truth = GENERATOR.random(4000) < 0.5
    bold = np.where(truth, 1.0, -1.0) * 6 + GENERATOR.normal(0, 6, 4000)

    slope, _ = platt(bold, truth)

    assert 0.2 < slope < 0.5


def test_swapped_gaps_tell_nothing_of_the_group():
    values = VALUES.copy()
    values[TRUTH, 1] = np.nan

    swapped = swap_gaps(values, TRUTH, np.random.default_rng(0))

    assert np.isnan(swapped[:, 1]).all()
    assert not np.isnan(swapped[:, 0]).any()


def test_a_random_share_is_hidden_and_nothing_is_changed():
    hidden = hide_shares(VALUES, 0.7, np.random.default_rng(0))

    gone = np.isnan(hidden)
    assert 0.25 < gone.mean() < 0.45
    np.testing.assert_array_equal(hidden[~gone], VALUES[~gone])


def test_bands_leave_one_in_ten_on_the_wrong_side():
    noise = np.random.default_rng(0).normal(0, 0.3, 300)
    score = np.clip(np.where(TRUTH, 0.6, 0.4) + noise, 0, 1)

    low, high = bands_by_rule(TRUTH, score)

    assert low < high
    assert np.mean(score[TRUTH] >= low) >= 0.9
    assert np.mean(score[~TRUTH] < high) >= 0.9


@pytest.fixture(scope="module")
def validation():
    cohort = Cohort(VALUES, TRUTH)
    hidden = VALUES.copy()
    hidden[:, 2] = np.nan
    return cross_validate(cohort, linear, {RECORDED: VALUES, "hidden": hidden}, repeats=1)


def test_cross_validation_scores_everyone_quantized_and_not(validation):
    assert validation.mean(form=FP32).shape == validation.mean(form=INT8).shape == (300,)
    assert validation.aurocs(TRUTH)[0] > 0.9
    assert np.abs(validation.mean(form=FP32) - validation.mean(form=INT8)).max() < 0.05


def test_what_is_hidden_is_missed(validation):
    recorded = validation.mean(form=FP32)
    hidden = validation.mean("hidden", form=FP32)

    assert np.mean((recorded > 0.5) == TRUTH) > np.mean((hidden > 0.5) == TRUTH) + 0.1


def test_the_last_layer_stays_in_fp32():
    int8 = quantized(to_onnx(network(), "toy"), VALUES)

    assert b"weights_0_quantized" in int8
    assert b"weights_1_quantized" not in int8
