"""Tell the circuit breakers how the EHRs answered, in the transaction of the batch that asked."""

from collections.abc import Collection, Mapping

from gateway import telemetry
from gateway.core.delivery import Circuit
from gateway.store.unit_of_work import UnitOfWork
from workers.fates import NotReached
from workers.ports import Ports, Round

log = telemetry.get_logger()

#: A longer value is dropped from a line of the log as a whole.
_LONGEST_VALUE = 200


def keep(
    uow: UnitOfWork,
    ports: Ports,
    round_: Round,
    *,
    answered: Collection[str],
    away: Mapping[str, NotReached],
) -> None:
    """Close the circuits of systems that answered, count the failures of those that did not.

    Args:
        uow: The transaction of the batch.
        ports: Give the back-off.
        round_: The circuits as the batch found them; one that was never touched costs nothing.
        answered: Systems that answered at all: these are not away.
        away: Systems that did not, each with why; it may have said when to ask again.
    """
    for system in set(answered) & round_.circuits.keys():
        uow.deliveries.circuit_succeeded(system)
    for system in away.keys() - set(answered):
        fate, known = away[system], round_.circuits.get(system, Circuit())
        delay_s = ports.backoff.delay_s(
            known.failures + 1,
            retry_after_s=fate.retry_after_s,
            random=ports.random,
            is_of_system=True,
        )
        is_asked = fate.retry_after_s is not None
        uow.deliveries.circuit_failed(system, delay_s=delay_s, is_asked=is_asked)
        said = fate.said[:_LONGEST_VALUE]
        log.warning("ehr-away", system=system, error=said, retry_in_s=round(delay_s, 1))


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
