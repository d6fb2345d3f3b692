import numpy as np
import pytest

from models.evaluate import answers
from models.gate import Cases, judge
from models.manifest import Gate
from models.runtime import open_session
from models.task import Task
from tests.saturating import answered, cases, fp32_model, int8_model

GATE = Gate(metric="accuracy", max_loss=0.02)


def fp32_answers(x, *, capped):
    session = open_session(fp32_model(capped=capped), exact_int8=False)
    return session.run(["probability"], {"features": x})[0]


def verdict_on(int8, *, capped):
    x, truth = cases(800, capped=capped)
    asked = Cases(truth.astype(float), fp32_answers(x, capped=capped), {}, np.arange(len(x)))
    found = answers(int8, {"features": x}, "probability")
    return judge(GATE, Task("probability"), asked, found.scores), found


@pytest.mark.parametrize("capped", [True, False])
def test_the_networks_of_these_tests_are_what_they_are_said_to_be(capped):
    x, truth = cases(800, capped=capped)

    np.testing.assert_allclose(
        fp32_answers(x, capped=capped), answered(x, capped=capped), atol=1e-4
    )
    assert 0.3 < truth.mean() < 0.7


def test_a_model_that_only_exact_kernels_answer_rightly_is_refused():
    verdict, found = verdict_on(int8_model(capped=False), capped=False)

    assert not verdict.is_accepted
    assert all(reason.startswith("avx2, ") for reason in verdict.reasons)
    assert verdict.overall("vnni").is_within
    assert verdict.overall("avx2-exact").is_within
    assert found.methods == {"vnni": "run", "avx2-exact": "proved", "avx2": "emulated"}


def test_a_model_that_only_saturating_kernels_answer_rightly_is_refused():
    verdict, _ = verdict_on(int8_model(capped=True), capped=True)

    assert not verdict.is_accepted
    assert {reason.split(",")[0] for reason in verdict.reasons} == {"vnni", "avx2-exact"}
    assert verdict.overall("avx2").is_within


def test_weights_of_seven_bits_are_accepted_without_being_emulated():
    verdict, found = verdict_on(int8_model(capped=False, weight=64), capped=False)

    assert verdict.is_accepted
    assert found.methods == {"vnni": "run", "avx2-exact": "proved", "avx2": "proved"}
    assert found.scores["avx2"] is found.scores["vnni"]


def test_the_answers_do_not_depend_on_how_the_cases_are_parted():
    x, _ = cases(70, capped=False)

    together = answers(int8_model(capped=False), {"features": x}, "probability")
    alone = answers(int8_model(capped=False), {"features": x[66:67]}, "probability")

    for setting, scores in together.scores.items():
        np.testing.assert_allclose(scores[66:67], alone.scores[setting], atol=1e-6)
