from benchmarks.recommendations import RECOMMENDATIONS, rows
from tests.unit.benchmarks.test_result import result


def verdict(number, values, place):
    found = rows([result(number=number, values=values)])
    return found[place][3:5]


def test_there_are_ten_and_none_is_judged_before_it_was_measured():
    table = rows([])

    assert len(table) == 11
    assert {row[4] for row in table[1:]} == {"not measured"}


def test_a_gain_as_foretold_is_confirmed():
    assert verdict("B1", {"times_fhir_resources": 31.0}, 2) == ("31.0 times", "confirmed")


def test_a_smaller_gain_than_foretold_kills():
    assert verdict("B1", {"times_fhir_resources": 4.2}, 2) == ("4.2 times", "**killed**")


def test_every_recommendation_that_names_its_figures_can_be_worded_from_them():
    for each in RECOMMENDATIONS:
        values = dict.fromkeys(each.needs, 7.0)

        assert each.found(values)
        assert each.holds(values) in (True, False)


def test_what_can_not_be_judged_here_is_told_and_neither_confirmed_nor_killed():
    found, told = verdict("B4", {"chest-xray-pneumonia_exact_costs": 1.02}, 7)

    assert found.startswith("exact kernels take 1.02 times")
    assert told == "not measured"
