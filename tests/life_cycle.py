"""A hospital with two workers and two relays, each of which can be interrupted at every step.

`Seams` tells where a story stands: around each of its transactions, each request to the EHR and
each run of the model. At one of these places something else may happen: the worker dies there, its
lease runs out and another does its work, a patient withdraws consent, a model is retired.

The database itself writes down every move of a job (a trigger), so that nothing is missed.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from adapters.fhir_rest.answers import WriteOutcome
from gateway.cli.jobs import put_back as retry
from gateway.core.audit import Source
from gateway.core.clock import new_id
from gateway.core.errors import GatewayError
from gateway.core.jobs import JobId, JobState
from gateway.settings import Settings
from gateway.store.erasing import Order, erase
from gateway.store.leadership import FileLeadership
from gateway.store.packing import unpacked
from gateway.store.sealing import MasterKey, Sealer
from gateway.store.unit_of_work import Store, UnitOfWork
from tests.consenting import CONSENT_KEY
from tests.hospital import (
    LEASE_MS,
    FakeConnection,
    FakeConnections,
    FakeEhr,
    Hospital,
    Json,
    ToyModel,
    ToyModels,
    consent_of,
    observation,
    patient,
)
from tests.registered import ACTOR
from workers.app import put_back as free
from workers.app import rescue
from workers.delivery import deliver
from workers.inference import infer
from workers.line import Line
from workers.relay import Relay, RelayPorts
from workers.result_recipient import ResultRecipient

#: What the model makes of a creatinine: an answer, a refusal, an error.
VALUES = {"answers": 1.8, "refuses": 4800.0, "breaks": 7.7}
JOB_EVENTS = frozenset(
    {"admit", "refuse", "supersede", "cancel", "fail", "complete", "retry", "rescue"}
)


class Died(BaseException):
    """The process was killed; nobody in it may catch this."""


@dataclass
class Seams:
    """The places that a story has passed; at one of them something happens, once."""

    passed: list[str] = field(default_factory=list)
    place: str = ""
    do: Callable[[], None] = lambda: None

    def tell(self, place: str) -> None:
        """Say that the story stands at a place."""
        self.passed.append(place)
        if place == self.place:
            self.place = ""
            self.do()


class SeamStore(Store):
    """Tells before and after each transaction that writes; its numbers begin with each story."""

    seams: Seams
    writes = 0

    @contextmanager
    def write(self, *, is_durable: bool = True) -> Iterator[UnitOfWork]:
        self.writes += 1
        number = self.writes
        self.seams.tell(f"before write {number}")
        with super().write(is_durable=is_durable) as uow:
            yield uow
        self.seams.tell(f"after write {number}")


class SeamEhr(FakeEhr):
    """Tells before and after each request that writes."""

    seams = Seams()

    def transaction(self, body: bytes) -> list[WriteOutcome]:
        self.seams.tell("before the EHR")
        outcomes = super().transaction(body)
        self.seams.tell("after the EHR")
        return outcomes


class SeamModel(ToyModel):
    """Tells when it is asked."""

    def __init__(self, seams: Seams) -> None:
        super().__init__()
        self.breaks_at = VALUES["breaks"]
        self._seams = seams

    def predict(self, tensors: Any) -> Any:
        self._seams.tell("model")
        return super().predict(tensors)


#: Every place at which a story can be interrupted.
PLACES = {
    "infer": ("before write 1", "after write 1", "model", "before write 2", "after write 2"),
    "deliver": (
        "before write 1",
        "after write 1",
        "before the EHR",
        "after the EHR",
        "before write 2",
        "after write 2",
    ),
}


class Worker:
    """One worker process: its own connections and its own seams."""

    def __init__(self, world: "World", name: str) -> None:
        self.seams = Seams()
        self.store = SeamStore(
            world.hospital.url,
            Sealer(MasterKey(b"k" * 32)),
            clock=lambda: world.hospital.now,
            consents=CONSENT_KEY,
        )
        self.store.seams = self.seams
        ehr = SeamEhr()
        ehr.seams, ehr.resources = self.seams, world.hospital.ehr.resources
        self.ehr = ehr
        self.ports = replace(
            world.hospital.ports,
            store=self.store,
            owner=name,
            models=ToyModels(SeamModel(self.seams)),
            ehrs=FakeConnections(FakeConnection(ehr, None, ResultRecipient(ehr))),
        )


class World:
    """The hospital, its two workers and its two relays."""

    def __init__(self, folder: Path, url: str) -> None:
        self.hospital = Hospital(folder, url=url)
        self.store = self.hospital.store
        self._watch_moves()
        self.workers = [Worker(self, "worker@one"), Worker(self, "worker@two")]
        self.seconds = 0.0
        self.rung: set[str] = set()
        self.relays = [self._relay(folder, f"relay-{n}") for n in (1, 2)]
        self._versions: dict[str, int] = {}

    def close(self) -> None:
        """Close every connection."""
        for each in self.workers:
            each.store.close()
        self.hospital.close()

    def _relay(self, folder: Path, name: str) -> Relay:
        settings = Settings(data_dir=folder, retry_budget_s=3600)
        return Relay(
            RelayPorts(
                store=self.store,
                bell=_SilentBell(),
                lead=FileLeadership(folder / f"{name}.lock"),
                infer=Line(_ring, 2, 64),
                deliver=Line(_ring, 2, 64),
                site=lambda: self.hospital.site,
                source=Source("site", name),
                signing=Ed25519PrivateKey.from_private_bytes(b"s" * 32),
                origin="test",
                settings=settings,
                monotonic=lambda: self.seconds,
            )
        )

    def _watch_moves(self) -> None:
        with self.store.engine.begin() as connection:
            for statement in _WATCH[connection.dialect.name]:
                connection.exec_driver_sql(statement)

    # -- what happens ------------------------------------------------------------------------

    def admit(self, name: str, kind: str | None) -> None:
        """Push a patient, and a consent unless it is None."""
        self.hospital.push(patient(name))
        if kind is not None:
            self.consent(name, kind)

    def consent(self, name: str, kind: str) -> None:
        """Push the next version of a patient's consent."""
        self.hospital.push(consent_of(name, kind, str(self._next(f"consent {name}"))))

    def observe(self, name: str, number: int, kind: str) -> None:
        """Push a creatinine, or the next version of one."""
        version = self._next(f"observation {name} {number}")
        value = VALUES[kind]
        at = self.hospital.now
        self.hospital.push(
            observation(value, name=f"{name}-o{number}", of=name, version=str(version), at=at)
        )

    def _next(self, what: str) -> int:
        self._versions[what] = self._versions.get(what, 0) + 1
        return self._versions[what]

    def pass_time(self, seconds: float) -> None:
        """Let time pass, or set the clock back; the monotonic clock only goes on."""
        self.hospital.pass_time(seconds)
        self.seconds += max(seconds, 1.0)

    def look(self, relay: int) -> None:
        """Let a relay rescue, ring and integrate, whether it leads or only believes so."""
        with self._each_rescue_audited():
            self.relays[relay].look()

    @contextmanager
    def _each_rescue_audited(self) -> Iterator[None]:
        before = self._freed()
        yield
        moves, told = (after - first for after, first in zip(self._freed(), before, strict=True))
        assert moves == told, f"{moves} jobs were freed, {told} AuditEvents say so"

    def _freed(self) -> tuple[int, int]:
        """Count the jobs that were taken from a worker, and the AuditEvents of rescues."""
        (moves,) = self.rows(
            "select count(*) as n from job_moves where before = 'in-progress' "
            "and after in ('ready', 'failed')"
        )
        told = self.rows("select event, body from audit_events where event in ('rescue', 'fail')")
        return moves["n"], sum(_is_freed(row) for row in told)

    def work(self, worker: int, verb: str) -> None:
        """Let a worker do what it may have been rung for; it may die of it."""
        ports = self.workers[worker].ports
        self.workers[worker].store.writes = 0
        with suppress(Died, GatewayError):
            if verb == "infer":
                infer(self.ids("jobs"), ports)
            else:
                deliver(self.ids("deliveries"), ports)

    def restart(self, worker: int) -> None:
        """Let a worker's successor free what it held, as `workers.app` does."""
        ports = self.workers[worker].ports
        with self._each_rescue_audited(), self.store.write() as uow:
            lost = uow.jobs.held_by(ports.owner)
            changes = rescue(lost, now_ms=uow.now_ms, budget_s=ports.backoff.budget_s)
            free(uow, changes, Source("site", ports.owner))
            uow.deliveries.release(ports.owner)

    def retry_failed(self) -> None:
        """Do `nadi jobs retry` with every failed job."""
        for row in self.rows("select id from jobs where state = 'failed'"):
            with suppress(GatewayError), self.store.write() as uow:
                retry(uow, row["id"], Source("site", "cli"))

    def retire(self) -> None:
        """Retire the model; a second time changes nothing."""
        with suppress(GatewayError):
            self.hospital.retire_model()

    def erase(self, name: str) -> None:
        """Erase a patient, if there is anything of hers."""
        key = self.store.sealer.patient_key("ehr", f"Patient/{name}")
        order = Order(patient_key=key, reason="She asked for it.", law="test", is_repeat=True)
        with suppress(GatewayError), self.store.write() as uow:
            erase(uow, order, (), ACTOR)

    # -- what can be seen --------------------------------------------------------------------

    def held_by(self, worker: int) -> list[Json]:
        """Give what a worker holds, under which attempt."""
        owner = self.workers[worker].ports.owner
        found = []
        for table in ("jobs", "deliveries"):
            query = f"select id, state, attempt, lease_owner from {table} order by id"  # noqa: S608
            found += [row for row in self.rows(query) if row["lease_owner"] == owner]
        return found

    def ids(self, table: str) -> list[str]:
        """Give every id: a bell may have rung for any of them, long ago."""
        return [row["id"] for row in self.rows(f"select id from {table} order by id")]  # noqa: S608

    def rows(self, query: str) -> list[Json]:
        """Read the database."""
        with self.store.engine.connect() as connection:
            return [dict(row) for row in connection.execute(sa.text(query)).mappings()]

    def trails(self) -> dict[JobId, list[JobState]]:
        """Give for each job the states that its AuditEvents name, oldest first."""
        found: dict[JobId, list[JobState]] = {}
        for row in self.rows("select event, job_id, body from audit_events order by seq"):
            if row["event"] in JOB_EVENTS:
                found.setdefault(row["job_id"], []).append(_state(row["body"]))
        return found


