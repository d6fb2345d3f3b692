"""The FHIR client against the sandbox EHR, and against servers that mean no good."""

import gzip
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from adapters.authorization import GivenLogin
from adapters.fhir_rest.client import FhirClient
from adapters.fhir_rest.errors import (
    EhrAnswerTooLarge,
    EhrAnswerUnreadable,
    EhrConflict,
    EhrFailed,
    EhrLoginFailed,
    EhrOverloaded,
    EhrRefused,
    EhrTimeout,
    EhrUnreachable,
    ForeignAddress,
    MultipleMatches,
)
from adapters.fhir_rest.pace import LATE_S, Pace, Places
from tests.sandbox import TOKEN, SandboxEhr

pytestmark = pytest.mark.integration

CANARY = "Zyxwv-Canary"


@pytest.fixture(scope="module")
def running() -> Iterator[SandboxEhr]:
    sandbox = SandboxEhr()
    sandbox.start()
    yield sandbox
    sandbox.stop()


@pytest.fixture
def sandbox(running: SandboxEhr) -> Iterator[SandboxEhr]:
    healthy = httpx.get(
        f"{running.origin}/sandbox/faults", headers={"Authorization": f"Bearer {TOKEN}"}
    ).json()
    yield running
    running.faults(**healthy)


@pytest.fixture
def client(sandbox: SandboxEhr) -> Iterator[FhirClient]:
    with connect(f"{sandbox.origin}/fhir") as connected:
        yield connected


def connect(base_url: str, **options: Any) -> FhirClient:
    chosen = {"timeout_s": 5.0, "max_response_bytes": 1_000_000} | options
    return FhirClient(base_url, login=GivenLogin(f"Bearer {TOKEN}"), **chosen)


def observation(identifier: str, patient: str = "p") -> bytes:
    resource = {
        "resourceType": "Observation",
        "status": "preliminary",
        "identifier": [{"system": "urn:nadi", "value": identifier}],
        "code": {"text": CANARY},
        "subject": {"reference": f"Patient/{patient}"},
    }
    return json.dumps(resource).encode()


def test_it_reads_what_the_ehr_can_do(client: FhirClient, sandbox: SandboxEhr) -> None:
    healthy = client.capabilities()
    sandbox.faults(no_conditional_create=True, no_transaction=True, no_update_create=True)

    limited = client.capabilities()

    assert (healthy.fhir_version, healthy.transaction) == ("4.0.1", True)
    assert healthy.of("Observation").conditional_create
    assert "identifier" in healthy.of("Observation").search_parameters
    assert not limited.transaction
    assert not limited.of("Observation").conditional_create
    assert not limited.of("Observation").update_create


def test_a_conditional_create_writes_once(client: FhirClient) -> None:
    condition = "identifier=urn:nadi|once"

    first = client.create("Observation", observation("once"), if_none_exist=condition)
    second = client.create("Observation", observation("once"), if_none_exist=condition)

    assert (first.created, second.created) == (True, False)
    assert first.reference == second.reference
    read = client.read(first.reference)
    assert read["identifier"][0]["value"] == "once"


def test_a_write_whose_answer_was_lost_is_there_when_tried_again(
    client: FhirClient, sandbox: SandboxEhr
) -> None:
    condition = "identifier=urn:nadi|lost"
    sandbox.faults(drop_after_commit_rate=1)
    with pytest.raises(EhrUnreachable):
        client.create("Observation", observation("lost"), if_none_exist=condition)
    sandbox.faults(drop_after_commit_rate=0)

    again = client.create("Observation", observation("lost"), if_none_exist=condition)

    assert again.is_success
    assert not again.created
    assert sandbox.stats()["duplicates"].get("Observation", 0) == 0


def test_a_search_walks_the_pages_up_to_its_limit(client: FhirClient) -> None:
    for number in range(7):
        client.create("Observation", observation(f"page{number}", patient="paged"))
    params = [("patient", "paged"), ("_count", "2"), ("_sort", "_lastUpdated")]

    whole = client.search("Observation", params)
    part = client.search("Observation", params, max_pages=2)

    values = [each["identifier"][0]["value"] for each in whole]
    assert values == [f"page{number}" for number in range(7)]
    assert part == whole[:4]


