"""A laboratory's messages over a real socket: what is acknowledged is stored, and only that."""

import base64
import time
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import orjson
import pytest

from tests.conftest import Api
from tests.listening import FED_SITE, exchange, listening, received
from tests.sandbox import TOKEN, SandboxEhr

fed = pytest.mark.parametrize("api", [FED_SITE], indirect=True)

ORU = b"""\
MSH|^~\\&|LIS|CITY LAB|NADI|HOSPITAL|20250126093000||ORU^R01^ORU_R01|M-1|P|2.5.1
PID|1||p1^^^HOSP^MR||EVERYWOMAN^EVE||19610615|F
OBR|1|P-7|F-7|24323-8^Metabolic panel^LN|||20250126090000|||||||||||||||20250126092500|||F
OBX|1|NM|2160-0^Creatinine^LN||1.50|mg/dL^^UCUM|0.6-1.2|H|||F
""".replace(b"\n", b"\r")


def changed(number: str, *changes: tuple[bytes, bytes]) -> bytes:
    """Give the message under another control id, with some of it replaced."""
    made = ORU.replace(b"M-1", number.encode())
    for old, new in changes:
        assert old in made
        made = made.replace(old, new)
    return made


def segments(answer: str, name: str) -> list[str]:
    return [line for line in answer.split("\r") if line.startswith(name)]


def code(answer: str) -> str:
    (line,) = segments(answer, "MSA")
    return line.split("|")[1]


@fed
def test_a_result_is_acknowledged_and_becomes_an_observation_with_its_digits(api: Api):
    with listening(api) as feed:
        (answer,) = feed.send(ORU)
        events = feed.events()
        (raw,) = _stored(api, "Observation")

    header, *rest = answer.rstrip("\r").split("\r")
    assert header.split("|")[2:6] == ["NADI", "HOSPITAL", "LIS", "CITY LAB"]
    assert header.split("|")[8] == "ACK^R01^ACK"
    assert rest == ["MSA|AA|M-1"]
    (observation,) = (each for each in events if each["resourceType"] == "Observation")
    assert observation["subject"]["reference"] == "Patient/p1"
    assert observation["effectiveDateTime"] == "2025-01-26T09:00:00+05:30"
    assert observation["status"] == "final"
    assert b'"value":1.50' in raw


@fed
def test_the_message_itself_is_kept_sealed_and_says_what_came_of_it(api: Api):
    with listening(api) as feed:
        feed.send(ORU)
        by_type = {each["resourceType"]: each for each in feed.events()}

    assert base64.b64decode(by_type["Binary"]["data"]) == ORU
    assert by_type["Binary"]["securityContext"]["reference"] == "Patient/p1"
    made_from = by_type["Provenance"]["entity"][0]["what"]["reference"]
    assert made_from == f"Binary/{by_type['Binary']['id']}"
    assert "Patient" not in by_type  # a laboratory is no source for the EHR's patients
    for stored in (api.store.engine.url.database,):
        assert b"EVERYWOMAN" not in Path(stored).read_bytes()


@fed
def test_a_repeat_is_answered_alike_and_changes_nothing(api: Api):
    strange = changed("M-2", (b"20250126090000", b"yesterday"))

    with listening(api) as feed:
        first = feed.send(ORU, strange)
        count = len(feed.events())
        again = feed.send(ORU, strange, ORU)
        assert len(feed.events()) == count

    assert [segments(each, "MSA") + segments(each, "ERR") for each in again] == [
        segments(each, "MSA") + segments(each, "ERR") for each in (*first, first[0])
    ]


@fed
def test_a_control_id_that_comes_again_with_other_content_is_another_message(api: Api):
    with listening(api) as feed:
        answers = feed.send(ORU, changed("M-1", (b"1.50", b"1.60")))
        values = [e["valueQuantity"]["value"] for e in feed.events() if "valueQuantity" in e]

    assert [code(each) for each in answers] == ["AA", "AA"]
    assert values == [1.5, 1.6]


