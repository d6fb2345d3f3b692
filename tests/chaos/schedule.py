"""Which fault strikes when: made from a seed alone, so that a seed tells a run's whole schedule.

Two lanes run side by side, so that faults overlap: one kills and freezes processes, the other
troubles what is around them. Within a lane one fault follows the other, with a pause in which Nadi
may recover.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random

#: How often each kind strikes, and between which durations in seconds.
Kinds = Mapping[str, tuple[int, float, float]]

PROCESSES: Kinds = {
    "kill-api": (3, 0, 0),
    "kill-relay": (3, 0, 0),
    "kill-infer": (3, 0, 0),
    "kill-deliver": (3, 0, 0),
    "kill-mllp": (2, 0, 0),
    "kill-broker": (2, 0, 0),
    "kill-ehr": (2, 0, 0),
    "kill-supervisor": (1, 0, 2),
    "power-cut": (1, 0, 2),
    "freeze-api": (1, 1, 4),
    "freeze-relay": (1, 1, 6),
    "freeze-infer": (1, 1, 6),
    "freeze-deliver": (1, 1, 6),
    "freeze-mllp": (1, 1, 6),
    "freeze-broker": (1, 1, 4),
    # Longer than a lease: what it holds is taken from it while it hangs.
    "hang-infer": (1, 13, 16),
    "hang-deliver": (1, 13, 16),
    # Longer than its senders wait for an answer.
    "hang-mllp": (1, 13, 16),
    # Until its supervisor has replaced it: nobody wakes it up.
    "stop-api": (1, 0, 0),
    "stop-relay": (1, 0, 0),
    "stop-infer": (1, 0, 0),
    "stop-deliver": (1, 0, 0),
    "stop-mllp": (1, 0, 0),
    "stop-broker": (1, 0, 0),
}
SURROUNDINGS: Kinds = {
    "broker-flush": (3, 0, 0),
    "broker-restart": (2, 0, 0),
    "ehr-503": (2, 1, 6),
    "ehr-hangs-up": (2, 1, 6),
    "ehr-slow": (2, 2, 8),
    "ehr-5xx": (2, 2, 8),
    "ehr-429": (2, 2, 6),
    "ehr-drops-after-commit": (4, 3, 8),
    "ehr-batches-only": (1, 3, 8),
    "ehr-no-bundles": (1, 3, 8),
    "disk-full": (2, 1, 6),
    "database-locked": (2, 1, 8),
    "database-locked-long": (1, 16, 20),
    "model-vanished": (2, 2, 10),
    "clock-forward": (2, 0, 0),
    "clock-back": (2, 0, 0),
}
#: Nobody of Nadi's watches over a broker that is not her own.
ON_RABBITMQ: Kinds = {name: kind for name, kind in PROCESSES.items() if name != "stop-broker"}
ON_POSTGRESQL: Kinds = {**SURROUNDINGS, "database-restarted": (3, 0, 1)}
_PAUSE_S = (1.0, 10.0)


@dataclass(frozen=True)
class Planned:
    """One fault to come.

    Attributes:
        after_s: Pause before it, counted from the end of the one before it in its lane.
        size: A number in [0, 1) for whatever of the fault is to be chosen.
    """

    kind: str
    after_s: float
    duration_s: float
    size: float


def lane(name: str, seed: int, kinds: Kinds) -> Iterator[Planned]:
    """Give the faults of one lane, without end."""
    dice = Random(f"{name} {seed}")  # noqa: S311 - a game, not a key
    weights = [weight for weight, _, _ in kinds.values()]
    while True:
        (kind,) = dice.choices(tuple(kinds), weights)
        _, shortest, longest = kinds[kind]
        yield Planned(
            kind,
            after_s=round(dice.uniform(*_PAUSE_S), 3),
            duration_s=round(dice.uniform(shortest, longest), 3),
            size=dice.random(),
        )


def lanes(
    seed: int, *, is_postgresql: bool, is_rabbitmq: bool = False
) -> Mapping[str, Iterator[Planned]]:
    """Give both lanes of a run."""
    around = ON_POSTGRESQL if is_postgresql else SURROUNDINGS
    return {
        "processes": lane("processes", seed, ON_RABBITMQ if is_rabbitmq else PROCESSES),
        "surroundings": lane("surroundings", seed, around),
    }
