"""(6.3) A result that was found in an EHR by its looks may be another one that looks the same.

An EHR that keeps no identifiers is searched by patient, code, time and value. What is found there
belongs to this delivery only if nobody else's result can be meant. So it is left for another try

1. when the ledger knows the place as another delivery's: it was settled after this one was opened;
2. when another result of the same patient is on its way at this moment: it may just have come
   there, although its worker has not told yet;
3. when another one of the same batch was found in the same place, or written there.

Whoever was searching before the other one set out can't have found it.

Source: docs/write-back.md.
"""

from collections.abc import Mapping, Sequence

from gateway.core.delivery import Delivery
from gateway.core.errors import GatewayError
from gateway.store.unit_of_work import Store, UnitOfWork
from workers.fates import Fate, NotReached, Written

_MAY_BE_ANOTHER = NotReached("LooksLikeAnother", is_of_system=False)


def told_apart(
    fates: Mapping[str, Fate], deliveries: Sequence[Delivery], store: Store
) -> dict[str, Fate]:
    """Give the fates again, but that of a result which may be another one as not known.

    Args:
        fates: By identifier, just after the EHR was asked.
        deliveries: Those of this batch to this EHR, all in flight.
        store: Where the others are known.
    """
    by_looks = {each.identifier for each in deliveries if _is_by_looks(fates[each.identifier])}
    if not by_looks:
        return dict(fates)
    found = [each for each in deliveries if each.identifier in by_looks]
    try:
        with store.read() as uow:
            doubtful = _of_others(uow, fates, found, {each.id for each in deliveries})
    except GatewayError:  # nobody can tell now
        doubtful = by_looks
    doubtful |= _twice(fates, by_looks)
    return {name: _MAY_BE_ANOTHER if name in doubtful else fate for name, fate in fates.items()}


def _of_others(
    uow: UnitOfWork, fates: Mapping[str, Fate], found: Sequence[Delivery], own: set[str]
) -> set[str]:
    """Give the identifiers of those that may be a result of another delivery."""
    patients = {each.patient_key for each in found}
    uow.patient_keys.load(patients)
    busy = {
        (each.system, each.patient_key)
        for each in uow.deliveries.in_flight(patients)
        if each.id not in own
    }
    taken = {patient: uow.deliveries.places_of(patient) for patient in patients}
    return {
        each.identifier
        for each in found
        if (each.system, each.patient_key) in busy
        or _place(fates[each.identifier]) in taken[each.patient_key]
    }


def _twice(fates: Mapping[str, Fate], by_looks: set[str]) -> set[str]:
    """Give those found where another of the batch is: the first keeps it, or who wrote it."""
    held = {_place(fate) for name, fate in fates.items() if name not in by_looks}
    again = set()
    for name in (each for each in fates if each in by_looks):
        place = _place(fates[name])
        if place in held:
            again.add(name)
        held.add(place)
    return again


def _is_by_looks(fate: Fate) -> bool:
    return isinstance(fate, Written) and fate.is_by_looks


def _place(fate: Fate) -> str | None:
    return fate.location if isinstance(fate, Written) else None
