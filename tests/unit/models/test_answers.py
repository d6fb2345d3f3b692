import numpy as np
import pytest

from models.answers import answers_here
from models.registry import ModelUnusable
from models.runtime import open_session
from tests import networks

FP32, BATCH = networks.dense(outputs=3), networks.features(70)


@pytest.fixture(scope="module")
def session():
    return open_session(FP32, exact_int8=False)


def test_many_cases_are_answered_as_in_one_run(session):
    found = answers_here(session, BATCH, output="risk")

    assert found.dtype == np.float64
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
        answers_here(session, batch, output=output)

    assert "\n" not in str(caught.value)
