"""One transaction: what changes and its audit, together or not at all. The only place that commits.

A `Store` belongs to a process; `write()` and `read()` open a `UnitOfWork` that carries one
repository per noun. Audit records are collected and inserted just before the commit, so a state
change without its audit can't be written.
"""

import sqlite3
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from gateway.core.audit import AuditRecord
from gateway.core.clock import Clock, to_ms, utc_now
from gateway.core.errors import GatewayError, StoreConflict, StoreRefused, StoreUnavailable
from gateway.store.audit_log import AuditLog
from gateway.store.audit_proofs import AuditProofs
from gateway.store.audit_questions import AuditQuestions
from gateway.store.break_glass import BreakGlass
from gateway.store.canary import Canaries
from gateway.store.cds import Cds
from gateway.store.consent_acts import ConsentActs
from gateway.store.consents import ConsentCache, Consents
from gateway.store.credentials import Credentials
from gateway.store.deliveries import Deliveries
from gateway.store.engine import RELAXED, WRITES, open_engine
from gateway.store.erasures import Erasures
from gateway.store.events import Events
from gateway.store.jobs import Jobs
from gateway.store.key_check import KeyCheck
from gateway.store.listener_state import ListenerState
from gateway.store.models import Models
from gateway.store.notices import Notices
from gateway.store.pacing import Pacing
from gateway.store.patient_keys import PatientKeys
from gateway.store.retractions import Retractions
from gateway.store.rights_requests import RightsRequests
from gateway.store.sealing import Sealer
from gateway.store.sites import Sites
from gateway.store.witnesses import Witnesses
from gateway.store.written import WrittenResults

_LOCK_PATIENT = sa.text("select pg_advisory_xact_lock(hashtextextended(:key, 0))")


class Store:
    """The database of one process; safe to share between its threads."""

    def __init__(
        self,
        url: str,
        sealer: Sealer,
        *,
        clock: Clock = utc_now,
        consents: Ed25519PrivateKey | None = None,
    ) -> None:
        """Open it.

        Args:
            url: Of the database.
            sealer: Seals and opens what is in it.
            clock: Gives the present.
            consents: Signs what is recorded about consents; without it whatever was recorded can't
                be verified, and so denies.
        """
        self.engine = open_engine(url)
        self.sealer = sealer
        self._clock = clock
        self._consents = ConsentCache()
        self._consent_key = consents

    @contextmanager
    def write(self, *, is_durable: bool = True) -> Iterator["UnitOfWork"]:
        """Open a transaction that commits when the block ends and rolls back when it raises.

        Args:
            is_durable: Whether the commit is on disk when the block has ended. What may be lost
                with the machine's power without harm, a claim for example, need not wait for it.

        Raises:
            StoreUnavailable: The database is away, locked or full; nothing was written.
            StoreConflict: Another transaction was there first; the same one may succeed now.
            StoreRefused: The content does not fit into the database.
        """
        try:
            options = {WRITES: True, RELAXED: not is_durable}
            writing = self.engine.connect().execution_options(**options)
            with writing as connection, connection.begin():
                uow = self._unit(connection)
                yield uow
                uow.flush_audit()
        except (DBAPIError, PoolTimeout) as error:
            raise _explained(error) from error

    @contextmanager
    def read(self) -> Iterator["UnitOfWork"]:
        """Open a consistent view for reading.

        Raises:
            StoreUnavailable: The database is away.
        """
        try:
            with self.engine.connect() as connection, connection.begin():
                yield self._unit(connection)
        except (DBAPIError, PoolTimeout) as error:
            raise _explained(error) from error

    def check_key(self) -> None:
        """Insist on the master key that this database was begun with; the first key begins it.

        Raises:
            ConfigurationError: The key in use is another one.
            StoreUnavailable: The database is away.
        """
        with self.read() as uow:
            is_kept = uow.key_check.is_kept()
        if not is_kept:
            with self.write() as uow:
                uow.key_check.keep()

    def forget_opened(self) -> int:
        """Let go of what this process opened of patients: their keys and consents; give a count."""
        self._consents.clear()
        return self.sealer.forget_opened()

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    def _unit(self, connection: sa.Connection) -> "UnitOfWork":
        unit = UnitOfWork(connection, self.sealer, self._clock(), self._consents)
        unit.consent_key = self._consent_key
        return unit


