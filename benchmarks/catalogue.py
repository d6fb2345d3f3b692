"""Every benchmark of the page, in its order."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from benchmarks import (
    audit,
    consent,
    end_to_end,
    growth,
    intake,
    memory,
    models,
    queue,
    validation,
    workers,
)
from benchmarks.result import Result, Scale

RUNS: Mapping[str, Callable[[Scale], Result]] = {
    "validation": validation.run,
    "intake": intake.run,
    "queue": queue.run,
    "models": models.run,
    "workers": workers.run,
    "audit": audit.run,
    "consent": consent.run,
    "end-to-end": end_to_end.run,
    "memory": memory.run,
    "growth": growth.run,
}


def measure(name: str, scale: Scale) -> Result:
    """Run a benchmark by its name, and say how long it took."""
    began = time.monotonic()
    return replace(RUNS[name](scale), seconds=time.monotonic() - began)
