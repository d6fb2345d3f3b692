import json

import numpy as np
import pytest

from models.gate import Cases, judge
from models.manifest import Gate
from models.task import Task

GENERATOR = np.random.default_rng(7)
COUNT = 600
TRUTH = (GENERATOR.random(COUNT) < 0.4).astype(float)
FP32 = 1 / (1 + np.exp(-(GENERATOR.normal(size=(COUNT, 1)) + 3 * TRUTH[:, None] - 1.5)))
SEX = np.where(np.arange(COUNT) % 3 == 0, "female", "male")
GATE = Gate(metric="auroc", max_loss=0.005, max_subgroup_loss=0.02, max_flips=0.02)
RISK = Task("probability")


def cases(**groups):
    return Cases(TRUTH, FP32, groups, np.arange(COUNT))


def harmed(places, how=lambda score: 1 - score):
    worse = FP32.copy()
    worse[places] = how(worse[places])
    return worse


def test_the_same_answers_are_accepted():
    verdict = judge(GATE, RISK, cases(sex=SEX), {"vnni": FP32, "avx2": FP32})

    assert verdict.is_accepted
    assert {each.group for each in verdict.comparisons} == {"all", "sex: female", "sex: male"}
    assert verdict.overall("avx2").loss_bound == 0
    assert len(verdict.comparisons) == 6
    assert verdict.overall("avx2").fp32 == verdict.overall("avx2").int8


def test_a_small_change_of_every_score_is_accepted_and_its_calibration_reported():
    shifted = np.clip(FP32 + 0.01, 0, 1)

    verdict = judge(GATE, RISK, cases(), {"vnni": shifted})

    assert verdict.is_accepted
    found = verdict.overall("vnni")
    assert found.fp32_calibration_error != found.int8_calibration_error
    assert 0 < found.flips <= 0.02


def test_a_loss_beyond_the_tolerance_is_refused_with_its_figures():
    verdict = judge(GATE, RISK, cases(), {"vnni": harmed(slice(0, 60))})

    assert not verdict.is_accepted
    assert verdict.reasons[0].startswith("vnni, all: auroc may lose up to 0.")
    assert "600 cases" in verdict.reasons[0]
    assert "10.0% of the decisions change; allowed is 2.0%" in verdict.reasons[1]


def test_a_loss_within_the_tolerance_but_without_confidence_is_refused():
    noisy = FP32 + GENERATOR.normal(scale=0.08, size=FP32.shape)
    gate = GATE.model_copy(update={"max_flips": 1.0})

    found = judge(gate, RISK, cases(), {"vnni": noisy}).overall("vnni")
    between = gate.model_copy(update={"max_loss": (found.loss + found.loss_bound) / 2})
    verdict = judge(between, RISK, cases(), {"vnni": noisy})

    assert found.loss < between.max_loss < found.loss_bound
    assert not verdict.is_accepted


def test_a_model_that_fails_under_one_setting_is_refused_whichever_it_is():
    bad = harmed(slice(0, 60))

    for answers in ({"vnni": FP32, "avx2": bad}, {"vnni": bad, "avx2": FP32}):
        verdict = judge(GATE, RISK, cases(), answers)
        (failing,) = (setting for setting, each in answers.items() if each is bad)

        assert not verdict.is_accepted
        assert all(reason.startswith(f"{failing}, ") for reason in verdict.reasons)


def test_harm_to_one_sex_is_refused_even_where_it_is_small_overall():
    few = np.flatnonzero(SEX == "female")[:12]
    gate = GATE.model_copy(update={"max_loss": 0.2, "max_flips": 1.0})

    verdict = judge(gate, RISK, cases(sex=SEX), {"vnni": harmed(few)})

    assert [reason.split(":")[1].split(",")[0].strip() for reason in verdict.reasons] == ["female"]


def test_a_group_too_small_to_be_judged_is_named_with_its_size():
    age = ["80 and over"] * 12 + ["40 to 59"] * 300 + [""] * (COUNT - 312)

    verdict = judge(GATE, RISK, cases(age=age), {"vnni": FP32})

    (small,) = verdict.unjudged
    assert (small.group, small.cases) == ("age: 80 and over", 12)
    assert small.reason == "12 patients, at least 30 are needed"
    assert {each.group for each in verdict.comparisons} == {"all", "age: 40 to 59"}


def test_a_group_with_hardly_any_condition_is_named_too():
    place = np.concatenate([np.flatnonzero(TRUTH == 0)[:60], np.flatnonzero(TRUTH == 1)[:5]])
    ward = np.full(COUNT, "", dtype=object)
    ward[place] = "a"

    (small,) = judge(GATE, RISK, cases(ward=ward), {"vnni": FP32}).unjudged

    assert small.reason == "5 cases of the rarer side, at least 10 are needed"


def test_many_cases_of_few_patients_are_too_few():
    few = Cases(TRUTH, FP32, {}, np.arange(COUNT) // 20)

    verdict = judge(GATE, RISK, few, {"vnni": FP32})

    assert verdict.reasons == (
        "The evaluation set is too small: 30 patients, at least 50 are needed.",
    )


def test_answers_that_are_no_numbers_are_an_error():
    with pytest.raises(ValueError, match="under avx2 the model gives answers that are no numbers"):
        judge(GATE, RISK, cases(), {"avx2": harmed(slice(0, 1), lambda score: score * np.nan)})


def test_for_an_error_of_a_value_more_is_worse():
    values = Task("value", turns=((),))
    truth = GENERATOR.normal(size=COUNT)
    given = Cases(truth, truth[:, None] + 0.1, {}, np.arange(COUNT))
    gate = Gate(metric="mae", max_loss=0.05)

    better = judge(gate, values, given, {"vnni": truth[:, None]})
    worse = judge(gate, values, given, {"vnni": truth[:, None] + 0.2})

    assert better.is_accepted
    assert better.overall("vnni").loss == pytest.approx(-0.1)
    assert not worse.is_accepted


def test_a_verdict_is_json_and_says_what_was_not_compared():
    verdict = judge(GATE, RISK, cases(age=["x"] * COUNT), {"vnni": FP32})

    said = json.loads(json.dumps(verdict.as_json()))

    assert said["accepted"] is True
    assert said["comparisons"][0]["fp32"].keys() == {"value", "low", "high"}
    with pytest.raises(KeyError):
        verdict.overall("avx2")
