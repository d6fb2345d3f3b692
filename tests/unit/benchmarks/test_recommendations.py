import pytest

from benchmarks.predictions import RECOMMENDATIONS
from benchmarks.recommendations import predictions, rows
from benchmarks.verdicts import CONFIRMED, KILLED, PARTLY, UNMEASURED, above, below, each_of, times
from tests.unit.benchmarks.test_result import result

EVERY = [one for each in RECOMMENDATIONS for one in each.predictions]


def told(number, values, place):
    table = predictions([result(number=number, values=values)])
    return next(row for row in table if row[0] == place)[2:4]


def test_there_are_ten_and_none_is_judged_before_it_was_measured():
    table = rows([])

    assert len(table) == 11
    assert {row[2] for row in table[1:]} == {UNMEASURED}
    assert {row[3] for row in predictions([])[1:]} == {UNMEASURED}


def test_every_prediction_has_a_line_with_a_letter():
    assert len(predictions([])) == len(EVERY) + 1
    assert [row[0] for row in predictions([])[1:4]] == ["1a", "1b", "1c"]


def test_a_gain_as_foretold_is_confirmed():
    found = told("B1", {"times_fhir_resources": 31.0}, "2a")

    assert found == ("31.0 times for an Observation", CONFIRMED)


def test_a_smaller_gain_than_foretold_kills():
    found = told("B1", {"times_fhir_resources": 4.2}, "2a")

    assert found == ("4.2 times for an Observation", KILLED)


def test_a_gain_outside_of_the_range_that_was_foretold_is_not_confirmed():
    assert told("B4", {"chest-xray-pneumonia_times_fp32": 1.74}, "8b")[1] == PARTLY


def test_what_holds_for_some_models_only_is_told_of_each_and_confirmed_in_part():
    values = {
        "times_ckd-risk": 0.39,
        "times_chest-xray-pneumonia": 1.02,
        "times_note-specialty": 1.05,
    }

    found, verdict = told("B5", {"times_throughput": 0.39, **values}, "6b")

    assert "ckd-risk 0.39 times" in found
    assert verdict == PARTLY


def test_a_recommendation_is_confirmed_in_part_where_its_predictions_differ():
    values = {"nadi_us": 13.0, "sqlite_us": 9.0}

    table = rows([result(number="B7", values=values)])

    assert table[10][2:] == (PARTLY, "1 confirmed, 1 killed")


def test_a_recommendation_is_killed_where_all_that_was_judged_of_it_is():
    table = rows([result(number="B1", values={"times_fhir_resources": 4.2})])

    assert table[2][2:] == (KILLED, "1 killed, 2 not measured")


def test_what_was_measured_with_other_options_judges_nothing():
    elsewhere = result(number="B7", values={"nadi_us": 13.0, "sqlite_us": 9.0}, options="--x")

    assert {row[3] for row in predictions([elsewhere])[1:]} == {UNMEASURED}


@pytest.mark.parametrize("each", EVERY, ids=lambda each: each.predicted[:40])
def test_every_prediction_that_has_its_figures_can_be_worded_and_judged(each):
    values = dict.fromkeys(each.needs, 7.0)

    assert each.found(values)
    assert each.judge(values) in (CONFIRMED, PARTLY, KILLED, UNMEASURED)


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        (times(20, 20, 100), CONFIRMED),
        (times(101, 20, 100), PARTLY),
        (times(10.6, 20), PARTLY),
        (times(5, 20), KILLED),
        (times(0.9, 0.95, 1.3), KILLED),
        (below(19, 20), CONFIRMED),
        (below(40, 20), PARTLY),
        (below(41, 20), KILLED),
        (above(100, 100), CONFIRMED),
        (above(50, 100), PARTLY),
        (above(49, 100), KILLED),
        (each_of(KILLED, KILLED), KILLED),
        (each_of(CONFIRMED, KILLED), PARTLY),
    ],
)
def test_half_of_a_gain_confirms_in_part(verdict, expected):
    assert verdict == expected
