"""Which models may run, looking at the register at most once a second.

What is registered is routable, and what is retired is not, within that second and without a
restart. Nothing depends on the second: a worker asks the register again before it reads anything.
"""

import threading
import time
from collections.abc import Callable, Mapping

from gateway.store.unit_of_work import Store
from models.versions import routable


class ModelWatch:
    """Gives the models in service, by every name that a route may use; safe among threads."""

    def __init__(
        self,
        store: Store,
        *,
        every_s: float = 1.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._every_s = every_s
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._looked_at = float("-inf")
        self._digests: Mapping[str, str] = {}

    def current(self) -> Mapping[str, str]:
        """Give `name@1`, `name@1.0` and `name@1.0.0` → digest.

        Raises:
            StoreUnavailable: The database is away.
        """
        if self._monotonic() - self._looked_at < self._every_s:
            return self._digests
        with self._lock:
            if self._monotonic() - self._looked_at >= self._every_s:
                with self._store.read() as uow:
                    self._digests = routable(uow.models.in_service())
                self._looked_at = self._monotonic()
        return self._digests
