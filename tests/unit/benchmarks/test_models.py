"""The page of the reference models says plainly where a shipped form is not faster."""

from benchmarks.models import Line, _recorded, _tried, against
from models.measure import Measurement
from models.registry import load_installed


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


def test_what_a_card_says_of_formats_that_were_tried_is_taken_over():
    (table,) = _tried(load_installed().values()).values()

    assert table[0][:2] == ("form", "MB")
    assert {"fp32", "dynamic, 8-bit weights"} <= {row[0] for row in table}
    assert {len(row) for row in table} == {len(table[0])}


def test_a_network_that_the_repository_lacks_is_compared_as_it_was_recorded():
    heads = ("model", "form", "kernels", "p50 of 1, ms", "size MB", "memory MB")
    fp32 = ("toy@1.0.0", "fp32", "default", "10.9", "90.2", "160")
    shipped = ("toy@1.0.0", "onnx-int8-weights", "default", "7.53", "25.0", "80")

    found = _recorded([heads, fp32, shipped, ("other@1.0.0", *shipped[1:])])

    assert found == {
        "toy_times_fp32": 10.9 / 7.53,
        "toy_smaller": 90.2 / 25.0,
        "toy_lighter": 2.0,
    }
