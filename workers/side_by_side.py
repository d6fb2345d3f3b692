"""Do the same for several things at once, over as many connections."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


def side_by_side(
    do: Callable[[Item], Outcome], items: Sequence[Item], *, at_once: int
) -> list[Outcome]:
    """Give the outcome for each item, in their order; comes back when all have ended.

    Args:
        do: Safe to call from several threads at once.
        items: What it is done for.
        at_once: Most that are under way at the same time.

    Raises:
        Exception: Whatever `do` raised first, in the order of the items.
    """
    workers = min(at_once, len(items))
    if workers <= 1:
        return [do(item) for item in items]
    with ThreadPoolExecutor(workers, thread_name_prefix="side-by-side") as pool:
        return list(pool.map(do, items))
