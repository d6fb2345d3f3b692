from collections.abc import Callable

import pytest

from gateway.core.errors import StoreUnavailable
from workers import tasks


def stopping(error: Exception) -> Callable[[], int]:
    def story() -> int:
        raise error

    return story


@pytest.mark.parametrize(
    ("error", "event"),
    [
        (StoreUnavailable(), "batch-given-up"),
        (ValueError("1.87654"), "batch-failed"),
    ],
    ids=["transient", "unexpected"],
)
def test_no_error_of_a_batch_ends_the_worker_or_quotes_a_value(
    error: Exception, event: str, logs: list[dict[str, object]]
) -> None:
    tasks._run(stopping(error), "batch-1", "infer@a")

    (line,) = logs
    assert (line["event"], line["batch_id"]) == (event, "batch-1")
    assert "1.87654" not in str({key: line[key] for key in line if key != "exc_info"})


def test_a_batch_that_ran_says_nothing(logs: list[dict[str, object]]) -> None:
    tasks._run(lambda: 3, "batch-1", "infer@a")

    assert logs == []
