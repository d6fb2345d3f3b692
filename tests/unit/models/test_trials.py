import dataclasses
import json
import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from models.gate import Comparison, Verdict
from models.measure import Measurement
from models.quantize import CONVOLUTION_OPERATORS, static_int8
from models.statistics import Estimate
from models.subject import Named, read_subject
from models.trial_plot import draw, spread
from models.trial_report import as_json
from models.trials import FP32, KERNELS, Candidate, Trial, choose, latency_ms, try_all
from tests import networks
from tests.quantizing import written

ACCEPTED = Verdict((), (), ())
REFUSED = Verdict(("too much is lost",), (), ())


class Told:
    """Notes what it is told of the work."""

    def __init__(self):
        self.begun, self.steps = [], []

    def begin(self, what):
        self.begun.append(what)

    def advance(self, done, of):
        self.steps.append((done, of))


def subject_of(folder, fp32, **more):
    model, data = written(folder, fp32, cases=500)
    asked = {"folder": None, "calibration": None, "gate": {"metric": "auroc"}, "output": None}
    return read_subject(Named(**(asked | {"model": model, "data": data} | more)))


@pytest.fixture(scope="module")
def tried(tmp_path_factory):
    """A network of which int8 of the activations fails, until the last layer is left alone."""
    fp32 = networks.wide_range_at_the_end()
    subject = subject_of(tmp_path_factory.mktemp("wide"), fp32)
    told = Told()
    trained = static_int8(
        fp32, subject.calibration, keep_fp32=["last"], operators=CONVOLUTION_OPERATORS
    )
    return subject, try_all(subject, ["static-minmax"], told, trained=trained, budget=8), told


def by_name(trials):
    return {each.name: each for each in trials}


def test_every_candidate_is_judged_on_all_kernels_and_measured_on_those_at_hand(tried):
    _, trials, _ = tried

    assert [each.name for each in trials] == [FP32, "qat", "static-minmax", "static-minmax-mended"]
    for trial in trials:
        assert trial.failure == ""
        assert set(trial.measured) == set(KERNELS)
        settings = {each.setting for each in trial.verdict.comparisons}
        assert settings == {"vnni", "avx2-exact", "avx2"}
        assert trial.measured["exact kernels"].size_bytes == len(trial.candidate.model)
        assert set(trial.measured["default kernels"].p50_ms) == {1, 16}


def test_what_the_gate_refuses_is_mended_by_leaving_the_sensitive_node_alone(tried):
    _, trials, told = tried
    found = by_name(trials)

    assert not found["static-minmax"].passes
    assert found["static-minmax"].loss_bound > 0.05
    assert found["static-minmax-mended"].passes
    assert found["static-minmax-mended"].candidate.left_alone == ("last",)
    assert "but for last" in found["static-minmax-mended"].how
    assert "static-minmax: scan for sensitive nodes" in told.begun
    assert told.steps[-1] == (1, 3)


def test_the_original_loses_nothing_and_passes(tried):
    _, trials, _ = tried

    assert trials[0].passes
    assert trials[0].loss_bound == 0


def test_the_one_that_is_kept_passes_and_none_that_passes_is_much_faster(tried):
    _, trials, _ = tried

    chosen = choose(trials)

    assert chosen.passes
    for each in trials:
        assert not each.passes or latency_ms(each) * 1.05 >= latency_ms(chosen)


def test_the_report_tells_all_and_is_json(tried):
    subject, trials, _ = tried

    told = json.loads(json.dumps(as_json(subject, trials, choose(trials))))

    assert told["chosen"] == choose(trials).name
    assert told["gate"]["metric"] == "auroc"
    assert told["data"] == {
        "sha256": subject.data_sha256,
        "cases": 400,
        "calibration_cases": 100,
    }
    mended = told["candidates"][3]
    assert mended["left_alone"] == ["last"]
    assert mended["passes"] is True
    assert mended["verdict"]["accepted"] is True
    assert set(mended["measured"]["exact kernels"]["p50_ms"]) == {"1", "16"}


def test_the_picture_shows_every_candidate_by_name(tried):
    subject, trials, _ = tried

    drawn = draw(trials, choose(trials), subject.gate, title="mine", kind="svg")

    # matplotlib writes each text as a comment beside its outlines
    labels = re.findall(r"<!-- (\S+)  [\d.]+ ms, [\d.]+ MB( \(refused\))? -->", drawn.decode())
    assert dict(labels) == {each.name: "" if each.passes else " (refused)" for each in trials}


