"""Interruptions of the life of a job, and what holds whatever happens, for any test of it.

A worker stands at a place of one of its stories, and there something happens: it dies, its lease
runs out, consent is withdrawn. What holds at any moment is insisted on before and after.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from gateway.core.jobs import TRANSITIONS, JobState
from tests.hospital import Json
from tests.life_cycle import LEASE_S, PLACES, Died, World

OPEN = frozenset({JobState.READY, JobState.IN_PROGRESS})
WHERE = tuple((verb, place) for verb, places in PLACES.items() for place in places)


@dataclass(frozen=True)
class Interruption:
    """What happens at a place of a story.

    Attributes:
        verb: The story, `infer` or `deliver`.
        place: One of its `PLACES`.
        intrusion: One of `INTRUSIONS`.
    """

    verb: str
    place: str
    intrusion: str

    def __str__(self) -> str:
        """Say it in a line."""
        return f"{self.intrusion} at {self.verb}, {self.place}"


def interrupted(world: World, worker: int, what: Interruption, name: str) -> bool:
    """Interrupt a worker in its story about a new result; say whether it came to the place."""
    world.observe(name, 0, "answers")
    return interrupted_again(world, worker, what, name)


def interrupted_again(
    world: World,
    worker: int,
    what: Interruption,
    name: str,
    holds: Callable[[World], None] | None = None,
) -> bool:
    """Interrupt a worker in its story about whatever is there; say whether it came to the place.

    Args:
        world: Where.
        worker: Who.
        what: What happens.
        name: To which patient it happens.
        holds: Insists on what holds, before and after; `everything_holds` when absent.
    """
    if what.verb == "deliver":
        world.work(1 - worker, "infer")
    insist, held = holds or everything_holds, list[Json]()
    seams, reached = world.workers[worker].seams, list[str]()

    def intrude() -> None:
        reached.append(what.place)
        insist(world)
        held[:] = world.held_by(1 - worker)
        ACTS[what.intrusion](world, 1 - worker, name)
        insist(world)
        held[:] = world.held_by(1 - worker)

    seams.place, seams.do = what.place, intrude
    world.work(worker, what.verb)
    seams.place = ""
    if reached:
        assert world.held_by(1 - worker) == held, "who was overtaken writes nothing"
    return bool(reached)


#: More than everything has to heal.
HOURS_S = 7200.0


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
ACTS: dict[str, Callable[[World, int, str], None]] = {
    "death": _die,
    "lease": _run_out,
    "overtaken": _overtake,
    "withdrawal": lambda world, _, name: world.consent(name, "deny"),
    "correction": lambda world, _, name: world.observe(name, 0, "answers"),
    "retirement": lambda world, _, __: world.retire(),
    "erasure": lambda world, _, name: world.erase(name),
    "clock back": lambda world, _, __: world.pass_time(-HOURS_S),
}
INTRUSIONS = tuple(ACTS)
#: Every intrusion at every place.
INTERRUPTIONS = tuple(
    Interruption(verb, place, intrusion) for verb, place in WHERE for intrusion in INTRUSIONS
)


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
    jobs, deliveries = world.rows(_OPEN_JOBS), world.rows(_OPEN_DELIVERIES)
    assert jobs == [], f"open jobs: {jobs}"
    assert deliveries == [], f"open deliveries: {deliveries}"


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
