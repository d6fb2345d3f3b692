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
    assert target.row([result(values={"x": value})])[3] == told


def test_a_target_that_was_not_measured_is_told_so():
    assert FLOOR.row([])[2:4] == ("not measured", "")
    assert FLOOR.row([result(values={})])[2:4] == ("not measured", "")


def test_a_target_is_not_judged_by_what_was_measured_with_other_options():
    elsewhere = result(values={"x": 30.0}, options="--database postgresql")

    assert FLOOR.row([elsewhere])[2:4] == ("not measured", "")


GROWTH = Target("%", "B1", "x", 20, at="most_events", far=1_000_000)
NEAR = result(values={"x": 6.4, "most_events": 100_000.0})


def test_what_was_not_measured_as_far_as_was_aimed_at_neither_meets_nor_misses():
    assert GROWTH.row([NEAR])[2:4] == ("6.4 (up to 100,000)", "not measured that far")


@pytest.mark.parametrize(("grown", "verdict"), [(13.6, "met"), (21.0, "**missed**")])
def test_a_target_is_judged_by_what_was_measured_farthest_and_tells_its_day(grown, verdict):
    far = result(
        values={"x": grown, "most_events": 1e6}, options="--events 1000000", day="2026-11-25"
    )

    told = GROWTH.row([NEAR, far])

    assert told[2:4] == (f"{grown:.3g} (up to 1,000,000, on 2026-11-25)", verdict)
    assert told[4] == "`python -m benchmarks validation --events 1000000`"


def test_every_target_stands_in_the_table_whatever_was_measured():
    assert [row[0] for row in rows([])[1:-1]] == [target.what for target in TARGETS]


@pytest.mark.parametrize(
    ("bench_s", "told"),
    [(870.0, ("14.5", "met")), (901.0, ("15.0", "**missed**")), (None, ("not measured", ""))],
)
def test_the_table_says_how_long_all_of_it_took(bench_s, told):
    assert rows([], bench_s)[-1][2:4] == told
