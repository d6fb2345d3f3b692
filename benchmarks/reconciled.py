"""Puts the budget's CPU of each process beside that of the benchmark from end to end."""

from benchmarks.figures import Rows
from benchmarks.result import Result

_OWN = "Nadi"
_BY_PROCESS = "CPU-ms per event by process, saturated"
_MS_US = 1000


def with_b8(budget: Result, b8: Result | None) -> Rows:
    """Lay out the milliseconds of an event by process: here, here with py-spy, in B8."""
    rows = b8.tables.get(_BY_PROCESS, []) if b8 else []
    known = {process: told for system, process, told in rows[1:] if system == _OWN}
    whole = (_sum(budget, "_us"), _sum(budget, "_spied_us"), sum(map(float, known.values())))
    return [
        ("process", "without py-spy", "while py-spy looks", "B8, saturated"),
        *(
            (
                process,
                *(_ms(budget.values.get(f"{process}{end}")) for end in ("_us", "_spied_us")),
                known.get(process, ""),
            )
            for process in _processes(budget)
        ),
        ("all", *(_ms(total) for total in whole[:2]), f"{whole[2]:.2f}" if known else ""),
    ]


def _processes(budget: Result) -> list[str]:
    ends = "_spied_us"
    return [key.removesuffix(ends) for key in budget.values if key.endswith(ends)]


def _sum(budget: Result, end: str) -> float:
    return sum(budget.values.get(f"{process}{end}", 0.0) for process in _processes(budget))


def _ms(us: float | None) -> str:
    return "" if us is None else f"{us / _MS_US:.2f}"
