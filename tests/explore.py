"""`make explore`: every two interruptions in a row of a job's life, one after the other.

Run with `python -m tests.explore --every 3`. For each pair: one worker is interrupted in its story
about a new result, its lease runs out and a relay frees what it held, but nobody heals anything;
then the other worker is interrupted in the story that goes on from there. Where the first
interruption left nothing to do, a correction comes first. After each, and once all has healed, what
`tests.interrupting` promises has to hold.
"""

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Annotated

import structlog
import typer
from rich.console import Console

from gateway.core.jobs import TRANSITIONS
from gateway.store.engine import migrate
from tests.interrupting import (
    INTERRUPTIONS,
    Interruption,
    everything_holds,
    heal,
    interrupted_again,
    nothing_is_lost,
)
from tests.life_cycle import LEASE_S, World
from tests.postgres import quick_folder

Pair = tuple[Interruption, Interruption]

#: A world holds the patients of so many pairs: what is looked at grows with them.
_PAIRS_A_WORLD = 12
_TELL_EVERY = 200
#: A worker whose lease ran out goes on all the same.
_OVERTAKEN = frozenset({"lease", "overtaken"})
_ROOM_BYTES = 1 << 28
_STATES = (
    "select distinct j.state as job, j.business_status as told, d.state as delivery "
    "from jobs j left join deliveries d on d.job_id = j.id"
)
app = typer.Typer(pretty_exceptions_show_locals=False)
out = Console(soft_wrap=True)


@dataclass
class Seen:
    """What the exploration saw.

    Attributes:
        second: Pairs whose second interruption was reached.
        states: States of a job, its explanation and its delivery, together.
        moves: From which state of a job to which.
        broken: The pairs after which something did not hold, and what.
    """

    pairs: int = 0
    second: int = 0
    states: set[tuple[str, str, str]] = field(default_factory=set)
    moves: set[tuple[str, str]] = field(default_factory=set)
    broken: list[str] = field(default_factory=list)

    def holds(self, world: World) -> None:
        """Insist on what holds, and remember where everything stands."""
        everything_holds(world)
        self.states |= {
            (row["job"], row["told"], row["delivery"] or "none") for row in world.rows(_STATES)
        }

    def moved(self, world: World) -> None:
        """Remember the moves that a world wrote down."""
        rows = world.rows("select distinct before, after from job_moves")
        self.moves |= {(row["before"], row["after"]) for row in rows}


@app.command()
def explore(
    *,
    every: Annotated[int, typer.Option(min=1, help="Only each so many-th pair.")] = 1,
    first: Annotated[int, typer.Option(min=0, help="Where in the list to begin.")] = 0,
) -> None:
    """Try every two interruptions in a row."""
    pairs = list(product(INTERRUPTIONS, repeat=2))
    chosen = pairs[first::every]
    # What workers and relays log of thousands of deaths would hide what is found.
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    out.print(f"{len(chosen)} of {len(pairs)} pairs, from number {first}, each {every}.")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=quick_folder(_ROOM_BYTES)) as folder:
        seen = _explored(chosen, Path(folder))
    _tell(seen, time.monotonic() - began)
    sys.exit(1 if seen.broken else 0)


def _explored(pairs: Sequence[Pair], folder: Path) -> Seen:
    template = folder / "template.db"
    migrate(f"sqlite:///{template}")
    seen = Seen()
    while seen.pairs < len(pairs):
        with _world(template, folder / "world") as world:
            for first, second in _of_one_world(pairs[seen.pairs :]):
                is_whole = _holds(world, f"p{seen.pairs}", (first, second), seen)
                seen.pairs += 1
                if seen.pairs % _TELL_EVERY == 0:
                    out.print(f"{seen.pairs} pairs")
                if not is_whole:
                    break  # what is wrong there would be found again with every pair
            seen.moved(world)
    return seen


def _of_one_world(pairs: Sequence[Pair]) -> Iterator[Pair]:
    """Give the next pairs, up to one that leaves its world unfit: a model is retired for good."""
    for first, second in pairs[:_PAIRS_A_WORLD]:
        yield first, second
        if "retirement" in {first.intrusion, second.intrusion}:
            return


@contextmanager
def _world(template: Path, folder: Path) -> Iterator[World]:
    folder.mkdir()
    shutil.copy(template, folder / "nadi.db")
    world = World(folder, "")
    try:
        yield world
    finally:
        world.close()
        shutil.rmtree(folder)


def _holds(world: World, name: str, pair: Pair, seen: Seen) -> bool:
    """Try one pair about a patient of its own; say whether everything held."""
    try:
        seen.second += _reached(world, name, pair, seen)
        heal(world)
        seen.holds(world)
        nothing_is_lost(world)
    except AssertionError as error:
        says = next(iter(str(error).splitlines()), "see the promises in tests/interrupting.py")
        seen.broken.append(f"{pair[0]}; then {pair[1]}: {says}")
        return False
    return True


def _reached(world: World, name: str, pair: Pair, seen: Seen) -> bool:
    """Interrupt both workers; say whether the second came to its place."""
    first, second = pair
    one = seen.pairs % 2
    world.admit(name, "permit")
    both = {first.intrusion, second.intrusion}
    for worker in world.workers:
        # What a dead worker may have written is looked for: not every EHR minds If-None-Exist. One
        # that was overtaken may still send, and only the EHR can then tell that it is there.
        worker.ehr.ignores_conditions = "death" in both and not both & _OVERTAKEN
    world.observe(name, 0, "answers")
    assert interrupted_again(world, one, first, name, seen.holds), f"{first} was not reached"
    world.pass_time(LEASE_S + 1)
    world.look(one)
    if interrupted_again(world, 1 - one, second, name, seen.holds):
        return True
    world.observe(name, 0, "answers")
    return interrupted_again(world, 1 - one, second, name, seen.holds)


def _tell(seen: Seen, took_s: float) -> None:
    arrows = sum(len(after) for after in TRANSITIONS.values())
    told = {
        "pairs": seen.pairs,
        "second interruption reached": seen.second,
        "states of job, explanation and delivery": len(seen.states),
        "moves between states of a job": f"{len(seen.moves)} ({arrows} arrows are allowed)",
        "pairs that broke something": len(seen.broken),
        "seconds": round(took_s),
    }
    for name, value in told.items():
        out.print(f"{name}: {value}")
    for each in sorted(seen.states):
        out.print(f"  {', '.join(each)}", markup=False)
    for each in seen.broken:
        out.print(each, markup=False)


if __name__ == "__main__":
    app()
