"""One running Nadi that the integration tests share: a start costs more than most tests."""

from collections.abc import Iterator

import pytest

from tests.running import RunningNadi, running_nadi

#: Impatient, so that tests need not wait; what is waited for stays the same.
IMPATIENT = {
    "NADI_RETRY_BASE_S": "0.2",
    "NADI_RETRY_MAX_S": "1",
    "NADI_RING_AGAIN_S": "1",
    "NADI_EHR_TIMEOUT_S": "2",
}


@pytest.fixture(scope="session")
def shared_nadi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNadi]:
    """A Nadi that many modules use, each with patients of its own; leave it healthy."""
    folder = tmp_path_factory.mktemp("shared") / "nadi"
    with running_nadi(folder, environment=IMPATIENT) as running:
        yield running
