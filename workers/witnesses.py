"""Checkpoints leave the machine: each witness of the site file gets the newest at its interval.

* It works on a thread of its own, woken by the relay that leads: a witness that is slow or away
  holds nobody up.
* What failed is tried again, later each time up to an hour; a success is remembered in the
  database, so that a restart sends nothing twice.
* A witness that holds another history is no failure to be tried away: it stays marked until the
  log continues it again, and `nadi doctor` fails.
* Nothing is written into the audit log about it: each record would be a reason for the next
  checkpoint.
"""

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from adapters.site import Site
from adapters.witness.entries import WitnessEntry
from adapters.witness.publication import Publication, WitnessDisagrees
from adapters.witness.witnesses import witness_of
from gateway import telemetry
from gateway.core.clock import Clock, to_ms, utc_now
from gateway.core.errors import GatewayError
from gateway.store.unit_of_work import Store
from gateway.store.witnesses import WitnessState

_FIRST_RETRY_S = 5
_LONGEST_RETRY_S = 3600
_LONGEST_WAIT_S = 1.0

log = telemetry.get_logger()


class WitnessPublisher:
    """Sends checkpoints to the witnesses of a site."""

    def __init__(
        self, store: Store, site: Callable[[], Site], origin: str, *, clock: Clock = utc_now
    ) -> None:
        self._store = store
        self._site = site
        self._origin = origin
        self._clock = clock
        self._offered = threading.Event()
        self._has_warned = False

    def offer(self) -> None:
        """Say that there may be something to publish; returns at once."""
        self._offered.set()

    def run(self, stopped: threading.Event) -> None:
        """Publish whenever the relay offers, until told to stop."""
        while not stopped.is_set():
            if not self._offered.wait(_LONGEST_WAIT_S):
                continue
            self._offered.clear()
            try:
                self.turn()
            except GatewayError as error:
                log.warning("witnesses-wait", error=type(error).__name__)

    def turn(self) -> None:
        """Send the newest checkpoint to every witness whose time has come.

        Raises:
            TransientError: The database is away.
            ConfigurationError: The applied site can't be used.
        """
        witnesses = self._site().witnesses
        if not witnesses:
            self._warn()
            return
        with self._store.read() as uow:
            newest, states = uow.audit_proofs.newest(), uow.witnesses.states()
        if newest is None:
            return
        for name, entry in witnesses.items():
            state = states.get(name, WitnessState(name))
            if state.size != newest[0] and state.next_attempt_ms <= to_ms(self._clock()):
                self.publish(entry, state, newest)

    def publish(
        self, entry: WitnessEntry, state: WitnessState, newest: tuple[int, str]
    ) -> WitnessState:
        """Send one checkpoint to one witness; give and keep how it stands with it now."""
        now = self._clock()
        size, note = newest
        publication = Publication(
            origin=self._origin,
            size=size,
            note=note,
            prove=lambda old: self._prove(old, size),
            confirmed_size=state.size,
            at=now,
        )
        try:
            witness_of(entry).publish(publication)
        except GatewayError as error:
            after = _failed(state, error, now)
            log.warning("witness-failed", error=type(error).__name__, attempt=after.failures)
        else:
            next_ms = to_ms(now) + 1000 * entry.every_s
            after = WitnessState(state.name, size, to_ms(now), next_attempt_ms=next_ms)
            log.debug("witness-has-checkpoint", tree_size=size)
        with self._store.write() as uow:
            uow.witnesses.keep(after)
        return after

    def _prove(self, old: int, size: int) -> list[bytes]:
        with self._store.read() as uow:
            return uow.audit_proofs.consistency(old, size)

    def _warn(self) -> None:
        """Say it loudly once: only a checkpoint elsewhere shows a log that was written anew."""
        if not self._has_warned:
            log.warning("audit-log-has-no-witness")
            self._has_warned = True


def _failed(state: WitnessState, error: GatewayError, now: datetime) -> WitnessState:
    failures = state.failures + 1
    wait_s = min(_FIRST_RETRY_S * 2 ** min(failures - 1, 20), _LONGEST_RETRY_S)
    return replace(
        state,
        failures=failures,
        next_attempt_ms=to_ms(now) + 1000 * wait_s,
        problem=error.message,
        disagrees=isinstance(error, WitnessDisagrees),
    )
