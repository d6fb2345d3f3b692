"""The budget: where the CPU of an event goes at saturation, by verb, process, library and matter.

Nadi at its defaults, beside a stand-in EHR, gets events as fast as its answers come, as in B8, in
stretches by turns: in one only the CPU time of each process is read; in the other py-spy looks at
each process (`benchmarks.sampling`). A process's CPU per event is that of the stretches without
py-spy, and is shared out as the samples of the others are (`benchmarks.verbs`).
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from benchmarks import verbs
from benchmarks.endpoint import Endpoint
from benchmarks.figures import Rows
from benchmarks.load import await_results, push_all
from benchmarks.machine import cpu_seconds, processes, role
from benchmarks.peers import PeerMissing
from benchmarks.result import BUDGET, Chart, Result, Scale
from benchmarks.sampling import PY_SPY, Seen, Stack, sampled
from benchmarks.systems import Nadi, Running, sandbox_ehr
from benchmarks.workload import Post, Workload, make_workload

_SEED = 20260103
_ROUNDS = 2
_CLIENTS = 32
_WARM_UP = 200
_SETTLE_S = 2.2
_US = 1e6
_HOTTEST = 10
_LEAST_SHARE = 20
_NO_PYTHON = ("broker", "database", "supervisor")


@dataclass
class Spent:
    """What was measured.

    Attributes:
        events: Of the stretches in which only CPU time was read.
        cpu_s: CPU seconds by process in those.
        spied_events: Of the stretches in which py-spy looked.
        spied_cpu_s: CPU seconds by process in those.
        seen: Samples by process.
    """

    events: int = 0
    cpu_s: dict[str, float] = field(default_factory=dict)
    spied_events: int = 0
    spied_cpu_s: dict[str, float] = field(default_factory=dict)
    seen: dict[str, Seen] = field(default_factory=dict)

    def us(self, process: str) -> float:
        """Give the CPU that an event takes of a process, in microseconds."""
        return self.cpu_s[process] / self.events * _US

    def spied_us(self, process: str) -> float:
        """Give the same of the stretches in which py-spy looked."""
        return self.spied_cpu_s[process] / self.spied_events * _US

    def shares(self) -> Iterator[tuple[str, Stack, float]]:
        """Give each process's stacks with the microseconds of an event that fall to them."""
        for process, seen in self.seen.items():
            every = self.us(process) / (seen.total() or 1)
            yield from ((process, stack, count * every) for stack, count in seen.items())


def run(scale: Scale) -> Result:
    """Measure."""
    scale.tell("installing py-spy")
    try:
        PY_SPY.python()
    except PeerMissing as error:
        return _result(Spent(events=1), [], [str(error)])
    scale.tell("making up patients")
    plain, spied = scale.pick(2000, 100), scale.pick(5000, 200)
    rounds = scale.pick(_ROUNDS, 1)
    now = datetime.now(UTC).replace(microsecond=0)
    workload = make_workload(_WARM_UP + rounds * (plain + spied), seed=_SEED, now=now)
    with sandbox_ehr() as ehr, Nadi()(ehr) as running:
        scale.tell("pushing the patients' records")
        push_all(running.endpoint, workload.records, clients=_CLIENTS)
        pushing = _Pushing(running, ehr, workload)
        pushing.push(_WARM_UP)
        spent = Spent()
        for number in range(rounds):
            scale.tell(f"round {number + 1} of {rounds}, without py-spy")
            _add(spent.cpu_s, pushing.push(plain))
            scale.tell(f"round {number + 1} of {rounds}, with py-spy")
            with sampled(_python_processes(running)) as seen:
                _add(spent.spied_cpu_s, pushing.push(spied))
            for process, stacks in seen.items():
                spent.seen.setdefault(process, Counter()).update(stacks)
        spent.events, spent.spied_events = rounds * plain, rounds * spied
    return _result(spent, pushing.failed, [])


def _add(to: dict[str, float], more: Mapping[str, float]) -> None:
    for name, value in more.items():
        to[name] = to.get(name, 0.0) + value


def _python_processes(running: Running) -> dict[int, str]:
    known = {process.pid: role(process) for process in processes(running.roots)}
    return {pid: name for pid, name in known.items() if name not in _NO_PYTHON}


class _Pushing:
    """Pushes one stretch of events after the other, each until all its results are in the EHR.

    Attributes:
        failed: What went wrong, a sentence each.
    """

    def __init__(self, running: Running, ehr: Endpoint, workload: Workload) -> None:
        self._running, self._ehr, self._expected = running, ehr, workload.expected
        self._waiting: Iterator[Post] = iter(workload.triggers)
        self._wanted = 0
        self.failed: list[str] = []

    def push(self, count: int) -> dict[str, float]:
        """Push so many; give the CPU seconds that each process took, work put off included."""
        posts = [post for post, _ in zip(self._waiting, range(count), strict=False)]
        before = cpu_seconds(self._running.roots)
        pushed = push_all(self._running.endpoint, posts, clients=_CLIENTS)
        self._wanted += sum(post.id in self._expected for post in posts)
        if pushed.refused or not await_results(self._ehr, self._wanted):
            self.failed.append("Events were refused, or results did not arrive.")
        time.sleep(_SETTLE_S)
        after = cpu_seconds(self._running.roots)
        return {name: after[name] - before.get(name, 0.0) for name in after}


