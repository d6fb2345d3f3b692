"""Peers that a port refuses have a line in the log, a count, and are kept for who asks."""

import re
from pathlib import Path
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from adapters.hl7v2.sender import NoAnswer, connected
from adapters.peer_refusal import PeerRefusal
from adapters.site import load_site
from adapters.tls import sender_context
from gateway import telemetry
from gateway.core.errors import TransientError
from gateway.listeners.peer_refusals import LINES_A_MINUTE, PeerRefusals
from gateway.refused_peers import MOST_KEPT, RefusedPeer, keep_refused, refused_peers
from gateway.store.audit_log import AuditFilter
from gateway.store.unit_of_work import Store
from tests.certificates import Authority
from tests.conftest import Api
from tests.listening import FED_SITE, listening

SITE = load_site(FED_SITE)
PAGE = (Path(__file__).resolve().parents[4] / "docs/hl7v2.md").read_text()
FEED = "lab/mllp"
LIS = "10.1.2.3"
SHOWED_NONE = PeerRefusal.NO_CERTIFICATE


class Port:
    """What a port refuses, and the clock that it goes by."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.now_s = 0.0
        self.peers = PeerRefusals(store, FEED, "here", monotonic=lambda: self.now_s)

    def kept(self) -> list[tuple[str, PeerRefusal, int]]:
        with self.store.read() as uow:
            found = refused_peers(uow, SITE, since_ms=0)
        return [(each.peer, each.why, each.count) for each in found]


@pytest.fixture
def port(store: Store) -> Port:
    return Port(store)


def lines_of(note: Any) -> list[dict[str, Any]]:
    with capture_logs() as captured:
        note()
    return [dict(each) for each in captured]


def test_a_refusal_has_a_line_with_who_and_why(port: Port) -> None:
    (line,) = lines_of(lambda: port.peers.note(SHOWED_NONE, LIS))

    assert line == {
        "event": "peer-refused",
        "log_level": "warning",
        "route": FEED,
        "peer": LIS,
        "reason_code": "no-certificate",
        "reason": "it showed no certificate",
    }
    assert telemetry.keep_allowed(None, "", dict(line)).keys() >= {"peer", "reason"}


@pytest.mark.parametrize("why", PeerRefusal)
def test_every_reason_fits_a_line_of_the_log_and_is_on_the_page_with_what_to_do(
    why: PeerRefusal,
) -> None:
    assert telemetry.keep_allowed(None, "", {"event": "a", "reason": f"it {why.says}"})["reason"]
    assert why.remedy
    assert re.fullmatch(r"[a-z-]+", why.value)
    assert f"| `{why.value}` | {why.says} | {why.remedy} |" in PAGE


def test_a_peer_has_one_line_a_minute_for_each_reason_and_then_how_many_had_none(
    port: Port,
) -> None:
    def minute() -> None:
        for _ in range(50):
            port.peers.note(SHOWED_NONE, LIS)
        port.peers.note(PeerRefusal.IN_CLEAR, LIS)

    first = lines_of(minute)
    port.now_s = 60.0
    second = lines_of(minute)
    port.now_s = 120.0
    after = lines_of(port.peers.tell)

    assert [each["reason_code"] for each in first] == ["no-certificate", "no-tls"]
    assert [(each["event"], each.get("count")) for each in second] == [
        ("more-peers-refused", 49),
        ("peer-refused", None),
        ("peer-refused", None),
    ]
    assert [(each["event"], each.get("count")) for each in after] == [("more-peers-refused", 49)]


def test_who_comes_from_everywhere_fills_neither_the_log_nor_the_database(port: Port) -> None:
    def flood() -> None:
        for number in range(500):
            port.peers.note(SHOWED_NONE, f"10.9.{number // 250}.{number % 250}")

    lines = lines_of(flood)
    port.peers.tell()
    lines_of(flood)
    port.peers.tell()

    assert len(lines) == LINES_A_MINUTE
    assert len(port.kept()) == MOST_KEPT
    assert ("10.9.1.249", SHOWED_NONE, 2) in port.kept()


def test_what_is_kept_counts_on_and_the_newest_come_first(port: Port) -> None:
    for _ in range(3):
        port.peers.note(SHOWED_NONE, LIS)
    port.peers.tell()
    port.peers.note(PeerRefusal.IN_CLEAR, "10.1.2.4")
    port.peers.tell()
    lines_of(lambda: port.peers.note(SHOWED_NONE, LIS))
    port.peers.tell()

    assert port.kept() == [(LIS, SHOWED_NONE, 4), ("10.1.2.4", PeerRefusal.IN_CLEAR, 1)]


def test_each_host_keeps_its_own_and_they_are_told_together(port: Port) -> None:
    other = PeerRefusals(port.store, FEED, "there")
    for each in (port.peers, other):
        each.note(SHOWED_NONE, LIS)
        each.tell()

    assert port.kept() == [(LIS, SHOWED_NONE, 2)]


def test_while_the_database_is_away_refusals_wait(port: Port, monkeypatch) -> None:
    def away(*_: object, **__: object) -> None:
        raise TransientError("away")

    port.peers.note(SHOWED_NONE, LIS)
    with monkeypatch.context() as patched:
        patched.setattr(port.store, "write", away)
        port.peers.tell()
    port.peers.note(SHOWED_NONE, LIS)
    port.peers.tell()

    assert port.kept() == [(LIS, SHOWED_NONE, 2)]


def test_what_is_a_week_old_is_let_go_and_of_ports_that_are_gone_nothing_is_told(
    port: Port,
) -> None:
    with port.store.write() as uow:
        old = RefusedPeer(FEED, "10.1.2.4", SHOWED_NONE, 1, 1, uow.now_ms - 8 * 86_400_000)
        new = RefusedPeer(FEED, LIS, SHOWED_NONE, 1, 1, uow.now_ms)
        keep_refused(uow, FEED, "here", [old, new])
        keep_refused(
            uow, "gone/mllp", "here", [RefusedPeer("gone/mllp", LIS, SHOWED_NONE, 1, 1, uow.now_ms)]
        )

    assert port.kept() == [(LIS, SHOWED_NONE, 1)]


def test_who_only_looks_whether_a_port_is_open_is_counted_and_no_more(port: Port) -> None:
    assert lines_of(lambda: port.peers.note(PeerRefusal.LEFT, "10.6.6.6")) == []

    port.peers.tell()
    assert port.kept() == []
    counted = 'nadi_peers_refused_total{listener="lab/mllp",reason="left"}'
    assert counted in telemetry.render_metrics().decode()


@pytest.mark.parametrize("api", [FED_SITE], indirect=True)
def test_a_laboratory_without_a_certificate_is_told_of_everywhere_and_counts_as_no_message(
    api: Api, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    own = authority.issue("port")
    tls = f"{{certificate: {own}, key: {own}, clients: {authority.file}}}"
    site = FED_SITE.replace("timezone:", f"tls: {tls}, timezone:")

    with capture_logs() as captured, listening(api, site) as feed:
        bare = sender_context(authority.file, None)
        with (
            connected("127.0.0.1", feed.port, timeout_s=5, tls=bare) as sender,
            pytest.raises(NoAnswer),
        ):
            sender.send(b"MSH|^~\\&|a\r")
    feed.desk.peers.tell()

    refused = [each for each in captured if each["event"] == "peer-refused"]
    assert [(each["peer"], each["reason_code"]) for each in refused] == [
        ("127.0.0.1", "no-certificate")
    ]
    with api.store.read() as uow:
        (found,) = refused_peers(uow, feed.desk.site(), since_ms=0)
        (standing,) = [kept.value for kept in uow.listener_state.everywhere("standing/")]
        (row,) = uow.audit_log.search(AuditFilter(events=("sender-refuse",)))
    assert (found.peer, found.why) == ("127.0.0.1", SHOWED_NONE)
    on_record = orjson.loads(row.body)
    assert on_record["outcomeDesc"] == "The peer showed no certificate."
    assert on_record["agent"][0]["network"]["address"] == "127.0.0.1"
    assert standing["taken_ms"] is None
