"""What tests of listeners share: a way from a listener's door into an API in this process."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import orjson

from adapters.hl7v2.framing import Framing
from adapters.site import Site, load_site
from gateway.core.audit import Source
from gateway.core.clock import utc_now
from gateway.feed_standing import standings
from gateway.listeners.desk import Desk, Telling
from gateway.listeners.door import Door
from gateway.listeners.mllp import Mllp
from gateway.listeners.peer_refusals import PeerRefusals
from gateway.listeners.serving import Make
from gateway.store.listener_credentials import ListenerCredentials
from tests.conftest import Api
from tests.factories import SITE

#: The site of `tests.factories` with a laboratory that sends HL7 v2 about the EHR's patients.
FED_SITE = SITE.replace(
    "routes:",
    """\
  lab:
    kind: hl7v2
    patients: {of: ehr, identifier: "https://hospital.example/mrn", find: id}
    receive:
      - mllp: {port: 2575, timezone: Asia/Kolkata}
routes:""",
)


class IntoApi(httpx.BaseTransport):
    """Brings the requests of a blocking client to the application of `Api`."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self.is_away = False
        self.asked = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        if self.is_away:
            raise httpx.ConnectError("away")
        answer = self._api.client.request(
            request.method, request.url.path, content=request.read(), headers=request.headers
        )
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


def free_port() -> int:
    """Give a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@dataclass
class Feed:
    """A listener on a real port, in front of an API in this process."""

    port: int
    desk: Desk
    api: Api
    way: IntoApi
    stop: threading.Event

    @contextmanager
    def connected(self) -> Iterator[socket.socket]:
        """Open a connection."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            yield connection

    def send(self, *messages: bytes) -> list[str]:
        """Send messages one after the other on one connection; give what answered each."""
        with self.connected() as connection:
            return [exchange(connection, message)[0] for message in messages]

    def events(self) -> list[dict[str, Any]]:
        """Read every stored resource, opened, in the order they came."""
        with self.api.store.read() as uow:
            ids = [row.id for row in uow.connection.exec_driver_sql("select id from events")]
            found = uow.events.get_many(ids)
            return [orjson.loads(uow.events.content(found[each])) for each in ids]


def exchange(connection: socket.socket, message: bytes, answers: int = 1) -> list[str]:
    """Send a message on a connection; give its answers."""
    connection.sendall(b"\x0b" + message + b"\x1c\r")
    return received(connection, answers)


def received(connection: socket.socket, count: int = 1) -> list[str]:
    """Give the next messages that come by a connection; fewer when it is closed before."""
    framing, found = Framing(1 << 20), []
    while len(found) < count and (piece := connection.recv(65536)):
        found += [block.content.decode() for block in framing.feed(piece)]
    return found


def desk_of(api: Api, site: str, feed: str, way: IntoApi | None = None) -> Desk:
    """Give the desk of a feed in front of an API, which has this site in force."""
    loaded = load_site(site)
    credentials = ListenerCredentials(api.store.sealer)
    door = Door(
        "http://nadi.test",
        lambda: credentials.token(feed, utc_now()),
        transport=way or IntoApi(api),
    )
    return Desk(
        feed=loaded.feeds[feed],
        site=lambda: loaded,
        store=api.store,
        source=Source("test-hospital", loaded.feeds[feed].kind),
        host="here",
        door=door,
        standing=Telling(api.store, feed, "here"),
        peers=PeerRefusals(api.store, feed, "here"),
    )


@contextmanager
def listening(
    api: Api, site: str = FED_SITE, feed: str = "lab/mllp", *, make: Make = Mllp
) -> Iterator[Feed]:
    """Run the listener of a feed, on a free port, in front of an API.

    Args:
        api: With this site in force.
        site: The site file, whose port is replaced.
        feed: Which of its feeds.
        make: Makes its listener.
    """
    port, stop, way = free_port(), threading.Event(), IntoApi(api)
    desk = desk_of(api, site.replace("2575", str(port)), feed, way)
    thread = threading.Thread(target=make(desk).run, args=(stop,))
    thread.start()
    try:
        _wait_for(api, desk.site())
        yield Feed(port, desk, api, way, stop)
    finally:
        stop.set()
        thread.join(15)
        desk.door.close()


def _wait_for(api: Api, site: Site) -> None:
    until = time.monotonic() + 10
    while True:
        with api.store.read() as uow:
            if any(each.state == "up" for each in standings(uow, site)):
                return
        assert time.monotonic() < until, "the listener does not listen"
        time.sleep(0.02)
