"""The job's life, explored: any order of events, any interruption, and what holds all the same.

Once every interruption is tried at every place of both stories. Beyond that hypothesis draws
sequences of what people, EHRs, workers and relays do. After each step, and at each interruption:

1. every move of a job's row is an arrow of `TRANSITIONS`; nothing but a retry leaves a final state;
2. a job is final exactly when its last AuditEvent says so: both are one transaction;
3. a job has at most one result in the EHR, and one that is completed has exactly one;
4. once everything has healed, every job is final and nobody holds anything: none is lost.
"""

import shutil
from collections import Counter
from collections.abc import Callable
from itertools import count, pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gateway.core.jobs import TRANSITIONS, JobState
from tests.conftest import create_database
from tests.hospital import Json, away, busy
from tests.life_cycle import LEASE_S, PLACES, VALUES, Died, World

PATIENTS = ("p1", "p2")
OPEN = {JobState.READY, JobState.IN_PROGRESS}
WORKERS = st.integers(0, 1)
VERBS = st.sampled_from(("infer", "deliver"))
SOMEBODY = st.sampled_from(PATIENTS)
WHERE = tuple((verb, place) for verb, places in PLACES.items() for place in places)


def interrupted(
    world: World, worker: int, where: tuple[str, str], intrusion: str, name: str
) -> bool:
    """Interrupt a worker at a place of its story about a new result; say whether it came there."""
    verb, place = where
    world.observe(name, 0, "answers")
    if verb == "deliver":
        world.work(1 - worker, "infer")
    seams, reached, held = world.workers[worker].seams, list[str](), list[Json]()

    def intrude() -> None:
        reached.append(place)
        everything_holds(world)
        held[:] = world.held_by(1 - worker)
        _ACTS[intrusion](world, 1 - worker, name)
        everything_holds(world)
        held[:] = world.held_by(1 - worker)

    seams.place, seams.do = place, intrude
    world.work(worker, verb)
    seams.place = ""
    if reached:
        assert world.held_by(1 - worker) == held, "who was overtaken writes nothing"
    return bool(reached)


#: More than everything has to heal.
_HOURS_S = 7200.0


def _die(_world: World, _other: int, _name: str) -> None:
    raise Died


def _run_out(world: World, other: int, _name: str) -> None:
    """Let the lease run out, and the other worker do it all before this one goes on."""
    world.pass_time(LEASE_S + 1)
    world.look(other)
    world.work(other, "infer")
    world.work(other, "deliver")


def _overtake(world: World, other: int, _name: str) -> None:
    """Let the lease run out, and the other worker take the work and die with it."""
    world.pass_time(LEASE_S + 1)
    world.look(other)
    seams = world.workers[other].seams
    for verb in PLACES:
        seams.place, seams.do = "after write 1", lambda: _die(world, other, "")
        world.work(other, verb)
    seams.place = ""


#: What may happen while a worker is at a place: to the world, with the other worker, about whom.
_ACTS: dict[str, Callable[[World, int, str], None]] = {
    "death": _die,
    "lease": _run_out,
    "overtaken": _overtake,
    "withdrawal": lambda world, _, name: world.consent(name, "deny"),
    "correction": lambda world, _, name: world.observe(name, 0, "answers"),
    "retirement": lambda world, _, __: world.retire(),
    "erasure": lambda world, _, name: world.erase(name),
    "clock back": lambda world, _, __: world.pass_time(-_HOURS_S),
}
INTRUSIONS = tuple(_ACTS)


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

    @rule(
        worker=WORKERS,
        where=st.sampled_from(WHERE),
        intrusion=st.sampled_from(INTRUSIONS),
        name=SOMEBODY,
    )
    def work_interrupted(
        self, worker: int, where: tuple[str, str], intrusion: str, name: str
    ) -> None:
        interrupted(self.world, worker, where, intrusion, name)

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

    @rule(seconds=st.sampled_from((1.0, 15.0, LEASE_S + 1, 600.0, -90.0, -_HOURS_S)))
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


def everything_holds(world: World) -> None:
    """Insist on what holds at any moment."""
    _moves_are_arrows(world)
    _audited_with_every_change(world)
    _one_result_at_most(world)


