"""MLLP: whatever a connection sends in whatever pieces, the same blocks are found."""

from adapters.hl7v2.framing import Framing, framed
from tests.fuzz.target import Target

_MOST = 200


def run(data: bytes) -> None:
    """Feed bytes at once and one by one."""
    whole, slowly = Framing(_MOST), Framing(_MOST)
    blocks = whole.feed(data)
    pieces = [block for at in range(len(data)) for block in slowly.feed(data[at : at + 1])]
    assert [each.is_whole for each in pieces] == [each.is_whole for each in blocks]
    assert [each for each in pieces if each.is_whole] == [each for each in blocks if each.is_whole]
    assert all(len(block.content) <= _MOST for block in blocks if block.is_whole)
    assert whole.feed(b"\x1c\r" + framed(b"MSH"))[-1].content == b"MSH"


def seeds() -> list[bytes]:
    """Give blocks with and without noise."""
    two = framed(b"MSH|^~\\&|a\rPID|1\r") + b"noise" + framed(b"MSH|^~\\&|b\r")
    return [two, b"\x0bMSH|half" + two, framed(b"x" * 300), b"\x1c\r\x0b\x1c\x1c\r"]


TARGET = Target(run, seeds, longest=12_000)
