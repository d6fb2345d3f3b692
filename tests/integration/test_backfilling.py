"""Bulk export of the sandbox EHR: everything once, whoever dies, in bounded memory."""

import json
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from adapters.authorization import GivenLogin
from adapters.feeds.bulk import BulkClient, ExportFile, ExportGone, Line, Manifest, Waiting
from adapters.feeds.page import Found
from adapters.fhir_rest.errors import EhrAnswerUnreadable, EhrFailed, EhrRefused, ForeignAddress
from gateway.core.clock import utc_now
from gateway.core.errors import StoreUnavailable
from gateway.listeners.backfilling import Backfill, Order, Progress, SoFar, WaysIn
from gateway.listeners.door import Door
from gateway.listeners.handing_in import HandingIn
from gateway.store.sealing import Sealer
from gateway.store.unit_of_work import Store
from tests.conftest import MASTER
from tests.factories import consent, creatinine, meta, patient, raw
from tests.feeding import Feeding, fed
from tests.sandbox import TOKEN

pytestmark = pytest.mark.integration

EVERYTHING = Order(types=("Observation", "Patient", "Consent"))


@pytest.fixture
def feeding(sqlite_url: str, tmp_path: Path) -> Iterator[Feeding]:
    with fed(sqlite_url, tmp_path) as made:
        yield made


class Killed(Exception):
    """Stands for a process that is killed: nothing after it is done."""


class Way(HandingIn):
    """Hands in, and dies after so many calls."""

    def __init__(self, feeding: Feeding, *, dies_after: int | None = None) -> None:
        super().__init__(feeding.hand_over, base_url=feeding.base, count=lambda *_: None)
        self.calls: list[list[str]] = []
        self._dies_after = dies_after

    def take(self, found: Sequence[Found]) -> int:
        taken = super().take(found)
        self.calls.append([each.reference for each in found])
        if len(self.calls) == self._dies_after:
            raise Killed
        return taken


class ListingWay(HandingIn):
    """Notes what it is given, and says that it was taken."""

    def __init__(self, handed: list[str]) -> None:
        super().__init__(lambda _: (), base_url="http://ehr.test/fhir", count=lambda *_: None)
        self._handed = handed

    def take(self, found: Sequence[Found]) -> int:
        self._handed += [each.reference for each in found]
        return len(found)


def client_of(feeding: Feeding) -> BulkClient:
    made = BulkClient(feeding.base, login=GivenLogin(f"Bearer {TOKEN}"), timeout_s=5)
    feeding.closing.append(made.close)
    return made


def backfill(feeding: Feeding, way: Way, progress: Progress | None = None) -> Backfill:
    ways = WaysIn(record=way, event=way)
    return Backfill(feeding.store, "ehr/backfill", client_of(feeding), ways, progress or Progress())


def count(feeding: Feeding, table: str = "events") -> int:
    with feeding.store.read() as uow:
        return uow.connection.scalar(sa.text(f"select count(*) from {table}")) or 0  # noqa: S608


def untimed(**changed: Any) -> dict[str, Any]:
    return {
        name: value
        for name, value in creatinine(**changed).items()
        if name != "effectiveDateTime" or name in changed
    }


def no_pause(_seconds: float) -> None:
    """Wait for nothing."""


def test_everything_is_filled_in_patients_and_consents_first(feeding: Feeding):
    feeding.put(*(creatinine(n) for n in range(30)), patient(1), consent(1))
    way = Way(feeding)

    tally = backfill(feeding, way).run(EVERYTHING, no_pause)

    assert (tally.read, tally.refused) == (32, 0)
    assert tally.by_type == {"Patient": 1, "Consent": 1, "Observation": 30}
    assert way.calls[0] == ["Patient/p1"]
    assert way.calls[1] == ["Consent/c1"]
    assert count(feeding) == 32


