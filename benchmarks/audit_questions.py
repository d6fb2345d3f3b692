"""How long each question of a compliance officer takes on a long log, and by which way it goes."""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import time as hour
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from rich.console import Console
from rich.table import Table

from benchmarks.audit_log import Filled, filled
from gateway.api.audit_asking import ask
from gateway.core.audit_terms import purpose_term
from gateway.core.working_hours import WorkingHours
from gateway.store.audit_questions import Asked
from gateway.store.audit_search import AuditFilter, search
from gateway.store.unit_of_work import UnitOfWork

AIM_MS = 200
_ROUNDS = 15
_HOURS = WorkingHours(ZoneInfo("Asia/Kolkata"), frozenset(range(6)), hour(8), hour(20))
_DAY_MS = 86_400_000

Work = Callable[[UnitOfWork, int], object]


@dataclass
class Timed:
    """One question: how long it took, and the statements that it made.

    Attributes:
        times_ms: One for each round; each round asks about another patient.
        statements: Statement and parameters -> the steps of its plan.
    """

    name: str
    times_ms: list[float] = field(default_factory=list)
    plans: dict[str, list[str]] = field(default_factory=dict)


def run(events: int, folder: Path | None, console: Console) -> bool:
    """Fill a log if need be, ask everything, show it; say whether all took less than the aim."""
    folder = folder or Path(tempfile.mkdtemp()) / f"audit-{events}"
    with console.status("Filling the log …") as status:
        log = filled(folder, events, lambda made: status.update(f"{made:,} events appended …"))
    if log.append_us is not None:
        console.print(f"Appending took {log.append_us:.1f} µs of CPU an event.")
    timed = [_time(log, name, work) for name, work in _works(log).items()]
    _show(console, timed, events, folder)
    log.installation.store.close()
    return all(max(each.times_ms) < AIM_MS for each in timed)


def _works(log: Filled) -> dict[str, Work]:
    patients = log.year.patients

    def question(name: str, **asked: object) -> Work:
        return lambda uow, _: ask(uow, name, Asked(**asked))  # type: ignore[arg-type]

    def of_patient(name: str) -> Work:
        return lambda uow, turn: ask(uow, name, Asked(patient_key=patients[turn * 7], limit=500))

    def searched(**wanted: object) -> Work:
        return lambda uow, _: search(uow.connection, AuditFilter(**wanted))  # type: ignore[arg-type]

    june = 1_780_272_000_000
    return {
        "patient": of_patient("patient"),
        "who": of_patient("who"),
        "refusals": question("refusals"),
        "results usual-model@1.0.0": question("results", model="usual-model@1.0.0", limit=200),
        "results rare-model@1.0.0": question("results", model="rare-model@1.0.0", limit=200),
        "break-glass": question("break-glass", limit=200),
        "out-of-hours": question("out-of-hours", hours=_HOURS, limit=200),
        "configuration": question("configuration", limit=200),
        "disclosures": of_patient("disclosures"),
        "search, newest": searched(),
        "search agent": searched(agent="cred-007"),
        "search outcome=8": searched(outcome="8"),
        "search purpose=BTG": searched(terms=(purpose_term("BTG"),)),
        "search a day in June": searched(
            since_ms=june, until_ms=june + _DAY_MS, event="infer", is_ascending=True
        ),
    }


def _time(log: Filled, name: str, work: Work) -> Timed:
    timed = Timed(name)
    for turn in range(_ROUNDS):
        began = time.perf_counter()
        with log.installation.store.read() as uow:
            work(uow, turn)
        timed.times_ms.append(1000 * (time.perf_counter() - began))
    with log.installation.store.read() as uow, _overheard(uow.connection) as statements:
        work(uow, 0)
    with log.installation.store.read() as uow:
        for statement, parameters in statements:
            plan = uow.connection.exec_driver_sql(f"explain query plan {statement}", parameters)
            timed.plans[statement] = [row.detail for row in plan]
    return timed


@contextmanager
def _overheard(connection: sa.Connection) -> Iterator[list[tuple[str, Any]]]:
    """Collect the statements that speak of the log."""
    heard: dict[str, Any] = {}

    def hear(*arguments: Any) -> None:  # noqa: ANN401 - SQLAlchemy's own
        _, _, statement, parameters, *_ = arguments
        if "audit_" in statement:
            heard.setdefault(statement, parameters)

    found: list[tuple[str, Any]] = []
    sa.event.listen(connection, "before_cursor_execute", hear)
    try:
        yield found
    finally:
        sa.event.remove(connection, "before_cursor_execute", hear)
        found += heard.items()


def _show(console: Console, timed: list[Timed], events: int, folder: Path) -> None:
    size = sum(path.stat().st_size for path in folder.glob("nadi.db*"))
    console.print(f"{events:,} events, {size / 1e9:.2f} GB; aim: each under {AIM_MS} ms")
    listing = Table(box=None, header_style="bold")
    for column in ("question", "median ms", "worst ms"):
        listing.add_column(column, no_wrap=True)
    listing.add_column("way", overflow="fold")
    for each in timed:
        steps = dict.fromkeys(step for plan in each.plans.values() for step in plan)
        median, worst = statistics.median(each.times_ms), max(each.times_ms)
        colour = "green" if worst < AIM_MS else "red"
        listing.add_row(each.name, f"{median:.1f}", f"[{colour}]{worst:.1f}[/]", "\n".join(steps))
    console.print(listing)
