import pytest

from gateway.core.errors import StoreConflict, StoreUnavailable, Unsealable
from workers.persistence import until_written


class Disk:
    """Fails as often as it was told to, then writes."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.tries = 0

    def write(self) -> str:
        self.tries += 1
        if self.errors:
            raise self.errors.pop(0)
        return "written"


def test_a_write_is_tried_again_while_the_trouble_is_transient() -> None:
    disk = Disk(StoreConflict(), StoreUnavailable())

    assert until_written(disk.write) == "written"
    assert disk.tries == 3


def test_a_database_that_stays_away_is_given_up() -> None:
    disk = Disk(*(StoreUnavailable() for _ in range(9)))

    with pytest.raises(StoreUnavailable):
        until_written(disk.write)
    assert disk.tries == 4


def test_what_is_final_is_not_tried_again() -> None:
    disk = Disk(Unsealable())

    with pytest.raises(Unsealable):
        until_written(disk.write)
    assert disk.tries == 1
