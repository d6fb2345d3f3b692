"""Lets the requests of this process to a system leave at its rate cap, in the line of them all."""

from collections.abc import Callable

from adapters.fhir_rest.pace import Pace, Places
from adapters.site import System
from gateway.store.unit_of_work import Store

#: How long a request may wait until it may leave, in time-outs of its system: with the request
#: itself these are three, which the lease of a result outlives (`workers.last_look`).
_WAITS_FOR_PLACE = 2


def paced(system: System, store: Store, *, timeout_s: float) -> Callable[[], None]:
    """Give what waits, before each request to a system, until it may leave.

    Args:
        system: Where the requests go; without a cap nothing waits and nothing is written.
        store: Where its line is.
        timeout_s: Longest wait for its answer.
    """
    name, per_second, within_s = system.name, system.per_second, _WAITS_FOR_PLACE * timeout_s
    if per_second is None:
        return lambda: None

    def take(count: int) -> Places:
        # Need not survive a power cut: who was given a place doesn't either.
        with store.write(is_durable=False) as uow:
            return uow.pacing.take(name, count=count, per_second=per_second, within_s=within_s)

    return Pace(take, per_second)