@fed
def test_control_ids_that_differ_in_any_part_are_two_and_come_back_whole(api: Api):
    one, other = changed("M-1^A"), changed("M-1^B")

    with listening(api) as feed:
        answers = feed.send(one, other, one)
        with api.store.read() as uow:
            asked = "select count(*) from listener_state where key like 'seen/%'"
            kept = uow.connection.exec_driver_sql(asked).scalar_one()

    assert [segments(each, "MSA") for each in answers] == [
        ["MSA|AA|M-1^A"],
        ["MSA|AA|M-1^B"],
        ["MSA|AA|M-1^A"],
    ]
    assert kept == 2


@fed
def test_a_correction_is_the_next_version_of_what_it_corrects_and_starts_the_route(api: Api):
    later = (b"20250126093000", b"20250126101500")
    correction = changed("M-2", later, (b"|1.50|", b"|1.10|"), (b"H|||F", b"N|||C"))
    deletion = changed("M-3", (b"20250126093000", b"20250126111500"), (b"H|||F", b"H|||D"))

    with listening(api) as feed:
        feed.send(ORU, correction, ORU, deletion)
        found = [each for each in feed.events() if each["resourceType"] == "Observation"]
        with api.store.read() as uow:
            asked = "select route, business_status from jobs order by id"
            jobs = [tuple(row) for row in uow.connection.exec_driver_sql(asked)]

    assert len({each["id"] for each in found}) == 1
    assert [each["status"] for each in found] == ["final", "corrected", "entered-in-error"]
    assert [route for route, _ in jobs if "canary" not in route] == ["ckd-risk"] * 3
    assert jobs[-1][1] == "not-final"


def at_present() -> bytes:
    return datetime.now(ZoneInfo("Asia/Kolkata")).strftime("%Y%m%d%H%M%S").encode()


def current(api: Api, kind: str) -> list[dict]:
    with api.store.read() as uow:
        asked = f"select id from events where resource_type = '{kind}' and is_current"  # noqa: S608
        found = uow.events.get_many(list(uow.connection.exec_driver_sql(asked).scalars()))
        return [orjson.loads(uow.events.content(each)) for each in found.values()]


@fed
def test_a_message_from_the_future_hides_nothing_that_comes_after_it(api: Api):
    ahead = changed("M-2", (b"20250126093000", b"20300126093000"), (b"|1.50|", b"|9.90|"))
    older = changed("M-4", (b"|1.50|", b"|3.30|"))

    with listening(api) as feed:
        feed.send(ORU)
        (warned,) = feed.send(ahead)
        (between,) = current(api, "Observation")
        right = changed("M-3", (b"20250126093000", at_present()), (b"|1.50|", b"|1.10|"))
        (fine,) = feed.send(right)
        feed.send(older)
        (after,) = current(api, "Observation")

    assert code(warned) == code(fine) == "AA"
    (told,) = segments(warned, "ERR")
    assert told.split("|")[2:5] == ["MSH^1^7", "102^Data type error^HL70357", "W"]
    assert "ahead of the clock here by" in told
    assert segments(fine, "ERR") == []
    values = [each["valueQuantity"]["value"] for each in (between, after)]
    assert values == [9.9, 1.1]


@fed
def test_a_message_from_the_future_that_comes_again_after_a_crash_is_the_same_versions(api: Api):
    ahead = changed("M-2", (b"20250126093000", b"20300126093000"))

    with listening(api) as feed:
        (first,) = feed.send(ahead)
        events = feed.events()
        # A crash before its end was on disk leaves what was kept before it was handed over.
        with api.store.write() as uow:
            kept = uow.listener_state.with_prefix(feed.desk.feed.name, "seen/")
            ((key, value),) = kept.items()
            moment = events[0]["meta"]["lastUpdated"]
            begun = {"sha256": value["sha256"], "received": moment}
            uow.listener_state.put(feed.desk.feed.name, {key: begun})
        time.sleep(1.1)  # its versions go by the second
        (again,) = feed.send(ahead)
        assert feed.events() == events

    assert [segments(each, "ERR") for each in (again,)] == [segments(first, "ERR")]