class UnitOfWork:
    """One transaction with one moment of time and one repository per noun."""

    def __init__(
        self, connection: sa.Connection, sealer: Sealer, now: datetime, consents: ConsentCache
    ) -> None:
        self.connection = connection
        self.sealer = sealer
        self.now = now
        self.now_ms = to_ms(now)
        self.consent_cache = consents
        self.consent_key: Ed25519PrivateKey | None = None
        self._records: list[AuditRecord] = []

    def lock_patients(self, keys: Collection[str]) -> None:
        """Let nobody else decide about these patients until this transaction ends.

        On SQLite a transaction that writes is alone anyway.
        """
        if self.connection.dialect.name == "postgresql":
            for key in sorted(keys):
                self.connection.execute(_LOCK_PATIENT, {"key": key})

    def audit(self, *records: AuditRecord) -> None:
        """Put AuditEvents into this transaction."""
        self._records.extend(records)

    def flush_audit(self) -> None:
        """Insert the AuditEvents collected so far."""
        self.audit_log.append(self._records)
        self._records = []

    @cached_property
    def audit_log(self) -> AuditLog:
        """The AuditEvents and their Merkle log."""
        return AuditLog(self)

    @cached_property
    def audit_proofs(self) -> AuditProofs:
        """What proves that an AuditEvent is in that log."""
        return AuditProofs(self)

    @cached_property
    def consent_acts(self) -> ConsentActs:
        """What staff recorded and imported about consents."""
        return ConsentActs(self)

    @cached_property
    def consents(self) -> Consents:
        """What patients permit and deny."""
        return Consents(self)

    @cached_property
    def audit_questions(self) -> AuditQuestions:
        """What a compliance officer asks of that log."""
        return AuditQuestions(self)

    @cached_property
    def break_glass(self) -> BreakGlass:
        """The uses of break-glass and their reviews."""
        return BreakGlass(self)

    @cached_property
    def canary(self) -> Canaries:
        """How the canary stands."""
        return Canaries(self)

    @cached_property
    def cds(self) -> Cds:
        """What became of cards, and used tokens of CDS clients."""
        return Cds(self)

    @cached_property
    def credentials(self) -> Credentials:
        """The bearer credentials."""
        return Credentials(self)

    @cached_property
    def deliveries(self) -> Deliveries:
        """The results on their way to an EHR."""
        return Deliveries(self)

    @cached_property
    def erasures(self) -> Erasures:
        """Who was erased."""
        return Erasures(self)

    @cached_property
    def events(self) -> Events:
        """What was received."""
        return Events(self)

    @cached_property
    def jobs(self) -> Jobs:
        """The jobs."""
        return Jobs(self)

    @cached_property
    def key_check(self) -> KeyCheck:
        """Whether the master key is the right one."""
        return KeyCheck(self)

    @cached_property
    def listener_state(self) -> ListenerState:
        """What listeners remember."""
        return ListenerState(self)

    @cached_property
    def models(self) -> Models:
        """The register of models."""
        return Models(self)

    @cached_property
    def notices(self) -> Notices:
        """What EHRs said about changes."""
        return Notices(self)

    @cached_property
    def pacing(self) -> Pacing:
        """The lines of requests before systems with a rate cap."""
        return Pacing(self)

    @cached_property
    def patient_keys(self) -> PatientKeys:
        """The wrapped data key of each patient."""
        return PatientKeys(self)

    @cached_property
    def retractions(self) -> Retractions:
        """The results to be marked as entered in error."""
        return Retractions(self)

    @cached_property
    def rights_requests(self) -> RightsRequests:
        """What patients asked for."""
        return RightsRequests(self)

    @cached_property
    def sites(self) -> Sites:
        """The versions of the site configuration."""
        return Sites(self)

    @cached_property
    def written(self) -> WrittenResults:
        """Where our results are."""
        return WrittenResults(self)

    @cached_property
    def witnesses(self) -> Witnesses:
        """What others keep of our log, and we of theirs."""
        return Witnesses(self)


# PostgreSQL: serialization_failure, deadlock_detected.
_CONFLICTS = frozenset({"40001", "40P01"})
_DISK_FULL = "53100"


def _explained(error: DBAPIError | PoolTimeout) -> GatewayError:
    """Say whose turn it is. The driver's text can quote values: the class says enough."""
    name = type(error).__name__
    is_conflict = getattr(getattr(error, "orig", None), "sqlstate", None) in _CONFLICTS
    if is_conflict or isinstance(error, IntegrityError):
        return StoreConflict(f"Another transaction was there first ({name}); try again.")
    if isinstance(error, DataError):
        return StoreRefused(f"The database can't hold this content ({name}).")
    if _is_full(error):
        return StoreUnavailable("The disk of the database is full: make room there.")
    return StoreUnavailable(f"The database did not do its part ({name}); try again.")


def _is_full(error: DBAPIError | PoolTimeout) -> bool:
    told = getattr(error, "orig", None)
    is_sqlite_full = getattr(told, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    return is_sqlite_full or getattr(told, "sqlstate", None) == _DISK_FULL
