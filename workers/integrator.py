"""Give new AuditEvents their place in the Merkle log, whatever else was put among them.

* As many rounds as it takes, each a short transaction, while each places something.
* What was put there without the master key gets no place. Rounds that find nothing else are few
  at a time; the next turn goes on behind them, and begins anew when it has seen everything: so
  false ones, however many, hold up neither the relay nor the true ones behind them.
* Nothing is signed, before the first signature of this process, unless the log is what was signed.
"""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway import telemetry
from gateway.store.checkpoint_file import CheckpointFile
from gateway.store.log_guard import contradiction
from gateway.store.unit_of_work import Store

#: Most rounds of one turn that place nothing; each looks at `audit_log.INTEGRATION_LIMIT` records.
FRUITLESS_ROUNDS = 3

log = telemetry.get_logger()


class Integrator:
    """The integrator of a site; used by one thread of one process at a time."""

    def __init__(
        self, store: Store, signing: Ed25519PrivateKey, origin: str, data_dir: Path
    ) -> None:
        self._store = store
        self._signing = signing
        self._origin = origin
        self._file = CheckpointFile(data_dir)
        self._has_continued = False
        self._after: int | None = None
        # Refused since the pass began, refused in the pass before, and the highest number of all.
        self._refused, self._known, self._highest = 0, 0, 0

    def turn(self, fruitless_rounds: int | None = FRUITLESS_ROUNDS) -> None:
        """Place what waits.

        Args:
            fruitless_rounds: Most rounds that may place nothing; None for as many as there are.

        Raises:
            StoreUnavailable: The database is away.
        """
        if not self._continues():
            return
        left = fruitless_rounds
        while left is None or left > 0:
            with self._store.read() as uow:
                waiting, _ = uow.audit_log.lag()
            if not waiting:
                return
            has_placed = self._round(waiting)
            if self._after is None and not has_placed:
                return
            left = left if left is None or has_placed else left - 1

    def _round(self, waiting: int) -> bool:
        """Place one batch; say whether anything was placed."""
        with self._store.write() as uow:
            log_of_site = uow.audit_log
            checkpoint = log_of_site.integrate(self._signing, self._origin, after=self._after)
            refused, self._after = log_of_site.refused, log_of_site.looked_to
            note = log_of_site.newest_checkpoint()
        self._tell(refused)
        if checkpoint is None or note is None:
            return False
        self._file.append(note)
        log.debug("audit-integrated", count=waiting, tree_size=checkpoint.size)
        return True

    def _tell(self, refused: tuple[int, ...]) -> None:
        """Say loudly, once for each, that somebody writes to the log without our key."""
        self._refused += len(refused)
        beyond = sum(seq > self._highest for seq in refused)
        new = max(beyond, self._refused - self._known)
        if new > 0:
            log.critical("audit-events-not-ours", count=new)
            telemetry.count_not_ours(new)
        self._highest = max(self._highest, *refused) if refused else self._highest
        self._known = max(self._known, self._refused)
        if self._after is None:
            self._known, self._refused = self._refused, 0

    def _continues(self) -> bool:
        """Insist, before the first signature of this process, that the log is what was signed."""
        if self._has_continued:
            return True
        notes, key = self._file.notes(), self._signing.public_key()
        with self._store.read() as uow:
            odd = contradiction(uow, notes, key, self._origin)
        self._has_continued = odd is None
        if not self._has_continued:
            log.error("audit-log-contradicts-its-checkpoints")
        return self._has_continued
