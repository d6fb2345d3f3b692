import numpy as np
import onnx
import pytest

from models.answers import answers, fixed_batch
from models.registry import ModelUnusable
from models.runtime import open_session
from tests import networks

FP32, BATCH = networks.dense(outputs=3), networks.features(70)


def with_batch(size):
    fixed = onnx.load_from_string(FP32)
    for each in (fixed.graph.input[0], fixed.graph.output[0]):
        each.type.tensor_type.shape.dim[0].dim_value = size
    return open_session(fixed.SerializeToString(), exact_int8=False)


@pytest.fixture(scope="module")
def session():
    return open_session(FP32, exact_int8=False)


def test_many_cases_are_answered_as_in_one_run(session):
    found = answers(session, BATCH, output="risk")

    assert found.dtype == np.float64
    np.testing.assert_allclose(found, session.run(None, BATCH)[0], atol=1e-6)


@pytest.mark.parametrize("size", [1, 16, 100])
def test_a_network_of_a_fixed_batch_is_given_that_and_answers_the_same(session, size):
    fixed = with_batch(size)

    found = answers(fixed, BATCH, output="risk")

    assert fixed_batch(fixed) == size
    assert fixed_batch(session) is None
    np.testing.assert_allclose(found, session.run(None, BATCH)[0], atol=1e-6)


@pytest.mark.parametrize(
    ("batch", "output"),
    [
        (BATCH, "chance"),
        ({"numbers": BATCH["features"]}, "risk"),
        (networks.features(4, 7), "risk"),
    ],
    ids=["output", "input", "shape"],
)
def test_what_does_not_fit_the_network_is_said_in_one_line(session, batch, output):
    with pytest.raises(ModelUnusable, match=r"^it can't answer the cases: ") as caught:
        answers(session, batch, output=output)

    assert "\n" not in str(caught.value)
