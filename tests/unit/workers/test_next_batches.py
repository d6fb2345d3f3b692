"""Who is rung for next, with the real store, relay and rules; only the broker is a list."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from adapters.site import Site, load_site
from gateway.core.audit import Source
from gateway.core.lanes import Lane
from gateway.core.run_window import RunWindow
from gateway.settings import Settings
from gateway.store.leadership import FileLeadership
from gateway.store.sealing import MasterKey, Sealer
from gateway.store.unit_of_work import Store
from tests.filling import fill_deliveries, fill_jobs
from workers.line import Line
from workers.relay import Relay, RelayPorts

BATCH = 8
SITE = """
site: two-ehrs
systems:
  big: {kind: fhir-rest, base_url: "http://big.test/fhir"}
  small: {kind: fhir-rest, base_url: "http://small.test/fhir"}
routes:
  of-big:
    source: big
    match: "Observation.code.coding.where(code='1')"
    consent: {purpose: TREAT}
    model: toy@1
    sink: {system: big}
  of-small:
    source: small
    match: "Observation.code.coding.where(code='1')"
    consent: {purpose: TREAT}
    model: toy@1
    sink: {system: small}
"""


class Ring:
    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def __call__(self, ids: Sequence[str]) -> str:
        self.batches.append(list(ids))
        return f"b{len(self.batches)}"


class Bell:
    def wait(self, timeout_s: float) -> list[str]:
        assert timeout_s > 0
        return []


@dataclass
class Post:
    """A relay on a real store; `work` does as workers do: it takes what was rung for, and is done.

    Attributes:
        taken: Ids in the order in which workers got them.
    """

    store: Store
    relay: Relay
    line: Line
    ring: Ring
    delivered: Ring
    seconds: list[float] = field(default_factory=lambda: [100.0])
    taken: list[str] = field(default_factory=list)

    def look(self) -> None:
        self.seconds[0] += 0.1
        self.relay.look()

    def work(self) -> None:
        """Let the workers finish the oldest batch that is under way."""
        batch_id, batch = next(iter(self.line._batches.items()))
        with self.store.write() as uow:
            got = uow.jobs.claim(batch.ids, "infer@one", lease_ms=60_000)
        self.taken += [job.id for job in got]
        self.line.finished(batch_id, "w", 0.0)


@pytest.fixture
def store(sqlite_url: str) -> Iterator[Store]:
    """SQLite only: that both databases find the lines is shown in the tests of the store."""
    opened = Store(sqlite_url, Sealer(MasterKey(b"k" * 32)))
    yield opened
    opened.close()


@pytest.fixture
def make_post(store: Store, tmp_path: Path) -> Iterator[Callable[..., Post]]:
    def make(site: Site | None = None, batch_size: int = BATCH, **settings: float) -> Post:
        ring, delivered, seconds = Ring(), Ring(), [100.0]
        line = Line(ring, most=2, batch_size=batch_size)
        found = site or load_site(SITE)
        ports = RelayPorts(
            store=store,
            bell=Bell(),
            lead=FileLeadership(tmp_path / "lock"),
            infer=line,
            deliver=Line(delivered, most=2, batch_size=batch_size),
            site=lambda: found,
            source=Source("site", "relay"),
            signing=Ed25519PrivateKey.from_private_bytes(b"s" * 32),
            origin="test",
            settings=Settings(data_dir=tmp_path, ring_again_s=1e9, **settings),
            monotonic=lambda: seconds[0],
        )
        return Post(store, Relay(ports), line, ring, delivered, seconds)

    return make


def fill(
    post: Post, count: int, route: str, lane: Lane = Lane.ROUTINE, **more: object
) -> list[str]:
    with post.store.write() as uow:
        return fill_jobs(uow, count, route=route, lane=lane, **more)


def test_a_stat_job_goes_at_once_although_every_thread_is_busy_and_many_wait(make_post) -> None:
    post = make_post()
    fill(post, 10_000, "of-big")
    post.look()
    assert [len(batch) for batch in post.ring.batches] == [BATCH, BATCH]

    (stat,) = fill(post, 1, "of-big", Lane.STAT)
    post.look()

    assert post.ring.batches[2:] == [[stat]], "beside the two that are under way"


def test_asap_goes_before_urgent_and_urgent_before_routine(make_post) -> None:
    post = make_post(batch_size=4)
    routine = fill(post, 4, "of-big", Lane.ROUTINE)
    urgent = fill(post, 2, "of-big", Lane.URGENT)
    asap = fill(post, 2, "of-big", Lane.ASAP)

    post.look()

    assert post.ring.batches == [[*asap, *urgent], routine]


def test_a_source_that_sends_100_000_does_not_hold_up_another(make_post) -> None:
    post = make_post()
    fill(post, 2_000, "of-big")
    post.look()
    few = fill(post, 8, "of-small")

    for _ in range(4):
        post.work()
        post.look()

    rung = [job_id for batch in post.ring.batches for job_id in batch]
    assert set(few) <= set(rung[: 2 * BATCH + 2 * len(few)])


def test_two_sources_that_both_have_much_get_the_same(make_post) -> None:
    post = make_post()
    big, small = set(fill(post, 500, "of-big")), set(fill(post, 500, "of-small"))

    for _ in range(40):
        post.look()
        post.work()

    got = [len(big & set(post.taken)), len(small & set(post.taken))]
    assert abs(got[0] - got[1]) <= BATCH, got


def test_what_waited_too_long_gets_its_eighth_under_a_flood_of_more_urgent_work(make_post) -> None:
    post = make_post(longest_wait_s=60)
    with post.store.read() as uow:
        long_ago = uow.now_ms - 61_000
    old = fill(post, 20, "of-big", available_ms=long_ago)
    fill(post, 1_000, "of-big", Lane.ASAP)

    for _ in range(25):
        post.look()
        post.work()

    assert len(post.taken) == 25 * BATCH
    assert len(set(old) & set(post.taken)) == 20


def test_what_has_not_waited_long_stays_behind_more_urgent_work(make_post) -> None:
    post = make_post(longest_wait_s=60)
    young = fill(post, 20, "of-big")
    fill(post, 1_000, "of-big", Lane.ASAP)

    for _ in range(25):
        post.look()
        post.work()

    assert not set(young) & set(post.taken)


def test_a_flood_of_stat_leaves_a_thread_to_the_others(make_post) -> None:
    post = make_post()
    fill(post, 1_000, "of-big", Lane.STAT)
    routine = fill(post, 8, "of-big")

    post.look()

    assert [len(batch) for batch in post.ring.batches] == [BATCH, BATCH, BATCH]
    assert post.ring.batches[2] == routine


def test_a_turn_of_the_relay_costs_the_same_before_100_000_jobs(make_post) -> None:
    post = make_post(batch_size=64)
    with post.store.write() as uow:
        fill_jobs(uow, 1_000, route="of-big", lane=Lane.ROUTINE)
    before_ms = turn_ms(post)
    with post.store.write() as uow:
        for lane in (Lane.URGENT, Lane.ROUTINE):
            for route in ("of-big", "of-small"):
                fill_jobs(uow, 24_750, route=route, lane=lane)
        fill_deliveries(uow, 100, line="big/big", lane=Lane.ROUTINE)

    after_ms = turn_ms(post)

    assert after_ms < max(10.0, 5 * before_ms), (before_ms, after_ms)


def turn_ms(post: Post) -> float:
    """Give the median of what a turn that rings a batch takes of the processor."""
    took = []
    for _ in range(9):
        post.look()
        post.line.finished(next(iter(post.line._batches)), "w", 0.0)
        began = time.process_time()
        post.look()
        took.append(1000 * (time.process_time() - began))
    return statistics.median(took)


def test_off_peak_jobs_wait_for_their_hours_and_stat_ones_do_not(make_post) -> None:
    site = load_site(SITE)
    heavy, light = site.routes
    waiting = replace(site, routes=(replace(heavy, window=window(is_open=False)), light))
    post = make_post(site=waiting)
    fill(post, 100, "of-big")
    other, (stat,) = fill(post, 3, "of-small"), fill(post, 1, "of-big", Lane.STAT)

    post.look()

    assert post.ring.batches == [[stat], other]


def test_off_peak_jobs_run_in_their_hours(make_post) -> None:
    site = load_site(SITE)
    heavy, light = site.routes
    post = make_post(
        site=replace(site, routes=(replace(heavy, window=window(is_open=True)), light))
    )
    jobs = fill(post, 3, "of-big")

    post.look()

    assert post.ring.batches == [jobs]


def test_a_system_with_a_capped_rate_gets_small_batches(make_post) -> None:
    site = load_site(SITE.replace('big.test/fhir"', 'big.test/fhir", rate: {per_second: 1}'))
    post = make_post(site=site)
    with post.store.write() as uow:
        fill_deliveries(uow, 20, line="big/big", lane=Lane.ROUTINE)

    post.look()

    assert [len(batch) for batch in post.delivered.batches] == [2]


def window(*, is_open: bool) -> RunWindow:
    """Give hours that this moment is inside or outside of."""
    now = datetime.now(UTC)
    start, end = now - timedelta(hours=2), now + timedelta(hours=2)
    inside = RunWindow(start.time(), end.time(), ZoneInfo("UTC"))
    return inside if is_open else RunWindow(inside.end, inside.start, inside.zone)
