"""Write what a batch has come to, although the database is busy or away for a moment.

Work that is done and can't be written is done again after its lease has run out: a few tries more
are cheaper. Each try is a transaction of its own that looks anew at what is still held.
"""

from collections.abc import Callable
from typing import TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from gateway.core.errors import TransientError

_TRIES = 4
_LONGEST_WAIT_S = 2.0

T = TypeVar("T")


def until_written(write: Callable[[], T]) -> T:
    """Try a write again while the database has transient trouble.

    Raises:
        TransientError: It still has after several tries.
    """
    retrying = Retrying(
        stop=stop_after_attempt(_TRIES),
        wait=wait_random_exponential(multiplier=0.05, max=_LONGEST_WAIT_S),
        retry=retry_if_exception_type(TransientError),
        reraise=True,
    )
    return retrying(write)
