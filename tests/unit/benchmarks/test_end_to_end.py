import pytest

from benchmarks.end_to_end import _told
from benchmarks.turn import Paced, Work


@pytest.mark.parametrize(
    ("percent", "count", "told"),
    [
        (99, 10, "longest of 10 at 2.3/s, ms"),
        (99, 99, "longest of 99 at 2.3/s, ms"),
        (99, 100, "p99 at 2.3/s, ms"),
        (50, 10, "p50 at 2.3/s, ms"),
    ],
)
def test_a_percentile_of_so_few_that_it_is_the_longest_is_called_that(percent, count, told):
    assert _told(percent, 2.3, Paced(Work(count, 1.0, {}), ())) == told
