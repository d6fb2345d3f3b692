"""B8: from POST to the Observation in the EHR, against a plain build and against HealthChain.

The rates are those of a hospital of 100 beds (2.3 events/s), of 500 (12) and of a rich one of 1,000
(116) at their peaks; then as fast as the answers come. How a round goes is in `benchmarks.turn`.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from benchmarks import figures
from benchmarks.figures import (
    Figures,
    Rows,
    Sample,
    Turn,
    by_turns,
    comparison,
    condensed,
    percentile,
)
from benchmarks.peers import PeerMissing
from benchmarks.result import Chart, Result, Scale
from benchmarks.systems import CHAIN, HEALTHCHAIN, NADI, PLAIN, NadiOn, System
from benchmarks.turn import QUICK, Paced, Plan, Round, run_round
from benchmarks.workload import Workload, make_workload

_SEED = 20260101
_ROUNDS = 3
_PERCENT = 100
_PEAK = 116
_SATURATED = {
    "events/s, saturated": lambda each: each.saturated.per_second,
    "CPU-ms per event, saturated": lambda each: each.saturated.cpu_per_1000,
    "events per CPU-second, saturated": lambda each: each.saturated.per_cpu_second,
}
_OTHER: Mapping[str, Callable[[Round], float]] = {
    "resources received/s": lambda each: each.received.per_second,
    "CPU-ms per resource received": lambda each: each.received.cpu_per_1000,
    "CPU while idle, % of a core": lambda each: each.idle_cpu_share * _PERCENT,
    "start until ready, s": lambda each: each.started_s,
}


def run(scale: Scale) -> Result:
    """Let the systems have their turns, interleaved, on the same events."""
    plan = QUICK if scale.is_quick else Plan()
    rounds, skipped = _rounds(plan, scale)
    measured: dict[str, list[Sample]] = {}
    for each in rounds:
        measured.setdefault(each.system, []).append(_sample(each))
    cost = condensed(measured)
    return Result(
        number="B8",
        name="end-to-end",
        title="End to end, open loop at 2.3, 12 and 116 events/s and at saturation, against "
        + ("a plain build and HealthChain" if scale.is_as_shipped else _elsewhere(scale).name),
        fairness=_FAIRNESS if scale.is_as_shipped else _FAIRNESS_ELSEWHERE,
        tables={
            "Medians (lowest to highest round)": comparison(cost),
            "CPU-ms per event by process, saturated": _by_process(rounds),
            "Was it right": _correctness(rounds),
        },
        values=_values(cost),
        charts=_charts(rounds),
        failed=[
            f"{each.system} did not do what it should in a round; see the table."
            for each in rounds
            if not each.correctness.is_right
        ],
        skipped=skipped,
    )


_FAIRNESS = """\
The same bytes, beside a stand-in EHR and a generator on the same cores, whose CPU is not counted. \
Nadi and the plain build answer 202 after a durable commit (SQLite, WAL, synchronous=FULL). \
HealthChain keeps nothing on disk, asks no consent, audits nothing and answers when the result is \
in the EHR: durability, consent and audit are missing in its figures. What the plain build leaves \
out is in benchmarks/README.md. Latency counts from when an event was due. Where the 99th \
percentile of the few events of a rate would be the longest of all, the row says that."""

_FAIRNESS_ELSEWHERE = """\
The same bytes and the same program, beside a stand-in EHR and a generator on the same cores, \
whose CPU is not counted; that of the database server and of the broker is. Both are durable \
before the 202: SQLite with WAL and synchronous=FULL, PostgreSQL with fsync and \
synchronous_commit on, both on the same disk."""


def _rounds(plan: Plan, scale: Scale) -> tuple[list[Round], list[str]]:
    now = datetime.now(UTC).replace(microsecond=0)
    scale.tell("making up patients")
    workload = make_workload(plan.events, seed=_SEED, now=now)
    systems, skipped = _contestants(scale)
    rounds = list[Round]()
    turns = {each.name: _turn(each, plan, workload, rounds) for each in systems}
    by_turns(turns, scale.pick(_ROUNDS, 1), scale.tell, scale.within_s)
    return rounds, skipped


def _contestants(scale: Scale) -> tuple[list[System], list[str]]:
    """Give who takes part, and why others don't."""
    if not scale.is_as_shipped:
        return [NADI, _elsewhere(scale)], []
    try:
        scale.tell("installing HealthChain")
        HEALTHCHAIN.python()
    except PeerMissing as error:
        return [NADI, PLAIN], [str(error)]
    return [NADI, PLAIN, CHAIN], []


