"""Tell the circuit breakers how the EHRs answered, in the transaction of the batch that asked."""

from collections.abc import Collection, Mapping

from gateway.core.delivery import Circuit
from gateway.store.unit_of_work import UnitOfWork
from workers.ports import Ports, Round


def keep(
    uow: UnitOfWork,
    ports: Ports,
    round_: Round,
    *,
    answered: Collection[str],
    away: Mapping[str, float | None],
) -> None:
    """Close the circuits of systems that answered, count the failures of those that did not.

    Args:
        uow: The transaction of the batch.
        ports: Give the back-off.
        round_: The circuits as the batch found them; one that was never touched costs nothing.
        answered: Systems that answered at all: these are not away.
        away: Systems that did not, each with what it asked for by Retry-After, in seconds.
    """
    for system in set(answered) & round_.circuits.keys():
        uow.deliveries.circuit_succeeded(system)
    for system in away.keys() - set(answered):
        failures = round_.circuits[system].failures if system in round_.circuits else 0
        delay_s = ports.backoff.delay_s(
            failures + 1, retry_after_s=away[system], random=ports.random, is_of_system=True
        )
        uow.deliveries.circuit_failed(system, delay_s=delay_s, is_asked=away[system] is not None)


def give_back(uow: UnitOfWork, round_: Round, systems: Collection[str]) -> None:
    """Let another probe go where this batch took one and then had nothing to send.

    A delivery may end before it is sent, since its consent was withdrawn; without this nothing
    else would pass until the probe's lease ran out.

    Args:
        uow: The transaction of the batch.
        round_: The circuits as the batch found them.
        systems: Systems to which the batch sent nothing.
    """
    for system in systems:
        circuit = round_.circuits.get(system, Circuit())
        if circuit.is_probing:
            uow.deliveries.set_circuit(system, Circuit(circuit.failures))