def _result(spent: Spent, failed: Sequence[str], skipped: Sequence[str]) -> Result:
    matters = _by(spent, lambda _, stack: verbs.matter(stack))
    libraries = _by(spent, lambda _, stack: verbs.library(stack))
    samples = sum(seen.total() for seen in spent.seen.values())
    return Result(
        number=BUDGET,
        name="budget",
        title="Where the time goes",
        fairness=_HOW.format(events=spent.events, spied=spent.spied_events, samples=samples),
        tables={
            "µs of CPU per event, by verb and process": _verbs(spent),
            "The same, by what it is about": _column("about", matters),
            f"The {_HOTTEST} hottest functions, without what they call": _hottest(spent),
        },
        values={
            "event_us": sum(map(spent.us, spent.cpu_s)),
            **{f"{name}_us": spent.us(name) for name in spent.cpu_s},
            **{f"{name}_spied_us": spent.spied_us(name) for name in spent.spied_cpu_s},
            "celery_us": libraries.get(verbs.CELERY, 0.0),
            "audit_us": matters.get("AuditEvents", 0.0) + matters.get("Merkle log", 0.0),
            "consent_us": matters.get("consent", 0.0),
            "samples": float(samples),
        },
        charts=[
            Chart("An event, by verb", "µs of CPU", bars=_by(spent, verbs.verb)),
            Chart("An event, by matter", "µs of CPU", bars=dict(matters)),
        ]
        if samples
        else [],
        failed=failed,
        skipped=skipped,
    )


_HOW = """\
An event is one creatinine of a patient with eleven stored resources and those before it: it is \
validated, admitted, the record is unsealed and read, the model is run, and Observation, \
Provenance and Device are written into the EHR. CPU per process is of {events} events without \
py-spy; it is shared out by {samples} samples of {spied} events with it (100 a second of each \
process; threads that wait are left out; code in C counts for the Python function that called \
it). Waiting for a core counts like running on it, so on a busy machine what wakes often, a commit \
for one, seems to take more."""


def _by(spent: Spent, named: Callable[[str, Stack], str]) -> Mapping[str, float]:
    """Add up microseconds of an event by what their stacks are named, the most first."""
    found: defaultdict[str, float] = defaultdict(float)
    for process, stack, us in spent.shares():
        found[named(process, stack)] += us
    return dict(sorted(found.items(), key=lambda each: -each[1]))


def _verbs(spent: Spent) -> Rows:
    """Lay out verb and process against whose code it was, and name what most of it is about."""
    by_library = _crossed(spent, verbs.library)
    by_matter = _crossed(spent, verbs.matter)
    columns = (*verbs.LIBRARIES, verbs.OTHER)
    rows: Rows = [("verb", "process", "µs per event", *columns, "of which")]
    for place, row in sorted(by_library.items()):
        figures = (sum(row.values()), *(row[each] for each in columns))
        rows.append((*place, *(f"{us:.0f}" for us in figures), _most(by_matter[place])))
    blank = ("",) * (len(columns) + 1)
    unseen = [name for name in spent.cpu_s if name not in spent.seen]
    rows += [("", name, f"{spent.us(name):.0f}", *blank) for name in unseen]
    return [*rows, ("all", "", f"{sum(map(spent.us, spent.cpu_s)):.0f}", *blank)]


def _crossed(
    spent: Spent, named: Callable[[Stack], str]
) -> Mapping[tuple[str, str], defaultdict[str, float]]:
    """Add up microseconds of an event by (verb, process), and in each by what stacks are named."""
    cells: dict[tuple[str, str], defaultdict[str, float]] = {}
    for process, stack, us in spent.shares():
        row = cells.setdefault((verbs.verb(process, stack), process), defaultdict(float))
        row[named(stack)] += us
    return cells


def _most(row: Mapping[str, float]) -> str:
    """Name what takes at least a twentieth of a verb, the most first."""
    whole = sum(row.values())
    large = [(us, name) for name, us in row.items() if us * _LEAST_SHARE >= whole]
    return ", ".join(f"{name} {us:.0f}" for us, name in sorted(large, reverse=True))


def _column(head: str, found: Mapping[str, float]) -> Rows:
    whole = sum(found.values()) or 1
    rows = [(name, f"{us:.0f}", f"{us / whole:.1%}") for name, us in found.items()]
    return [(head, "µs per event", "share"), *rows]


def _hottest(spent: Spent) -> Rows:
    found = _by(spent, lambda process, stack: f"{process}: `{stack[-1]}`")
    rows = _column("function", found)
    return rows[: 1 + _HOTTEST]
