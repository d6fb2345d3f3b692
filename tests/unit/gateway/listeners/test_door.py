"""A listener hands over a Bundle and knows what became of it; it never takes a maybe for a yes."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import orjson
import pytest

from gateway.core.clock import utc_now
from gateway.listeners.door import Door, Interrupted, NotTaken
from gateway.store.listener_credentials import ListenerCredentials
from tests.audited import bodies
from tests.conftest import Api
from tests.factories import creatinine
from tests.listening import FED_SITE, IntoApi

GO_ON = threading.Event()
fed = pytest.mark.parametrize("api", [FED_SITE], indirect=True)


def bundle(*resources: dict, kind: str = "collection") -> bytes:
    entries = [{"resource": each} for each in resources]
    return orjson.dumps({"resourceType": "Bundle", "type": kind, "entry": entries})


def door_of(api: Api, listener: str = "lab/mllp") -> Door:
    credentials = ListenerCredentials(api.store.sealer)
    return Door(
        "http://nadi.test", lambda: credentials.token(listener, utc_now()), transport=IntoApi(api)
    )


@fed
def test_what_is_taken_is_on_record_under_the_name_of_the_listener(api: Api):
    (taken,) = door_of(api).hand_over(bundle(creatinine()), GO_ON)

    assert taken.task.startswith("Task/")
    assert taken.issues == ()
    with api.store.read() as uow:
        [event] = map(orjson.loads, bodies(uow.connection, "event = 'receive'"))
        (stored,) = uow.connection.exec_driver_sql("select system from events").all()
    assert stored.system == "ehr"
    assert "lab/mllp" in {agent["who"].get("display") for agent in event["agent"]}


def test_a_listener_of_another_site_waits_until_it_is_known(api: Api):
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()

    with pytest.raises(Interrupted):
        door_of(api).hand_over(bundle(creatinine()), stop)


@fed
def test_whose_message_it_brings_is_believed_of_a_listener_and_of_nobody_else(api: Api):
    door_of(api).hand_over(bundle(creatinine()), GO_ON, sender="10.20.1.7")
    door_of(api).hand_over(bundle(creatinine(2)), GO_ON, sender="no <address>")
    api.post(bundle(creatinine(3)), **{"X-Nadi-Sender": "10.20.1.8"})

    with api.store.read() as uow:
        events = [orjson.loads(body) for body in bodies(uow.connection, "event = 'receive'")]
    found = [[agent.get("network", {}).get("address") for agent in e["agent"]] for e in events]
    addresses = [next(filter(None, each), None) for each in found]
    assert addresses == ["10.20.1.7", "192.0.2.7", "192.0.2.7"]


@fed
def test_what_the_gateway_refuses_is_told_with_its_place_and_without_its_value(api: Api):
    message = {"resourceType": "MessageHeader", "eventCoding": {"code": "R01"}}

    with pytest.raises(NotTaken) as refused:
        door_of(api).hand_over(bundle(message, creatinine(), kind="message"), GO_ON)

    assert refused.value.issues[0].expression.startswith("Bundle.entry[0].resource")


@fed
def test_an_entry_that_is_refused_alone_is_told_of(api: Api):
    first, second = door_of(api).hand_over(
        bundle({**creatinine(), "status": "odd"}, creatinine(2)), GO_ON
    )

    assert (first.task, first.issues[0].code) == ("", "code-invalid")
    assert second.task.startswith("Task/")


class _Answers(BaseHTTPRequestHandler):
    """Answers with the status codes it was given, the last one for ever."""

    statuses: list[int]
    bodies: list[bytes]

    def do_POST(self) -> None:
        self.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        body = b'{"resourceType": "Bundle", "type": "batch-response"}' if status == 200 else b"no"
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Retry-After", "0")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep the terminal quiet."""


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    made = HTTPServer(("127.0.0.1", 0), type("Answers", (_Answers,), {"bodies": []}))
    thread = threading.Thread(target=made.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


def door_to(server: HTTPServer) -> Door:
    return Door(f"http://127.0.0.1:{server.server_port}", lambda: "nadi_x")


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503, 504])
def test_what_can_succeed_later_is_tried_again_with_the_same_bytes(server: HTTPServer, status: int):
    server.RequestHandlerClass.statuses = [status, status, 200]

    taken = door_to(server).hand_over(b"{}", GO_ON)

    assert taken == ()
    assert server.RequestHandlerClass.bodies == [b"{}"] * 3


def test_a_fault_that_stays_is_given_up_and_said(server: HTTPServer):
    server.RequestHandlerClass.statuses = [500]

    with pytest.raises(NotTaken) as refused:
        door_to(server).hand_over(b"{}", GO_ON)

    assert refused.value.message == "The gateway answered 500."
    assert len(server.RequestHandlerClass.bodies) == 3


def test_an_api_that_is_away_is_waited_for_until_the_listener_stops():
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()

    with pytest.raises(Interrupted):
        Door("http://127.0.0.1:9", lambda: "nadi_x").hand_over(b"{}", stop)
