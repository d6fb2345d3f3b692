import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from adapters.fhir_rest.errors import EhrOverloaded
from adapters.site import load_site
from gateway.core.audit import Source
from gateway.core.jobs import BusinessStatus, JobState
from gateway.queue import BrokerAway
from gateway.settings import Settings
from gateway.store.audit_log import AuditFilter
from gateway.store.checkpoint_file import CheckpointFile
from gateway.store.leadership import FileLeadership
from tests.hospital import LEASE_MS, SITE, Hospital, observation
from workers.line import Line
from workers.relay import Relay, RelayPorts


@dataclass
class Ring:
    """Keeps what was rung for; the ids of batches are b1, b2 …"""

    batches: list[list[str]] = field(default_factory=list)
    is_away: bool = False

    def __call__(self, ids: Sequence[str]) -> str:
        if self.is_away:
            raise BrokerAway
        self.batches.append(list(ids))
        return f"b{len(self.batches)}"


@dataclass
class Bell:
    """Gives the messages a test put there, then ends the relay."""

    messages: list[str] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def wait(self, timeout_s: float) -> list[str]:
        assert timeout_s > 0
        self.stopped.set()
        found, self.messages = self.messages, []
        return found


@dataclass
class Post:
    """A relay with everything around it."""

    hospital: Hospital
    relay: Relay
    infer: Ring
    deliver: Ring
    bell: Bell
    lead: FileLeadership
    seconds: list[float]
    pauses: list[float]

    def look(self, seconds: float = 0.0) -> None:
        self.seconds[0] += seconds
        self.hospital.pass_time(seconds)
        self.relay.look()

    def turn(self, *messages: str) -> None:
        self.bell.messages = list(messages)
        self.relay.turn()


@pytest.fixture
def post(tmp_path: Path) -> Iterator[Post]:
    hospital, infer, deliver = Hospital(tmp_path), Ring(), Ring()
    bell, lead, seconds = Bell(), FileLeadership(tmp_path / "lock"), [100.0]
    pauses: list[float] = []
    ports = RelayPorts(
        store=hospital.store,
        bell=bell,
        lead=lead,
        infer=Line(infer, most=2, batch_size=3),
        site=lambda: hospital.site,
        deliver=Line(deliver, most=2, batch_size=3),
        source=Source("site", "relay"),
        signing=Ed25519PrivateKey.from_private_bytes(b"s" * 32),
        origin="test",
        settings=Settings(data_dir=tmp_path),
        monotonic=lambda: seconds[0],
        pause=pauses.append,
    )
    yield Post(hospital, Relay(ports), infer, deliver, bell, lead, seconds, pauses)
    hospital.close()


def push(hospital: Hospital, *names: str) -> None:
    for name in names:
        hospital.admit_patient(name)
        hospital.push(observation(name=f"o-{name}", of=name))


def names(count: int) -> list[str]:
    return [f"p{number}" for number in range(count)]


def test_a_ready_job_is_rung_for_once(post: Post) -> None:
    push(post.hospital, "p1")

    post.look()
    post.look(seconds=1)

    assert post.infer.batches == [[post.hospital.job().id]]


def test_a_ring_that_nobody_answers_is_repeated(post: Post) -> None:
    push(post.hospital, "p1")

    post.look()
    post.look(seconds=6)

    assert len(post.infer.batches) == 2


def test_batches_grow_while_the_workers_are_busy(post: Post) -> None:
    push(post.hospital, "a")
    post.look()
    push(post.hospital, "b")
    post.look(seconds=0.1)
    push(post.hospital, *names(4))
    post.look()
    assert [len(batch) for batch in post.infer.batches] == [1, 1]
    with post.hospital.store.write() as uow:
        uow.jobs.claim(post.infer.batches[0], "infer@one", lease_ms=LEASE_MS)

    post.turn("done:b1", "knock")

    assert [len(batch) for batch in post.infer.batches] == [1, 1, 3]
    assert not {*post.infer.batches[0], *post.infer.batches[1]} & {*post.infer.batches[2]}


def test_a_finished_result_is_rung_for_delivery(post: Post) -> None:
    push(post.hospital, "p1")
    post.hospital.infer()

    post.look()

    delivery = post.hospital.delivery()
    assert delivery is not None
    assert post.deliver.batches == [[delivery.id]]
    assert post.infer.batches == []


def test_an_open_circuit_keeps_its_deliveries_from_being_rung_and_lets_one_probe(
    post: Post,
) -> None:
    push(post.hospital, *names(3))
    post.hospital.infer()
    post.hospital.ehr.away = EhrOverloaded(retry_after_s=60)
    post.hospital.deliver()

    post.look(seconds=50)
    assert post.deliver.batches == []
    post.look(seconds=15)

    assert [len(batch) for batch in post.deliver.batches] == [1]


