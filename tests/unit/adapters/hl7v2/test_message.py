"""A message is read whatever its line ends and character set; what is none is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.hl7v2.escapes import Separators
from adapters.hl7v2.message import header_alone, parsed, split_batch
from adapters.hl7v2.problems import Hl7Problem

TEXT = "MSH|^~\\&|LIS|LAB|||2026||ORU^R01|1|P|2.5||||||{charset}\rPID|1||7||Müller&x^{name}~Zwei\r"


def message(name: str = "A", charset: str = "", codec: str = "utf-8"):
    return parsed(TEXT.format(name=name, charset=charset).encode(codec))


def test_fields_repetitions_components_and_subcomponents_are_found():
    pid = message("Eva\\T\\Ann").first("PID")

    first, second = pid.values(5)
    assert (first.text(1), first.text(1, 2), first.text(2)) == ("Müller", "x", "Eva&Ann")
    assert second.text() == "Zwei"
    assert (pid.text(3), pid.text(4), pid.text(99), first.text(9, 9)) == ("7", "", "", "")


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n", "\r\r\n"])
def test_segments_may_end_in_any_way(end: str):
    text = TEXT.format(name="A", charset="").replace("\r", end)

    assert [each.name for each in parsed(text.encode()).segments] == ["MSH", "PID"]


@pytest.mark.parametrize(
    ("charset", "codec", "name"),
    [
        ("", "utf-8", "Ünal"),
        ("UNICODE UTF-8", "utf-8-sig", "आरती"),
        ("8859/1", "iso8859-1", "Ærø"),
        ("8859/5", "iso8859-5", "Анна"),
        ("8859/15", "iso8859-15", "œuvre"),
        ("GB 18030-2000", "gb18030", "王小明"),
        ("KS X 1001", "euc_kr", "김철수"),
        ("~ISO IR87", "iso2022_jp", "山田"),
        ("UTF-8~UNICODE", "utf-8", "ç"),
    ],
)
def test_the_character_set_that_is_named_is_used(charset: str, codec: str, name: str):
    text = TEXT.replace("Müller", "M").format(name=name, charset=charset)

    assert parsed(text.encode(codec)).first("PID").value(5).text(2) == name


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b"", "MSH[1]"),
        (b"PID|1", "MSH[1]"),
        (b"MSH|^~", "MSH[1]"),
        (b"MSH|^^^^|x", "MSH[1]-2"),
        (b"MSHMSH~&|x", "MSH[1]-2"),
        (b"MSH|^~\\&|x\rNO", "MSH[1]"),
        (b"MSH|^~\\&|x\rPID|1\r-x|", "PID[1]"),
        (b"MSH|^~\\&|x\rMSH|^~\\&|y", "MSH[2]"),
        (b"MSH|^~\\&|\xff", "MSH[1]-18"),
        (b"MSH|^~\\&||||||||||||||||UNICODE UTF-16", "MSH[1]-18"),
    ],
)
def test_what_is_no_message_is_refused_with_its_place(content: bytes, place: str):
    with pytest.raises(Hl7Problem) as found:
        parsed(content)

    assert found.value.location == place


@given(st.binary(max_size=200), st.booleans())
def test_no_bytes_break_the_reading(content: bytes, has_header: bool):
    content = b"MSH|^~\\&|" + content if has_header else content

    try:
        parsed(content)
    except Hl7Problem:
        header_alone(content)


def test_a_field_that_is_deleted_is_empty():
    pid = parsed(b'MSH|^~\\&|x\rPID|1||""|A^""').first("PID")

    assert (pid.value(3).text(), pid.values(3), pid.value(4).text(2)) == ("", (), "")


def test_a_batch_is_divided_and_a_message_alone_is_not():
    one, two = b"MSH|^~\\&|a\rPID|1\r", b"MSH|^~\\&|b\r"

    assert split_batch(b"FHS|^~\\&\rBHS|^~\\&\r" + one + two + b"BTS|2\rFTS\r") == [one, two]
    assert split_batch(one) == [one]
    assert split_batch(b"BHS|^~\\&\rBTS|0\r") == []
    assert split_batch(b"") == [b""]


def test_the_header_of_what_can_not_be_read_is_still_known():
    found = header_alone(b"\xef\xbb\xbfMSH|^~\\&|LIS|L\xc4B|||||ORU^R01|17\r\xff")

    assert (found.control_id, found.header.text(3)) == ("17", "LIS")
    assert found.separators == Separators(codec="ascii")
    assert header_alone(b"GET / HTTP/1.1") is None


def test_a_text_of_several_lines_keeps_its_words():
    pid = message("Sample slightly\\.br\\haem\x07olysed, \\X09\\twice").first("PID")

    assert pid.text(5, 2) == "Sample slightly\nhaemolysed, \ttwice"


@pytest.mark.parametrize(
    "content",
    [
        TEXT.format(name="A", charset="").encode("utf-16"),
        TEXT.format(name="A", charset="").encode("utf-16-le"),
        TEXT.format(name="A", charset="").encode("utf-16-be"),
        TEXT.format(name="A", charset="").encode("utf-32"),
        TEXT.format(name="A", charset="UNICODE UTF-16").encode(),
        TEXT.format(name="A", charset="UNICODE UTF-32").encode(),
    ],
    ids=["utf-16", "utf-16-le", "utf-16-be", "utf-32", "named utf-16", "named utf-32"],
)
def test_characters_of_several_bytes_each_are_rejected_with_what_to_send_instead(content: bytes):
    with pytest.raises(Hl7Problem, match=r"can't be sent by MLLP.* Send UNICODE UTF-8") as found:
        parsed(content)

    assert found.value.is_rejected
    assert (found.value.code, found.value.place.field) == (103, 18)
