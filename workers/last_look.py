"""(6.3) The last look, right before results are sent: is each still held, and still permitted?

Consent was asked when the batch was opened. Since then the EHR may have been asked for other
things, or have let a request time out, and a patient may have withdrawn her consent. Whoever
acknowledges a withdrawal waits for what is in flight (`gateway.withdrawal`), so two things have to
hold when a request goes out:

1. the delivery is in flight under this attempt, and its lease outlives the request;
2. consent, asked now, permits it.

In doubt nothing goes. See docs/decisions/0021.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from adapters.site import Site
from gateway import telemetry
from gateway.core.consent import WRITE, ConsentDecision
from gateway.core.delivery import Delivery
from gateway.core.errors import GatewayError
from gateway.core.jobs import Job
from gateway.core.write_back import StoredReport
from gateway.store.events import Event
from gateway.store.unit_of_work import UnitOfWork
from workers import consents
from workers.ports import Ports, Round, new_round

#: A lease is as long as so many waits for the EHR: half of it outlives any single request.
WAITS_PER_LEASE = 6

log = telemetry.get_logger()


@dataclass(frozen=True)
class Held:
    """A delivery that this worker holds, with what consent is asked about."""

    delivery: Delivery
    job: Job
    event: Event


@dataclass(frozen=True)
class Denial:
    """What was decided at the last look, and when."""

    decision: ConsentDecision
    asked: Round


def lease_ms(ports: Ports, site: Site, systems: Collection[str]) -> int:
    """Say how long results for these systems are claimed for: long enough for slow ones."""
    waits_s = [system.timeout_s or 0 for name in systems if (system := site.system(name))]
    return max([ports.lease_ms, *(int(WAITS_PER_LEASE * 1000 * wait_s) for wait_s in waits_s)])


class LastLook:
    """The gate for the results that one batch sends to one system.

    Attributes:
        denied: By identifier, of those that consent no longer permits.
    """

    def __init__(self, ports: Ports, held: Sequence[Held]) -> None:
        self.denied: dict[str, Denial] = {}
        self._ports = ports
        self._held: Mapping[str, Held] = {each.delivery.identifier: each for each in held}
        systems = {each.delivery.system for each in held}
        self._lease_ms = lease_ms(ports, ports.site(), systems)

    def __call__(self, reports: Sequence[StoredReport]) -> set[str]:
        """Give the identifiers of those that may be sent now."""
        held = [self._held[report.identifier] for report in reports]
        try:
            by_id = {report.identifier: report for report in reports}
            permitted = self._look(held, by_id)
            if permitted is None:
                self._renew(held)
                permitted = self._look(held, by_id)
        except GatewayError as error:  # nothing goes unasked; a later attempt asks again
            log.warning("last-look-failed", error=type(error).__name__)
            return set()
        return permitted or set()

    def _renew(self, held: Sequence[Held]) -> None:
        with self._ports.store.write(is_durable=False) as uow:
            uow.deliveries.renew([each.delivery for each in held], lease_ms=self._lease_ms)

    def _look(self, held: Sequence[Held], reports: Mapping[str, StoredReport]) -> set[str] | None:
        """Ask for consent again; None where a lease might end before the request does."""
        with self._ports.store.read() as uow:
            leases = uow.deliveries.leases([each.delivery for each in held])
            if any(until < uow.now_ms + self._lease_ms // 2 for until in leases.values()):
                return None
            still = [each for each in held if each.delivery.id in leases]
            return self._permitted(uow, still, reports)

    def _permitted(
        self, uow: UnitOfWork, held: Sequence[Held], reports: Mapping[str, StoredReport]
    ) -> set[str]:
        asked = new_round(uow, self._ports)
        patients = {each.delivery.patient_key for each in held}
        uow.patient_keys.load(patients)
        known = uow.consents.of(patients, asked.site.abdm_policy)
        permitted: set[str] = set()
        for each in held:
            route = asked.site.route(each.job.route)
            if route is None:
                continue  # the next attempt finds that it was removed
            question = consents.question_of(uow, each.event, route, each.job, (known, WRITE))
            report = reports[each.delivery.identifier]
            decision = (
                consents.about_result(question, report)
                if question
                else consents.unknown_patient(route)
            )
            if decision.is_permitted:
                permitted.add(each.delivery.identifier)
            else:
                self.denied[each.delivery.identifier] = Denial(decision, asked)
        return permitted