def test_the_picture_says_where_a_limit_lies_that_no_candidate_comes_near(tried):
    subject, trials, _ = tried
    far = subject.gate.model_copy(update={"max_loss": 0.4})

    drawn = draw(trials, None, far, title="mine", kind="svg").decode()

    assert re.search(
        r"<!-- most that may be lost: 0\.4, at \S+, (below|above) what is shown -->", drawn
    )


def test_the_picture_is_also_made_as_pixels(tried, tmp_path):
    subject, trials, _ = tried
    path = tmp_path / "choice.png"
    path.write_bytes(draw(trials, None, subject.gate, title="mine", kind="png"))

    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"))

    assert pixels.shape[1] > pixels.shape[0] > 500
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_labels_stand_apart_in_their_order_and_inside_the_picture(heights):
    heights.sort(reverse=True)

    found = spread(heights)

    gap = min(0.06, 1 / len(heights))
    assert all(one - other >= gap - 1e-9 for one, other in pairwise(found))
    assert min(found) >= -1e-9
    assert max(found) <= 1


def test_labels_that_stand_apart_stay_where_their_points_are():
    assert spread([0.9, 0.5, 0.1]) == [0.9, 0.5, 0.1]
    assert spread([0.5, 0.5, 0.0]) == pytest.approx([0.5, 0.44, 0.0])


def test_nothing_to_draw_is_said(tried):
    subject, _, _ = tried

    with pytest.raises(ValueError, match="nothing to draw"):
        draw([Trial("static", "how", failure="broken")], None, subject.gate, title="", kind="png")


def test_too_few_cases_let_nothing_pass_not_even_the_original(tmp_path):
    model, data = written(tmp_path, networks.dense(), cases=40)
    subject = read_subject(Named(None, model, data, None, {"metric": "auroc"}, None))

    trials = try_all(subject, [], Told())

    assert choose(trials) is None
    assert "evaluation set is too small" in trials[0].verdict.reasons[0]
    assert trials[0].loss_bound == float("inf")


def test_what_can_not_be_made_or_run_is_a_trial_that_failed(tmp_path):
    model, data = written(tmp_path, networks.dense())
    subject = read_subject(Named(None, model, data, None, {"metric": "auroc"}, None))
    small = dataclasses.replace(subject, fp32=networks.dense(16, 32))

    trials = by_name(try_all(small, ["weights-int8"], Told(), trained=networks.embedding()))

    assert "it can't answer the cases" in trials["qat"].failure
    assert trials["weights-int8"].failure == "it has no layers that this method quantizes"
    assert trials["weights-int8"].candidate is None
    assert not trials["qat"].passes


def losing(bound):
    metric = Estimate(0.9, 0.8, 0.95)
    found = Comparison("vnni", "all", 500, metric, metric, 0.0, bound, 0.005, 0.0, None, None)
    return Verdict((), (found,), ())


def a_trial(name, p50_ms, size, verdict=ACCEPTED):
    figures = Measurement(size, 1.0, 60.0, 5.0, {1: p50_ms, 16: 9 * p50_ms})
    candidate = Candidate(name, "onnx-int8-qdq", "", b"")
    return Trial(name, "", candidate, verdict, dict.fromkeys(KERNELS, figures))


@pytest.mark.parametrize(
    ("trials", "kept"),
    [
        ([a_trial("fp32", 1.0, 400), a_trial("static", 0.5, 100)], "static"),
        ([a_trial("fp32", 0.5, 400), a_trial("static", 1.0, 100)], "fp32"),
        ([a_trial("fp32", 1.0, 400), a_trial("static", 1.04, 100)], "static"),
        ([a_trial("fp32", 1.04, 400), a_trial("static", 1.0, 100)], "static"),
        ([a_trial("fp32", 1.0, 400), a_trial("static", 0.5, 100, REFUSED)], "fp32"),
        ([a_trial("a", 0.50, 100), a_trial("b", 0.51, 90), a_trial("c", 0.6, 50)], "b"),
        ([a_trial("a", 0.5, 100, losing(0.004)), a_trial("b", 0.51, 101, losing(0.001))], "b"),
    ],
    ids=["faster", "fp32 is faster", "as fast", "by size", "refused", "of the quick", "by loss"],
)
def test_the_fastest_that_passes_is_kept_and_the_smaller_where_it_is_as_fast(trials, kept):
    assert choose(trials).name == kept


def test_nothing_is_kept_where_nothing_passes():
    assert choose([a_trial("fp32", 1.0, 400, REFUSED)]) is None
    assert choose([Trial("static", "", failure="broken")]) is None
