"""Refusals of a port are on record, and a flood of them is a few entries."""

import time
from typing import Any

import orjson
import pytest

from gateway.core.audit_refusals import UNKNOWN, Refusals
from gateway.listeners.refusals import FIRST_PAUSE_S, MOST_KINDS, RefusalBook
from gateway.store.audit_log import AuditFilter
from tests.conftest import Api
from tests.factories import SITE
from tests.listening import desk_of

RADIOLOGY = SITE.replace(
    "routes:",
    """\
  pacs:
    kind: dicom
    patients: {of: ehr, identifier: "https://hospital.example/mrn", find: id}
    receive:
      - dicom: {port: 11112, callers: [SCANNER]}
routes:""",
)
TOO_LARGE = Refusals("refused-C004", "SCANNER", "10.0.0.7")
STRANGER = Refusals("refused-caller", UNKNOWN, "10.0.0.8")
KINDS = ("image-refuse", "sender-refuse")


class Port:
    """A book of refusals, and the clock that it is told by."""

    def __init__(self, api: Api) -> None:
        self._store = api.store
        self.now_s = 0.0
        self.book = RefusalBook(desk_of(api, RADIOLOGY, "pacs/dicom"), monotonic=lambda: self.now_s)

    def told(self) -> list[dict[str, Any]]:
        with self._store.read() as uow:
            rows = uow.audit_log.search(AuditFilter(events=KINDS, limit=5000))
        return [orjson.loads(row.body) for row in reversed(rows)]


@pytest.fixture
def port(api: Api) -> Port:
    return Port(api)


def facts(event: dict[str, Any]) -> dict[str, str]:
    return {d["type"]: d["valueString"] for e in event["entity"] for d in e.get("detail", ())}


def test_the_first_refusal_is_told_at_once_with_who_where_and_why(port: Port):
    port.book.note(TOO_LARGE)
    port.book.note(STRANGER)

    assert port.book.tell() == 2

    image, sender = port.told()
    assert image["outcomeDesc"] == "It has more bytes than the site allows."
    assert (image["outcome"], sender["outcome"]) == ("4", "8")
    assert [image["agent"][0]["who"]["display"], image["agent"][0]["network"]["address"]] == [
        "SCANNER",
        "10.0.0.7",
    ]
    assert sender["agent"][0]["who"]["display"] == UNKNOWN
    told = facts(image)
    assert (told["feed"], told["answer"], told["count"]) == ("pacs/dicom", "C004", "1")
    assert sender["subtype"][0]["code"] == "110126"


def test_what_follows_is_one_entry_with_its_number_a_minute_later(port: Port):
    port.book.note(TOO_LARGE)
    port.book.tell()
    for _ in range(1000):
        port.book.note(TOO_LARGE)
        port.book.tell()
    port.now_s = FIRST_PAUSE_S

    assert port.book.tell() == 1

    assert [facts(each)["count"] for each in port.told()] == ["1", "1000"]


def test_a_day_of_flood_by_many_senders_is_some_hundred_entries(port: Port):
    sent = 0
    for second in range(0, 86_400, 120):
        port.now_s = float(second)
        for host in range(100):
            port.book.note(Refusals("refused-caller", UNKNOWN, f"10.0.{second % 250}.{host}"))
            sent += 1
        port.book.tell()
    port.book.tell(is_last=True)

    told = port.told()
    assert sum(int(facts(each)["count"]) for each in told) == sent
    assert MOST_KINDS < len(told) < 1000


def test_after_a_pause_without_any_the_next_is_told_at_once_again(port: Port):
    port.book.note(TOO_LARGE)
    port.book.tell()
    port.now_s = FIRST_PAUSE_S
    port.book.tell()
    port.book.note(TOO_LARGE)

    assert port.book.tell() == 1


def test_what_is_no_refusal_of_an_image_or_a_sender_is_not_told(port: Port):
    port.book.note(Refusals("refused-syntax", "SCANNER", None))

    assert port.book.tell(is_last=True) == 0


def test_what_is_noted_while_it_is_kept_is_on_record_at_once_and_all_of_it_in_the_end(port: Port):
    peer = Refusals("no-certificate", UNKNOWN, "10.0.0.9", why="The peer showed no certificate.")

    with port.book.kept():
        port.book.note(peer)
        deadline = time.monotonic() + 10
        while not port.told():
            assert time.monotonic() < deadline, "did not happen in time"
            time.sleep(0.05)
        port.book.note(peer)
        port.book.note(peer)

    assert [facts(each)["count"] for each in port.told()] == ["1", "2"]
    assert {each["outcomeDesc"] for each in port.told()} == {peer.why}
    assert {each["subtype"][0]["code"] for each in port.told()} == {"110126"}


def test_what_can_not_be_recorded_is_told_with_the_next(port: Port, api: Api):
    lock = (
        "create trigger no_audit before insert on audit_events begin select raise(abort, 'x'); end"
    )
    with api.store.write() as uow:
        uow.connection.exec_driver_sql(lock)
    port.book.note(TOO_LARGE)
    port.book.note(TOO_LARGE)
    assert port.book.tell() == 0
    with api.store.write() as uow:
        uow.connection.exec_driver_sql("drop trigger no_audit")

    assert port.book.tell() == 1

    assert facts(port.told()[0])["count"] == "2"
