"""The soak: a fixed rate for half an hour, and whether anything grows meanwhile.

A Nadi at its defaults stands beside a stand-in EHR. The records of all patients are pushed first;
then their events at the rate, in an open loop. Patients come in cohorts, each with all its events
within a minute or two, so that the charts that the model reads are as long at the end as at the
beginning: what grows is what is stored. Meanwhile memory, descriptors, CPU, files and queue are
read every few seconds (`benchmarks.watch`); when each result was stored the EHR tells at the end.
What it comes to is in `benchmarks.soak_told`.
"""

import gc
import itertools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.load import Pushed, Stored, push_all, push_at, results
from benchmarks.systems import Nadi, sandbox_ehr
from benchmarks.watch import Reading, Watch
from benchmarks.workload import Person, Post, post_of

_SEED = 20260102
_OF_A_PATIENT = 20
_COHORT = 500
_GAP = timedelta(minutes=1)
_CLIENTS = 16
_SETTLED_WITHIN_S = 300.0

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What is pushed, and how often is looked.

    Attributes:
        per_s: Events per second.
        seconds: For so long.
        look_every_s: Seconds between two readings.
    """

    per_s: float = 116.0
    seconds: float = 1800.0
    look_every_s: float = 5.0

    @property
    def events(self) -> int:
        """How many events that makes."""
        return max(round(self.per_s * self.seconds), 1)


@dataclass(frozen=True)
class Load:
    """What is pushed.

    Attributes:
        records: What is known of the patients.
        triggers: Their events.
        expected: Ids of those that have to give a result.
    """

    records: Sequence[Post]
    triggers: Sequence[Post]
    expected: frozenset[str]


@dataclass(frozen=True)
class Soaked:
    """What was seen.

    Attributes:
        readings: In the order of their times, counted from the first event's.
        latency_ms: (Seconds from the first event until this one was due, milliseconds from then
            until its result was in the EHR), in the order of the former.
        expected: Results that had to arrive.
        arrived: Results that did, each event counted once.
        duplicates: Results beyond one per event.
        unwanted: Results of patients who deny.
        refused: Requests that were not accepted.
        is_settled: Whether nothing was open any more a few minutes after the last event.
    """

    plan: Plan
    readings: Sequence[Reading]
    latency_ms: Sequence[tuple[float, float]]
    expected: int
    arrived: int
    duplicates: int
    unwanted: int
    refused: int
    is_settled: bool
    began: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def is_right(self) -> bool:
        """Say whether every event had its one result, and nobody else had one."""
        wrong = self.duplicates + self.unwanted + self.refused
        return self.is_settled and self.arrived == self.expected and not wrong


def soak(plan: Plan, tell: Tell) -> Soaked:
    """Run it.

    Args:
        plan: How long, how much.
        tell: Takes one line about what is under way.
    """
    tell("making up patients")
    load = load_of(plan.events, now=datetime.now(UTC).replace(microsecond=0))
    with (
        tempfile.TemporaryDirectory(prefix="bench-soak-") as name,
        sandbox_ehr() as ehr,
        Nadi(folder=Path(name) / "data")(ehr) as running,
        _undisturbed(),
    ):
        tell(f"pushing {len(load.records):,} resources of the patients' records")
        before = push_all(running.endpoint, load.records, clients=_CLIENTS)
        watch = Watch(
            running, Path(name) / "data", every_s=plan.look_every_s, tell=_told_by(plan, tell)
        )
        with watch:
            pushed = push_at(running.endpoint, load.triggers, rate=plan.per_s)
        tell("waiting for the last results")
        is_settled = watch.await_nothing_open(_SETTLED_WITHIN_S)
        refused = len(before.refused) + len(pushed.refused)
        return _seen(plan, watch.readings, load, (pushed, results(ehr)), (refused, is_settled))


def load_of(events: int, *, now: datetime) -> Load:
    """Make up patients with so many events.

    Args:
        events: How many events.
        now: The newest event is from just before.
    """
    records, triggers, expected = list[Post](), list[Post](), list[str]()
    numbers = iter(range(-(-events // _OF_A_PATIENT)))
    while cohort := list(itertools.islice(numbers, _COHORT)):
        people = [Person(n, _SEED, now, triggers=_OF_A_PATIENT, gap=_GAP) for n in cohort]
        records += (post_of(resource) for who in people for resource in who.record)
        triggers += (post_of(who.triggers[n]) for n in range(_OF_A_PATIENT) for who in people)
        expected += (each["id"] for who in people if not who.denies for each in who.triggers)
    kept = triggers[:events]
    return Load(records, kept, frozenset(expected) & {post.id for post in kept})


def _told_by(plan: Plan, tell: Tell) -> Callable[[Reading], None]:
    def told(reading: Reading) -> None:
        memory = sum(reading.pss_bytes.values()) / 2**20
        tell(
            f"{reading.at_s:.0f} of {plan.seconds:.0f} s: {memory:.0f} MiB, "
            f"{sum(reading.descriptors.values())} descriptors, {reading.ready} jobs ready"
        )

    return told


def _seen(
    plan: Plan,
    readings: Sequence[Reading],
    load: Load,
    told: tuple[Pushed, Sequence[Stored]],
    ended: tuple[int, bool],
) -> Soaked:
    pushed, stored = told
    refused, is_settled = ended
    known = [each for each in stored if each.trigger_id in load.expected]
    arrived = {each.trigger_id for each in known}
    latency = [
        (due - pushed.began, (each.at - due) * 1000)
        for each in known
        for due in (pushed.due[each.trigger_id],)
    ]
    return Soaked(
        plan=plan,
        readings=readings,
        latency_ms=sorted(latency),
        expected=len(load.expected),
        arrived=len(arrived),
        duplicates=len(known) - len(arrived),
        unwanted=len(stored) - len(known),
        refused=refused,
        is_settled=is_settled,
        began=datetime.fromtimestamp(pushed.began, UTC),
    )


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Let the generator not stop to walk over its hundreds of thousands of requests."""
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
