"""(3) Queue: the relay rings the workers for what the database says is waiting.

* It waits at the bell: admission knocks, and a worker says which batch it has finished.
* It rings for ready jobs by model and for due deliveries by system, in batches, the most urgent
  first and the sources in turn (`workers.next_batches`), with only a few batches of each queue
  outstanding (`workers.line`).
* What it rang is remembered here and nowhere else. A ring without an answer is repeated after
  `ring_again_s`; a ring too many is harmless, since only one worker gets a job.
* It frees what dead workers held, brings forward what waits for a clock that was set back, and
  gives new AuditEvents their place in the Merkle log (`workers.integrator`).
* Nobody slow holds up the work: a thread beside it sends the checkpoints to the witnesses, another
  marks results whose patient withdrew her consent (`workers.retracting`), and another removes what
  has had its time (`workers.retention`).

One relay leads (`gateway.store.leadership`); others stand by. Run with `python -m workers.relay`.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from adapters.site import Site, SiteWatch, name_of
from gateway import heap, queue, telemetry
from gateway.bell import DONE
from gateway.catching_up import longest_wait_s
from gateway.core.audit import Source
from gateway.core.delivery import Backoff
from gateway.core.errors import ConfigurationError, TransientError
from gateway.heartbeat import heartbeat
from gateway.settings import Settings, get_settings
from gateway.store.clock_set_back import bring_forward, newest_moment_ms
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
from gateway.store.unit_of_work import Store
from workers.clock_watch import ClockWatch
from workers.ehrs import Ehrs
from workers.integrator import Integrator
from workers.line import PATIENCE_S, Line
from workers.next_batches import Dealer, next_deliveries, next_jobs
from workers.rescue import put_back
from workers.retention import RetentionRunner
from workers.retracting import Retractor
from workers.witnesses import WitnessPublisher

PROCESS = "relay"
#: Longest wait at the bell, in seconds: how late something is noticed that nobody rang for.
_LONGEST_WAIT_S = 1.0
#: Under load the next look is so long after the last: what came meanwhile goes at once.
_REST_S = 0.025
#: How often leases are looked through.
_RESCUE_EVERY_S = 2.0

log = telemetry.get_logger()


class Doorbell(Protocol):
    """What the relay listens at; `gateway.bell.Bell` is one."""

    def wait(self, timeout_s: float) -> list[str]:
        """Wait for messages: `knock` or `done:<batch id> <worker>`."""


@dataclass(frozen=True, kw_only=True)
class RelayPorts:
    """The outside of the relay.

    Attributes:
        lead: The right to lead.
        site: Gives the site in force.
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
    site: Callable[[], Site]
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
        longest_wait_s = ports.settings.longest_wait_s
        self._jobs = Dealer(ports.infer, longest_wait_s=longest_wait_s)
        self._deliveries = Dealer(ports.deliver, longest_wait_s=longest_wait_s)
        self._rescue_at_s = float("-inf")
        self._integrate_at_s = float("-inf")
        self._looked_at_s = float("-inf")
        self._is_holding = False
        self._integrator = Integrator(
            ports.store, ports.signing, ports.origin, ports.settings.data_dir
        )
        self._clock = ClockWatch()

    def run(self, stopped: threading.Event) -> None:
        """Work until told to stop; what is away is waited for."""
        while not stopped.is_set():
            if not self._ports.lead.acquire():
                stopped.wait(_LONGEST_WAIT_S)
                continue
            try:
                with heartbeat().working():
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
                self._integrator.turn(fruitless_rounds=None)

    def turn(self) -> None:
        """Wait for the bell once and do what there is to do.

        Raises:
            StoreUnavailable: The database is away.
            BrokerAway: The broker is away.
        """
        self._rest()
        self._hear(self._ports.bell.wait(PATIENCE_S if self._is_holding else _LONGEST_WAIT_S))
        self.look()

    def look(self) -> None:
        """Do what there is to do, without waiting.

        Raises:
            StoreUnavailable: The database is away.
            BrokerAway: The broker is away.
        """
        now_s = self._looked_at_s = self._ports.monotonic()
        if now_s >= self._rescue_at_s:
            self._notice_clock(now_s)
            self._rescue()
            self._rescue_at_s = now_s + _RESCUE_EVERY_S
        self._ring(now_s)
        if now_s >= self._integrate_at_s:
            self._integrator.turn()
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
            if message.startswith(DONE):
                batch_id, _, worker = message.removeprefix(DONE).partition(" ")
                for line in (self._ports.infer, self._ports.deliver):
                    line.finished(batch_id, worker, self._ports.monotonic())

    # -- ringing -----------------------------------------------------------------------------

    def _ring(self, now_s: float) -> None:
        ports = self._ports
        for line in (ports.infer, ports.deliver):
            line.forget(now_s - ports.settings.ring_again_s)
        self._is_holding = False
        if not (self._jobs.has_room or self._deliveries.has_room):
            return
        with ports.store.read() as uow:
            if uow.canary.is_tripped():
                return  # consent does not hold here: what is queued waits for a person
            site = self._site()
            jobs = next_jobs(self._jobs, uow, site)
            deliveries = next_deliveries(self._deliveries, uow, site)
        self._is_holding |= self._jobs.send(jobs, now_s)
        self._is_holding |= self._deliveries.send(deliveries, now_s)

    def _site(self) -> Site:
        """Give the site in force; where none is usable, what waits is dealt out all the same."""
        try:
            return self._ports.site()
        except ConfigurationError:
            return Site()

    # -- rescue ------------------------------------------------------------------------------

    def _notice_clock(self, now_s: float) -> None:
        """Bring forward what waits for a clock that was ahead, once it was set back."""
        with self._ports.store.read() as uow:
            by_ms = self._clock.set_back_by(uow.now_ms, now_s, lambda: newest_moment_ms(uow))
        if not by_ms:
            return
        with self._ports.store.write() as uow:
            count = bring_forward(uow, by_ms)
        self._clock.go_on()
        log.warning("clock-set-back", duration_ms=by_ms, count=count)

    def _rescue(self) -> None:
        """Free what dead workers held."""
        ports = self._ports
        with ports.store.read() as uow:
            is_needed = bool(uow.jobs.expired()) or uow.deliveries.lost() > 0
        if not is_needed:
            return
        budget_s = ports.settings.retry_budget_s + longest_wait_s(self._site())
        with ports.store.write() as uow:
            lost = uow.jobs.expired()
            changes = rescue(lost, now_ms=uow.now_ms, budget_s=budget_s)
            put_back(uow, changes, ports.source)
            freed = uow.deliveries.rescue()
        log.warning("leases-rescued", count=len(changes) + freed)


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
            site=SiteWatch(store).current,
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
        Ehrs(site, store=opened.store, timeout_s=settings.ehr_timeout_s),
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
    heartbeat().start()
    log.info("relay-ready")
    relay.run(stopped)


if __name__ == "__main__":
    main()
