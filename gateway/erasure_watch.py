"""No process keeps a patient's opened key, or consents it has read, after she was erased.

Reading and sealing never depend on how soon this is noticed: both ask the database for the wrapped
key in every transaction. What is let go of here is what lies in memory.
"""

import threading
from typing import Self

from gateway import telemetry
from gateway.core.errors import GatewayError
from gateway.store.unit_of_work import Store

log = telemetry.get_logger()

_EVERY_S = 1.0


class ErasureWatch:
    """Looks for new tombstones from time to time, in a thread of its own."""

    def __init__(self, store: Store, *, every_s: float = _EVERY_S) -> None:
        self._store = store
        self._every_s = every_s
        self._mark: tuple[int, int | None] | None = None
        self._is_settled = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="erasures", daemon=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; comes back when the last look has ended."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def look(self) -> None:
        """Let go of everything opened if somebody was erased since the last look.

        And once more at the look after that: what was being read at that moment may have been
        opened, and kept, since.

        Raises:
            StoreUnavailable: The database is away.
        """
        with self._store.read() as uow:
            mark = uow.erasures.mark()
        is_new = mark != self._mark
        if is_new or not self._is_settled:
            log.info("opened-keys-forgotten", count=self._store.forget_opened())
        self._mark, self._is_settled = mark, not is_new

    def _run(self) -> None:
        while not self._stopped.wait(self._every_s):
            try:
                self.look()
            except GatewayError as error:  # the database is away: the next look comes
                log.warning("erasures-unknown", error=type(error).__name__)