def test_a_transaction_gives_an_outcome_per_entry(client: FhirClient) -> None:
    once = {"method": "POST", "url": "Observation", "ifNoneExist": "identifier=urn:nadi|t"}
    entries = [
        {"fullUrl": "urn:uuid:o", "resource": json.loads(observation("t")), "request": once},
        {
            "resource": {"resourceType": "Provenance", "target": [{"reference": "urn:uuid:o"}]},
            "request": {"method": "POST", "url": "Provenance"},
        },
    ]
    bundle = json.dumps(
        {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    ).encode()

    first, again = client.transaction(bundle), client.transaction(bundle)

    assert [each.created for each in first] == [True, True]
    assert [each.status for each in again] == [200, 201]
    assert first[0].reference == again[0].reference
    assert len(client.search("Provenance", [("target", first[0].reference)])) == 2


def test_a_batch_tells_which_entry_was_refused(client: FhirClient) -> None:
    entry = {"request": {"method": "GET", "url": "Patient/nobody"}}
    bundle = json.dumps({"resourceType": "Bundle", "type": "batch", "entry": [entry]}).encode()

    (outcome,) = client.transaction(bundle)

    assert (outcome.status, outcome.is_success, outcome.codes) == (404, False, ("not-found",))


def test_an_update_may_choose_the_id(client: FhirClient) -> None:
    body = json.dumps(json.loads(observation("u")) | {"id": "chosen"}).encode()

    outcomes = [client.update("Observation/chosen", body) for _ in range(2)]

    assert [each.created for each in outcomes] == [True, False]
    assert outcomes[0].reference == "Observation/chosen"


def test_what_is_not_there_reads_as_none(client: FhirClient) -> None:
    assert client.read("Patient/nobody") is None


def test_several_matches_are_final(client: FhirClient) -> None:
    for _ in range(2):
        client.create("Observation", observation("twice"))

    with pytest.raises(MultipleMatches):
        client.create(
            "Observation", observation("twice"), if_none_exist="identifier=urn:nadi|twice"
        )


@pytest.mark.parametrize(
    ("faults", "kind", "retry_after_s"),
    [
        ({"down": "503", "retry_after_s": 9}, EhrOverloaded, 9),
        ({"down": "close"}, EhrUnreachable, None),
        ({"error_rate": 1, "error_statuses": [429], "retry_after_s": 2}, EhrOverloaded, 2),
        ({"error_rate": 1, "error_statuses": [500]}, EhrFailed, None),
        ({"error_rate": 1, "error_statuses": [409]}, EhrConflict, None),
        ({"error_rate": 1, "error_statuses": [401]}, EhrLoginFailed, None),
        ({"slow_ms": 700}, EhrTimeout, None),
    ],
)
def test_an_ehr_in_trouble_is_tried_again_later(
    sandbox: SandboxEhr, faults: dict[str, Any], kind: type[Exception], retry_after_s: float | None
) -> None:
    sandbox.faults(**faults)

    with connect(f"{sandbox.origin}/fhir", timeout_s=0.3) as client, pytest.raises(kind) as failed:
        client.create("Observation", observation("x"))

    assert failed.value.retry_after_s == retry_after_s
    assert CANARY not in repr(failed.value)
    sandbox.faults(slow_ms=0)


def test_an_ehr_that_ignores_a_parameter_finds_everything(
    client: FhirClient, sandbox: SandboxEhr
) -> None:
    for identifier in ("i1", "i2"):
        client.create("Observation", observation(identifier, patient="i"))
    sandbox.faults(ignored_params=["identifier"])

    found = client.search("Observation", [("patient", "i"), ("identifier", "urn:nadi|i1")])

    assert len(found) == 2


def test_no_patient_id_stands_in_the_log_at_the_level_that_telemetry_keeps(
    client: FhirClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        client.search("Observation", [("patient", CANARY)])

    assert CANARY not in caplog.text


def test_a_search_by_post_keeps_the_patient_out_of_the_url(
    client: FhirClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="httpx"):
        client.search("Observation", [("patient", CANARY)])

    assert "_search" in caplog.text
    assert CANARY not in caplog.text


Reply = Callable[[BaseHTTPRequestHandler], None]


class _Hostile:
    """A server that answers each path as it is told and remembers what it was asked."""

    def __init__(self) -> None:
        self.replies: dict[str, Reply] = {}
        self.asked: list[tuple[str, str, str | None]] = []
        hostile = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                authorization = self.headers.get("Authorization")
                hostile.asked.append((self.command, self.path, authorization))
                hostile.replies[self.path.partition("?")[0]](self)

            do_GET = do_POST = do_PUT = answer  # noqa: N815

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        self.origin = f"http://127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def hostile() -> Iterator[_Hostile]:
    server = _Hostile()
    yield server
    server.stop()


def reply(status: int, body: bytes = b"", **headers: str) -> Reply:
    def send(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return send


def page(next_url: str | None, *resources: dict[str, Any]) -> bytes:
    bundle = {
        "resourceType": "Bundle",
        "type": "searchset",
        "link": [{"relation": "next", "url": next_url}] if next_url else [],
        "entry": [{"resource": each} for each in resources],
    }
    return json.dumps(bundle).encode()


def test_a_next_link_to_another_host_is_not_followed(hostile: _Hostile) -> None:
    thief = _Hostile()
    hostile.replies["/fhir/Observation/_search"] = reply(200, page(f"{thief.origin}/fhir?x=1"))

    with connect(f"{hostile.origin}/fhir") as client, pytest.raises(ForeignAddress):
        client.search("Observation", [("patient", "1")])

    assert thief.asked == []
    thief.stop()


def test_a_redirect_is_not_followed(hostile: _Hostile) -> None:
    hostile.replies["/fhir/Patient/1"] = reply(302, Location=f"{hostile.origin}/login")

    with connect(f"{hostile.origin}/fhir") as client, pytest.raises(EhrRefused) as refused:
        client.read("Patient/1")

    assert refused.value.status == 302
    assert [path for _, path, _ in hostile.asked] == ["/fhir/Patient/1"]


def test_resources_of_other_types_are_left_out(hostile: _Hostile) -> None:
    body = page(None, {"resourceType": "OperationOutcome"}, {"resourceType": "Observation"})
    hostile.replies["/fhir/Observation/_search"] = reply(200, body)

    with connect(f"{hostile.origin}/fhir") as client:
        found = client.search("Observation", [("patient", "1")])

    assert found == [{"resourceType": "Observation"}]


def test_an_ehr_without_search_by_post_is_asked_by_get_from_then_on(hostile: _Hostile) -> None:
    hostile.replies["/fhir/Observation/_search"] = reply(405)
    hostile.replies["/fhir/Observation"] = reply(200, page(None, {"resourceType": "Observation"}))

    with connect(f"{hostile.origin}/fhir") as client:
        for _ in range(2):
            assert len(client.search("Observation", [("code", "a|b c")])) == 1

    assert [method for method, _, _ in hostile.asked] == ["POST", "GET", "GET"]
    assert hostile.asked[1][1:] == ("/fhir/Observation?code=a%7Cb+c", f"Bearer {TOKEN}")


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (reply(200, b"x" * 3000), EhrAnswerTooLarge),
        (reply(200, gzip.compress(b" " * 10_000_000), Content_Encoding="gzip"), EhrAnswerTooLarge),
        (reply(200, b"junk", Content_Encoding="gzip"), EhrUnreachable),
        (reply(200, b"junk", Content_Encoding="br"), EhrAnswerUnreadable),
        (reply(200, b"<html>sign in</html>"), EhrAnswerUnreadable),
        (reply(200, b'{"resourceType":"OperationOutcome"}'), EhrAnswerUnreadable),
    ],
    ids=["large", "bomb", "broken gzip", "brotli", "html", "not a bundle"],
)
def test_an_answer_that_cannot_be_used_is_an_error(
    hostile: _Hostile, answer: Reply, kind: type[Exception]
) -> None:
    hostile.replies["/fhir/Observation/_search"] = answer

    with (
        connect(f"{hostile.origin}/fhir", max_response_bytes=2000) as client,
        pytest.raises(kind) as failed,
    ):
        client.search("Observation", [("patient", "1")])

    assert "junk" not in str(failed.value)
    assert "sign in" not in str(failed.value)


def test_a_gzipped_answer_is_read(hostile: _Hostile) -> None:
    body = gzip.compress(page(None, {"resourceType": "Observation"}))
    hostile.replies["/fhir/Observation/_search"] = reply(200, body, Content_Encoding="gzip")

    with connect(f"{hostile.origin}/fhir") as client:
        assert len(client.search("Observation", [])) == 1


def test_an_answer_that_drips_is_cut_off(hostile: _Hostile) -> None:
    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            for _ in range(100):
                handler.wfile.write(b" ")
                time.sleep(0.05)
        except OSError:
            return

    hostile.replies["/fhir/Patient/1"] = drip
    started = time.monotonic()

    with connect(f"{hostile.origin}/fhir", timeout_s=0.4) as client, pytest.raises(EhrTimeout):
        client.read("Patient/1")

    assert time.monotonic() - started < 4, "all of it takes 5 s"


def test_the_words_of_a_refusal_stay_out_of_the_error(hostile: _Hostile) -> None:
    issue = {"severity": "error", "code": "invariant", "diagnostics": f"{CANARY} is odd"}
    body = json.dumps({"resourceType": "OperationOutcome", "issue": [issue]}).encode()
    hostile.replies["/fhir/Observation"] = reply(422, body)

    with connect(f"{hostile.origin}/fhir") as client, pytest.raises(EhrRefused) as refused:
        client.create("Observation", observation("x"))

    assert (refused.value.status, refused.value.codes) == (422, ("invariant",))
    assert CANARY not in f"{refused.value!r} {refused.value.issues}"


def test_a_protocol_error_does_not_quote_the_answer(hostile: _Hostile) -> None:
    def babble(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(f"{CANARY}\r\n\r\n".encode())
        handler.close_connection = True

    hostile.replies["/fhir/Patient/1"] = babble

    with connect(f"{hostile.origin}/fhir") as client, pytest.raises(EhrUnreachable) as failed:
        client.read("Patient/1")

    assert CANARY not in f"{failed.value!r}"
    assert failed.value.__cause__ is None
    assert failed.value.__suppress_context__


def test_a_created_resource_without_location_is_known_by_its_body(hostile: _Hostile) -> None:
    hostile.replies["/fhir/Observation"] = reply(201, b'{"resourceType":"Observation","id":"7"}')

    with connect(f"{hostile.origin}/fhir") as client:
        outcome = client.create("Observation", observation("x"))

    assert (outcome.created, outcome.reference) == (True, "Observation/7")


def test_a_created_resource_need_not_be_named_at_all(hostile: _Hostile) -> None:
    hostile.replies["/fhir/Observation"] = reply(201)

    with connect(f"{hostile.origin}/fhir") as client:
        outcome = client.create("Observation", observation("x"))

    assert (outcome.created, outcome.reference) == (True, None)


def test_a_closed_port_is_unreachable() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]

    with connect(f"http://127.0.0.1:{port}/fhir") as client, pytest.raises(EhrUnreachable):
        client.capabilities()


def line(per_second: float) -> Callable[[int], Places]:
    """Give a line that this process has to itself."""
    next_s = [0.0]

    def take(count: int) -> Places:
        first_s = max(next_s[0], time.monotonic())
        next_s[0] = first_s + count / per_second
        return first_s, 1 / per_second

    return take


def test_an_ehr_counts_no_more_requests_than_its_rate_allows(sandbox: SandboxEhr) -> None:
    def written() -> int:
        return sandbox.stats()["resources"].get("Observation", 0)

    before = written()
    pace = Pace(line(20), 20)
    with connect(f"{sandbox.origin}/fhir", pace=pace) as paced, ThreadPoolExecutor(6) as pool:
        began = time.monotonic()
        sent = [
            pool.submit(paced.create, "Observation", observation(f"paced-{number}"))
            for number in range(30)
        ]
        time.sleep(0.5)
        counted, passed_s = written() - before, time.monotonic() - began
        for each in sent:
            each.result()
        took_s = time.monotonic() - began

    assert counted <= 20 * (passed_s + LATE_S) + 1
    assert written() - before == 30
    assert took_s >= 29 / 20 - LATE_S
