"""One run: load and faults side by side, then healing, settling, a stop, and the checker.

What is measured of each fault is how long after its end the next result reaches the EHR.
"""

import shutil
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from sqlalchemy.exc import DBAPIError

from tests.chaos.arena import Arena
from tests.chaos.checker import Violation, check
from tests.chaos.collecting import Arrivals, Overheard, collect, worklist_of
from tests.chaos.ehr import SANDBOX, Ehr
from tests.chaos.evidence import Evidence
from tests.chaos.expected import Expected
from tests.chaos.faults import FAULTS, Missed, heal_ehr
from tests.chaos.load import Load, Record
from tests.chaos.rabbit import Rabbit
from tests.chaos.schedule import Planned, lanes
from tests.chaos.stories import Teller
from tests.chaos.watching import watching

_LOOK_EVERY_S = 0.1
_LISTEN_EVERY_S = 2.0
_SETTLED_WITHIN_S = 240.0


@dataclass(frozen=True)
class Struck:
    """One fault that was injected.

    Attributes:
        at_s: When it began, counted from the run's beginning.
        healed_s: When it had ended.
    """

    planned: Planned
    at_s: float
    healed_s: float


@dataclass
class Report:
    """What a run was and what came of it.

    Attributes:
        missed: Faults that found nothing to break, by kind.
        results_s: When each result reached the EHR.
        on_worklist: How many stay with Nadi, since the EHR takes them in no form.
        settled_s: How long after the last fault everything was finished; None: not in time.
    """

    seed: int
    database: str
    broker: str
    ehr: str
    disk: str
    clock: str
    seconds: float
    struck: list[Struck] = field(default_factory=list)
    missed: dict[str, int] = field(default_factory=dict)
    record: Record = field(default_factory=Record)
    starts: int = 0
    results_s: list[float] = field(default_factory=list)
    on_worklist: int = 0
    settled_s: float | None = None
    violations: list[Violation] = field(default_factory=list)

    @property
    def recoveries(self) -> dict[str, list[float]]:
        """Give, by kind, the seconds from the end of a fault to the next result in the EHR."""
        found: dict[str, list[float]] = {}
        for each in self.struck:
            after = next((at_s for at_s in self.results_s if at_s >= each.healed_s), None)
            if after is not None:
                found.setdefault(each.planned.kind, []).append(after - each.healed_s)
        return found

    @property
    def timeline(self) -> list[str]:
        """Tell the faults in their order, in seconds from the first, and the results after each."""
        faults = sorted(self.struck, key=lambda each: each.at_s)
        ends_s = [*(each.at_s for each in faults[1:]), float("inf")]
        return [
            f"{each.at_s - faults[0].at_s:.1f} {each.planned.kind} "
            f"for {each.healed_s - each.at_s:.1f}; then "
            f"{sum(each.at_s <= at_s < end_s for at_s in self.results_s)} results"
            for each, end_s in zip(faults, ends_s, strict=True)
        ]

    def as_json(self) -> Mapping[str, object]:
        """Give everything as JSON-ready values."""
        counts: dict[str, int] = {}
        for each in self.struck:
            counts[each.planned.kind] = counts.get(each.planned.kind, 0) + 1
        expected = [each.expected for each in self.record.acknowledged]
        return {
            "seed": self.seed,
            "database": self.database,
            "broker": self.broker,
            "ehr": self.ehr,
            "full disk": self.disk,
            "clock": self.clock,
            "seconds": round(self.seconds, 1),
            "faults": dict(sorted(counts.items())),
            "missed": dict(sorted(self.missed.items())),
            "acknowledged": len(expected),
            "expected": {each.value: expected.count(each) for each in Expected},
            "load": dict(sorted(self.record.counts.items())),
            "results": len(self.results_s),
            "on worklist": self.on_worklist,
            "starts": self.starts,
            "settled_s": self.settled_s and round(self.settled_s, 1),
            "recovery_s": {
                kind: {"median": round(median(found), 2), "longest": round(max(found), 2)}
                for kind, found in sorted(self.recoveries.items())
            },
            "timeline": self.timeline,
            "violations": [{"invariant": v.invariant, "what": v.what} for v in self.violations],
        }


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be run.

    Attributes:
        seed: Of stories and faults.
        seconds: How long faults strike.
        per_s: Pushes a second.
        database_url: PostgreSQL; None: SQLite in the data folder.
        rabbit: RabbitMQ; None: the broker that `nadi up` brings along.
        ehr: The simulator; None: the stand-in EHR that `nadi up` brings along.
        keep: Where the data folder is copied to when a promise was broken; None: nowhere.
    """

    seed: int
    seconds: float
    per_s: float = 12.0
    database_url: str | None = None
    rabbit: Rabbit | None = None
    ehr: Ehr | None = None
    keep: Path | None = None

    @property
    def disk_mb(self) -> int:
        """Room for what so many pushes leave."""
        return 200 + int(self.seconds * self.per_s * 0.05)


def run(folder: Path, order: Order) -> Report:
    """Run once.

    Args:
        folder: Empty, for everything of this run.
        order: What is to be run.
    """
    with Arena(
        folder,
        database_url=order.database_url,
        size_mb=order.disk_mb,
        rabbit=order.rabbit,
        ehr=order.ehr,
    ) as arena:
        report = Report(
            order.seed,
            "PostgreSQL" if order.database_url else "SQLite",
            "RabbitMQ" if order.rabbit else "Valkey",
            order.ehr.name if order.ehr else SANDBOX,
            arena.disk.name,
            "set in every process" if arena.clock.is_settable else "not set: no C compiler",
            order.seconds,
        )
        evidence = _break(arena, order, report)
        report.violations = check(evidence)
        if report.violations and order.keep is not None:
            _keep(arena, order.keep)
        return report


def _break(arena: Arena, order: Order, report: Report) -> Evidence:
    """Let faults strike while events flow, then let everything heal, settle and stop."""
    teller = Teller(order.seed)
    overheard, arrivals = Overheard(arena), Arrivals(arena)
    with (
        watching(overheard.look, every_s=_LISTEN_EVERY_S),
        watching(arrivals.look, every_s=_LOOK_EVERY_S),
    ):
        with Load(arena.nadi, teller, per_s=order.per_s, lab_port=arena.lab_port) as load:
            _strike(arena, order, report)
            heal_ehr(arena)
        report.settled_s = _settled(arena)
    worklist = worklist_of(arena)
    _settled(arena)  # the AuditEvent of this reading too
    arena.stop()
    report.record, report.starts = load.record, arena.starts
    report.results_s, report.on_worklist = arrivals.at_s, len(worklist)
    return collect(arena, load.record, overheard, marks=teller.marks, worklist=worklist)


def _keep(arena: Arena, folder: Path) -> None:
    """Keep what the run left, for whoever looks for the cause."""
    sockets = shutil.ignore_patterns("*.sock")
    shutil.copytree(arena.data, folder, ignore=sockets, dirs_exist_ok=True)
    shutil.copy(arena.journal, folder)
    shutil.copy(arena.folder / "up.log", folder)


def _strike(arena: Arena, order: Order, report: Report) -> None:
    """Let both lanes strike until their time is over."""
    planned = lanes(
        order.seed,
        is_postgresql=order.database_url is not None,
        is_rabbitmq=order.rabbit is not None,
    )
    until_s = time.monotonic() + order.seconds
    with ThreadPoolExecutor(len(planned)) as pool:
        running = [
            pool.submit(_run_lane, arena, lane, report, until_s) for lane in planned.values()
        ]
    for each in running:
        each.result()


def _run_lane(arena: Arena, faults: Iterator[Planned], report: Report, until_s: float) -> None:
    for planned in faults:
        if time.monotonic() + planned.after_s > until_s:
            time.sleep(max(until_s - time.monotonic(), 0))
            return
        time.sleep(planned.after_s)
        at_s = time.monotonic()
        try:
            with FAULTS[planned.kind](arena, planned):
                time.sleep(planned.duration_s)
        except Missed:
            report.missed[planned.kind] = report.missed.get(planned.kind, 0) + 1
            continue
        report.struck.append(Struck(planned, at_s, time.monotonic()))


def _settled(arena: Arena) -> float | None:
    """Wait until nothing is open any more and every AuditEvent has its place."""
    begun = time.monotonic()
    while time.monotonic() - begun < _SETTLED_WITHIN_S:
        time.sleep(0.5)
        try:
            (left,) = arena.nadi.rows(_OPEN)
        except DBAPIError:
            continue
        if not any(left.values()):
            return time.monotonic() - begun
    return None


_OPEN = """
select (select count(*) from jobs where state in ('requested', 'ready', 'in-progress')) as jobs,
(select count(*) from deliveries where state in ('pending', 'in-flight')) as deliveries,
(select count(*) from audit_events) - (select count(*) from audit_leaves) as places
"""
