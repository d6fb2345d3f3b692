"""Converted networks against their originals; what tf2onnx made of them was recorded."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from models.convert import AnswersDiffer, NotConvertible, adapted, convert, made_up, run_converter
from models.onnx_engine import OnnxEngine
from models.tflite import LiteRtEngine
from tests.tflite_models import expected

RECORDED = Path(__file__).parents[2] / "data" / "tf2onnx"
X = np.random.default_rng(0).uniform(-2, 2, (6, 4)).astype(np.float32)


def original(name, image=None):
    return LiteRtEngine(RECORDED / f"{name}.tflite", None, image)


def converted(name):
    return (RECORDED / f"{name}.onnx").read_bytes()


@pytest.mark.parametrize("name", ["float", "int8"])
def test_a_converted_model_takes_and_gives_what_nadi_does(name):
    model, found = convert(original(name), converted(name), [{"features": X}])

    engine = OnnxEngine(model, "probability", exact_int8=True)
    answer = engine.run({"features": X}, timeout_s=10)
    assert str(engine.inputs[0]) == "features must be float32 of shape (n, 4)"
    np.testing.assert_allclose(answer, expected(X), atol=0.02)
    assert found.cases == 128 + 6
    assert found.gap <= found.allowed
    onnx.checker.check_model(onnx.load_from_string(model))


def test_an_image_is_given_channels_first_to_the_converted_model_too():
    model, _ = convert(original("image", "image"), converted("image"))

    image = np.random.default_rng(1).random((2, 3, 8, 8)).astype(np.float32)
    answer = OnnxEngine(model, "brightness", exact_int8=True).run({"image": image}, timeout_s=10)

    np.testing.assert_allclose(answer, image.mean(axis=(2, 3)), atol=1e-6)


def test_a_fixed_batch_stays_fixed():
    model, found = convert(original("fixed-batch"), converted("fixed-batch"))

    assert OnnxEngine(model, "probability", exact_int8=True).inputs[0].shape == (2, 4)
    assert found.cases == 128


def altered(name, change):
    model = onnx.load_from_string(converted(name))
    for each in model.graph.initializer:
        values = numpy_helper.to_array(each)
        if values.ndim == 2:
            each.CopyFrom(numpy_helper.from_array(change(values).astype(values.dtype), each.name))
    return model.SerializeToString()


@pytest.mark.parametrize("name", ["float", "int8"])
def test_one_weight_that_is_off_is_found_out(name):
    def change(values):
        values = values.copy()
        values[0, 0] = values[0, 0] * 0.9
        return values

    with pytest.raises(AnswersDiffer, match=r"away from its original on 128 cases; allowed"):
        convert(original(name), altered(name, change))


def test_answers_that_are_no_numbers_are_no_parity():
    with pytest.raises(AnswersDiffer, match="nan away"):
        convert(original("float"), altered("float", lambda values: values * np.nan))


def test_who_accepts_a_difference_says_how_large_a_one():
    off = altered("float", lambda values: values * 1.001)

    _, found = convert(original("float"), off, tolerance=0.05)

    assert 1e-4 < found.gap <= found.allowed == 0.05


def test_another_network_is_no_conversion():
    with pytest.raises(NotConvertible, match="can't run what was converted"):
        convert(original("float"), converted("image"))


def test_a_converter_that_changed_the_order_of_axes_is_found_out():
    model = onnx.load_from_string(converted("image"))
    (turning,) = (node for node in model.graph.node if node.op_type == "Transpose")
    after = next(node for node in model.graph.node if turning.output[0] in node.input)
    after.input[0] = turning.input[0]
    model.graph.node.remove(turning)
    for axis, size in enumerate((3, 8, 8), 1):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = size

    with pytest.raises(NotConvertible, match="changed their order or their sizes"):
        convert(original("image", "image"), model.SerializeToString())


def test_outputs_that_can_not_be_told_apart_are_named():
    model = onnx.load_from_string(converted("float"))
    for name in ("other", "third"):
        model.graph.node.append(helper.make_node("Identity", [model.graph.output[0].name], [name]))
        model.graph.output.append(helper.make_tensor_value_info(name, 1, None))
    del model.graph.output[0]

    with pytest.raises(NotConvertible, match="has no probability; it has other, third"):
        adapted(model.SerializeToString(), original("float"))


@pytest.mark.parametrize(
    ("content", "match"),
    [(b"no model", "no ONNX model"), (b"", "has no features|no ONNX model|can't run")],
)
def test_what_is_no_onnx_model_is_refused(content, match):
    with pytest.raises(NotConvertible, match=match):
        convert(original("float"), content)


def test_made_up_cases_reach_every_level_of_a_quantized_input():
    engine = original("int8")

    (levels,) = made_up(engine.inputs, engine.tensors).values()

    assert levels.min() == pytest.approx(-128 * 0.04, abs=0.1)
    assert levels.max() == pytest.approx(127 * 0.04, abs=0.1)


def test_without_the_converter_it_is_said_how_to_get_it(tmp_path):
    with pytest.raises(NotConvertible, match="can't be run"):
        run_converter(tmp_path / "no-python", RECORDED / "float.tflite")
    if importlib.util.find_spec("tf2onnx") is None:
        with pytest.raises(NotConvertible, match="pip install tf2onnx tensorflow"):
            run_converter(Path(sys.executable), RECORDED / "float.tflite")


@pytest.mark.skipif(
    not (importlib.util.find_spec("tf2onnx") and importlib.util.find_spec("tensorflow")),
    reason="tf2onnx and TensorFlow are not installed here; scripts/record_tf2onnx.py needs them",
)
def test_tf2onnx_still_makes_what_was_recorded():
    model = run_converter(Path(sys.executable), RECORDED / "int8.tflite")

    convert(original("int8"), model)
