"""Whatever the pieces: every block is found, and nothing is kept for long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.hl7v2.framing import Block, Framing, framed

#: Contents as senders send them: MLLP forbids its own bytes within them.
contents = st.binary(max_size=60).map(lambda each: each.replace(b"\x0b", b"").replace(b"\x1c", b""))
noise = st.binary(max_size=8).map(lambda each: each.replace(b"\x0b", b""))


def blocks_of(stream: bytes, cuts: list[int], max_bytes: int = 1000) -> list[Block]:
    framing, found, start = Framing(max_bytes), [], 0
    for end in [*sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]:
        found += framing.feed(stream[start:end])
        start = end
    return found


@given(st.lists(st.tuples(noise, contents), max_size=5), st.lists(st.integers(0, 10_000)))
def test_blocks_are_found_in_any_pieces(messages: list[tuple[bytes, bytes]], cuts: list[int]):
    stream = b"".join(between + framed(content) for between, content in messages)

    assert blocks_of(stream, cuts) == [Block(content) for _, content in messages]


@given(st.binary(max_size=400), st.lists(st.integers(0, 10_000)))
def test_no_bytes_break_the_framing_and_pieces_change_nothing(stream: bytes, cuts: list[int]):
    pieces, whole = blocks_of(stream, cuts, 50), blocks_of(stream, [], 50)
    assert [each.is_whole for each in pieces] == [each.is_whole for each in whole]
    assert blocks_of(stream + b"\x1c\r" + framed(b"MSH"), cuts, 50)[-1] == Block(b"MSH")


def test_a_block_that_another_one_cuts_short_is_given_up():
    framing = Framing(100)

    assert framing.feed(b"\x0bMSH|half\x0bMSH|whole\x1c\r") == [Block(b"MSH|whole")]
    assert framing.dropped == 9


def test_of_a_block_that_is_too_large_the_beginning_is_kept_and_the_next_one_is_whole():
    framing = Framing(10)
    found = [
        block for _ in range(2000) for block in framing.feed(b"\x0bMSH|" if not _ else b"x" * 9)
    ]
    assert found == []

    (large, small) = framing.feed(b"\x1c\r" + framed(b"MSH"))

    assert not large.is_whole
    assert large.content.startswith(b"MSH|xxx")
    assert len(large.content) <= 4096
    assert small == Block(b"MSH")


def test_the_memory_of_an_endless_block_is_bounded():
    framing = Framing(10_000)
    framing.feed(b"\x0b")

    for _ in range(100):
        assert framing.feed(b"y" * 10_000) == []

    assert len(framing._buffer) <= 20_001
    assert framing.is_inside


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize(
    ("stream", "is_foreign"),
    [
        (b"\r\n" + framed(b"MSH"), False),
        (b"noise" + framed(b"MSH") + b"more\r\nnoise\r\n", False),
        (b"MSH|^~\\&", False),
        (b"MSH|^~\\&|LAB\rPID|1\r", True),
        (b"GET / HTTP/1.1\r\n\r\n", True),
        (b"noise\r" + framed(b"MSH"), True),
        (b"n" * 5000, True),
    ],
)
def test_a_line_before_the_first_block_is_foreign_whatever_the_pieces(
    stream: bytes, is_foreign: bool, size: int
):
    framing = Framing(100)

    for at in range(0, len(stream), size):
        framing.feed(stream[at : at + size])

    assert framing.is_foreign == is_foreign
    assert len(framing._before) < 5100
