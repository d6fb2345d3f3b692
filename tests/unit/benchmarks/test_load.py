import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from benchmarks.endpoint import Endpoint
from benchmarks.load import push_all, push_at
from benchmarks.workload import Post

SLOW_S = 0.2


class _Answers(BaseHTTPRequestHandler):
    """Accepts what is not marked, hangs up after what is marked so, is slow where asked to be."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if "slow" in body:
            time.sleep(SLOW_S)
        if "hang up" in body:
            self.close_connection = True
            return
        self.send_response(400 if "bad" in body else 202)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")
        self.close_connection = "last" in body

    def log_message(self, *_):
        pass


@pytest.fixture
def endpoint():
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Endpoint(server.server_address[1])
    server.shutdown()
    thread.join()
    server.server_close()


def posts(*bodies):
    return [Post("/fhir", body.encode(), f"{n}-{body}") for n, body in enumerate(bodies)]


def test_what_is_not_accepted_is_counted_as_refused(endpoint):
    pushed = push_all(endpoint, posts("good", "bad", "good"), clients=2)

    assert pushed.refused == ("1-bad",)
    assert len(pushed.answer_ms) == 3


def test_a_connection_that_the_server_closed_is_replaced(endpoint):
    pushed = push_all(endpoint, posts("last", "last", "good"), clients=1)

    assert pushed.refused == ()


def test_in_an_open_loop_a_slow_answer_holds_up_nobody_and_time_counts_from_when_it_was_due(
    endpoint,
):
    pushed = push_at(endpoint, posts("slow", "good", "good"), rate=50)

    due = sorted(pushed.due.values())
    took = dict(zip(pushed.due, pushed.answer_ms, strict=True))
    assert due[1] - due[0] == pytest.approx(0.02)
    assert took["0-slow"] >= 1000 * SLOW_S
    assert took["2-good"] < 1000 * SLOW_S


def test_in_a_closed_loop_a_client_waits_for_its_answer(endpoint):
    pushed = push_all(endpoint, posts("slow", "slow"), clients=1)

    assert pushed.ended - pushed.began >= 2 * SLOW_S


def test_who_hangs_up_without_an_answer_has_not_accepted(endpoint):
    pushed = push_all(endpoint, posts("good", "hang up", "good"), clients=1)

    assert pushed.refused == ("1-hang up",)
