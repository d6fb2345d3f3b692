"""(3) Queue: the relay rings the workers for what the database says is waiting.

* It waits at the bell: admission knocks, and a worker says which batch it has finished.
* It rings for ready jobs by model and for due deliveries by system, in batches, with only a few
  batches of each queue outstanding: when work comes faster than it is done, batches grow.
* While one batch is under way a second one goes only when it is large, or when the first takes
  long: a message for each job would cost more than the job.
* What it rang is remembered here and nowhere else. A ring without an answer is repeated after
  `ring_again_s`; a ring too many is harmless, since only one worker gets a job.
* It frees what dead workers held, and gives new AuditEvents their place in the Merkle log; a thread
  beside it sends the checkpoints to the witnesses, another marks results whose patient withdrew her
  consent (`workers.retracting`), and another removes what has had its time (`workers.retention`):
  nobody slow holds up the work.

One relay leads (`gateway.store.leadership`); others stand by. Run with `python -m workers.relay`.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from adapters.site import SiteWatch, name_of
from gateway import heap, queue, telemetry
from gateway.core.audit import Source
from gateway.core.delivery import Backoff, Circuit, Passage
from gateway.core.errors import TransientError
from gateway.settings import Settings, get_settings
from gateway.store.checkpoint_file import CheckpointFile
from gateway.store.installation import (
    MASTER,
    SIGNING,
    Installation,
    open_installation,
    record_start,
    record_stop,
)
from gateway.store.jobs import rescue
from gateway.store.leadership import Leadership, leadership
from gateway.store.log_guard import contradiction
from gateway.store.unit_of_work import Store, UnitOfWork
from workers.ehrs import Ehrs
from workers.rescue import put_back
from workers.retention import RetentionRunner
from workers.retracting import Retractor
from workers.witnesses import WitnessPublisher

PROCESS = "relay"
#: Longest wait at the bell, in seconds: how late something is noticed that nobody rang for.
_LONGEST_WAIT_S = 1.0
#: Under load the next look is so long after the last: what came meanwhile goes at once.
_REST_S = 0.025
#: So long a small batch waits for one that is under way, to be rung as part of a larger one.
_PATIENCE_S = 0.05
#: What makes a batch large: this part of the most that it may hold.
_LARGE = 0.5
#: How often leases are looked through.
_RESCUE_EVERY_S = 2.0

log = telemetry.get_logger()


class Doorbell(Protocol):
    """What the relay listens at; `gateway.queue.Bell` is one."""

    def wait(self, timeout_s: float) -> list[str]:
        """Wait for messages: `knock` or `done:<batch id>`."""


@dataclass
class Line:
    """The outstanding batches of one queue.

    Attributes:
        ring: Sends a batch of ids, gives the id of the batch.
        most: Most batches outstanding at once.
        batch_size: Most ids of one batch.
    """

    ring: Callable[[Sequence[str]], str]
    most: int
    batch_size: int
    _batches: dict[str, tuple[frozenset[str], float]] = field(default_factory=dict)

    @property
    def rung(self) -> frozenset[str]:
        """Every id of an outstanding batch."""
        return frozenset().union(*(ids for ids, _ in self._batches.values()))

    @property
    def is_loaded(self) -> bool:
        """Whether the workers have a large batch to do, be it in parts."""
        return self._is_large(sum(len(ids) for ids, _ in self._batches.values()))

    @property
    def room(self) -> int:
        """How many ids more may be rung now."""
        return max(self.most - len(self._batches), 0) * self.batch_size

    def send(self, ids: Sequence[str], now_s: float) -> bool:
        """Ring for ids, in as many batches as there is room for.

        Returns:
            Whether a small batch was held back; then it has to be tried again soon.

        Raises:
            BrokerAway: Nothing more can be sent now.
        """
        for start in range(0, min(len(ids), self.room), self.batch_size):
            batch = ids[start : start + self.batch_size]
            if not self._is_large(len(batch)) and self._has_just_rung(now_s):
                return True
            self._batches[self.ring(batch)] = (frozenset(batch), now_s)
        return False

    def _is_large(self, count: int) -> bool:
        return count >= self.batch_size * _LARGE

    def _has_just_rung(self, now_s: float) -> bool:
        return any(now_s - rung_s < _PATIENCE_S for _, rung_s in self._batches.values())

    def finished(self, batch_id: str) -> None:
        """Take note that a worker is through with a batch."""
        self._batches.pop(batch_id, None)

    def forget(self, before_s: float) -> None:
        """Give up on batches rung before a moment: their message or their worker is lost."""
        for batch_id in [key for key, (_, rung_s) in self._batches.items() if rung_s < before_s]:
            del self._batches[batch_id]


@dataclass(frozen=True, kw_only=True)
class RelayPorts:
    """The outside of the relay.

    Attributes:
        lead: The right to lead.
        source: Gives who writes the audit events.
        signing: Signs the checkpoints of the audit log.
        origin: Name of the audit log.
        offer: Says that there may be a checkpoint to publish; returns at once.
        monotonic: A clock in seconds that never goes back.
        pause: Waits for so many seconds.
    """

    store: Store
    bell: Doorbell
    lead: Leadership
    infer: Line
    deliver: Line
    source: Source
    signing: Ed25519PrivateKey
    origin: str
    settings: Settings
    offer: Callable[[], None] = lambda: None
    monotonic: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] = time.sleep


class Relay:
    """The relay of a site; used by one thread."""

    def __init__(self, ports: RelayPorts) -> None:
        self._ports = ports
        self._rescue_at_s = float("-inf")
        self._integrate_at_s = float("-inf")
        self._looked_at_s = float("-inf")
        self._is_holding = False
        self._has_continued = False

    def run(self, stopped: threading.Event) -> None:
        """Work until told to stop; what is away is waited for."""
        while not stopped.is_set():
            if not self._ports.lead.acquire():
                stopped.wait(_LONGEST_WAIT_S)
                continue
            try:
                self.turn()
            except TransientError as error:
                log.warning("relay-waits", error=type(error).__name__)
                stopped.wait(_LONGEST_WAIT_S)
        self._finish()
        self._ports.lead.release()

    def _finish(self) -> None:
        """Leave no AuditEvent behind that no checkpoint covers, the one of this stop included."""
        record_stop(self._ports.store, self._ports.source)
        if self._ports.lead.acquire():
            with suppress(TransientError):
                self._integrate()

    def turn(self) -> None:
        """Wait for the bell once and do what there is to do.

        Raises:
            StoreUnavailable: The database is away.
            BrokerAway: The broker is away.
        """
        self._rest()
        self._hear(self._ports.bell.wait(_PATIENCE_S if self._is_holding else _LONGEST_WAIT_S))
        self.look()

    def look(self) -> None:
        """Do what there is to do, without waiting.

        Raises:
            StoreUnavailable: The database is away.
            BrokerAway: The broker is away.
        """
        now_s = self._looked_at_s = self._ports.monotonic()
        if now_s >= self._rescue_at_s:
            self._rescue()
            self._rescue_at_s = now_s + _RESCUE_EVERY_S
        self._ring(now_s)
        if now_s >= self._integrate_at_s:
            self._integrate()
            self._ports.offer()
            self._integrate_at_s = now_s + self._ports.settings.checkpoint_every_s

    def _rest(self) -> None:
        """Let messages gather while the workers have enough to do."""
        ports = self._ports
        rest_s = self._looked_at_s + _REST_S - ports.monotonic()
        if rest_s > 0 and (ports.infer.is_loaded or ports.deliver.is_loaded):
            ports.pause(rest_s)

    def _hear(self, messages: Iterable[str]) -> None:
        for message in messages:
            if message.startswith(queue.DONE):
                batch_id = message.removeprefix(queue.DONE)
                self._ports.infer.finished(batch_id)
                self._ports.deliver.finished(batch_id)

    # -- ringing -----------------------------------------------------------------------------

    def _ring(self, now_s: float) -> None:
        ports = self._ports
        for line in (ports.infer, ports.deliver):
            line.forget(now_s - ports.settings.ring_again_s)
        self._is_holding = False
        if not (ports.infer.room or ports.deliver.room):
            return
        with ports.store.read() as uow:
            if uow.canary.is_tripped():
                return  # consent does not hold here: what is queued waits for a person
            batches = [(ports.infer, ids) for ids in self._jobs(uow)]
            batches += [(ports.deliver, ids) for ids in self._deliveries(uow)]
        for line, ids in batches:
            self._is_holding |= line.send(ids, now_s)

    def _jobs(self, uow: UnitOfWork) -> list[list[str]]:
        """Give the ready jobs nobody was rung for, by model."""
        line = self._ports.infer
        if not line.room:
            return []
        rung = line.rung
        by_model: dict[str, list[str]] = {}
        for job_id, digest in uow.jobs.ready(len(rung) + line.room):
            if job_id not in rung:
                by_model.setdefault(digest, []).append(job_id)
        return list(by_model.values())

    def _deliveries(self, uow: UnitOfWork) -> list[list[str]]:
        """Give the due deliveries nobody was rung for, by system, as far as its circuit allows."""
        line = self._ports.deliver
        if not line.room:
            return []
        rung, circuits = line.rung, uow.deliveries.circuits()
        blocked = [
            system
            for system, circuit in circuits.items()
            if circuit.passage(uow.now_ms) is Passage.NONE
        ]
        by_system: dict[str, list[str]] = {}
        for delivery_id, system in uow.deliveries.due(len(rung) + line.room, blocked=blocked):
            if delivery_id not in rung:
                by_system.setdefault(system, []).append(delivery_id)
        return [
            ids[:1] if circuits.get(system, Circuit()).passage(uow.now_ms) is Passage.ONE else ids
            for system, ids in by_system.items()
        ]

    # -- rescue and audit --------------------------------------------------------------------

    def _rescue(self) -> None:
        """Free what dead workers held."""
        ports = self._ports
        with ports.store.read() as uow:
            is_needed = bool(uow.jobs.expired()) or uow.deliveries.lost() > 0
        if not is_needed:
            return
        with ports.store.write() as uow:
            lost = uow.jobs.expired()
            budget_s = ports.settings.retry_budget_s
            changes = rescue(lost, now_ms=uow.now_ms, budget_s=budget_s)
            put_back(uow, changes, ports.source)
            freed = uow.deliveries.rescue()
        log.warning("leases-rescued", count=len(changes) + freed)

    def _integrate(self) -> None:
        """Give new AuditEvents their place in the Merkle log, as many rounds as it takes."""
        ports = self._ports
        if not self._continues():
            return
        while True:
            with ports.store.read() as uow:
                waiting, _ = uow.audit_log.lag()
            if not waiting:
                return
            with ports.store.write() as uow:
                checkpoint = uow.audit_log.integrate(ports.signing, ports.origin)
                note = uow.audit_log.newest_checkpoint()
            if checkpoint is None or note is None:
                return
            CheckpointFile(ports.settings.data_dir).append(note)
            log.debug("audit-integrated", count=waiting, tree_size=checkpoint.size)

    def _continues(self) -> bool:
        """Insist, before the first signature of this process, that the log is what was signed."""
        if self._has_continued:
            return True
        ports = self._ports
        notes = CheckpointFile(ports.settings.data_dir).notes()
        with ports.store.read() as uow:
            key, origin = ports.signing.public_key(), ports.origin
            self._has_continued = contradiction(uow, notes, key, origin) is None
        if not self._has_continued:
            log.error("audit-log-contradicts-its-checkpoints")
        return self._has_continued


def build(
    settings: Settings, opened: Installation, source: Source, offer: Callable[[], None]
) -> Relay:
    """Put the relay process together."""
    keys, store = opened.keys, opened.store
    size = settings.batch_size
    return Relay(
        RelayPorts(
            store=store,
            bell=queue.bell(),
            lead=leadership(store.engine),
            infer=Line(queue.ring_infer, settings.infer_threads, size),
            deliver=Line(queue.ring_deliver, settings.deliver_threads, size),
            source=source,
            signing=keys.signing,
            origin=keys.origin,
            settings=settings,
            offer=offer,
        )
    )


def _retractor(settings: Settings, opened: Installation) -> Retractor:
    site = SiteWatch(opened.store).current
    return Retractor(
        opened.store,
        site,
        Ehrs(site, timeout_s=settings.ehr_timeout_s),
        process=settings.worker_name or PROCESS,
        backoff=Backoff(
            base_s=settings.retry_base_s,
            max_s=settings.retry_max_s,
            budget_s=settings.retry_budget_s,
        ),
    )


def _offer(publisher: WitnessPublisher, retention: RetentionRunner) -> None:
    publisher.offer()
    retention.offer()


def main() -> None:
    """Run the relay until it is told to stop."""
    settings = get_settings()
    telemetry.configure(PROCESS, settings)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    opened = open_installation(settings)
    site = SiteWatch(opened.store).current
    source = Source(name_of(site, "site"), settings.worker_name or PROCESS)
    with opened.store.write() as uow:
        record_start(uow, source, MASTER, SIGNING)
    publisher = WitnessPublisher(opened.store, site, opened.keys.origin)
    retention = RetentionRunner(opened.store, site, source)
    relay = build(settings, opened, source, lambda: _offer(publisher, retention))
    heap.settle()
    retractor = _retractor(settings, opened)
    for work in (publisher.run, retention.run, retractor.run):
        threading.Thread(target=work, args=(stopped,), daemon=True).start()
    log.info("relay-ready")
    relay.run(stopped)


if __name__ == "__main__":
    main()
