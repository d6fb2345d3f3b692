"""One turn of one system: throughput, CPU and latency from POST to stored result.

A round starts one system afresh, beside a fresh EHR, and does this:

1. the records of all patients are pushed, as fast as the answers come (nothing is inferred);
2. a few events warm everything up; then the system is left idle for a while;
3. events are pushed at fixed rates, whatever the answers; latency counts from the moment at
   which an event was due to be sent until its Observation was stored in the EHR;
4. events are pushed as fast as the answers come, until every result is in the EHR.

CPU time is that of all processes of the system with its broker, not the EHR's and not the
generator's. It is read a few seconds after the last result, so that work put off (Nadi's audit log
is integrated every two seconds) is counted too.
"""

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.endpoint import Endpoint
from benchmarks.load import Pushed, Stored, await_results, push_all, push_at, results
from benchmarks.machine import cpu_seconds
from benchmarks.systems import Running, System, sandbox_ehr
from benchmarks.workload import Post, Workload

_SETTLE_S = 2.2
_IDLE_S = 2.0


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        warm_up: Events before anything is measured.
        rates: Events per second of an open loop -> how many events at that rate.
        saturating: Events pushed as fast as the answers come.
        clients: Requests under way at once while saturating.
    """

    warm_up: int = 30
    rates: Mapping[float, int] = field(default_factory=lambda: {2.3: 10, 12: 48, 116: 464})
    saturating: int = 700
    clients: int = 32

    @property
    def events(self) -> int:
        """How many events a round has."""
        return self.warm_up + sum(self.rates.values()) + self.saturating


QUICK = Plan(warm_up=10, rates={2.3: 4, 12: 12, 116: 116}, saturating=200)


@dataclass(frozen=True)
class Work:
    """What one phase did, and what it took.

    Attributes:
        count: Requests pushed.
        seconds: From the first until the last answer or, where there are results, the last result.
        cpu: CPU seconds by process.
    """

    count: int
    seconds: float
    cpu: Mapping[str, float]

    @property
    def per_second(self) -> float:
        """Requests per second of wall time."""
        return self.count / self.seconds

    @property
    def cpu_per_1000(self) -> float:
        """CPU seconds of all processes per 1,000 requests."""
        return sum(self.cpu.values()) * 1000 / self.count

    @property
    def per_cpu_second(self) -> float:
        """Requests per second of CPU time."""
        return self.count / sum(self.cpu.values())


@dataclass(frozen=True)
class Correctness:
    """Whether a round did what it should.

    Attributes:
        expected: Results that had to arrive.
        arrived: Results that did, each event counted once.
        duplicates: Results beyond one per event.
        unwanted: Results of patients who denied.
        refused: Requests that were not accepted.
        gap: Largest difference of a probability from the model run directly, by the session that
            the system uses.
        may_be_unwanted: Whether the system asks for no consent, so that those are no surprise.
    """

    expected: int
    arrived: int
    duplicates: int
    unwanted: int
    refused: int
    gap: float
    may_be_unwanted: bool = False

    @property
    def is_right(self) -> bool:
        """Say whether nothing went wrong."""
        odd = self.duplicates or self.refused or (self.unwanted and not self.may_be_unwanted)
        return self.arrived == self.expected and not odd and self.gap <= _TOLERANCE


_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Paced:
    """What was done at one rate; latencies in milliseconds."""

    work: Work
    latency_ms: tuple[float, ...]


@dataclass(frozen=True)
class Round:
    """One turn of one system; times in seconds."""

    system: str
    started_s: float
    received: Work
    idle_cpu_share: float
    paced: Mapping[float, Paced]
    saturated: Work
    correctness: Correctness


def run_round(system: System, plan: Plan, workload: Workload) -> Round:
    """Let one system have its turn.

    Raises:
        PeerMissing: The system can't be had on this machine.
    """
    with sandbox_ehr() as ehr, system.start(ehr) as running:
        turn = _Turn(system, running, ehr, workload)
        received = turn.receive(plan.clients)
        waiting = iter(workload.triggers)
        turn.push(_next(waiting, plan.warm_up), clients=1)
        idle = turn.idle()
        paced = {rate: turn.pace(_next(waiting, count), rate) for rate, count in plan.rates.items()}
        saturated, _ = turn.push(list(waiting), clients=plan.clients)
        return Round(
            system=system.name,
            started_s=running.started_s,
            received=received,
            idle_cpu_share=idle,
            paced=paced,
            saturated=saturated,
            correctness=turn.check(),
        )


def _next(waiting: Iterator[Post], count: int) -> list[Post]:
    return list(itertools.islice(waiting, count))


class _Turn:
    """Pushes to one running system and watches what it takes."""

    def __init__(self, system: System, running: Running, ehr: Endpoint, workload: Workload) -> None:
        self._system = system
        self._running = running
        self._ehr = ehr
        self._workload = workload
        self._refused: list[str] = []
        self._wanted = 0

    def receive(self, clients: int) -> Work:
        """Push the records."""
        before = self._cpu()
        pushed = push_all(self._running.endpoint, self._workload.records, clients=clients)
        self._refused.extend(pushed.refused)
        time.sleep(_SETTLE_S)
        return self._work(len(self._workload.records), pushed.ended - pushed.began, before)

    def idle(self) -> float:
        """Give the share of one core that is used while nothing happens."""
        before = self._cpu()
        time.sleep(_IDLE_S)
        return sum(self._work(1, _IDLE_S, before).cpu.values()) / _IDLE_S

    def pace(self, posts: Sequence[Post], rate: float) -> Paced:
        """Push events at a rate; give what it took, and how long each result took."""
        work, pushed = self.push(posts, rate=rate)
        return Paced(work, _latencies(pushed, results(self._ehr)))

    def push(
        self, posts: Sequence[Post], *, clients: int = 1, rate: float | None = None
    ) -> tuple[Work, Pushed]:
        """Push events, at a rate or as fast as can be, and wait for their results."""
        before, endpoint = self._cpu(), self._running.endpoint
        if rate is None:
            pushed = push_all(endpoint, posts, clients=clients)
        else:
            pushed = push_at(endpoint, posts, rate=rate)
        self._refused.extend(pushed.refused)
        asks = self._system.asks_consent
        self._wanted += sum(not asks or post.id in self._workload.expected for post in posts)
        await_results(self._ehr, self._wanted)
        ended = max([pushed.ended, *(each.at for each in results(self._ehr))])
        time.sleep(_SETTLE_S)
        return self._work(len(posts), ended - pushed.began, before), pushed

    def check(self) -> Correctness:
        """Compare what is in the EHR with what should be."""
        stored, expected = results(self._ehr), self._workload.expected
        known = [each for each in stored if each.trigger_id in expected]
        which = int(self._system.opens_exact)
        gaps = [abs(e.probability - expected[e.trigger_id][which]) for e in known]
        arrived = {each.trigger_id for each in known}
        return Correctness(
            expected=len(expected),
            arrived=len(arrived),
            duplicates=len(known) - len(arrived),
            unwanted=len(stored) - len(known),
            refused=len(self._refused),
            gap=max(gaps, default=0.0),
            may_be_unwanted=not self._system.asks_consent,
        )

    def _cpu(self) -> dict[str, float]:
        return cpu_seconds(self._running.roots)

    def _work(self, count: int, seconds: float, before: Mapping[str, float]) -> Work:
        after = self._cpu()
        return Work(count, seconds, {name: after[name] - before.get(name, 0.0) for name in after})


def _latencies(pushed: Pushed, stored: Sequence[Stored]) -> tuple[float, ...]:
    """Give the time from when each event was due until its result was stored."""
    return tuple(
        (each.at - pushed.due[each.trigger_id]) * 1000
        for each in stored
        if each.trigger_id in pushed.due
    )
