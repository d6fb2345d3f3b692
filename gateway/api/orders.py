"""(2) How urgent the orders are that arrivals were made for: the most urgent that is on record."""

from collections.abc import Mapping, Sequence

from gateway.core.admission import Arrival
from gateway.core.lanes import Lane
from gateway.store.identity import named_key
from gateway.store.unit_of_work import UnitOfWork


def lanes_of_orders(uow: UnitOfWork, arrivals: Sequence[Arrival]) -> Mapping[str, Lane]:
    """Give the lane of the most urgent order of each arrival that has one here, by its id.

    An order is looked for as the same system sent it; nothing of it is unsealed, its lane stands
    beside it.
    """
    keys = {
        (arrival.id, named_key(uow.sealer, arrival.system, *order.split("/")))
        for arrival in arrivals
        for order in arrival.facts.based_on
    }
    if not keys:
        return {}
    known = uow.events.lanes({key for _, key in keys})
    found: dict[str, Lane] = {}
    for arrival_id, key in keys:
        if key in known:
            found[arrival_id] = min(known[key], found.get(arrival_id, known[key]))
    return found