def _moves_are_arrows(world: World) -> None:
    for move in world.rows("select distinct before, after from job_moves"):
        before, after = JobState(move["before"]), JobState(move["after"])
        is_same = before is after and not before.is_final
        assert is_same or after in TRANSITIONS[before], f"from {before} to {after}"


def _audited_with_every_change(world: World) -> None:
    trails = world.trails()
    for row in world.rows("select id, state, business_status from jobs"):
        trail, state = trails[row["id"]], JobState(row["state"])
        is_told = trail[-1] in OPEN if state in OPEN else trail[-1] is state
        assert is_told, f"{row} after {trail}"
        for before, after in pairwise(trail):
            assert before in OPEN or (before is JobState.FAILED and after in OPEN), trail


def _one_result_at_most(world: World) -> None:
    written = Counter(each["identifier"][0]["value"] for each in world.hospital.ehr.results())
    assert set(written.values()) <= {1}, "no result is there twice"
    for row in world.rows(_DELIVERIES):
        # An erased delivery has lost its identifier too.
        if row["job_state"] == "completed" and row["has_body"]:
            assert row["identifier"] in written, "what is completed is in the EHR"
        if row["identifier"] in written:
            assert row["attempt"] >= 1, "nothing was sent unclaimed"


def heal(world: World) -> None:
    """Let everybody work undisturbed, for long."""
    for each in world.workers:
        each.ehr.away, each.ehr.loses_answers = None, 0
    for turn in range(8):
        world.pass_time(600)
        world.look(turn % 2)
        world.work(turn % 2, "infer")
        world.work(turn % 2, "deliver")


def nothing_is_lost(world: World) -> None:
    """Insist that every job is final and that nobody holds anything."""
    assert world.rows(_OPEN_JOBS) == []
    assert world.rows(_OPEN_DELIVERIES) == []


_OPEN_JOBS = (
    "select id, state, business_status, lease_owner from jobs "
    "where state in ('ready', 'in-progress') or lease_owner is not null"
)
_OPEN_DELIVERIES = (
    "select d.state, d.last_answer, j.state as job from deliveries d "
    "join jobs j on j.id = d.job_id where d.state in ('pending', 'in-flight')"
)
_DELIVERIES = (
    "select d.identifier, d.attempt, length(d.body) > 0 as has_body, j.state as job_state "
    "from deliveries d join jobs j on j.id = d.job_id"
)


def explore(make: Callable[[], World], *, examples: int, steps: int) -> None:
    machine = type("JobLife", (JobLife,), {"make": staticmethod(make)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            # A failing sequence is short enough to be read, and shrinking it takes minutes.
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.fixture
def make(sqlite_template: Path, tmp_path: Path) -> Callable[[], World]:
    """Make worlds on SQLite."""
    numbers = count(1)

    def made() -> World:
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        shutil.copy(sqlite_template, folder / "nadi.db")
        return World(folder, "")

    return made


@pytest.mark.parametrize("intrusion", INTRUSIONS)
def test_every_interruption_at_every_place_keeps_every_promise(
    make: Callable[[], World], intrusion: str
) -> None:
    # A retired model is retired for good: then each place needs a world of its own.
    worlds = [make() for _ in (WHERE if intrusion == "retirement" else WHERE[:1])]

    for number, where in enumerate(WHERE):
        world, name = worlds[number % len(worlds)], f"p{number}"
        world.admit(name, "permit")
        # What a dead worker may have written is looked for: not every EHR minds If-None-Exist.
        for worker in world.workers:
            worker.ehr.ignores_conditions = intrusion == "death"
        assert interrupted(world, number % 2, where, intrusion, name), f"{where} was not reached"
        heal(world)
        everything_holds(world)
        nothing_is_lost(world)

    for world in worlds:
        world.close()


def test_a_job_keeps_its_promises_whatever_happens_on_sqlite(
    make: Callable[[], World],
) -> None:
    explore(make, examples=15, steps=14)


@pytest.mark.integration
def test_a_job_keeps_its_promises_whatever_happens_on_postgresql(
    postgresql: str, tmp_path: Path
) -> None:
    explore(lambda: World(tmp_path, create_database(postgresql)), examples=4, steps=14)
