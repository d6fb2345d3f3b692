"""Every benchmark of the page, in its order.

A benchmark that can't end is told as one that went wrong, with its error; the others go on.
"""

import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace

from benchmarks import (
    audit,
    budget,
    cds_hooks,
    consent,
    end_to_end,
    formats,
    growth,
    intake,
    memory,
    models,
    queue,
    validation,
    workers,
)
from benchmarks.result import BUDGET, Result, Scale

#: Command -> number and what it does.
RUNS: Mapping[str, tuple[str, Callable[[Scale], Result]]] = {
    "validation": ("B1", validation.run),
    "intake": ("B2", intake.run),
    "queue": ("B3", queue.run),
    "models": ("B4", models.run),
    "workers": ("B5", workers.run),
    "audit": ("B6", audit.run),
    "consent": ("B7", consent.run),
    "end-to-end": ("B8", end_to_end.run),
    "memory": ("B9", memory.run),
    "growth": ("B10", growth.run),
    "cds-hooks": ("B11", cds_hooks.run),
}
#: The same of what is no part of `make bench`, and stands on the page all the same.
BESIDE: Mapping[str, tuple[str, Callable[[Scale], Result]]] = {
    "budget": (BUDGET, budget.run),
    "formats": ("B4b", formats.run),
}
_ALL = {**RUNS, **BESIDE}


def measure(name: str, scale: Scale) -> Result:
    """Run a benchmark by its name, and say how long it took."""
    began = time.monotonic()
    try:
        result = _ALL[name][1](scale)
    except Exception as error:  # noqa: BLE001 - an edge: nine others must not be lost with it
        traceback.print_exc()
        result = _broken(name, error)
    return replace(result, seconds=time.monotonic() - began)


def about(name: str) -> str:
    """Say in a line what a benchmark measures."""
    module = sys.modules[_ALL[name][1].__module__]
    return (module.__doc__ or "").partition("\n")[0]


def _broken(name: str, error: Exception) -> Result:
    told = f"It ended with {type(error).__name__}: {error}"
    return Result(_ALL[name][0], name, about(name), "", {}, {}, failed=(told,))
