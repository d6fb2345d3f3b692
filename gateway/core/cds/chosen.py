"""Whose results a call is shown: of every draft order, and of the newest of all else."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

Job = TypeVar("Job")


@dataclass(frozen=True)
class Triggering(Generic[Job]):
    """A resource that a call brings, with what it set going.

    Attributes:
        is_order: Whether it is one of the draft orders.
        at: When it was true of the patient; None where it does not say.
        jobs: Of the route that is asked.
    """

    is_order: bool
    at: datetime | None
    jobs: Sequence[Job]


def chosen(found: Iterable[Triggering[Job]]) -> list[Job]:
    """Give the jobs to be shown, in the order of their cards.

    Args:
        found: In the order in which the call brings them.
    """
    orders: list[Job] = []
    newest: tuple[float, Job] | None = None
    for each in found:
        if not each.jobs:
            continue
        if each.is_order:
            orders += each.jobs
            continue
        at = each.at.timestamp() if each.at else 0.0
        if newest is None or at >= newest[0]:
            newest = at, each.jobs[0]
    return [*orders, newest[1]] if newest else orders
