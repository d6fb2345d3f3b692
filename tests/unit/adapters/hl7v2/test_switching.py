"""A text may switch to another character set; what can't be followed is kept and told."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.hl7v2.conversion import Converted, convert
from adapters.hl7v2.dialect import Dialect
from adapters.hl7v2.identity import Origin, plain_id
from adapters.hl7v2.message import parsed
from adapters.hl7v2.problems import Code, Place

ORIGIN = Origin(feed="lab/mllp", patient_system="urn:mrn", find_patient=plain_id)
HEAD = b"MSH|^~\\&|LIS|LAB|||20261126||ORU^R01|1|P|2.5|||||||%s\rPID|1||7||"


def message(charset: bytes, name: bytes) -> bytes:
    return (HEAD % charset).replace(b"|||||||", b"||||||", 1) + name + b"\r"


def named(charset: bytes, name: bytes) -> str:
    return parsed(message(charset, name)).first("PID").text(5)


def converted(charset: bytes, name: bytes) -> Converted:
    content = message(charset, name) + b"OBR|1|P1|F1|c\rOBX|1|ST|c||" + name + b"||||||F\r"
    made = parsed(content)
    return convert(made, content, ORIGIN, Dialect(zone=ZoneInfo("UTC")), datetime.now(UTC))


def test_the_sets_of_one_byte_are_read_by_their_own_tables():
    latin_2 = b"Ho\xf8\xed, \\C2D42\\Dvo\xf8\xe1k\\C2842\\ Jr"
    greek = "\\C2D46\\Παπάς".encode("iso8859-7")
    katakana = b"\\C2949\\\xd4\xcf\xc0\xde\\C2842\\ Taro"

    assert named(b"8859/1", latin_2) == "Hoøí, Dvořák Jr"
    assert named(b"8859/1", greek) == "Παπάς"
    assert named(b"8859/15", katakana) == "ﾔﾏﾀﾞ Taro"


def test_the_japanese_sets_are_read_wherever_the_message_is_in():
    kanji = b"\\M2442\\" + "山田".encode("iso2022_jp")[3:-3] + b"\\C2842\\ = Yamada"

    assert {named(charset, kanji) for charset in (b"", b"ASCII", b"8859/1", b"UNICODE UTF-8")} == {
        "山田 = Yamada"
    }
    assert named(b"", b"\\M242844\\" + "丂".encode("iso2022_jp_1")[4:-3]) == "丂"
    assert named(b"", b"\\C284A\\100\\C2842\\") == "100"


@given(st.text(alphabet=st.characters(codec="iso8859-2", categories=["L"]), min_size=1))
def test_any_name_of_a_switched_set_is_read_again(name: str):
    assert named(b"8859/1", b"\\C2D42\\" + name.encode("iso8859-2")) == name


@pytest.mark.parametrize(
    ("charset", "text", "kept"),
    [
        (b"", b"\\C2D99\\abc", "\\C2D99\\abc"),
        (b"", "\\C2D42\\Müller".encode(), "\\C2D42\\Müller"),
        (b"", b"\\M2442\\odd", "\\M2442\\odd"),
        (b"8859/1", b"\\C2949\\\xff", "\\C2949\\ÿ"),
    ],
    ids=["unknown", "in UTF-8", "half a character", "not in the set"],
)
def test_what_can_not_be_followed_is_kept_as_it_stands_and_told(
    charset: bytes, text: bytes, kept: str
):
    made = converted(charset, text)

    entries = [entry["resource"] for entry in orjson.loads(made.bundle)["entry"]]
    (value,) = (e["valueString"] for e in entries if e["resourceType"] == "Observation")
    assert value == kept
    told = [(note.code, note.place) for note in made.notes]
    assert (Code.TABLE_VALUE, Place("OBX", 1, 5)) in told
    assert not any(kept in note.says for note in made.notes)


def test_a_switch_that_is_followed_is_not_told():
    assert converted(b"8859/1", b"\\C2D42\\Dvo\xf8\xe1k").notes == ()
