import pytest

from benchmarks.targets import TARGETS, Target, rows
from tests.unit.benchmarks.test_result import result

FLOOR = Target("times", "B1", "x", 10, is_floor=True)
CEILING = Target("ms", "B1", "x", 25)


@pytest.mark.parametrize(
    ("target", "value", "told"),
    [
        (FLOOR, 10, "met"),
        (FLOOR, 9.9, "**missed**"),
        (CEILING, 25, "met"),
        (CEILING, 25.1, "**missed**"),
    ],
)
def test_a_target_is_met_from_its_limit_on(target, value, told):
    assert target.row({"B1": result(values={"x": value})})[3] == told


def test_a_target_that_was_not_measured_is_told_so():
    assert FLOOR.row({})[2:4] == ("not measured", "")
    assert FLOOR.row({"B1": result(values={})})[2:4] == ("not measured", "")


def test_a_target_tells_how_far_it_was_measured():
    growth = Target("%", "B1", "x", 20, at="most_events")

    measured = result(values={"x": 6.4, "most_events": 100_000.0})

    assert growth.row({"B1": measured})[2:4] == ("6.4 (up to 100,000)", "met")


def test_every_target_stands_in_the_table_whatever_was_measured():
    assert [row[0] for row in rows([])[1:]] == [target.what for target in TARGETS]
