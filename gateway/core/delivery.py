"""(6) Deliver: a result on its way to an EHR, when it is tried again, and when it is left in peace.

Rules:

1. Only what is transient is tried again: with exponential back-off and full jitter, never sooner
   than the EHR asked for by Retry-After, until the result is older than the budget.
2. A circuit breaker per system: after `FAILURES_TO_OPEN` failures in a row, or a Retry-After,
   nothing is sent until a time; then one probe goes, and its success closes the circuit.
3. A result that waits for a closed circuit has not been tried, so it loses nothing.

Everything here is a pure function or a value; `gateway.store.deliveries` keeps them.

Source: M. Brooker, "Exponential Backoff and Jitter" (full jitter); M. Nygard, "Release It!".
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from gateway.core.clock import new_id
from gateway.core.jobs import JobId
from gateway.core.lanes import Lane

#: Failures in a row after which nothing more is sent to a system for a while.
FAILURES_TO_OPEN = 3
#: An open circuit probes at least this often: one request in half a minute burdens nobody.
LONGEST_OPEN_S = 30.0
#: The exponent stops growing here; the delay has long reached its maximum.
_MAX_DOUBLINGS = 30

#: Gives a random number in [0, 1).
Random = Callable[[], float]


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    PENDING = "pending"
    IN_FLIGHT = "in-flight"
    DELIVERED = "delivered"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, kw_only=True)
class NewDelivery:
    """A result to be written to a system.

    Attributes:
        identifier: Value of the Observation's identifier.
        body: The report as JSON, not yet sealed.
        source: System whose event it answers.
        lane: How urgent it is.
    """

    job_id: JobId
    system: str
    patient_key: str
    identifier: str
    body: bytes
    source: str = ""
    lane: Lane = Lane.ROUTINE
    id: str = field(default_factory=new_id)

    @property
    def line(self) -> str:
        """Where it waits: by system, since one may be away, and by whose it is."""
        return f"{self.system}/{self.source}"


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """One row of the deliveries table; its body stays sealed.

    Attributes:
        attempt: How often it was claimed; fences every later write.
        last_answer: What the EHR last said: a status code or an error's name.
        rung: In which form of the write-back ladder it is there; empty while it is not.
        lost: What of it the EHR did not keep, as far as that was looked at.
    """

    id: str
    job_id: JobId
    system: str
    patient_key: str
    identifier: str
    body: bytes = field(repr=False)
    state: DeliveryState
    attempt: int
    next_attempt_ms: int
    last_answer: str
    created_ms: int
    delivered_ms: int | None
    rung: str = ""
    lost: str = ""


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """How long to wait between attempts, in seconds."""

    base_s: float
    max_s: float
    budget_s: float

    def delay_s(
        self,
        attempt: int,
        *,
        retry_after_s: float | None,
        random: Random,
        is_of_system: bool = False,
    ) -> float:
        """Say how long to wait after a failed attempt.

        Args:
            attempt: Which attempt failed, counted from 1.
            retry_after_s: What the EHR asked for, if it did.
            random: Gives a random number in [0, 1).
            is_of_system: The EHR as a whole is away. Then its circuit protects it, and what waits
                is due as soon as the circuit probes, so that its return is noticed.
        """
        doublings = min(max(attempt - 1, 0), _MAX_DOUBLINGS)
        longest_s = min(self.max_s, LONGEST_OPEN_S) if is_of_system else self.max_s
        jittered = random() * min(longest_s, self.base_s * 2.0**doublings)
        # A jitter after Retry-After too: or all who were asked to wait come back at once.
        return (retry_after_s or 0.0) + jittered

    def is_spent(self, age_s: float) -> bool:
        """Say whether a result of this age is given up."""
        return age_s >= self.budget_s


class Passage(StrEnum):
    """How much a circuit lets through."""

    ALL = "all"
    ONE = "one"
    NONE = "none"


@dataclass(frozen=True)
class Circuit:
    """The circuit breaker of one system.

    Attributes:
        failures: Failures in a row.
        open_until_ms: Until then nothing passes.
        is_probing: A probe is out; if it never comes back, `open_until_ms` lets another go.
    """

    failures: int = 0
    open_until_ms: int = 0
    is_probing: bool = False

    def passage(self, now_ms: int) -> Passage:
        """Say how much may be sent now."""
        if now_ms < self.open_until_ms:
            return Passage.NONE
        return Passage.ONE if self.failures >= FAILURES_TO_OPEN else Passage.ALL

    def probing(self, now_ms: int, *, lease_ms: int) -> "Circuit":
        """Give the circuit while its one probe is out."""
        return Circuit(self.failures, now_ms + lease_ms, is_probing=True)

    def after_failure(self, now_ms: int, *, delay_s: float, is_asked: bool) -> "Circuit":
        """Give the circuit after a system did not answer, or asked to be left in peace.

        Args:
            now_ms: The present.
            delay_s: How long it stays open, if it opens.
            is_asked: The system asked for the delay (Retry-After).
        """
        failures = self.failures + 1
        if is_asked:
            return Circuit(max(failures, FAILURES_TO_OPEN), now_ms + int(delay_s * 1000))
        if failures < FAILURES_TO_OPEN:
            return Circuit(failures)
        return Circuit(failures, now_ms + int(min(delay_s, LONGEST_OPEN_S) * 1000))
