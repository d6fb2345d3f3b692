"""B2: accepted events per second, p50 and p99 at 1, 8 and 64 clients, on SQLite and PostgreSQL.

Against the same program with one setting changed: `NADI_COMMIT_BATCH=1` gives every request a
commit of its own. All Nadis run all the while, each has its turns. What is pushed are results that
start no model, so that only the way in is measured; every 202 stands for a commit that is on disk.
The commits are counted by Nadi itself (`nadi_step_seconds`); each waits for the disk at least once,
so resources per commit are what an fsync of the log is shared by.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from benchmarks import figures
from benchmarks.arrivals import bundles, singles
from benchmarks.databases import PostgresMissing, postgresql
from benchmarks.endpoint import Endpoint
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
from benchmarks.fsyncs import counted
from benchmarks.http_path import BARE, CPU, FRAMEWORK, SHORT, ways_in
from benchmarks.load import push_all
from benchmarks.machine import cpu_seconds, processes, role
from benchmarks.result import Chart, Result, Scale, told
from benchmarks.systems import Nadi, Running, sandbox_ehr
from benchmarks.workload import Post

_ROUNDS = 3
_GROUPED, _ALONE = "group commit", "commit per request"
_MODES = {_GROUPED: {}, _ALONE: {"NADI_COMMIT_BATCH": "1"}}
_QUIET = {"NADI_CANARY_EVERY_S": "0"}
_BUNDLE = 50
_COMMITS = re.compile(r'^nadi_step_seconds_count\{step="receive"\} ([0-9.]+)', re.MULTILINE)


@dataclass(frozen=True)
class _Load:
    """One way of pushing.

    Attributes:
        requests: How many.
        size: Resources of a request; a Bundle where there are several.
    """

    clients: int
    requests: int
    size: int = 1

    @property
    def told(self) -> str:
        """Name it in a table."""
        kind = f"Bundles of {self.size}, " if self.size > 1 else ""
        return f"{kind}{self.clients} client{'s' if self.clients > 1 else ''}"

    def posts(self, name: str) -> list[Post]:
        """Make up its requests."""
        if self.size > 1:
            return bundles(self.requests, name, size=self.size)
        return singles(self.requests, name)


def run(scale: Scale) -> Result:
    """Measure both ways of committing on each database that is at hand."""
    skipped: list[str] = []
    failed: list[str] = []
    loads = (
        _Load(1, scale.pick(250, 50)),
        _Load(8, scale.pick(600, 100)),
        _Load(64, scale.pick(1024, 256)),
        _Load(8, scale.pick(24, 4), _BUNDLE),
    )
    with ExitStack() as stack:
        running = stack.enter_context(_nadis(skipped, scale))
        turns = {name: _turn(name, nadi, loads, failed) for name, nadi in running.items()}
        for name, nadi in running.items():
            push_all(nadi.endpoint, singles(200, f"warm-{len(name)}"), clients=8)
        cost = condensed(by_turns(turns, scale.pick(_ROUNDS, 1), scale.tell, scale.within_s))
        waited = _fsyncs({name: each for name, each in running.items() if _is_sqlite(name)}, scale)
    ways = ways_in(scale)
    return Result(
        number="B2",
        name="intake",
        title="Intake: accepted resources/s at 1, 8 and 64 clients, group commit against a commit "
        "per request",
        fairness="One setting differs. Both are durable before the 202: SQLite in WAL mode with "
        "synchronous=FULL, PostgreSQL with fsync and synchronous_commit on. The same results, "
        "which start no model; CPU is that of all of Nadi's processes, without PostgreSQL's own. "
        "The generator shares the cores.",
        tables={
            "Medians (lowest to highest round)": comparison(cost),
            "How often the disk is waited for, counted by strace": waited,
            "The way in, in process, 64 at once": comparison(ways),
        },
        values={
            **_values(cost, loads),
            "times_framework": figures.times(ways[FRAMEWORK][CPU], ways[SHORT][CPU]),
            "framework_overhead_us": ways[FRAMEWORK][BARE].median,
            "short_overhead_us": ways[SHORT][BARE].median,
        },
        charts=[
            Chart(
                "Single resources",
                "accepted per second",
                lines={
                    name: [
                        (load.clients, each[f"resources/s, {load.told}"].median)
                        for load in loads
                        if load.size == 1
                    ]
                    for name, each in cost.items()
                },
                x="clients",
                is_log=True,
            )
        ],
        failed=failed,
        skipped=skipped,
    )


@contextmanager
def _nadis(skipped: list[str], scale: Scale) -> Iterator[dict[str, Running]]:
    """Run a Nadi for each way of committing on each database."""
    with ExitStack() as stack:
        ehr = stack.enter_context(sandbox_ehr())
        urls: dict[str, dict[str, str]] = {f"SQLite, {mode}": {} for mode in _MODES}
        try:
            server = stack.enter_context(postgresql())
        except PostgresMissing as error:
            skipped.append(str(error))
        else:
            for number, mode in enumerate(_MODES):
                url = server.database(f"nadi{number}")
                urls[f"PostgreSQL, {mode}"] = {"NADI_DATABASE_URL": url}
        running = {}
        for name, database in urls.items():
            scale.tell(f"starting {name}")
            settings = {**_QUIET, **database, **_MODES[name.partition(", ")[2]]}
            running[name] = stack.enter_context(Nadi(settings)(ehr))
        yield running


def _turn(name: str, nadi: Running, loads: Sequence[_Load], failed: list[str]) -> Turn:
    def turn(number: int) -> Sample:
        sample: dict[str, float] = {}
        for load in loads:
            posts = load.posts(f"{number}-{load.clients}-{load.size}")
            sample |= _pushed(name, nadi, load, posts, failed)
        return sample

    return turn


def _pushed(
    name: str, nadi: Running, load: _Load, posts: Sequence[Post], failed: list[str]
) -> Sample:
    # A Bundle is answered 200 with an outcome for each entry, a single resource 202.
    endpoint = replace(nadi.endpoint, accepts=200 if load.size > 1 else 202)
    commits, cpu = _commits(endpoint), sum(cpu_seconds(nadi.roots).values())
    pushed = push_all(endpoint, posts, clients=load.clients)
    count = load.requests * load.size
    commits, cpu = _commits(endpoint) - commits, sum(cpu_seconds(nadi.roots).values()) - cpu
    if pushed.refused:
        failed.append(f"{name}, {load.told}: {len(pushed.refused)} requests were not accepted.")
    return {
        f"resources/s, {load.told}": count / (pushed.ended - pushed.began),
        f"p50 ms, {load.told}": percentile(pushed.answer_ms, 50),
        f"p99 ms, {load.told}": percentile(pushed.answer_ms, 99),
        f"resources per commit, {load.told}": count / commits,
        f"CPU-ms per resource, {load.told}": cpu * 1000 / count,
    }


def _is_sqlite(name: str) -> bool:
    return name.startswith("SQLite")


def _fsyncs(running: Mapping[str, Running], scale: Scale) -> Rows:
    """Push once more, and count the calls that wait for the disk, in the process that receives."""
    heads = ("64 clients", "resources", "commits", "fsync and fdatasync", "resources per fsync")
    rows: Rows = [heads]
    for name, nadi in running.items():
        scale.tell(f"strace: {name}")
        posts = singles(scale.pick(256, 64), f"strace-{len(name)}")
        pids = [each.pid for each in processes(nadi.roots) if role(each) == "api"]
        before = _commits(nadi.endpoint)
        with counted(pids) as calls:
            push_all(nadi.endpoint, posts, clients=64)
        commits = _commits(nadi.endpoint) - before
        each = len(posts) / calls.calls if calls.calls else None
        rows.append((name, str(len(posts)), f"{commits:.0f}", told(calls.calls), told(each)))
    return rows


def _commits(endpoint: Endpoint) -> float:
    connection = endpoint.connect()
    try:
        connection.request("GET", "/metrics")
        found = _COMMITS.search(connection.getresponse().read().decode())
        return float(found[1]) if found else 0.0
    finally:
        connection.close()


def _values(cost: Figures, loads: Sequence[_Load]) -> dict[str, float]:
    ours, theirs = cost[f"SQLite, {_GROUPED}"], cost[f"SQLite, {_ALONE}"]
    most, one = f"resources/s, {loads[2].told}", f"p50 ms, {loads[0].told}"
    grouped, alone = (cost.get(f"PostgreSQL, {mode}", {}).get(most) for mode in _MODES)
    return {
        **({"times_on_postgresql": figures.times(grouped, alone)} if grouped and alone else {}),
        "accepted_per_s": ours[most].median,
        "times_commit_per_request": figures.times(ours[most], theirs[most]),
        "added_ms": ours[one].median - theirs[one].median,
    }
