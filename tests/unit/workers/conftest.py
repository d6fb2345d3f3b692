"""Logs are kept from the terminal: unset, they would show exceptions with all their values."""

from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[object]]:
    with capture_logs() as captured:
        yield captured
