"""Memory and start-up: what a system takes before it does anything, and once it is warm.

Memory is the proportional set size (PSS) summed over all processes of the system with its broker:
a page that several processes share is counted once. Source: `proc_pid_smaps(5)`.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from benchmarks.end_to_end import SYSTEMS
from benchmarks.load import await_results, push_all
from benchmarks.machine import pss_bytes
from benchmarks.systems import sandbox_ehr
from benchmarks.workload import make_workload

_CALM_S = 8.0
_WARM_EVENTS = 200
_SEED = 7


@dataclass(frozen=True)
class Footprint:
    """What one system takes.

    Attributes:
        started_s: From its start until `/health/ready` said yes.
        idle: PSS in bytes by process, a few seconds after that.
        warm: The same after some events.
    """

    system: str
    started_s: float
    idle: Mapping[str, int]
    warm: Mapping[str, int]


def measure(name: str) -> Footprint:
    """Start a system, look at it, let it work, look again."""
    workload = make_workload(_WARM_EVENTS, seed=_SEED, now=datetime.now(UTC).replace(microsecond=0))
    with sandbox_ehr() as ehr, SYSTEMS[name](ehr) as system:
        time.sleep(_CALM_S)
        idle = pss_bytes(system.roots)
        push_all(system.endpoint, workload.records, clients=8)
        push_all(system.endpoint, workload.triggers, clients=8)
        await_results(ehr, len(workload.expected))
        time.sleep(_CALM_S)
        return Footprint(name, system.started_s, idle, pss_bytes(system.roots))