def test_a_broker_that_is_away_leaves_everything_as_it_is(post: Post) -> None:
    push(post.hospital, "p1")
    post.infer.is_away = True

    with pytest.raises(BrokerAway):
        post.look()
    post.infer.is_away = False
    post.look()

    assert len(post.infer.batches) == 1


def test_what_a_dead_worker_held_is_freed_and_rung_again(post: Post) -> None:
    push(post.hospital, "p1", "p2")
    first, second = post.hospital.jobs()
    with post.hospital.store.write() as uow:
        uow.jobs.claim([first.id], "infer@dead", lease_ms=LEASE_MS)
    post.look()
    assert post.infer.batches == [[second.id]]

    post.look(seconds=LEASE_MS / 1000 + 3)

    assert post.hospital.jobs()[0].business_status is BusinessStatus.QUEUED
    assert first.id in post.infer.batches[-1]
    assert "rescue" in [event for event, _ in post.hospital.audited()]


def test_a_delivery_that_a_dead_worker_held_is_freed(post: Post) -> None:
    push(post.hospital, "p1")
    post.hospital.infer()
    delivery = post.hospital.delivery()
    assert delivery is not None
    with post.hospital.store.write() as uow:
        uow.deliveries.claim([delivery.id], "deliver@dead", lease_ms=LEASE_MS)

    post.look(seconds=LEASE_MS / 1000 + 3)

    assert post.deliver.batches == [[delivery.id]]


def test_a_job_that_kills_every_worker_is_given_up_one_day(post: Post) -> None:
    push(post.hospital, "p1")
    with post.hospital.store.write() as uow:
        uow.jobs.claim([post.hospital.job().id], "infer@dead", lease_ms=LEASE_MS)

    post.look(seconds=Settings().retry_budget_s + 1)

    assert post.hospital.job().state is JobState.FAILED
    assert "fail" in [event for event, _ in post.hospital.audited()]


def test_not_before_the_time_that_it_may_have_waited_for_consents(post: Post) -> None:
    poll = "{poll: {types: [Consent], consents_wait_s: 86400}}"
    base_url = "base_url: http://ehr.test/fhir"
    text = SITE.replace("REFUSALS", "none").replace(
        base_url, f"{base_url}\n    receive: [push, {poll}]"
    )
    post.hospital.site = load_site(text)
    push(post.hospital, "p1")
    with post.hospital.store.write() as uow:
        uow.jobs.claim([post.hospital.job().id], "infer@dead", lease_ms=LEASE_MS)

    post.look(seconds=Settings().retry_budget_s + 1)

    assert post.hospital.job().state is JobState.READY


def test_new_audit_events_get_their_place_in_the_log(post: Post) -> None:
    push(post.hospital, "p1")

    post.look()

    with post.hospital.store.read() as uow:
        assert uow.audit_log.lag()[0] == 0
        assert uow.audit_log.newest_checkpoint() is not None


def test_an_audit_event_that_was_not_written_with_the_key_is_told_loudly_and_not_signed(
    post: Post, logs: list[dict[str, object]]
) -> None:
    push(post.hospital, "p1")
    with post.hospital.store.engine.begin() as connection:
        connection.exec_driver_sql(
            "insert into audit_events (id, recorded_ms, event, action, outcome, body, tag) "
            "select 'invented', recorded_ms, event, action, outcome, body, null "
            "from audit_events order by seq desc limit 1"
        )

    post.look()

    told = [each for each in logs if each["event"] == "audit-events-not-ours"]
    assert [(each["log_level"], each["count"]) for each in told] == [("critical", 1)]
    with post.hospital.store.read() as uow:
        placed = uow.connection.exec_driver_sql("select count(*) from audit_leaves").scalar_one()
        assert f"\n{placed}\n" in signed(post)[0]
        assert uow.audit_log.lag()[0] == 1


def test_only_one_relay_leads(post: Post, tmp_path: Path) -> None:
    other = FileLeadership(tmp_path / "lock")
    assert other.acquire()

    assert not post.lead.acquire()
    other.release()

    assert post.lead.acquire()
    assert post.lead.acquire()
    assert not other.acquire()


def test_a_relay_runs_until_it_is_stopped_and_gives_the_lead_back(
    post: Post, tmp_path: Path
) -> None:
    push(post.hospital, "p1")

    post.relay.run(post.bell.stopped)

    assert len(post.infer.batches) == 1
    assert FileLeadership(tmp_path / "lock").acquire()
    with post.hospital.store.read() as uow:
        assert uow.audit_log.lag()[0] == 0, "its own stop has its place in the log"
        assert uow.audit_log.search(AuditFilter(event="stop"))