def _ring(_: Sequence[str]) -> str:
    """Ring nobody: whom a bell reaches, and when, is drawn."""
    return new_id()


class _SilentBell:
    def wait(self, timeout_s: float) -> list[str]:
        assert timeout_s > 0
        return []


def _is_freed(row: Json) -> bool:
    """Say whether an AuditEvent tells of a job that was taken from a worker."""
    return row["event"] == "rescue" or b"Its workers stopped" in unpacked(row["body"])


def _state(body: bytes) -> JobState:
    told = (
        detail["valueString"]
        for entity in orjson.loads(unpacked(body))["entity"]
        for detail in entity.get("detail", ())
        if detail["type"] == "state"
    )
    return JobState(next(told))


_TRIGGER = "create trigger watch_jobs after update of state on jobs"
_NOTE = "begin insert into job_moves values (old.state, new.state);"
_FUNCTION = f"as '{_NOTE} return new; end' language plpgsql"
_WATCH = {
    "sqlite": ("create table job_moves (before text, after text)", f"{_TRIGGER} {_NOTE} end"),
    "postgresql": (
        "create table job_moves (before text, after text)",
        f"create function note_move() returns trigger {_FUNCTION}",
        f"{_TRIGGER} for each row execute function note_move()",
    ),
}
LEASE_S = LEASE_MS / 1000
