"""The deliveries table: results on their way to an EHR, and the circuit breaker of each EHR.

As with jobs, a claim is one conditional UPDATE, `attempt` fences every later write, and a lease
that ran out makes a delivery pending again. Bodies and locations are sealed under the patient's
key.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from gateway.core.delivery import Circuit, Delivery, DeliveryState, NewDelivery, Passage
from gateway.core.jobs import BusinessStatus, Job, JobId
from gateway.core.lanes import Lane
from gateway.store.engine import execute_all
from gateway.store.lines import Queue
from gateway.store.sealing import Place
from gateway.store.tables import circuit_breakers, deliveries

if TYPE_CHECKING:
    from gateway.store.unit_of_work import UnitOfWork

_LONGEST_ANSWER, MOST_LOST = 128, 255
#: Last answer of what was taken off the worklist to be tried again: the EHR may be another now.
ASKED_AGAIN = "asked again"
# Both databases use the partial index ix_deliveries_open only where its condition stands literally.
_IS_OPEN = sa.text("deliveries.state in ('pending', 'in-flight')")
_COLUMNS = [deliveries.c[name] for name in Delivery.__dataclass_fields__]
_IDS: sa.BindParameter[Any] = sa.bindparam("ids", expanding=True)
_IS_DUE = (
    deliveries.c.state == DeliveryState.PENDING,
    deliveries.c.next_attempt_ms <= sa.bindparam("now"),
)
_QUEUE = Queue(
    is_waiting=(_IS_OPEN, deliveries.c.state == DeliveryState.PENDING),
    lane=deliveries.c.lane,
    name=deliveries.c.line,
    at=deliveries.c.next_attempt_ms,
    shown=(deliveries.c.id,),
)
_LINES, _HEAD = _QUEUE.lines(), _QUEUE.head()
_SYSTEMS = (
    sa.select(deliveries.c.id, deliveries.c.system)
    .where(deliveries.c.id.in_(_IDS), *_IS_DUE)
    .order_by(deliveries.c.next_attempt_ms)
)
_CLAIM = (
    sa.update(deliveries)
    .where(deliveries.c.id.in_(_IDS), *_IS_DUE)
    .values(
        state=DeliveryState.IN_FLIGHT,
        attempt=deliveries.c.attempt + 1,
        lease_owner=sa.bindparam("owner"),
        lease_until_ms=sa.bindparam("until"),
    )
    .returning(*_COLUMNS)
)
# In order of id, so that two workers never wait for each other's rows.
_HELD = (
    sa.select(deliveries.c.id, deliveries.c.state, deliveries.c.attempt)
    .where(deliveries.c.id.in_(_IDS))
    .order_by(deliveries.c.id)
    .with_for_update()
)
_LEASES = sa.select(deliveries.c.id, deliveries.c.attempt, deliveries.c.lease_until_ms).where(
    deliveries.c.id.in_(_IDS), deliveries.c.state == DeliveryState.IN_FLIGHT
)
_RENEW = (
    sa.update(deliveries)
    .where(
        deliveries.c.id == sa.bindparam("held_id"),
        deliveries.c.state == DeliveryState.IN_FLIGHT,
        deliveries.c.attempt == sa.bindparam("held_attempt"),
    )
    .values(lease_until_ms=sa.bindparam("until"))
)
_IN_FLIGHT = sa.select(*_COLUMNS).where(
    _IS_OPEN,
    deliveries.c.state == DeliveryState.IN_FLIGHT,
    deliveries.c.patient_key.in_(sa.bindparam("patients", expanding=True)),
)
_SETTLE = (
    sa.update(deliveries)
    .where(
        deliveries.c.id == sa.bindparam("held_id"),
        deliveries.c.state == sa.bindparam("held_state"),
        deliveries.c.attempt == sa.bindparam("held_attempt"),
    )
    .values(
        state=sa.bindparam("new_state"),
        next_attempt_ms=sa.bindparam("new_next_attempt_ms"),
        last_answer=sa.bindparam("new_last_answer"),
        location=sa.bindparam("new_location"),
        delivered_ms=sa.bindparam("new_delivered_ms"),
        rung=sa.bindparam("new_rung"),
        lost=sa.bindparam("new_lost"),
        lease_owner=None,
        lease_until_ms=None,
    )
)
_FREE = {
    "state": DeliveryState.PENDING,
    "lease_owner": None,
    "lease_until_ms": None,
}
_IS_LOST = (
    _IS_OPEN,
    deliveries.c.state == DeliveryState.IN_FLIGHT,
    deliveries.c.lease_until_ms < sa.bindparam("now"),
)
_LOST = sa.select(sa.func.count()).select_from(deliveries).where(*_IS_LOST)
_RESCUE = sa.update(deliveries).where(*_IS_LOST).values(_FREE)
_RELEASE = (
    sa.update(deliveries)
    .where(
        _IS_OPEN,
        deliveries.c.state == DeliveryState.IN_FLIGHT,
        deliveries.c.lease_owner == sa.bindparam("owner"),
    )
    .values(_FREE)
)
_WAKE = (
    sa.update(deliveries)
    .where(
        _IS_OPEN,
        deliveries.c.state == DeliveryState.PENDING,
        deliveries.c.system == sa.bindparam("of_system"),
        deliveries.c.next_attempt_ms > sa.bindparam("now"),
    )
    .values(next_attempt_ms=sa.bindparam("now"))
)
_GET = sa.select(*_COLUMNS).where(deliveries.c.id.in_(_IDS))
_OF_JOBS = sa.select(*_COLUMNS).where(deliveries.c.job_id.in_(_IDS))
_CIRCUITS = sa.select(circuit_breakers)
_CIRCUIT = _CIRCUITS.where(circuit_breakers.c.system == sa.bindparam("system")).with_for_update()
_PLACES = sa.select(deliveries.c.id, deliveries.c.location).where(
    deliveries.c.patient_key == sa.bindparam("patient"), deliveries.c.location.is_not(None)
)
_TOLD = (
    sa.select(deliveries.c.system, deliveries.c.rung, deliveries.c.lost, sa.func.count())
    .where(deliveries.c.rung != "")
    .group_by(deliveries.c.system, deliveries.c.rung, deliveries.c.lost)
)
_COUNTS = sa.select(deliveries.c.system, deliveries.c.state, sa.func.count()).group_by(
    deliveries.c.system, deliveries.c.state
)


@dataclass(frozen=True, kw_only=True)
class Settlement:
    """What becomes of a delivery that the caller holds.

    Attributes:
        delivery: The delivery as it was when claimed or read.
        answer: What the EHR said: a status code or an error's name, never its text.
        next_attempt_ms: When it is due again, for a delivery that stays pending.
        location: Where the EHR keeps the result, `Observation/<id>`, once it is delivered.
        delivered_ms: When it was delivered: the moment that its AuditEvent names.
        rung: In which form it is there.
        lost: What of it the EHR did not keep; cut where that is long.
    """

    delivery: Delivery
    state: DeliveryState
    answer: str = ""
    next_attempt_ms: int = 0
    location: str | None = None
    delivered_ms: int | None = None
    rung: str = ""
    lost: str = ""


class Deliveries:
    """Deliveries within one unit of work."""

    def __init__(self, uow: "UnitOfWork") -> None:
        self._uow = uow

    def add(self, new: Sequence[NewDelivery]) -> None:
        """Add results to be written.

        A job has one delivery. Where it was given up or cancelled and the job ran again, the new
        result takes its place; its attempts still count, since one of them may have arrived.
        """
        if not new:
            return
        self._uow.patient_keys.load((each.patient_key for each in new), create=True)
        rows = [self._new_row(each) for each in new]
        execute_all(self._uow.connection, _ADD[self._uow.connection.dialect.name], rows)

    def lines(self) -> list[tuple[Lane, str]]:
        """Give lane and name, see `NewDelivery.line`, of every line in which something waits."""
        return [(Lane(row[0]), row[1]) for row in self._uow.connection.execute(_LINES)]

    def head(self, line: tuple[Lane, str], limit: int) -> list[tuple[str, int]]:
        """Give the ids of a line that may be tried now with since when, longest due first."""
        lane, name = line
        values = {"lane": lane, "name": name, "now": self._uow.now_ms, "most": limit}
        return [(row[0], row[1]) for row in self._uow.connection.execute(_HEAD, values)]

    def pending_by_system(self, ids: Collection[str]) -> dict[str, list[str]]:
        """Sort those of the deliveries that are pending and due by the system they go to."""
        values = {"ids": list(ids), "now": self._uow.now_ms}
        found: dict[str, list[str]] = {}
        for row in self._uow.connection.execute(_SYSTEMS, values):
            found.setdefault(row.system, []).append(row.id)
        return found

    def claim(self, ids: Collection[str], owner: str, *, lease_ms: int) -> list[Delivery]:
        """Take deliveries for a worker; only those that are still pending and due are given."""
        now = self._uow.now_ms
        return self._all(_CLAIM, ids=list(ids), owner=owner, now=now, until=now + lease_ms)

    def still_held(self, held: Collection[Delivery]) -> list[Delivery]:
        """Give those of the deliveries that nobody took or moved since; locked until the end."""
        rows = self._uow.connection.execute(_HELD, {"ids": [each.id for each in held]})
        now = {row.id: (row.state, row.attempt) for row in rows}
        return [each for each in held if now.get(each.id) == (each.state, each.attempt)]

    def leases(self, held: Collection[Delivery]) -> dict[str, int]:
        """Give when the lease of each of these ends, of those in flight under the same attempt."""
        rows = self._uow.connection.execute(_LEASES, {"ids": [each.id for each in held]})
        now = {row.id: row for row in rows}
        return {
            each.id: now[each.id].lease_until_ms
            for each in held
            if each.id in now and now[each.id].attempt == each.attempt
        }

    def renew(self, held: Collection[Delivery], *, lease_ms: int) -> None:
        """Hold deliveries for longer, as far as they are still held under the same attempt."""
        until = self._uow.now_ms + lease_ms
        rows = [{"held_id": d.id, "held_attempt": d.attempt, "until": until} for d in held]
        self._uow.connection.execute(_RENEW, rows)

    def in_flight(self, patients: Collection[str]) -> list[Delivery]:
        """Give the results of these patients that a worker may be sending now."""
        return self._all(_IN_FLIGHT, patients=list(patients)) if patients else []

    def settle(self, changes: Sequence[Settlement]) -> int:
        """Write what became of deliveries and give up their leases.

        Returns:
            How many changed; one that another took or moved meanwhile does not.
        """
        if not changes:
            return 0
        self._uow.patient_keys.load(each.delivery.patient_key for each in changes)
        rows = [self._settled_row(change) for change in changes]
        self._uow.written.add((c.delivery.system, c.location) for c in changes if c.location)
        return execute_all(self._uow.connection, _SETTLE, rows)

    def lost(self) -> int:
        """Count what a dead worker still holds."""
        return self._uow.connection.scalar(_LOST, {"now": self._uow.now_ms}) or 0

    def rescue(self) -> int:
        """Make pending what a dead worker held; count it."""
        return self._uow.connection.execute(_RESCUE, {"now": self._uow.now_ms}).rowcount

    def release(self, owner: str) -> int:
        """Make pending what a worker of this name held: its predecessor died; count it."""
        return self._uow.connection.execute(_RELEASE, {"owner": owner}).rowcount

    def wake(self, system: str) -> int:
        """Make due at once what waits for a system that answers again; count it."""
        values = {"of_system": system, "now": self._uow.now_ms}
        return self._uow.connection.execute(_WAKE, values).rowcount

    def get_many(self, ids: Collection[str]) -> list[Delivery]:
        """Give deliveries by their ids."""
        return self._all(_GET, ids=list(ids))

    def of_jobs(self, job_ids: Collection[str]) -> dict[JobId, Delivery]:
        """Give the delivery of each of these jobs that has one."""
        return {each.job_id: each for each in self._all(_OF_JOBS, ids=list(job_ids))}

    def waiting_of(self, stopping: Collection[Job]) -> dict[JobId, Delivery]:
        """Give the results of jobs that wait and that no worker holds, locked until the end."""
        ids = [j.id for j in stopping if j.business_status is BusinessStatus.DELIVERY_PENDING]
        if not ids:
            return {}
        waiting = [
            each for each in self.of_jobs(ids).values() if each.state is DeliveryState.PENDING
        ]
        return {each.job_id: each for each in self.still_held(waiting)}

    def body(self, delivery: Delivery) -> bytes:
        """Open the report to be written.

        Raises:
            Unsealable: The row was changed or the patient's key is gone.
        """
        place = Place("deliveries", "body", delivery.id)
        return self._uow.patient_keys.unseal(delivery.patient_key, place, delivery.body)

    def location(self, delivery: Delivery) -> str | None:
        """Open where the EHR keeps the result; None while it is not there.

        Raises:
            Unsealable: The row was changed or the patient's key is gone.
        """
        sealed = self._uow.connection.scalar(
            sa.select(deliveries.c.location).where(deliveries.c.id == delivery.id)
        )
        if sealed is None:
            return None
        place = Place("deliveries", "location", delivery.id)
        return self._uow.patient_keys.unseal(delivery.patient_key, place, sealed).decode()

    def places_of(self, patient_key: str) -> frozenset[str]:
        """Give where an EHR keeps the delivered results of a patient.

        Raises:
            Unsealable: A row was changed or the patient's key is gone.
        """
        rows = self._uow.connection.execute(_PLACES, {"patient": patient_key})
        place, keys = partial(Place, "deliveries", "location"), self._uow.patient_keys
        return frozenset(keys.unseal(patient_key, place(r.id), r.location).decode() for r in rows)

    def told(self) -> list[tuple[str, str, str, int]]:
        """Count what was delivered by system, rung and what was lost, where a rung is known."""
        return [(r[0], r[1], r[2], r[3]) for r in self._uow.connection.execute(_TOLD)]

    def counts(self) -> dict[tuple[str, DeliveryState], int]:
        """Count the deliveries by system and state."""
        rows = self._uow.connection.execute(_COUNTS)
        return {(row[0], DeliveryState(row[1])): row[2] for row in rows}

    # -- circuit breakers --------------------------------------------------------------------

    def circuits(self) -> dict[str, Circuit]:
        """Give the circuit of each system that ever failed; any other is closed."""
        rows = self._uow.connection.execute(_CIRCUITS)
        return {
            row.system: Circuit(row.failures, row.open_until_ms, row.is_probing) for row in rows
        }

    def pass_through(self, system: str, *, lease_ms: int) -> Passage:
        """Ask the circuit of a system how much may be sent; a probe is taken by asking."""
        circuit = self._circuit(system)
        passage = circuit.passage(self._uow.now_ms)
        if passage is Passage.ONE:
            self.set_circuit(system, circuit.probing(self._uow.now_ms, lease_ms=lease_ms))
        return passage

    def circuit_failed(self, system: str, *, delay_s: float, is_asked: bool) -> Circuit:
        """Record that a system did not answer, or asked for a pause."""
        failed = self._circuit(system).after_failure(
            self._uow.now_ms, delay_s=delay_s, is_asked=is_asked
        )
        self.set_circuit(system, failed)
        return failed

    def circuit_succeeded(self, system: str) -> None:
        """Record that a system answers; what waited for it is due at once."""
        if self._circuit(system) != Circuit():
            self.set_circuit(system, Circuit())
            self.wake(system)

    def set_circuit(self, system: str, circuit: Circuit) -> None:
        """Keep the circuit of a system."""
        values = {
            "failures": circuit.failures,
            "open_until_ms": circuit.open_until_ms,
            "is_probing": circuit.is_probing,
        }
        connection = self._uow.connection
        connection.execute(
            _insert_ignoring(connection, circuit_breakers), {"system": system, **values}
        )
        connection.execute(
            sa.update(circuit_breakers).where(circuit_breakers.c.system == system).values(values)
        )

    def _circuit(self, system: str) -> Circuit:
        row = self._uow.connection.execute(_CIRCUIT, {"system": system}).one_or_none()
        return Circuit(row.failures, row.open_until_ms, row.is_probing) if row else Circuit()

    def _new_row(self, new: NewDelivery) -> dict[str, object]:
        place = Place("deliveries", "body", new.id)
        return {
            "id": new.id,
            "job_id": new.job_id,
            "system": new.system,
            "lane": new.lane,
            "line": new.line,
            "patient_key": new.patient_key,
            "identifier": new.identifier,
            "body": self._uow.patient_keys.seal(new.patient_key, place, new.body),
            "state": DeliveryState.PENDING,
            "next_attempt_ms": self._uow.now_ms,
            "created_ms": self._uow.now_ms,
        }

    def _settled_row(self, change: Settlement) -> dict[str, object]:
        held = change.delivery
        place = Place("deliveries", "location", held.id)
        location = change.location and self._uow.patient_keys.seal(
            held.patient_key, place, change.location.encode()
        )
        return {
            "held_id": held.id,
            "held_state": held.state,
            "held_attempt": held.attempt,
            "new_state": change.state,
            "new_next_attempt_ms": change.next_attempt_ms,
            "new_last_answer": change.answer[:_LONGEST_ANSWER],
            "new_location": location,
            "new_delivered_ms": change.delivered_ms,
            "new_rung": change.rung,
            "new_lost": change.lost[:MOST_LOST],
        }

    def _all(self, statement: Any, **values: object) -> list[Delivery]:  # noqa: ANN401 - any SQL
        return [_delivery(row) for row in self._uow.connection.execute(statement, values)]


def _delivery(row: sa.Row[Any]) -> Delivery:
    values = {**row._mapping, "state": DeliveryState(row.state)}  # noqa: SLF001 - its public name
    return Delivery(**values)


def _replacing(insert: sqlite.Insert | postgresql.Insert) -> sa.Insert:
    taken = ("id", "system", "lane", "line", "body", "state", "next_attempt_ms", "created_ms")
    return insert.on_conflict_do_update(
        index_elements=["job_id"],
        set_={name: insert.excluded[name] for name in taken},
        where=sa.text("deliveries.state in ('failed', 'cancelled')"),
    )


_ADD = {
    "sqlite": _replacing(sqlite.insert(deliveries)),
    "postgresql": _replacing(postgresql.insert(deliveries)),
}


def _insert_ignoring(connection: sa.Connection, table: sa.Table) -> sa.Insert:
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table).on_conflict_do_nothing()
    return postgresql.insert(table).on_conflict_do_nothing()
