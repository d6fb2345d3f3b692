"""Reasons are told once, and splits that a model was fitted to are known by their names."""

import pytest

from models.report_words import is_fitted_on, merged


def test_a_reason_that_holds_under_several_kernels_is_told_once():
    lost = ", all: auroc may lose up to 0.5."
    told = merged([f"vnni{lost}", f"avx2-exact{lost}", "avx2, all: worse.", "Too small."])

    assert told == [f"vnni + avx2-exact{lost}", "avx2, all: worse.", "Too small."]


@pytest.mark.parametrize(
    ("split", "fitted"),
    [("calibration", True), ("Train", True), ("training", True), ("test", False), ("", False)],
)
def test_a_split_that_a_model_was_fitted_to_is_known_by_its_name(split, fitted):
    assert is_fitted_on(split) is fitted
