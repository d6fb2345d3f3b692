import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from models import saturation
from models.saturation import can_saturate, product

SIZES = st.tuples(st.integers(1, 4), st.integers(1, 7), st.integers(1, 4))


def by_the_book(activations, weights):
    """VPMADDUBSW, one pair after the other."""
    found = np.zeros((len(activations), weights.shape[1]), dtype=int)
    for row, values in enumerate(activations):
        for column in range(weights.shape[1]):
            products = [int(a) * int(w) for a, w in zip(values, weights[:, column], strict=True)]
            pairs = (sum(products[at : at + 2]) for at in range(0, len(products), 2))
            found[row, column] = sum(min(max(pair, -32768), 32767) for pair in pairs)
    return found


@given(SIZES, st.data())
def test_pairs_saturate_as_the_instruction_says(sizes, data):
    rows, summed, columns = sizes
    extreme = st.sampled_from([0, 1, 200, 254, 255])
    activations = data.draw(arrays.arrays(np.uint8, (rows, summed), elements=extreme))
    extreme = st.sampled_from([-128, -127, -65, -1, 0, 63, 64, 65, 127])
    weights = data.draw(arrays.arrays(np.int8, (summed, columns), elements=extreme))

    found = product(activations, weights, saturates=True)
    exact = product(activations, weights, saturates=False)

    assert found.tolist() == by_the_book(activations, weights).tolist()
    assert exact.tolist() == (activations.astype(int) @ weights.astype(int)).tolist()
    assert can_saturate(weights) or found.tolist() == exact.tolist()


def test_many_risky_pairs_are_worked_out_a_part_at_a_time(monkeypatch):
    monkeypatch.setattr(saturation, "_SUMS_AT_ONCE", 7)
    generator = np.random.default_rng(3)
    activations = generator.integers(200, 256, (3, 8)).astype(np.uint8)
    weights = generator.integers(90, 128, (8, 5)).astype(np.int8)

    found = product(activations, weights, saturates=True)

    assert found.tolist() == by_the_book(activations, weights).tolist()


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ([[64], [64]], False),
        ([[64], [65]], True),
        ([[127]], False),
        ([[127], [-127]], False),
        ([[-64], [-64]], False),
        ([[-64], [-65]], True),
        ([[64], [1], [1], [127]], False),
    ],
)
def test_weights_of_seven_bits_can_not_saturate_and_larger_neighbours_can(weights, expected):
    assert can_saturate(np.array(weights, dtype=np.int8)) is expected


def test_unsigned_weights_never_saturate():
    weights = np.full((4, 2), 255, dtype=np.uint8)
    activations = np.full((1, 4), 255, dtype=np.uint8)

    assert not can_saturate(weights)
    assert product(activations, weights, saturates=True).tolist() == [[260100, 260100]]


def test_signed_activations_never_saturate():
    weights = np.full((2, 1), 127, dtype=np.int8)
    activations = np.full((1, 2), 127, dtype=np.int8)

    assert product(activations, weights, saturates=True).tolist() == [[2 * 127 * 127]]
