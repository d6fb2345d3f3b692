"""What a batch adds to the metrics: counted while it goes on, published once it is committed."""

from collections import Counter

from gateway.core.canary import CANARY_SYSTEM, is_canary
from gateway.core.jobs import JobState
from gateway.telemetry import count_admitted, count_job, count_received, count_refusal


class Tally:
    """The counts of one batch; a batch that rolls back is never published.

    The canary is nobody: she is not counted.
    """

    def __init__(self) -> None:
        self._received: Counter[tuple[str, str]] = Counter()
        self._admitted: Counter[tuple[str, str]] = Counter()
        self._jobs: Counter[tuple[str, str, str]] = Counter()
        self._refused: Counter[str] = Counter()

    def received(self, system: str, outcome: str) -> None:
        """Count a resource: `accepted`, `repeat` or the issue type it was refused with."""
        if system == CANARY_SYSTEM:
            return
        self._received[system, outcome] += 1

    def admitted(self, route: str, state: JobState, business_status: str) -> None:
        """Count an admission decision and the job that it made."""
        if is_canary(route):
            return
        self._admitted[route, "job" if state is JobState.READY else business_status] += 1
        self.changed(route, state, business_status)

    def changed(self, route: str, state: JobState, business_status: str) -> None:
        """Count a job that reached a state."""
        self._jobs[route, state.value, str(business_status)] += 1
        if state is not JobState.READY:
            self._refused[str(business_status)] += 1

    def publish(self) -> None:
        """Add everything to the metrics of this process."""
        for (system, outcome), count in self._received.items():
            count_received(system, outcome, count)
        for (route, decision), count in self._admitted.items():
            count_admitted(route, str(decision), count)
        for (route, state, status), count in self._jobs.items():
            count_job(route, state, status, count)
        for reason, count in self._refused.items():
            count_refusal(reason, count)