def test_a_relay_that_does_not_lead_rings_nobody(post: Post, tmp_path: Path) -> None:
    other = FileLeadership(tmp_path / "lock")
    other.acquire()
    push(post.hospital, "p1")
    stopping = threading.Timer(0.1, post.bell.stopped.set)
    stopping.start()

    post.relay.run(post.bell.stopped)

    assert post.infer.batches == []
    stopping.join()


def test_a_relay_whose_broker_is_away_goes_on(post: Post, logs: list[dict[str, object]]) -> None:
    push(post.hospital, "p1")
    post.infer.is_away = True

    post.relay.run(post.bell.stopped)

    assert [each["error"] for each in logs if each["event"] == "relay-waits"] == ["BrokerAway"]


def test_a_few_results_wait_for_the_batch_under_way_but_not_for_long() -> None:
    ring = Ring()
    line = Line(ring, most=2, batch_size=8)
    assert not line.send(["a"], 100.0)

    assert line.send(["b"], 100.01)
    assert ring.batches == [["a"]]

    assert not line.send(["b"], 100.06)
    assert ring.batches == [["a"], ["b"]]


def test_many_results_do_not_wait_for_the_batch_under_way() -> None:
    ring = Ring()
    line = Line(ring, most=2, batch_size=8)
    line.send(["a"], 100.0)

    assert not line.send([*"bcde"], 100.01)

    assert ring.batches == [["a"], [*"bcde"]]


def test_few_results_go_as_soon_as_the_batch_under_way_is_done() -> None:
    ring = Ring()
    line = Line(ring, most=2, batch_size=8)
    line.send(["a"], 100.0)
    line.finished("b1", "infer@a", 100.005)

    assert not line.send(["b"], 100.01)

    assert ring.batches == [["a"], ["b"]]


def test_each_worker_that_is_heard_adds_its_threads_and_one_that_falls_silent_takes_them() -> None:
    line = Line(Ring(), most=2, batch_size=1)
    line.send(["a", "b"], 100.0)
    assert not line.room()

    line.finished("b1", "infer@a", 100.1)
    assert line.room() == 1
    line.finished("b2", "infer@b", 100.2)
    assert line.room() == 4

    line.finished("b9", "deliver@c", 150.0)
    line.finished("b1", "infer@b", 150.0)
    line.forget(165.0)
    assert line.room() == 2


def test_a_relay_looks_at_once_but_under_load_lets_knocks_gather(post: Post) -> None:
    push(post.hospital, "p1")
    post.turn("knock")
    post.turn("knock")
    assert post.pauses == []
    push(post.hospital, "p2")
    post.look(seconds=1)

    post.turn("knock")

    assert post.pauses == [pytest.approx(0.025)]


def signed(post: Post) -> list[str]:
    return CheckpointFile(post.relay._ports.settings.data_dir).notes()


def test_a_log_that_contradicts_what_was_signed_is_signed_no_more(post: Post) -> None:
    push(post.hospital, "p1")
    post.look()
    before = signed(post)
    assert len(before) == 1
    with post.hospital.store.engine.begin() as connection:
        for table in ("audit_leaves", "audit_checkpoints"):
            connection.exec_driver_sql(f"delete from {table}")  # noqa: S608

    again = Relay(post.relay._ports)
    again.look()

    assert signed(post) == before, "a second checkpoint would fork the log"
    with post.hospital.store.read() as uow:
        assert uow.audit_log.lag()[0] > 0, "the AuditEvents wait"


def test_a_relay_that_starts_anew_signs_on(post: Post) -> None:
    push(post.hospital, "p1")
    post.look()
    push(post.hospital, "p2")

    Relay(post.relay._ports).look()

    assert len(signed(post)) == 2


def test_it_offers_each_integration_to_the_witnesses(post: Post) -> None:
    offers: list[int] = []
    relay = Relay(replace(post.relay._ports, offer=lambda: offers.append(1)))

    relay.look()

    assert offers == [1]


def test_jobs_admitted_under_a_clock_that_is_set_back_are_rung_for_at_once(
    post: Post, logs: list[dict[str, object]]
) -> None:
    post.look()
    post.look(seconds=7200)
    push(post.hospital, "p1")

    post.hospital.pass_time(-7200)
    post.seconds[0] += 3
    post.relay.look()

    assert [len(batch) for batch in post.infer.batches] == [1]
    assert [each["event"] for each in logs].count("clock-set-back") == 1


def test_a_relay_that_starts_after_the_clock_was_set_back_finds_it_on_record(post: Post) -> None:
    post.hospital.pass_time(7200)
    push(post.hospital, "p1")
    post.hospital.pass_time(-7200)

    post.relay.look()

    assert [len(batch) for batch in post.infer.batches] == [1]
