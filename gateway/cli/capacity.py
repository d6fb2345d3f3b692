"""What a machine can serve, worked out from what was measured on it. Pure: no I/O, no clock.

An event costs the path through Nadi (receive, admit, queue, report, deliver), the model's run and,
where it reads images, decoding and scaling one (`models.film`, the slowest kind of file).
The path was measured end to end on one machine (docs/performance.md); elsewhere that figure is
scaled by how long the same piece of it, `gateway.cli.probe`, takes here. So events an hour are an
estimate, and say so; latency, memory and loading are measured.

Source: docs/performance.md; 200 events per bed and day and a peak of ten times the mean, from the
published figures of hospitals' interface engines (IPO Porto 2015, NHS Spine 2018).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from gateway.cli.machine import SLOW_FSYNC_MS, ClockState, Machine
from gateway.cli.probe import Probe

if TYPE_CHECKING:  # it loads what reads DICOM
    from models.film import Reading

_GIB, _MIB = 2**30, 2**20
_MS_PER_HOUR = 3_600_000

#: Time of one event's path on one processor, its model included there being next to nothing, and
#: of the probe, on the same machine.
PATH_MS, PROBE_MS = 3.64, 0.19
#: The part of the processors that is planned with: beyond it waiting times grow without bound.
_USABLE = 0.6
#: A batch of this many is what a worker makes of a rush.
BATCH = 16
_EVENTS_PER_BED_AND_DAY = 200
_PEAK = 10
#: All processes of Nadi without a model, at rest (docs/performance.md), and a margin.
_BASE_BYTES = 512 * _MIB
_SPARE = 0.8
_LEAST_DISK_BYTES = _GIB // 2
#: What an event that starts a model leaves in SQLite (docs/scaling.md).
EVENT_BYTES = 19 * 1024
_ENOUGH_DAYS = 90
#: A run may take this part of the manifest's limit: the rest is for a machine that is busy.
_OF_TIME_LIMIT = 0.5


class Fitness(StrEnum):
    """Whether something is enough."""

    ENOUGH = "enough"
    TIGHT = "tight"
    NOT_ENOUGH = "not-enough"


@dataclass(frozen=True, kw_only=True)
class ModelCost:
    """What one model costs on this machine, measured.

    Attributes:
        name: `name@version`.
        weights_format: As its manifest says.
        size_bytes: Of the weights.
        load_ms: From file to first answer.
        memory_bytes: What it adds to a process.
        alone_ms: One case, median.
        batch_ms: A batch of `BATCH`, median.
        timeout_ms: The longest run its manifest allows.
        reading: What reading its image takes; None where it reads none.
        problem: Why it does not run here; empty when it does.
    """

    name: str
    weights_format: str = ""
    size_bytes: int = 0
    load_ms: float = 0.0
    memory_bytes: int = 0
    alone_ms: float = 0.0
    batch_ms: float = 0.0
    timeout_ms: float = 0.0
    reading: "Reading | None" = None
    problem: str = ""

    @property
    def per_case_ms(self) -> float:
        """What a case costs in a rush, its image included."""
        run_ms = min(self.batch_ms / BATCH, self.alone_ms)
        return run_ms + (self.reading.slowest_ms if self.reading else 0.0)

    @property
    def alone_in_process_ms(self) -> float:
        """The part of it that one thread of a process does at a time: decoding DICOM."""
        return self.reading.decode_ms["dicom"] if self.reading else 0.0


@dataclass(frozen=True)
class Judgement:
    """What was found of one model or of one part of the machine.

    Attributes:
        about: What it is about.
        fitness: Whether it is enough.
        says: Why, in words and numbers.
        events_per_hour: For a model that runs: how many it can serve, estimated.
    """

    about: str
    fitness: Fitness
    says: str
    events_per_hour: int | None = None


def rush_hour(beds: int) -> int:
    """Events of a hospital's busiest hour."""
    return round(beds * _EVENTS_PER_BED_AND_DAY * _PEAK / 24)


def beds(events_per_hour: int) -> int:
    """Beds of the largest hospital whose busiest hour brings no more events."""
    return round(events_per_hour * 24 / (_EVENTS_PER_BED_AND_DAY * _PEAK))


def rounded(number: int) -> int:
    """An estimate as it should be said: two digits, rounded down.

    >>> [rounded(each) for each in (7, 99, 163_077)]
    [7, 99, 160000]
    """
    unit: int = 10 ** max(len(str(number)) - 2, 0)
    return number // unit * unit


def events_per_hour(probe: Probe, cost: ModelCost) -> int:
    """How many events an hour a machine can serve that all ask one model.

    Args:
        probe: How quickly it runs what Nadi does.
        cost: What the model costs there.
    """
    path_ms = PATH_MS * probe.event_ms / PROBE_MS
    by_cores = probe.cores / (path_ms + cost.per_case_ms)
    alone_ms = cost.alone_in_process_ms
    per_ms = min(by_cores, 1 / alone_ms) if alone_ms else by_cores
    return int(_MS_PER_HOUR * _USABLE * per_ms)