@fed
@pytest.mark.parametrize(
    ("changes", "answers"),
    [
        ([(b"\rPID|", b"\rZID|")], ("AA", "ERR||PID^1|100^")),
        ([(b"|P|2.5.1", b"|P|2.3")], ("AA", "")),
        ([(b"|P|2.5.1", b"|T|2.3")], ("AR", "ERR|MSH^1^11^202&Taken here: P.&HL70357")),
    ],
    ids=["nobody", "23", "23r"],
)
def test_an_err_is_written_in_the_form_of_the_senders_version(api: Api, changes, answers):
    with listening(api) as feed:
        (answer,) = feed.send(changed("M-2", *changes))
        is_stored = bool(feed.events())

    assert (code(answer), (segments(answer, "ERR") or [""])[0][: len(answers[1])]) == answers
    assert is_stored is (code(answer) == "AA")
    assert "EVERYWOMAN" not in answer


@fed
@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("AL|AL", ["CA", "AA"]),
        ("AL|NE", ["CA"]),
        ("NE|AL", ["AA"]),
        ("ER|SU", ["AA"]),
        ("SU|ER", ["CA"]),
    ],
)
def test_in_enhanced_mode_the_sender_gets_what_it_asked_for(api: Api, asked: str, told: list[str]):
    message = changed("M-2", (b"|P|2.5.1", f"|P|2.5.1|||{asked}".encode()))

    with listening(api) as feed, feed.connected() as connection:
        answers = exchange(connection, message, answers=len(told))

    assert [code(each) for each in answers] == told


@fed
def test_in_enhanced_mode_a_refusal_is_told_where_refusals_are_asked_for(api: Api):
    message = changed("M-2", (b"|P|2.5.1", b"|T|2.5.1|||ER|NE"))

    with listening(api) as feed:
        (answer,) = feed.send(message)

    assert code(answer) == "CR"


@fed
def test_a_batch_is_answered_by_a_batch_and_one_bad_message_spoils_no_other(api: Api):
    batch = b"\r".join(
        [b"FHS|^~\\&|LIS", b"BHS|^~\\&|LIS", ORU.strip(), changed("M-2", (b"|P|", b"|T|")).strip()]
    )
    with listening(api) as feed:
        (answer,) = feed.send(batch + b"\rBTS|2\rFTS|1\r")

    assert answer.startswith("BHS|")
    assert segments(answer, "MSA") == ["MSA|AA|M-1", "MSA|AR|M-2"]
    assert segments(answer, "BTS") == ["BTS|2"]


@fed
def test_a_batch_that_was_cut_short_is_taken_as_far_as_it_came_and_its_sender_is_told(api: Api):
    begun = b"BHS|^~\\&|LIS\r" + ORU
    with listening(api) as feed:
        (fewer,) = feed.send(begun + b"BTS|5\r")
        (endless,) = feed.send(begun)

    assert segments(fewer, "MSA") == segments(endless, "MSA") == ["MSA|AA|M-1"]
    assert segments(fewer, "BTS") == ["BTS|1|BTS says 5 messages; 1 were found: was it cut short?"]
    assert segments(endless, "BTS") == [
        "BTS|1|The batch has no end (BTS); 1 were found: was it cut short?"
    ]


@fed
def test_messages_arrive_in_any_pieces_with_anything_between_them(api: Api):
    second = changed("M-2")
    stream = b"hello\x0b" + ORU + b"\x1c\r\x00\r\n\x0b" + second + b"\x1c\r"

    with listening(api) as feed, feed.connected() as connection:
        for at in range(len(stream)):
            connection.sendall(stream[at : at + 1])
        answers = received(connection, 2)

    assert [segments(each, "MSA")[0] for each in answers] == ["MSA|AA|M-1", "MSA|AA|M-2"]


@fed
def test_a_message_that_is_too_large_is_refused_and_the_next_one_is_taken(api: Api):
    large = changed("M-2", (b"EVERYWOMAN", b"E" * 20_000))
    site = FED_SITE.replace("port: 2575", "port: 2575, max_bytes: 10000")

    with listening(api, site) as feed:
        refusal, answer = feed.send(large, ORU)

    assert segments(refusal, "MSA") == ["MSA|AE|M-2"]
    assert "larger than 10000 bytes" in refusal
    assert code(answer) == "AA"


