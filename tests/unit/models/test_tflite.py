import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.engines import EngineBusy, RunTimedOut
from models.registry import ModelUnusable
from models.tflite import LiteRtEngine, Tensor
from tests.tflite_models import (
    expected,
    float_model,
    image_model,
    int8_model,
    loop_model,
    rounds_of,
)

X = np.random.default_rng(0).uniform(-2, 2, (9, 4)).astype(np.float32)


def opened(folder, content, output="probability", image=None):
    path = folder / "model.tflite"
    path.write_bytes(content)
    return LiteRtEngine(path, output, image)


def asked(engine, x, timeout_s=10.0):
    return engine.run({engine.inputs[0].name: x}, timeout_s=timeout_s)


def test_a_float_model_answers_batches_of_any_size(tmp_path):
    engine = opened(tmp_path, float_model())

    for size in (1, 9, 3, 3):
        answer = asked(engine, X[:size])
        np.testing.assert_allclose(answer, expected(X[:size]), atol=1e-6)
        assert answer.dtype == np.float32
    assert engine.version.startswith("litert 2.")
    assert str(engine.inputs[0]) == "features must be float32 of shape (n, 4)"


def test_an_int8_model_is_given_and_gives_float32(tmp_path):
    engine = opened(tmp_path, int8_model())

    answer = asked(engine, X)

    assert answer.dtype == np.float32
    assert engine.inputs[0].dtype == np.float32
    np.testing.assert_allclose(answer, expected(X), atol=0.02)
    assert np.abs(answer * 256 - np.rint(answer * 256)).max() < 1e-3


def test_what_is_beyond_the_levels_is_the_last_level(tmp_path):
    engine = opened(tmp_path, int8_model())

    beyond = asked(engine, np.full((1, 4), 1e9, np.float32))
    last = asked(engine, np.full((1, 4), 0.04 * 127, np.float32))

    assert beyond == last


def test_a_missing_value_is_never_taken_for_a_level(tmp_path):
    with pytest.raises(ValueError, match="can't hold a missing value"):
        asked(opened(tmp_path, int8_model()), np.full((1, 4), np.nan, np.float32))


def test_without_a_signature_tensors_are_known_by_their_own_names(tmp_path):
    engine = opened(tmp_path, float_model(signed=False), "StatefulPartitionedCall:0")

    assert engine.inputs[0].name == "serving_default_features:0"
    np.testing.assert_allclose(asked(engine, X), expected(X), atol=1e-6)


def test_a_fixed_batch_is_said(tmp_path):
    assert opened(tmp_path, float_model(batch=2)).inputs[0].shape == (2, 4)


def test_an_image_is_given_channels_first_and_turned(tmp_path):
    engine = opened(tmp_path, image_model(), "brightness", "image")
    image = np.random.default_rng(1).random((2, 3, 8, 8)).astype(np.float32)

    answer = asked(engine, image)

    assert engine.inputs[0].shape == (None, 3, 8, 8)
    np.testing.assert_allclose(answer, image.mean(axis=(2, 3)), atol=1e-6)


def test_threads_share_a_model_and_each_gets_its_own_answer(tmp_path):
    engine = opened(tmp_path, float_model())
    batches = [X[at : at + 1 + at % 3] for at in range(6)] * 20

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda batch: asked(engine, batch), batches))

    for batch, answer in zip(batches, answers, strict=True):
        np.testing.assert_allclose(answer, expected(batch), atol=1e-6)


def test_a_run_that_takes_too_long_is_given_up_and_the_model_busy_until_it_ends(tmp_path):
    engine = opened(tmp_path, loop_model())
    few, many = np.ones((1, 1), np.float32), rounds_of(2.0, lambda x: asked(engine, x))

    with pytest.raises(RunTimedOut, match=r"time limit of 0\.1 s"):
        asked(engine, many, timeout_s=0.1)
    with pytest.raises(EngineBusy):
        asked(engine, few, timeout_s=0.1)

    assert asked(engine, few, timeout_s=60) == 0.5


def test_runs_that_wait_for_each_other_are_not_busy(tmp_path):
    engine = opened(tmp_path, image_model(size=64, repeats=20), "brightness", "image")
    image = np.ones((2, 3, 64, 64), np.float32)
    asked(engine, image)
    start, ended = threading.Barrier(3), []

    def run():
        start.wait()
        asked(engine, image)
        ended.append(time.monotonic())

    threads = [threading.Thread(target=run) for _ in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert len(ended) == 3


def test_an_output_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ModelUnusable, match="no output risk, but probability"):
        opened(tmp_path, float_model(), "risk")


@pytest.mark.parametrize("content", [b"", b"\x00\x00\x00\x00TFL3" + b"\x00" * 99, b"onnx" * 99])
def test_what_is_no_tflite_model_is_unusable(tmp_path, content):
    with pytest.raises(ModelUnusable, match="LiteRT can't load"):
        opened(tmp_path, content)


def test_a_graph_that_is_cut_short_is_unusable(tmp_path):
    with pytest.raises(ModelUnusable):
        opened(tmp_path, float_model()[:-100])


def test_without_litert_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)

    with pytest.raises(ModelUnusable, match=r"pip install 'nadi\[tflite\]'"):
        opened(tmp_path, float_model())


@given(
    st.sampled_from([np.int8, np.uint8, np.int16]),
    st.floats(1e-4, 10),
    st.integers(-20, 20),
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=8),
)
def test_a_number_survives_its_level_to_half_a_step(dtype, scale, zero, numbers):
    limits = np.iinfo(dtype)
    zero = max(zero, limits.min)
    tensor = Tensor("x", 0, np.dtype(dtype), (-1, len(numbers)), scale, zero)
    given_numbers = np.array([numbers], np.float32)

    levels = tensor.levels(given_numbers)
    back = tensor.values(levels)

    low, high = (limits.min - zero) * scale, (limits.max - zero) * scale
    reachable = np.clip(given_numbers, low, high)
    assert levels.dtype == dtype
    np.testing.assert_allclose(back, reachable, atol=scale * 0.51, rtol=1e-4)