@pytest.mark.parametrize("no_ranges", [False, True], ids=["ranges", "no-ranges"])
def test_one_that_died_between_two_batches_is_gone_on_with_and_nothing_is_twice(
    feeding: Feeding, no_ranges: bool
):
    feeding.put(*(creatinine(n) for n in range(1203)))
    feeding.sandbox.faults(no_ranges=no_ranges)
    dying = Way(feeding, dies_after=2)
    with pytest.raises(Killed):
        backfill(feeding, dying).run(Order(types=("Observation",)), no_pause)
    way = Way(feeding)
    again = backfill(feeding, way)
    assert again.begun == Order(types=("Observation",))
    assert again.so_far == SoFar(lines=500, total=1203)

    tally = again.run(EVERYTHING, no_pause)

    # The second batch was handed in and not noted: it comes again and is recognised.
    assert [len(each) for each in way.calls] == [500, 203]
    assert (tally.read, count(feeding)) == (1203, 1203)
    assert (again.begun, again.so_far) == (None, SoFar(lines=0, total=None))


def test_an_api_that_is_away_is_gone_on_with_later(feeding: Feeding):
    feeding.put(*(creatinine(n) for n in range(5)))
    feeding.is_api_away = True
    with pytest.raises(StoreUnavailable):
        backfill(feeding, Way(feeding)).run(EVERYTHING, no_pause)
    feeding.is_api_away = False

    assert backfill(feeding, Way(feeding)).run(EVERYTHING, no_pause).read == 5

    assert count(feeding) == 5


def test_the_ehr_is_waited_for_as_long_as_it_wants(feeding: Feeding):
    feeding.put(patient(1))
    feeding.sandbox.faults(export_wait_s=0.3)
    waited: list[float] = []
    told: list[int | None] = []

    class Telling(Progress):
        def waiting(self, percent: int | None) -> None:
            told.append(percent)

    def pause(seconds: float) -> None:
        waited.append(seconds)
        feeding.until(lambda: True)
        threading.Event().wait(0.2)

    assert backfill(feeding, Way(feeding), Telling()).run(EVERYTHING, pause).read == 1

    assert set(waited) == {1.0}
    assert set(told) == {50}


def test_what_the_ehr_deleted_since_is_received_as_deleted(feeding: Feeding):
    feeding.put(creatinine(1), creatinine(2))
    backfill(feeding, Way(feeding)).run(EVERYTHING, no_pause)
    feeding.delete("Observation/o1")

    since = Order(types=("Observation",), since="2020-01-01T00:00:00Z")
    tally = backfill(feeding, Way(feeding)).run(since, no_pause)

    assert tally.deleted == 1
    with feeding.store.read() as uow:
        rows = uow.connection.exec_driver_sql("select is_current from events order by id").all()
    assert sorted(bool(row[0]) for row in rows) == [False, True, True]


def test_what_the_ehr_could_not_export_is_told(feeding: Feeding):
    feeding.put(patient(1))
    feeding.sandbox.faults(export_errors=True)

    assert backfill(feeding, Way(feeding)).run(EVERYTHING, no_pause).not_exported == 1


def test_an_export_that_the_ehr_has_forgotten_is_asked_for_again(feeding: Feeding):
    feeding.put(*(creatinine(n) for n in range(3)))
    with pytest.raises(Killed):
        backfill(feeding, Way(feeding, dies_after=1)).run(EVERYTHING, no_pause)
    with feeding.store.read() as uow:
        kept = uow.listener_state.get("ehr/backfill", "export")
    client_of(feeding).delete(kept["status_url"])

    assert backfill(feeding, Way(feeding)).run(EVERYTHING, no_pause).read == 3

    assert count(feeding) == 3


def test_a_line_that_is_no_resource_is_counted_and_passed_over(feeding: Feeding):
    lines = [Line(b"not json", 9), Line(None, 10), Line(b'{"resourceType":"Patient","id":"p"}', 11)]

    class Broken(BulkClient):
        def lines(self, _url: str, **_position: int) -> Iterator[Line]:
            yield from lines

    client = Broken(feeding.base, login=GivenLogin(f"Bearer {TOKEN}"), timeout_s=5)
    feeding.closing.append(client.close)
    feeding.put(patient(1))
    way = Way(feeding)
    made = Backfill(feeding.store, "ehr/backfill", client, WaysIn(way, way), Progress())

    tally = made.run(Order(types=("Patient",)), no_pause)

    assert (tally.read, tally.refused, count(feeding)) == (3, 2, 1)


# -- the client against servers that mean no good ------------------------------------------------


