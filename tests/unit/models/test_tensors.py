import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.tensors import batch_size, stack


@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=7), min_size=1, max_size=5))
def test_token_sequences_are_filled_up_to_the_longest_and_come_back(sequences):
    batch = stack([{"ids": np.array(each, dtype=np.int64)} for each in sequences])

    assert batch["ids"].shape == (len(sequences), max(map(len, sequences)))
    assert [list(row[row > 0]) for row in batch["ids"]] == sequences


def test_numbers_and_images_are_stacked_as_they_are():
    case = {"x": np.zeros(3, np.float32), "image": np.ones((1, 2, 2), np.float32)}

    batch = stack([case, case])

    assert (batch["x"].shape, batch["image"].shape) == ((2, 3), (2, 1, 2, 2))
    assert batch_size(batch) == 2


def test_numbers_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="same shape"):
        stack([{"x": np.zeros(3, np.float32)}, {"x": np.zeros(2, np.float32)}])


def test_tensors_that_disagree_on_the_number_of_cases_are_refused():
    with pytest.raises(ValueError, match="same number of cases"):
        batch_size({"a": np.zeros((2, 1)), "b": np.zeros((3, 1))})
