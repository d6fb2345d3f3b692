"""B10: what an event costs as the store grows: with more stored events, more routes, more consents.

Each variant is a Nadi with a data folder of its own, filled beforehand through the gateway's own
intake; all run all the while and have their turns. In a turn a few hundred events are pushed as
fast as the answers come, until every result is in the EHR: what is compared is the CPU time of all
of a Nadi's processes per event.
"""

import itertools
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson

from adapters.sandbox.ward_consents import consent
from benchmarks.arrivals import singles
from benchmarks.endpoint import Endpoint
from benchmarks.figures import Figures, Sample, Turn, by_turns, comparison, condensed
from benchmarks.filling import fill
from benchmarks.folders import prepared
from benchmarks.load import await_results, push_all
from benchmarks.machine import cpu_seconds
from benchmarks.result import Chart, Result, Scale, Tell
from benchmarks.systems import Nadi, Running, sandbox_ehr
from benchmarks.workload import Post, Workload, make_workload
from gateway.settings import Settings

_ROUNDS = 3
_SETTLE_S = 2.2
_CLIENTS = 32
_QUIET = {"NADI_CANARY_EVERY_S": "0"}
_CPU, _SPEED = "CPU-ms per event", "events/s"
_PERCENT = 100
#: Stored events that the target speaks of.
_TARGETED = 1_000_000


@dataclass(frozen=True)
class Variant:
    """A Nadi to be measured.

    Attributes:
        events: Stored before anything is measured.
        routes: Of its site.
        consents: Stored of other patients.
    """

    events: int = 1000
    routes: int = 1
    consents: int = 1

    def posts(self) -> Iterator[Post]:
        """Give what it is filled with."""
        draw, today = random.Random(1), datetime.now(UTC).date()  # noqa: S311 - nothing secret
        for number in range(self.consents):
            patient, name = f"other-{number}", f"other-{number}-consent"
            wish = consent(draw, "permit", patient_id=patient, consent_id=name, today=today)
            yield Post("/fhir/Consent", orjson.dumps(wish), name)
        yield from itertools.islice(_results(), self.events)


def _results() -> Iterator[Post]:
    """Give results of ever new patients, without end."""
    for number in itertools.count():
        yield from singles(100, f"fill-{number}", of_a_patient=100)


BASE = Variant()


@dataclass
class _Measured:
    """A Nadi that runs, with the events that wait for their turns."""

    running: Running
    load: Workload
    pushed: int = 0


@dataclass
class _Field:
    """All of them, and the EHR that they share.

    Attributes:
        wanted: Results that are to be in the EHR by now.
    """

    ehr: Endpoint
    measured: dict[str, _Measured]
    events: int
    failed: list[str] = field(default_factory=list)
    wanted: int = 0

    def turn(self, name: str) -> Sample:
        """Let one of them have so many events."""
        own = self.measured[name]
        posts = own.load.triggers[own.pushed : own.pushed + self.events]
        own.pushed += self.events
        before, began = sum(cpu_seconds(own.running.roots).values()), time.perf_counter()
        pushed = push_all(own.running.endpoint, posts, clients=_CLIENTS)
        self.wanted += sum(post.id in own.load.expected for post in posts)
        if pushed.refused or not await_results(self.ehr, self.wanted):
            self.failed.append(f"{name}: events were refused, or results did not arrive.")
        wall = time.perf_counter() - began
        time.sleep(_SETTLE_S)
        cpu = sum(cpu_seconds(own.running.roots).values()) - before
        return {_CPU: cpu * 1000 / len(posts), _SPEED: len(posts) / wall}


def run(scale: Scale) -> Result:
    """Measure every variant by turns."""
    variants = _variants(scale)
    with ExitStack() as stack:
        lane = stack.enter_context(_all(variants, scale))
        turns = {name: _turn(lane, name) for name in variants}
        cost = condensed(by_turns(turns, scale.pick(_ROUNDS, 1), scale.tell, scale.within_s))
        failed = lane.failed
    base = cost[_name(BASE)]
    return Result(
        number="B10",
        name="growth",
        title="Growth: cost per event by stored events, routes and consents",
        fairness="One Nadi with a thousand stored events, one route and one consent beside others "
        "that have more of one of these. SQLite, WAL, synchronous=FULL; every event is received, "
        "admitted, inferred and delivered.",
        tables={
            "By stored events": comparison(_pick(cost, variants, "events")),
            "By routes of the site": comparison(_pick(cost, variants, "routes")),
            "By consents of the site": comparison(_pick(cost, variants, "consents")),
        },
        values={
            "most_events": float(max(each.events for each in variants.values())),
            "grows_by_percent": _grown(cost, variants, "events"),
            "routes_percent": _grown(cost, variants, "routes"),
            "consents_percent": _grown(cost, variants, "consents"),
            "base_cpu_ms": base[_CPU].median,
        },
        charts=[_chart(cost, variants)],
        failed=failed,
        skipped=_skipped(scale),
    )


