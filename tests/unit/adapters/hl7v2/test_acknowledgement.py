"""What the sender of a message is told, to the letter where it compares letters."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.hl7v2.acknowledgement import Outcome, acknowledgements
from adapters.hl7v2.framing import Framing, framed
from adapters.hl7v2.message import parsed

NOW = datetime(2026, 11, 26, 7, 30, tzinfo=UTC)
#: Any text but what ends a field or a segment, and control characters.
WRITTEN = st.text(
    st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="|"), min_size=1, max_size=40
)


def answered(control_id: str, *, head: str = "MSH|^~\\&|LIS^1.2.3^ISO|LAB|NADI|HOSP") -> str:
    message = f"{head}|20261126123000||ORU^R01|{control_id}|P|2.5.1\rPID|1\r".encode()
    (answer,) = acknowledgements(parsed(message), Outcome(), NOW)
    return answer.decode()


def msa_2(answer: str) -> str:
    (line,) = (each for each in answer.split("\r") if each.startswith("MSA|"))
    return line.split("|", 2)[2]


@pytest.mark.parametrize(
    "control_id",
    ["M-1", "M-1^LAB&2^", "A~B~~C", "A\\T\\B\\X41\\", " 7 ", "M\\F\\1^\\.br\\", "Ü-1", '"A"'],
)
def test_the_control_id_comes_back_to_the_letter(control_id: str):
    assert msa_2(answered(control_id)) == control_id


@settings(max_examples=60)
@given(WRITTEN)
def test_any_control_id_comes_back_as_it_was_sent_in_one_whole_block(control_id: str):
    answer = answered(control_id)

    assert msa_2(answer) == control_id
    blocks = list(Framing(1 << 20).feed(framed(answer.encode())))
    assert [each.content.decode() for each in blocks] == [answer]


def test_control_characters_do_not_come_back_where_they_would_end_the_answer():
    answer = answered("M\x1c\x0b-1\x1c")

    assert msa_2(answer) == "M-1"
    assert not {"\x0b", "\x1c"} & set(answer)


def test_who_sent_it_is_named_as_they_wrote_it_and_an_answer_that_is_no_ascii_says_so():
    plain, strange = answered("M-1").split("\r")[0], answered("Ü-1").split("\r")[0]

    assert plain.split("|")[2:6] == ["NADI", "HOSP", "LIS^1.2.3^ISO", "LAB"]
    assert len(plain.split("|")) == 12
    assert strange.split("|")[17] == "UNICODE UTF-8"
