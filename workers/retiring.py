"""Lets go of the models that were retired: a worker's memory is not kept for what never runs again.

Nothing depends on how soon this is noticed: the register is asked before every job (see
`workers.standing`). A worker that has nothing to do notices too.
"""

import threading

from gateway import telemetry
from gateway.core.errors import GatewayError
from gateway.store.unit_of_work import Store
from workers.ports import Models

log = telemetry.get_logger()

_EVERY_S = 10.0


class RetiredWatch:
    """Looks at the register from time to time, in a thread of its own."""

    def __init__(self, store: Store, models: Models, *, every_s: float = _EVERY_S) -> None:
        self._store = store
        self._models = models
        self._every_s = every_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="retired", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; comes back when the last look has ended."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(self._every_s):
            try:
                self._look()
            except GatewayError as error:  # the database is away: the next look comes
                log.warning("retired-unknown", error=type(error).__name__)

    def _look(self) -> None:
        with self._store.read() as uow:
            digests = uow.models.retired()
        if count := self._models.retire(digests):
            log.info("models-closed", count=count)