class Server:
    """Answers what it is told to."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.asked: list[tuple[str, str | None]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append((self.path, self.headers.get("Authorization")))
                status, headers, body = outer.answers[self.path.partition("?")[0]]
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        self.origin = f"http://127.0.0.1:{self._http.server_port}"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture
def client(server: Server) -> Iterator[BulkClient]:
    made = BulkClient(f"{server.origin}/fhir", login=GivenLogin("Bearer secret"), timeout_s=5)
    yield made
    made.close()


def test_an_address_of_another_origin_is_never_asked(server: Server, client: BulkClient):
    for url in ("http://127.0.0.1:9/x", "https://evil.test/x", "http://a@127.0.0.1/x", "file:///x"):
        with pytest.raises(ForeignAddress):
            list(client.lines(url, after_byte=0, after_line=0))
        with pytest.raises(ForeignAddress):
            client.status(url)
    server.answers["/fhir/$export"] = (202, {"Content-Location": "https://evil.test/x"}, b"")
    with pytest.raises(ForeignAddress):
        client.kick_off("", [])

    assert [path for path, _ in server.asked] == ["/fhir/$export?"]


@pytest.fixture
def kept(sqlite_url: str) -> Iterator[Store]:
    opened = Store(sqlite_url, Sealer(MASTER))
    yield opened
    opened.close()


def manifest(files: Sequence[str], following: str = "", **changed: Any) -> bytes:
    output = [{"type": "Patient", "url": f"/files/{each}", "count": 1} for each in files]
    link = [{"relation": "next", "url": following}] if following else []
    content = {"transactionTime": "2026-11-26T12:00:00Z", "output": output, "link": link}
    return json.dumps(content | changed).encode()


@pytest.mark.parametrize(
    ("said", "sent"),
    [
        ({"requiresAccessToken": True}, "Bearer secret"),
        ({}, "Bearer secret"),
        ({"requiresAccessToken": False}, None),
    ],
    ids=["required", "not-said", "not-required"],
)
def test_the_credential_goes_to_files_that_need_it_and_to_no_others(
    server: Server, client: BulkClient, said: dict[str, bool], sent: str | None
):
    server.answers["/status"] = (200, {}, manifest(["a"], **said))
    server.answers["/files/a"] = (200, {}, b"{}\n")

    found = client.status("/status")
    assert isinstance(found, Manifest)
    again = Manifest.from_json(found.as_json())
    (file,) = again.files
    lines = client.lines(file.url, after_byte=0, after_line=0, needs_token=file.needs_token)

    assert [line.raw for line in lines] == [b"{}"]
    assert server.asked == [("/status", "Bearer secret"), ("/files/a", sent)]


def test_the_files_of_all_pages_of_a_manifest_are_read(
    server: Server, client: BulkClient, kept: Store
):
    handed: list[str] = []
    waited: list[float] = []
    way = ListingWay(handed)
    server.answers["/fhir/$export"] = (202, {"Content-Location": "/status"}, b"")
    server.answers["/status"] = (200, {}, manifest(["a"], "/status/2"))
    server.answers["/status/2"] = (202, {"Retry-After": "7"}, b"")
    server.answers["/status/3"] = (200, {}, manifest(["c"], requiresAccessToken=False))
    for name in "abc":
        line = f'{{"resourceType": "Patient", "id": "{name}"}}'.encode()
        server.answers[f"/files/{name}"] = (200, {}, line)

    def pause(seconds: float) -> None:
        waited.append(seconds)
        server.answers["/status/2"] = (200, {}, manifest(["b"], "/status/3"))

    filling = Backfill(kept, "ehr/backfill", client, WaysIn(way, way), Progress())
    tally = filling.run(Order(types=("Patient",)), pause)

    assert (handed, waited) == (["Patient/a", "Patient/b", "Patient/c"], [7.0])
    assert (tally.read, tally.at) == (3, "2026-11-26T12:00:00Z")
    assert dict(server.asked)["/files/c"] is None
    assert dict(server.asked)["/files/b"] == "Bearer secret"


def test_pages_that_lead_back_end_the_walk(server: Server, client: BulkClient, kept: Store):
    server.answers["/fhir/$export"] = (202, {"Content-Location": "/status"}, b"")
    server.answers["/status"] = (200, {}, manifest(["a"], "/status/2"))
    server.answers["/status/2"] = (200, {}, manifest(["b"], "/status/2"))
    way = ListingWay([])
    filling = Backfill(kept, "ehr/backfill", client, WaysIn(way, way), Progress())

    with pytest.raises(EhrAnswerUnreadable):
        filling.run(Order(), no_pause)


def test_a_kick_off_that_is_refused_says_so(server: Server, client: BulkClient):
    for status, error in ((404, EhrRefused), (500, EhrFailed), (200, EhrAnswerUnreadable)):
        headers = {} if status != 200 else {"Content-Location": "/x"}
        server.answers["/fhir/Group/g/$export"] = (status, headers, b"{}")
        with pytest.raises((error, EhrRefused)):
            client.kick_off("Group/g", [("_type", "Patient")])
    server.answers["/fhir/$export"] = (202, {}, b"")
    with pytest.raises(EhrAnswerUnreadable):
        client.kick_off("", [])


def test_a_status_is_waiting_gone_broken_or_a_manifest(server: Server, client: BulkClient):
    url = f"{server.origin}/bulk/1"
    server.answers["/bulk/1"] = (202, {"Retry-After": "7", "X-Progress": "33%"}, b"")
    assert client.status(url) == Waiting(7.0, 33)
    server.answers["/bulk/1"] = (202, {"X-Progress": "Ana Maria, 3 of 4"}, b"")
    assert client.status(url) == Waiting(None, None)
    server.answers["/bulk/1"] = (404, {}, b"")
    with pytest.raises(ExportGone):
        client.status(url)
    for body in (b"[]", b"<html>", b'{"output":[{}],"transactionTime":"2026"}', b"{}"):
        server.answers["/bulk/1"] = (200, {}, body)
        with pytest.raises(EhrAnswerUnreadable):
            client.status(url)
    output = [{"type": "Patient", "url": "a"}, {"type": "Patient", "url": "b", "count": 2}]
    manifest = {"transactionTime": "2026-01-01T00:00:00Z", "output": output}
    server.answers["/bulk/1"] = (200, {}, json.dumps(manifest).encode())
    found = client.status(url)
    assert isinstance(found, Manifest)
    assert found.files[1] == ExportFile("output", "Patient", "b", 2)
    assert Manifest.from_json(found.as_json()) == found


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_lines_are_cut_wherever_the_pieces_end(server: Server, client: BulkClient, packed: bool):
    import gzip

    body = b"\n".join(b"x" * length for length in (0, 1, 70_000, 300_000, 5))
    headers = {"Content-Encoding": "gzip"} if packed else {}
    server.answers["/file"] = (200, headers, gzip.compress(body) if packed else body)

    found = list(client.lines(f"{server.origin}/file", after_byte=0, after_line=0))

    assert [len(line.raw or b"") for line in found] == [0, 1, 70_000, 300_000, 5]
    ends = [None] * 5 if packed else [1, 3, 70_004, 370_005, 370_010]
    assert [line.end for line in found] == ends


def test_a_line_without_end_is_not_kept_in_memory(server: Server, client: BulkClient):
    server.answers["/file"] = (200, {}, b"x" * (16 * 2**20) + b"\n{}\n")

    found = list(client.lines(f"{server.origin}/file", after_byte=0, after_line=0))

    assert [line.raw for line in found] == [None, b"{}"]


# -- what models run for -------------------------------------------------------------------------

EXPORTED = datetime(2026, 11, 26, 12, tzinfo=UTC)
TOUCHED = {"meta": {"lastUpdated": "2026-11-26T11:50:00Z"}}


@pytest.mark.parametrize(
    ("resource", "is_event"),
    [
        (creatinine(effectiveDateTime="2026-11-26T11:40:00Z", **TOUCHED), True),
        (creatinine(effectiveDateTime="2026-11-23T12:00:01Z", **TOUCHED), True),
        (creatinine(effectiveDateTime="2026-11-23T12:00:00Z", **TOUCHED), False),
        (creatinine(effectiveDateTime="2025-11-26T11:40:00Z", **TOUCHED), False),
        (creatinine(effectiveDateTime="2026-11-26T13:00:00+05:30", **meta(1, "2025-11-26")), False),
        (creatinine(effectiveDateTime="2026-11-26T11:40:00Z"), False),
        # A day may have lasted until noon of the next one, in the westernmost zone.
        (creatinine(effectiveDateTime="2026-11-23", **TOUCHED), True),
        (creatinine(effectiveDateTime="2026-11-22", **TOUCHED), False),
        (creatinine(effectiveDateTime="2025", **TOUCHED), False),
        (untimed(effectiveInstant="2025-11-26T11:40:00Z", **TOUCHED), False),
        (untimed(effectivePeriod={"start": "2025-01-01", "end": "2026-11-26"}, **TOUCHED), True),
        (untimed(effectivePeriod={"start": "2025-01-01", "end": "2025-01-02"}, **TOUCHED), False),
        (untimed(effectivePeriod={"start": "2025-01-01"}, **TOUCHED), False),
        (untimed(issued="2025-11-26T11:40:00Z", **TOUCHED), True),
        (untimed(effectiveDateTime="last year", **TOUCHED), True),
        (untimed(effectivePeriod=["2025"], **TOUCHED), True),
        (patient(1, **TOUCHED), True),
        ({"resourceType": "DocumentReference", "id": "d", "date": "2025-11-26T11:40:00Z"}, False),
        ({"resourceType": "ImagingStudy", "id": "s", "started": "2025-11-26", **TOUCHED}, False),
    ],
)
def test_what_just_changed_and_is_not_old_in_clinical_time_is_an_event(
    server: Server, client: BulkClient, kept: Store, resource: dict[str, Any], is_event: bool
):
    for_record, as_event = filled_in(server, client, kept, [resource])

    assert (len(for_record), len(as_event)) == ((0, 1) if is_event else (1, 0))


def test_where_the_time_of_the_export_can_not_be_read_what_is_old_stays_old(
    server: Server, client: BulkClient, kept: Store
):
    fresh = {"meta": {"lastUpdated": utc_now().isoformat()}}
    found = [
        patient(1, **TOUCHED),
        patient(2, **fresh),
        creatinine(3, **fresh, effectiveDateTime="2025-11-20"),
    ]

    ways = filled_in(server, client, kept, found, at="26/11/2026 12:00")

    assert ways == (["Patient/p1", "Observation/o3"], ["Patient/p2"])


def filled_in(
    server: Server,
    client: BulkClient,
    kept: Store,
    resources: Sequence[dict[str, Any]],
    *,
    at: str = EXPORTED.isoformat(),
) -> tuple[list[str], list[str]]:
    """Fill in an export; give what came for the record, and what came as events."""
    server.answers["/fhir/$export"] = (202, {"Content-Location": "/status"}, b"")
    server.answers["/status"] = (200, {}, manifest(["a"], transactionTime=at))
    server.answers["/files/a"] = (200, {}, b"\n".join(map(raw, resources)))
    for_record: list[str] = []
    as_event: list[str] = []
    ways = WaysIn(record=ListingWay(for_record), event=ListingWay(as_event))

    tally = Backfill(kept, "ehr/backfill", client, ways, Progress()).run(Order(), no_pause)

    assert (tally.read, tally.as_events) == (len(resources), len(as_event))
    return for_record, as_event


def test_an_old_result_that_the_ehr_has_just_touched_sets_no_model_going(feeding: Feeding):
    new, old = utc_now(), utc_now() - timedelta(days=365)
    feeding.put(patient(1))
    feeding.put(creatinine("old", effectiveDateTime=old.isoformat()))
    feeding.put(creatinine("new", effectiveDateTime=new.isoformat()))
    doors = [
        Door(feeding.address, lambda: feeding.token, headers=headers)
        for headers in ({"X-Nadi-Receive": "record"}, {})
    ]
    feeding.closing += [door.close for door in doors]
    record, event = (
        HandingIn(
            lambda bundle, door=door: door.hand_over(bundle, threading.Event()),
            base_url=feeding.base,
            count=lambda *_: None,
        )
        for door in doors
    )
    client = client_of(feeding)
    filling = Backfill(feeding.store, "ehr/backfill", client, WaysIn(record, event), Progress())

    tally = filling.run(EVERYTHING, no_pause)

    assert (tally.read, tally.as_events) == (3, 2)
    assert (count(feeding), count(feeding, "jobs")) == (3, 1)
    with feeding.store.read() as uow:
        (name,) = uow.connection.scalars(sa.text("select event_id from jobs"))
        assert b'"onew"' in uow.events.content(uow.events.get_many([name])[name])