@pytest.fixture
def few_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the API take few resources at once."""
    monkeypatch.setenv("NADI_MAX_ENTRIES", "6")


@pytest.mark.usefixtures("few_entries")
@fed
def test_a_message_of_more_results_than_are_taken_at_once_is_told_to_come_as_several(api: Api):
    more = b"".join(b"OBX|%d|NM|1^c^L|%d|1||||||F\r" % (at, at) for at in range(2, 9))

    with listening(api) as feed:
        (refusal,) = feed.send(ORU + more)

    assert code(refusal) == "AE"
    assert "send it as several messages" in refusal


@fed
def test_what_is_not_hl7_is_refused_and_the_connection_goes_on(api: Api):
    with listening(api) as feed:
        answers = feed.send(b"GET / HTTP/1.1", b"", b"MSH", b"MSH|^~", ORU)

    assert [code(each) for each in answers] == ["AE", "AE", "AE", "AE", "AA"]


@fed
def test_whoever_is_not_let_in_gets_nothing(api: Api):
    site = FED_SITE.replace("port: 2575", "port: 2575, allow: [192.0.2.0/24]")

    with listening(api, site) as feed, feed.connected() as connection:
        assert received(connection) == []


@fed
def test_more_connections_than_allowed_are_closed(api: Api):
    site = FED_SITE.replace("port: 2575", "port: 2575, max_connections: 1")

    with listening(api, site) as feed, feed.connected() as first:
        assert code(exchange(first, ORU)[0]) == "AA"
        with feed.connected() as second:
            assert received(second) == []
        assert code(exchange(first, changed("M-2"))[0]) == "AA"


@fed
def test_while_the_gateway_is_away_nothing_is_acknowledged_and_then_everything_is(api: Api):
    with listening(api) as feed, feed.connected() as connection:
        feed.way.is_away = True
        connection.sendall(b"\x0b" + ORU + b"\x1c\r")
        connection.settimeout(0.4)
        with pytest.raises(TimeoutError):
            received(connection)
        feed.way.is_away = False
        connection.settimeout(20)
        (answer,) = received(connection)

    assert feed.way.asked > 1
    assert code(answer) == "AA"


@fed
def test_what_was_not_taken_when_the_listener_stops_gets_no_answer(api: Api):
    with listening(api) as feed, feed.connected() as connection:
        feed.way.is_away = True
        connection.sendall(b"\x0b" + ORU + b"\x1c\r")
        while not feed.way.asked:
            time.sleep(0.01)
        feed.stop.set()
        assert received(connection) == []
        assert feed.events() == []


SEARCHING = FED_SITE.replace("find: id", "find: search")


@pytest.mark.parametrize("api", [SEARCHING], indirect=True)
def test_while_the_ehr_is_away_the_sender_waits_for_its_patient(
    api: Api, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("NADI_TEST_EHR_TOKEN", TOKEN)
    ehr = SandboxEhr()
    ehr.start()
    ehr.faults(down="close")
    site = SEARCHING.replace("http://ehr.test/fhir", f"{ehr.origin}/fhir").replace(
        "auth: {kind: none}", "auth: {kind: bearer, token: env:NADI_TEST_EHR_TOKEN}"
    )

    with listening(api, site) as feed, feed.connected() as connection:
        connection.sendall(b"\x0b" + ORU + b"\x1c\r")
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            received(connection)
        assert feed.events() == []
        ehr.faults(down="no")
        connection.settimeout(20)
        (answer,) = received(connection)
    ehr.stop()

    assert code(answer) == "AA"


def _stored(api: Api, kind: str) -> list[bytes]:
    with api.store.read() as uow:
        asked = f"select id from events where resource_type = '{kind}'"  # noqa: S608 - our own
        ids = [row.id for row in uow.connection.exec_driver_sql(asked)]
        found = uow.events.get_many(ids)
        return [uow.events.content(found[each]) for each in ids]
