"""(3) The outstanding batches of one queue, and how many more there may be.

* As many batches may be outstanding as workers have threads: when work comes faster than it is
  done, batches grow. Each further host that is heard to finish batches adds as many.
* While one batch is under way a second one goes only when it is large, or when the first takes
  long: a message for each job would cost more than the job.
* One thread more is kept for what is stat: it goes at once, in batches of its own, whatever is
  under way. What is stat never takes the last of all threads, so that others go on too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gateway.core.sharing import EXPRESS_THREADS

#: So long a small batch waits for one that is under way, to be rung as part of a larger one.
PATIENCE_S = 0.05
#: What makes a batch large: this part of the most that it may hold.
_LARGE = 0.5


#: A worker that finished nothing for so long counts no more.
_HEARD_S = 60.0


@dataclass(frozen=True)
class _Batch:
    ids: frozenset[str]
    rung_s: float
    is_stat: bool


@dataclass
class Line:
    """The outstanding batches of one queue.

    Attributes:
        ring: Sends a batch of ids, gives the id of the batch.
        most: Most batches outstanding at once for each worker, of what is not stat and of what is;
            together they are `EXPRESS_THREADS` more.
        batch_size: Most ids of one batch.
    """

    ring: Callable[[Sequence[str]], str]
    most: int
    batch_size: int
    _batches: dict[str, _Batch] = field(default_factory=dict)
    _heard_s: dict[str, float] = field(default_factory=dict)

    @property
    def rung(self) -> frozenset[str]:
        """Every id of an outstanding batch."""
        return frozenset().union(*(batch.ids for batch in self._batches.values()))

    @property
    def is_loaded(self) -> bool:
        """Whether the workers have a large batch to do, be it in parts."""
        return self._is_large(sum(len(batch.ids) for batch in self._batches.values()))

    def room(self, *, is_stat: bool = False) -> int:
        """How many ids more may be rung now."""
        alike = sum(batch.is_stat is is_stat for batch in self._batches.values())
        workers = max(len(self._heard_s), 1)
        most, express = workers * self.most, workers * EXPRESS_THREADS
        free = min(most - alike, most + express - len(self._batches))
        return max(free, 0) * self.batch_size

    def send(self, ids: Sequence[str], now_s: float, *, is_stat: bool = False) -> bool:
        """Ring for ids, in as many batches as there is room for.

        Returns:
            Whether a small batch was held back; then it has to be tried again soon.

        Raises:
            BrokerAway: Nothing more can be sent now.
        """
        for start in range(0, min(len(ids), self.room(is_stat=is_stat)), self.batch_size):
            batch = ids[start : start + self.batch_size]
            if not is_stat and not self._is_large(len(batch)) and self._has_just_rung(now_s):
                return True
            self._batches[self.ring(batch)] = _Batch(frozenset(batch), now_s, is_stat)
        return False

    def _is_large(self, count: int) -> bool:
        return count >= self.batch_size * _LARGE

    def _has_just_rung(self, now_s: float) -> bool:
        return any(
            now_s - batch.rung_s < PATIENCE_S and not batch.is_stat
            for batch in self._batches.values()
        )

    def finished(self, batch_id: str, worker: str, now_s: float) -> None:
        """Take note that a worker is through with a batch; one of another line is none of ours."""
        if self._batches.pop(batch_id, None) is not None:
            self._heard_s[worker] = now_s

    def forget(self, before_s: float) -> None:
        """Give up on batches rung before a moment: their message or their worker is lost."""
        for batch_id in [key for key, each in self._batches.items() if each.rung_s < before_s]:
            del self._batches[batch_id]
        for worker in [key for key, at in self._heard_s.items() if at < before_s - _HEARD_S]:
            del self._heard_s[worker]