def judge_model(machine: Machine, probe: Probe, cost: ModelCost, *, wanted: int) -> Judgement:
    """Say whether a machine can serve one model.

    Args:
        machine: The machine.
        probe: How quickly it runs what Nadi does.
        cost: What the model costs there.
        wanted: Events of the busiest hour.
    """
    if cost.problem:
        return Judgement(cost.name, Fitness.NOT_ENOUGH, cost.problem)
    room = machine.available_bytes * _SPARE - _BASE_BYTES
    if cost.memory_bytes > room:
        has, needs = _mib(max(room, 0)), _mib(cost.memory_bytes)
        return Judgement(
            cost.name,
            Fitness.NOT_ENOUGH,
            f"It needs {needs} MiB of memory beside Nadi, and {has} are left.",
        )
    if cost.alone_ms > cost.timeout_ms * _OF_TIME_LIMIT:
        says = (
            f"One answer takes {cost.alone_ms:.0f} ms, too near to the limit of its manifest "
            f"({cost.timeout_ms:.0f} ms)."
        )
        return Judgement(cost.name, Fitness.NOT_ENOUGH, says)
    found = events_per_hour(probe, cost)
    says = (
        f"One answer takes {_ms(cost.alone_ms)}{_image(cost)}; about {rounded(found):,} events an "
        f"hour, the busiest hour of {rounded(beds(found)):,} beds."
    )
    fitness = Fitness.ENOUGH if found >= wanted else Fitness.NOT_ENOUGH
    if fitness is Fitness.NOT_ENOUGH:
        says += f" Wanted are {wanted:,}."
    return Judgement(cost.name, fitness, says, found)


def judge_machine(machine: Machine, costs: Sequence[ModelCost], *, wanted: int) -> list[Judgement]:
    """Say whether memory, disk and clock are enough for Nadi and all its models together.

    Args:
        machine: As it was measured.
        costs: Of the models.
        wanted: Events of the busiest hour.
    """
    disk = _disk(machine, wanted=wanted)
    return [_memory(machine, costs), disk, _durability(machine), _clock(machine)]


def settings(machine: Machine, costs: Sequence[ModelCost]) -> dict[str, str]:
    """The settings to run with: name of the variable → value."""
    batching_helps = any(cost.batch_ms < BATCH * cost.alone_ms * _SPARE for cost in costs)
    return {
        "NADI_INFER_THREADS": str(machine.cores),
        "NADI_DELIVER_THREADS": str(max(2, machine.cores)),
        "NADI_BATCH_SIZE": "64" if batching_helps else str(BATCH),
    }


def _memory(machine: Machine, costs: Sequence[ModelCost]) -> Judgement:
    needed = _BASE_BYTES + sum(cost.memory_bytes for cost in costs)
    models = "1 model" if len(costs) == 1 else f"{len(costs)} models"
    says = (
        f"Nadi and {models} need about {_mib(needed)} MiB; "
        f"{_mib(machine.available_bytes)} of {_mib(machine.memory_bytes)} are available."
    )
    if needed > machine.available_bytes:
        return Judgement("memory", Fitness.NOT_ENOUGH, f"{says} Retire models or add memory.")
    is_tight = needed > machine.available_bytes * _SPARE
    return Judgement("memory", Fitness.TIGHT if is_tight else Fitness.ENOUGH, says)


def _disk(machine: Machine, *, wanted: int) -> Judgement:
    a_day = wanted * 24 / _PEAK
    days = machine.disk_free_bytes / (a_day * EVENT_BYTES)
    says = (
        f"{machine.disk_free_bytes / _GIB:.1f} GiB are free in the data folder: "
        f"{rounded(int(days)):,} days of {rounded(int(a_day)):,} events that all start a model."
    )
    if machine.disk_free_bytes < _LEAST_DISK_BYTES:
        return Judgement("disk space", Fitness.NOT_ENOUGH, says)
    if days >= _ENOUGH_DAYS:
        return Judgement("disk space", Fitness.ENOUGH, says)
    more = " The audit log is never shortened: plan for a larger disk (docs/scaling.md)."
    return Judgement("disk space", Fitness.TIGHT, says + more)


def _durability(machine: Machine) -> Judgement:
    fsync = machine.fsync
    says = f"A durable write takes {fsync.median_ms:.1f} ms (worst {fsync.worst_ms:.1f} ms)."
    if fsync.median_ms <= SLOW_FSYNC_MS:
        return Judgement("disk speed", Fitness.ENOUGH, says)
    more = " Every answer waits for one; put the data folder on a solid-state disk."
    return Judgement("disk speed", Fitness.TIGHT, says + more)


def _clock(machine: Machine) -> Judgement:
    if machine.clock is ClockState.YEARS_BEHIND:
        says = "The clock is years behind: consents would not hold. Set it, and keep it by NTP."
        return Judgement("clock", Fitness.NOT_ENOUGH, says)
    if machine.clock is ClockState.NOT_KEPT:
        says = "The clock is not kept in time; consent periods depend on it. Run an NTP client."
        return Judgement("clock", Fitness.TIGHT, says)
    return Judgement("clock", Fitness.ENOUGH, "The clock is set.")


def _image(cost: ModelCost) -> str:
    return f", reading its image up to {_ms(cost.reading.slowest_ms)}" if cost.reading else ""


def _ms(value: float) -> str:
    return f"{value:.2g} ms" if value < 10 else f"{value:.0f} ms"  # noqa: PLR2004 - two digits do


def _mib(size: float) -> str:
    return f"{size / _MIB:,.0f}"
