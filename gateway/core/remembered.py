"""Work out once per value what is needed for every event, where the value lives long.

A manifest is compared by all of its fields, which takes longer than most of what is worked out
from it: here a value is known by its identity.
"""

from collections.abc import Callable
from functools import wraps
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

_MOST = 64


def once_per_object(make: Callable[[T], R]) -> Callable[[T], R]:
    """Remember what was made from an object, for the objects that were asked about last.

    Args:
        make: Pure; its argument must not change afterwards.
    """
    made: dict[int, tuple[T, R]] = {}

    @wraps(make)
    def remembered(value: T) -> R:
        # The object is kept beside what was made of it, so that no other can get its identity.
        known = made.get(id(value))
        if known is None:
            if len(made) >= _MOST:
                made.clear()
            known = made[id(value)] = (value, make(value))
        return known[1]

    return remembered
