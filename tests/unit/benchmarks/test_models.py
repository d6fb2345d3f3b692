"""The page of the reference models says plainly where a shipped form is not faster."""

from benchmarks.models import Line, against
from models.measure import Measurement


def line(form, kernels, size, one, sixteen, model="toy@1.0.0"):
    taken = Measurement(size, 1.0, 50.0, 10.0, {1: one, 16: sixteen})
    return Line(model, form, kernels, "auroc 0.9", [taken])


def test_a_form_that_is_slower_than_fp32_is_said_to_be():
    fp32 = line("fp32", "default", 1000, 1.0, 10.0)
    shipped = line("onnx-int8-qdq", "default", 686, 1.15, 8.0)
    exact = line("onnx-int8-qdq", "exact", 686, 2.0, 20.0)

    assert against([fp32, shipped, exact]) == [
        ("toy@1.0.0", "onnx-int8-qdq", "**slower: 1.15 times**", "faster: 0.80 of fp32's time",
         "68.6%")
    ]  # fmt: skip


def test_a_model_that_has_no_other_form_is_compared_with_nothing():
    assert against([line("onnx-fp32", "default", 1000, 1.0, 10.0)]) == []