def _elsewhere(scale: Scale) -> System:
    return NadiOn(scale.database, scale.broker).system()


def _turn(system: System, plan: Plan, workload: Workload, rounds: list[Round]) -> Turn:
    def turn(_: int) -> Sample:
        rounds.append(run_round(system, plan, workload))
        return {}

    return turn


def _sample(each: Round) -> Sample:
    sample = {name: measure(each) for name, measure in _SATURATED.items()}
    for rate, paced in each.paced.items():
        for percent in (50, 99):
            sample[_told(percent, rate, paced)] = percentile(paced.latency_ms, percent)
        sample[f"CPU-ms per event at {rate:g}/s"] = paced.work.cpu_per_1000
    return sample | {name: measure(each) for name, measure in _OTHER.items()}


def _told(percent: int, rate: float, paced: Paced) -> str:
    """Name a percentile; of so few that it is the longest of all, it is called that."""
    count = paced.work.count
    if percent * count > _PERCENT * (count - 1):
        return f"longest of {count} at {rate:g}/s, ms"
    return f"p{percent} at {rate:g}/s, ms"


def _values(cost: Figures) -> dict[str, float]:
    nadi = cost[NADI.name]
    values = {
        "events_per_s": nadi["events/s, saturated"].median,
        "cpu_ms": nadi["CPU-ms per event, saturated"].median,
        "p50_ms": nadi[f"p50 at {_PEAK}/s, ms"].median,
        "p99_ms": nadi[f"p99 at {_PEAK}/s, ms"].median,
        "ready_s": nadi["start until ready, s"].median,
    }
    per_cpu = "events per CPU-second, saturated"
    for system, name in ((PLAIN, "times_plain"), (CHAIN, "times_healthchain")):
        if system.name in cost:
            values[name] = figures.times(nadi[per_cpu], cost[system.name][per_cpu])
    return values


def _by_process(rounds: Sequence[Round]) -> Rows:
    rows: Rows = [("system", "process", "CPU-ms per event")]
    for system in dict.fromkeys(each.system for each in rounds):
        own = [each.saturated for each in rounds if each.system == system]
        for name in dict.fromkeys(name for work in own for name in work.cpu):
            spent = [work.cpu.get(name, 0.0) * 1000 / work.count for work in own]
            rows.append((system, name, f"{statistics.median(spent):.2f}"))
    return rows


def _correctness(rounds: Sequence[Round]) -> Rows:
    heads = ("system", "expected", "arrived", "duplicates", "unwanted", "refused", "gap")
    rows: Rows = [heads]
    for each in rounds:
        told = each.correctness
        counts = (told.expected, told.arrived, told.duplicates, told.unwanted, told.refused)
        rows.append((each.system, *map(str, counts), f"{told.gap:.1g}"))
    return rows


def _charts(rounds: Sequence[Round]) -> list[Chart]:
    names = list(dict.fromkeys(each.system for each in rounds))
    cpu = {
        name: statistics.median(e.saturated.cpu_per_1000 for e in rounds if e.system == name)
        for name in names
    }
    lines = {}
    for name in names:
        paced = [each.paced[_PEAK] for each in rounds if each.system == name]
        found = sorted(ms for each in paced for ms in each.latency_ms)
        lines[name] = [(ms, _PERCENT * (i + 1) / len(found)) for i, ms in enumerate(found)]
    return [
        Chart("CPU of an event, saturated", "CPU-ms", bars=cpu),
        Chart(
            f"POST to stored Observation at {_PEAK} events/s",
            "% of events",
            lines=lines,
            x="ms",
            is_log=True,
        ),
    ]
