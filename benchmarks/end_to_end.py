"""Nadi and the plain build by turns: throughput, CPU and latency from POST to stored result.

A round starts one system afresh, beside a fresh EHR, and does this:

1. the records of all patients are pushed, as fast as the answers come (nothing is inferred);
2. a few events warm everything up; then the system is left idle for a while;
3. events are pushed at a fixed rate, whatever the answers; latency counts from the moment at
   which an event was due to be sent until its Observation was stored in the EHR;
4. events are pushed as fast as the answers come, until every result is in the EHR.

CPU time is that of all processes of the system with its broker, not the EHR's and not the
generator's. It is read a few seconds after the last result, so that work put off (Nadi's audit log
is integrated every two seconds) is counted too.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from benchmarks.load import Pushed, Stored, await_results, push_all, push_at, results
from benchmarks.machine import cpu_seconds
from benchmarks.systems import Endpoint, Running, System, nadi, plain, sandbox_ehr
from benchmarks.workload import Post, Workload, make_workload

SYSTEMS: Mapping[str, System] = {"nadi": nadi, "plain": plain}

_SEED = 20260101
_SETTLE_S = 3.0
_IDLE_S = 5.0
_OPEN_LOOP_CLIENTS = 32


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        rounds: How often each system has its turn.
        warm_up: Events before anything is measured.
        rate: Events per second of the open loop.
        paced: Events of the open loop.
        saturating: Events pushed as fast as the answers come.
        clients: Requests under way at once while saturating.
    """

    rounds: int = 3
    warm_up: int = 50
    rate: float = 10
    paced: int = 200
    saturating: int = 1000
    clients: int = 16

    @property
    def events(self) -> int:
        """How many events a round has."""
        return self.warm_up + self.paced + self.saturating


QUICK = Plan(rounds=1, warm_up=10, paced=40, saturating=200)


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
    """

    expected: int
    arrived: int
    duplicates: int
    unwanted: int
    refused: int
    gap: float

    @property
    def is_right(self) -> bool:
        """Say whether nothing went wrong."""
        odd = self.duplicates or self.unwanted or self.refused
        return self.arrived == self.expected and not odd and self.gap <= _TOLERANCE


_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Round:
    """One turn of one system. Times in seconds, latencies in milliseconds."""

    system: str
    started_s: float
    received: Work
    idle_cpu_share: float
    paced: Work
    latency_ms: tuple[float, ...]
    saturated: Work
    correctness: Correctness


def run_rounds(plan: Plan, tell: Callable[[int, str], None]) -> list[Round]:
    """Let the systems have their turns, interleaved, on the same events.

    Args:
        plan: How much.
        tell: Called before each turn with the number of turns done and the system's name.
    """
    workload = make_workload(plan.events, seed=_SEED, now=datetime.now(UTC).replace(microsecond=0))
    rounds: list[Round] = []
    for _ in range(plan.rounds):
        for name in SYSTEMS:
            tell(len(rounds), name)
            rounds.append(run_round(name, plan, workload))
    return rounds


def run_round(name: str, plan: Plan, workload: Workload) -> Round:
    """Let one system have its turn."""
    with sandbox_ehr() as ehr, SYSTEMS[name](ehr) as system:
        turn = _Turn(system, ehr, workload)
        received = turn.receive(plan.clients)
        warm, paced, rest = _split(workload.triggers, plan.warm_up, plan.paced)
        turn.push(warm, clients=1)
        idle = turn.idle()
        in_pace, pushed = turn.push(paced, clients=_OPEN_LOOP_CLIENTS, rate=plan.rate)
        saturated, _ = turn.push(rest, clients=plan.clients)
        stored = results(ehr)
        return Round(
            system=name,
            started_s=system.started_s,
            received=received,
            idle_cpu_share=idle,
            paced=in_pace,
            latency_ms=_latencies(pushed, stored),
            saturated=saturated,
            correctness=turn.check(stored, is_exact=name == "nadi"),
        )


def _split(
    posts: Sequence[Post], first: int, second: int
) -> tuple[Sequence[Post], Sequence[Post], Sequence[Post]]:
    return posts[:first], posts[first : first + second], posts[first + second :]


class _Turn:
    """Pushes to one running system and watches what it takes."""

    def __init__(self, system: Running, ehr: Endpoint, workload: Workload) -> None:
        self._system = system
        self._ehr = ehr
        self._workload = workload
        self._refused: list[str] = []
        self._wanted = 0

    def receive(self, clients: int) -> Work:
        """Push the records."""
        before = self._cpu()
        pushed = push_all(self._system.endpoint, self._workload.records, clients=clients)
        self._refused.extend(pushed.refused)
        time.sleep(_SETTLE_S)
        return self._work(len(self._workload.records), pushed.ended - pushed.began, before)

    def idle(self) -> float:
        """Give the share of one core that is used while nothing happens."""
        before = self._cpu()
        time.sleep(_IDLE_S)
        return sum(self._work(1, _IDLE_S, before).cpu.values()) / _IDLE_S

    def push(
        self, posts: Sequence[Post], *, clients: int, rate: float | None = None
    ) -> tuple[Work, Pushed]:
        """Push events, at a rate or as fast as can be, and wait for their results."""
        before, endpoint = self._cpu(), self._system.endpoint
        if rate is None:
            pushed = push_all(endpoint, posts, clients=clients)
        else:
            pushed = push_at(endpoint, posts, rate=rate, clients=clients)
        self._refused.extend(pushed.refused)
        self._wanted += sum(post.id in self._workload.expected for post in posts)
        await_results(self._ehr, self._wanted)
        ended = max([pushed.ended, *(each.at for each in results(self._ehr))])
        time.sleep(_SETTLE_S)
        return self._work(len(posts), ended - pushed.began, before), pushed

    def check(self, stored: Sequence[Stored], *, is_exact: bool) -> Correctness:
        """Compare what is in the EHR with what should be.

        Args:
            stored: All results of the round.
            is_exact: The system opens its session as Nadi does.
        """
        expected = self._workload.expected
        known = [each for each in stored if each.trigger_id in expected]
        gaps = [abs(e.probability - expected[e.trigger_id][int(is_exact)]) for e in known]
        arrived = {each.trigger_id for each in known}
        return Correctness(
            expected=len(expected),
            arrived=len(arrived),
            duplicates=len(known) - len(arrived),
            unwanted=len(stored) - len(known),
            refused=len(self._refused),
            gap=max(gaps, default=0.0),
        )

    def _cpu(self) -> dict[str, float]:
        return cpu_seconds(self._system.roots)

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
