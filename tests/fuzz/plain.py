"""Mutations without coverage: for the short slice in `make test`, and where atheris is not.

The same number gives the same inputs.
"""

import random
from collections.abc import Iterator, Sequence

_WORDS = (
    b"null",
    b"true",
    b"[]",
    b"{}",
    b'""',
    b"-0",
    b"1e400",
    b"1E+2",
    b"9" * 30,
    b"9" * 4400,
    b'"\\ud800"',
    b"\\u0000",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\x00",
    b"[" * 2000,
    b'{"a":' * 60,
    b"<" * 50,
    b"\r\n",
    b"\n\n",
    b"%00",
    b"\xe2\x80\x94 ",
    b"0001-01-01",
    b"9999-12-31T23:59:59-14:00",
)


def mutations(seeds: Sequence[bytes], number: int, *, longest: int) -> Iterator[bytes]:
    """Give the seeds, then mutations of them without end."""
    yield from seeds
    chance = random.Random(number)  # noqa: S311 - no secret
    while True:
        data = chance.choice(seeds)
        for _ in range(chance.randint(1, 4)):
            data = _changed(data, seeds, chance)
        yield data[:longest]


def _changed(data: bytes, seeds: Sequence[bytes], chance: random.Random) -> bytes:
    start, end = sorted(chance.randint(0, len(data)) for _ in range(2))
    word, other = chance.choice(_WORDS), chance.choice(seeds)
    return chance.choice(
        (
            _flipped(data, chance),
            data[:start] + data[min(end, start + 40) :],  # a piece away
            data[:end] + data[start:],  # a piece twice
            data[:start] + word + data[start:],
            data[:start] + word + data[min(end, start + 20) :],
            data[:start] + other[chance.randint(0, len(other)) :],
            data[:end],
        )
    )


def _flipped(data: bytes, chance: random.Random) -> bytes:
    """Turn one bit."""
    if not data:
        return b"\0"
    at = chance.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]
