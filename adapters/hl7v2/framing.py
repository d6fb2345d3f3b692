"""MLLP: a message between a start block and an end block, whatever the pieces it arrives in.

What stands before a start block is dropped, as is a block that another start block cuts short. A
block that is larger than allowed is dropped too, except for its beginning, which says who sent it.

Source: HL7 MLLP release 1: <VT> message <FS><CR>.
"""

from dataclasses import dataclass

START, END = b"\x0b", b"\x1c\r"
#: So much is kept of a block that is too large: its header is in it.
_HEAD_BYTES = 4096
_LINE_ENDS = (b"\r", b"\n")


@dataclass(frozen=True)
class Block:
    """A message as it came.

    Attributes:
        content: Its bytes, or the first of them where it was too large.
        is_whole: Whether it was not too large.
    """

    content: bytes
    is_whole: bool = True


class Framing:
    """Finds the blocks in what one connection sends."""

    def __init__(self, max_bytes: int) -> None:
        """Begin a connection.

        Args:
            max_bytes: The largest message.
        """
        self._max_bytes = max_bytes
        self._buffer = bytearray()
        self._is_inside = False
        self._is_whole = True
        self._has_begun = False
        self._before = b""
        self.dropped = 0

    @property
    def is_inside(self) -> bool:
        """Whether a block has begun and not ended."""
        return self._is_inside

    @property
    def is_foreign(self) -> bool:
        """Whether this is not MLLP: a whole line, or very much, came before the first block."""
        is_line = any(end in self._before for end in _LINE_ENDS)
        return is_line or len(self._before) > _HEAD_BYTES

    def feed(self, piece: bytes) -> list[Block]:
        """Take what arrived; give the blocks that are complete now."""
        self._buffer += piece
        found: list[Block] = []
        while (block := self._next()) is not None:
            found.append(block)
        return found

    def _next(self) -> Block | None:
        if not self._is_inside and not self._begin():
            return None
        end = self._buffer.find(END)
        # A new start block before the end: the sender gave the message before it up.
        again = self._buffer.rfind(START, 0, end if end >= 0 else len(self._buffer))
        if again >= 0:
            self.dropped += again + 1
            del self._buffer[: again + 1]
            self._is_whole = True
            return self._next()
        if end < 0:
            self._shorten()
            return None
        return self._cut(end)

    def _begin(self) -> bool:
        start = self._buffer.find(START)
        gone = len(self._buffer) if start < 0 else start
        self.dropped += len(self._buffer[:gone].strip())
        if not self._has_begun and not self.is_foreign:
            self._before = (self._before + self._buffer[:gone]).lstrip()
        self._has_begun |= start >= 0
        del self._buffer[: gone + 1 if start >= 0 else gone]
        self._is_inside, self._is_whole = start >= 0, True
        return self._is_inside

    def _cut(self, end: int) -> Block:
        content = bytes(self._buffer[:end])
        del self._buffer[: end + len(END)]
        self._is_inside = False
        if self._is_whole and len(content) <= self._max_bytes:
            return Block(content)
        return Block(content[:_HEAD_BYTES], is_whole=False)

    def _shorten(self) -> None:
        """Let go of what is too much, but of the last byte, which may begin the end."""
        if len(self._buffer) <= self._max_bytes + 1:
            return
        self._is_whole = False
        if len(self._buffer) > _HEAD_BYTES:
            last = self._buffer[-1:] if self._buffer.endswith(END[:1]) else b""
            # No byte of the beginning may seem to begin the end together with what comes next.
            self._buffer = self._buffer[:_HEAD_BYTES].rstrip(END[:1]) + last


def framed(message: bytes) -> bytes:
    """Put a message between the blocks."""
    return START + message + END