def _skipped(scale: Scale) -> list[str]:
    if scale.events >= _TARGETED:
        return []
    command = f"`python -m benchmarks growth --events {_TARGETED} --keep`"
    return [f"More than {scale.events:,} stored events: filling takes long. {command} does it."]


def _variants(scale: Scale) -> Mapping[str, Variant]:
    most = scale.pick(scale.events, 5000)
    sizes = sorted({BASE.events, min(most, 100_000), most})
    chosen = [Variant(events=size) for size in sizes]
    chosen += [Variant(routes=count) for count in (10, 100)]
    chosen += [Variant(consents=count) for count in (100, scale.pick(10_000, 1000))]
    return {_name(each): each for each in chosen}


def _name(variant: Variant) -> str:
    parts = (
        (variant.events, BASE.events, "events"),
        (variant.routes, BASE.routes, "routes"),
        (variant.consents, BASE.consents, "consents"),
    )
    told = [f"{count:,} {what}" for count, usual, what in parts if count != usual]
    return ", ".join(told) or "1,000 events, 1 route, 1 consent"


@contextmanager
def _all(variants: Mapping[str, Variant], scale: Scale) -> Iterator[_Field]:
    """Fill and start every variant, and push the records of the patients to come."""
    rounds, events = scale.pick(_ROUNDS, 1), scale.pick(300, 60)
    with TemporaryDirectory(prefix="bench-growth-") as name, ExitStack() as stack:
        ehr = stack.enter_context(sandbox_ehr())
        lane = _Field(ehr, {}, events)
        for number, (title, variant) in enumerate(variants.items()):
            folder = Path(name) / str(number)
            _fill(folder, variant, lambda line, t=title: scale.tell(f"{t}: {line}"))
            running = stack.enter_context(Nadi(_QUIET, variant.routes, folder)(ehr))
            now = datetime.now(UTC).replace(microsecond=0)
            load = make_workload((rounds + 1) * events, seed=1000 + number, now=now)
            scale.tell(f"{title}: records of its patients")
            push_all(running.endpoint, load.records, clients=_CLIENTS)
            lane.measured[title] = _Measured(running, load)
        for title in variants:
            lane.turn(title)  # warm
        yield lane


def _fill(folder: Path, variant: Variant, tell: Tell) -> None:
    nadi = prepared(folder)
    fill(nadi, Settings(data_dir=folder), variant.posts(), lambda made: tell(f"{made:,} stored"))
    nadi.store.close()


def _turn(lane: _Field, name: str) -> Turn:
    return lambda _: lane.turn(name)


def _pick(cost: Figures, variants: Mapping[str, Variant], what: str) -> Figures:
    """Choose the variants that have more of one thing, and the base before them."""
    return {f"{size:,}": cost[name] for size, name in _by_size(variants, what)}


def _by_size(variants: Mapping[str, Variant], what: str) -> Sequence[tuple[int, str]]:
    usual = getattr(BASE, what)
    found = [(getattr(each, what), name) for name, each in variants.items()]
    return [(size, name) for size, name in found if size != usual or name == _name(BASE)]


def _grown(cost: Figures, variants: Mapping[str, Variant], what: str) -> float:
    """Say by how many percent the largest variant costs more than the base, or less."""
    _, largest = max(_by_size(variants, what))
    base = cost[_name(BASE)][_CPU].median
    return (cost[largest][_CPU].median / base - 1) * _PERCENT


def _chart(cost: Figures, variants: Mapping[str, Variant]) -> Chart:
    lines = {
        what: [(size, cost[name][_CPU].median) for size, name in _by_size(variants, what)]
        for what in ("events", "routes", "consents")
    }
    return Chart("An event", "CPU-ms", lines=lines, x="how many there are", is_log=True)
