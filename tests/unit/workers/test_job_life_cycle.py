"""The job's life, explored: any order of events, any interruption, and what holds all the same.

Once every interruption is tried at every place of both stories (`make explore` tries every two in
a row). Beyond that hypothesis draws sequences of what people, EHRs, workers and relays do, others
each time; a failure tells their seed. After each step, and at each interruption:

1. every move of a job's row is an arrow of `TRANSITIONS`; nothing but a retry leaves a final state;
2. a job is final exactly when its last AuditEvent says so: both are one transaction;
3. a job has at most one result in the EHR, and one that is completed has exactly one;
4. once everything has healed, every job is final and nobody holds anything: none is lost.
"""

import random
import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.conftest import create_database
from tests.hospital import away, busy
from tests.interrupting import (
    HOURS_S,
    INTERRUPTIONS,
    INTRUSIONS,
    Interruption,
    everything_holds,
    heal,
    interrupted,
    nothing_is_lost,
)
from tests.life_cycle import LEASE_S, VALUES, World

PATIENTS = ("p1", "p2")
WORKERS = st.integers(0, 1)
VERBS = st.sampled_from(("infer", "deliver"))
SOMEBODY = st.sampled_from(PATIENTS)


class JobLife(RuleBasedStateMachine):
    """Two patients, two workers, two relays, one model and one EHR."""

    make: Callable[[], World]

    def __init__(self) -> None:
        super().__init__()
        self.world = self.make()
        self.retries = 0

    @initialize(kinds=st.tuples(*(st.sampled_from(("permit", "permit", "deny", None)),) * 2))
    def admit(self, kinds: tuple[str | None, ...]) -> None:
        for name, kind in zip(PATIENTS, kinds, strict=True):
            self.world.admit(name, kind)
        self.world.observe("p1", 0, "answers")

    # -- what comes in -----------------------------------------------------------------------

    @rule(name=SOMEBODY, number=st.integers(0, 2), kind=st.sampled_from(tuple(VALUES)))
    def observe(self, name: str, number: int, kind: str) -> None:
        self.world.observe(name, number, kind)

    @rule(name=SOMEBODY, kind=st.sampled_from(("permit", "deny")))
    def consent(self, name: str, kind: str) -> None:
        self.world.consent(name, kind)

    # -- what works on it --------------------------------------------------------------------

    @rule(worker=WORKERS, verb=VERBS)
    def work(self, worker: int, verb: str) -> None:
        self.world.work(worker, verb)

    @rule(worker=WORKERS, what=st.sampled_from(INTERRUPTIONS), name=SOMEBODY)
    def work_interrupted(self, worker: int, what: Interruption, name: str) -> None:
        interrupted(self.world, worker, what, name)

    @rule(relay=st.integers(0, 1))
    def look(self, relay: int) -> None:
        self.world.look(relay)

    @rule(worker=WORKERS)
    def restart(self, worker: int) -> None:
        self.world.restart(worker)

    # -- what troubles it --------------------------------------------------------------------

    @rule(worker=WORKERS, trouble=st.sampled_from(("well", "away", "busy", "loses an answer")))
    def ehr(self, worker: int, trouble: str) -> None:
        ehr = self.world.workers[worker].ehr
        ehr.away = {"away": away(), "busy": busy(30)}.get(trouble)
        ehr.loses_answers = int(trouble == "loses an answer")

    @rule(seconds=st.sampled_from((1.0, 15.0, LEASE_S + 1, 600.0, -90.0, -HOURS_S)))
    def time_passes(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @rule()
    @precondition(lambda self: self.world.rows("select 1 as one from jobs where state = 'failed'"))
    def retry(self) -> None:
        self.world.retry_failed()

    @rule(name=SOMEBODY)
    @precondition(lambda self: len(self.world.ids("jobs")) > 2)
    def erase(self, name: str) -> None:
        self.world.erase(name)

    @rule()
    @precondition(lambda self: len(self.world.ids("jobs")) > 3)
    def retire(self) -> None:
        self.world.retire()

    # -- what holds --------------------------------------------------------------------------

    @invariant()
    def everything_holds(self) -> None:
        everything_holds(self.world)

    def teardown(self) -> None:
        try:
            heal(self.world)
            everything_holds(self.world)
            nothing_is_lost(self.world)
        finally:
            self.world.close()


@pytest.fixture
def walks(pytestconfig: pytest.Config) -> int:
    """The seed of the walks: drawn, unless pytest is told one by `--hypothesis-seed`."""
    told = str(pytestconfig.getoption("--hypothesis-seed") or "")
    drawn = int(told) if told.isdecimal() else random.randrange(2**32)  # noqa: S311 - no key
    print(f"The same walks again: --hypothesis-seed={drawn}")  # noqa: T201 - shown when it fails
    return drawn


def explore(make: Callable[[], World], walks: int, *, examples: int, steps: int) -> None:
    machine = type("JobLife", (JobLife,), {"make": staticmethod(make)})
    run_state_machine_as_test(
        seed(walks)(machine),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            # A seed alone says what is walked, not what an earlier run left in a folder.
            database=None,
            # A failing sequence is short enough to be read, and shrinking it takes minutes.
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.fixture
def new_folder(sqlite_template: Path, tmp_path: Path) -> Callable[[], Path]:
    """Make folders, each with a fresh SQLite database."""
    numbers = count(1)

    def made() -> Path:
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        shutil.copy(sqlite_template, folder / "nadi.db")
        return folder

    return made


@pytest.fixture
def make(new_folder: Callable[[], Path]) -> Callable[[], World]:
    """Make worlds on SQLite."""
    return lambda: World(new_folder(), "")


@pytest.mark.parametrize("intrusion", INTRUSIONS)
def test_every_interruption_at_every_place_keeps_every_promise(
    make: Callable[[], World], intrusion: str
) -> None:
    cases = [each for each in INTERRUPTIONS if each.intrusion == intrusion]
    # A retired model is retired for good: then each place needs a world of its own.
    worlds = [make() for _ in (cases if intrusion == "retirement" else cases[:1])]

    for number, what in enumerate(cases):
        world, name = worlds[number % len(worlds)], f"p{number}"
        world.admit(name, "permit")
        # What a dead worker may have written is looked for: not every EHR minds If-None-Exist.
        for worker in world.workers:
            worker.ehr.ignores_conditions = intrusion == "death"
        assert interrupted(world, number % 2, what, name), f"{what} was not reached"
        heal(world)
        everything_holds(world)
        nothing_is_lost(world)

    for world in worlds:
        world.close()


def test_a_job_keeps_its_promises_whatever_happens_on_sqlite(
    make: Callable[[], World], walks: int
) -> None:
    explore(make, walks, examples=15, steps=14)


class Noted(World):
    """Writes down what is done in it."""

    def __init__(self, folder: Path, steps: list[str]) -> None:
        super().__init__(folder, "")
        self._steps = steps

    def observe(self, name: str, number: int, kind: str) -> None:
        self._steps.append(f"{name} {number} {kind}")
        super().observe(name, number, kind)

    def work(self, worker: int, verb: str) -> None:
        self._steps.append(f"{worker} {verb}")
        super().work(worker, verb)


def test_a_seed_gives_the_same_walks_again(new_folder: Callable[[], Path]) -> None:
    def walked(walks: int) -> list[str]:
        steps: list[str] = []
        explore(lambda: Noted(new_folder(), steps), walks, examples=2, steps=5)
        return steps

    assert walked(7) == walked(7)
    assert walked(7) != walked(8)


@pytest.mark.integration
def test_a_job_keeps_its_promises_whatever_happens_on_postgresql(
    postgresql: str, tmp_path: Path, walks: int
) -> None:
    explore(lambda: World(tmp_path, create_database(postgresql)), walks, examples=4, steps=14)
