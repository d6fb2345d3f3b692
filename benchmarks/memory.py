"""B9: memory and start-up: what a system takes before it does anything, and once it is warm.

Memory is the proportional set size (PSS) summed over all processes of the system with its broker:
a page that several processes share is counted once. Nadi has all its reference models installed;
they are loaded when a route or an event wants them. Source: `proc_pid_smaps(5)`.
"""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from benchmarks.cgroup import limited
from benchmarks.figures import Rows, Sample, Turn, by_turns, comparison, condensed
from benchmarks.load import await_results, push_all
from benchmarks.machine import pss_bytes
from benchmarks.result import Chart, Result, Scale
from benchmarks.systems import NADI, PLAIN, System, sandbox_ehr
from benchmarks.workload import Workload, make_workload

LIMIT_BYTES = 2 * 2**30
_CALM_S = 5.0
_EVENTS = 200
_SEED = 7
_MIB = 2**20


@dataclass(frozen=True)
class Footprint:
    """What one system takes.

    Attributes:
        started_s: From its start until `/health/ready` said yes.
        idle: PSS in bytes by process, a few seconds after that.
        warm: The same after some events.
        arrived: Whether all their results did.
        limit: How the limit of memory was kept.
    """

    system: str
    started_s: float
    idle: Mapping[str, int]
    warm: Mapping[str, int]
    arrived: bool
    limit: str


def run(scale: Scale) -> Result:
    """Measure both by turns, under a limit of 2 GB."""
    now = datetime.now(UTC).replace(microsecond=0)
    workload = make_workload(scale.pick(_EVENTS, 50), seed=_SEED, now=now)
    taken: list[Footprint] = []
    turns = {each.name: _turn(each, workload, taken) for each in (NADI, PLAIN)}
    cost = condensed(by_turns(turns, scale.pick(2, 1), scale.tell, scale.within_s))
    limits = [("system", "2 GB control group"), *((each.system, each.limit) for each in taken)]
    nadi = cost[NADI.name]
    return Result(
        number="B9",
        name="memory",
        title="Memory idle and loaded (PSS), start-up time, under a limit of 2 GB",
        fairness="PSS of all processes with their broker. Where a control group can be made, the "
        "system runs in one of 2 GB; the EHR and the benchmark are outside of it. "
        f"Loaded is after {len(workload.triggers)} events.",
        tables={
            "Medians (lowest to highest round)": comparison(cost),
            "PSS by process, MiB": _by_process(taken),
            "The limit": limits,
        },
        values={
            "idle_mib": nadi["idle, MiB"].median,
            "loaded_mib": nadi["loaded, MiB"].median,
            "ready_s": nadi["start until ready, s"].median,
        },
        charts=[
            Chart(
                "Memory",
                "MiB of PSS",
                bars={
                    f"{name}, {state}": each[f"{state}, MiB"].median
                    for name, each in cost.items()
                    for state in ("idle", "loaded")
                },
            )
        ],
        failed=[
            f"{each.system}: not all results arrived under the limit."
            for each in taken
            if not each.arrived
        ],
    )


def _turn(system: System, workload: Workload, taken: list[Footprint]) -> Turn:
    def turn(_: int) -> Sample:
        found = _measure(system, workload)
        taken.append(found)
        return {
            "idle, MiB": sum(found.idle.values()) / _MIB,
            "loaded, MiB": sum(found.warm.values()) / _MIB,
            "start until ready, s": found.started_s,
        }

    return turn


def _measure(system: System, workload: Workload) -> Footprint:
    """Start a system, look at it, let it work, look again."""
    with sandbox_ehr() as ehr, limited(LIMIT_BYTES) as group, system.start(ehr) as running:
        time.sleep(_CALM_S)
        idle = pss_bytes(running.roots)
        push_all(running.endpoint, workload.records, clients=8)
        push_all(running.endpoint, workload.triggers, clients=8)
        arrived = await_results(ehr, len(workload.expected))
        time.sleep(_CALM_S)
        warm = pss_bytes(running.roots)
        return Footprint(system.name, running.started_s, idle, warm, arrived, group.told())


def _by_process(taken: Sequence[Footprint]) -> Rows:
    rows: Rows = [("system", "process", "idle", "loaded")]
    for system in dict.fromkeys(each.system for each in taken):
        own = [each for each in taken if each.system == system]
        for process in own[0].warm:
            pair = (
                statistics.median(sizes.get(process, 0) / _MIB for sizes in state)
                for state in ([each.idle for each in own], [each.warm for each in own])
            )
            rows.append((system, process, *(f"{size:.0f}" for size in pair)))
    return rows
