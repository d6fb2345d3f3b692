"""Every route of the OpenAPI document, asked by every role, with what no client should send."""

import random

from tests.fuzz.pushing import whatever_is_asked
from tests.fuzz.served import served
from tests.fuzz.target import Target


def run(data: bytes) -> None:
    """Make the call that hypothesis makes of these bytes."""
    whatever_is_asked.hypothesis.fuzz_one_input(data)


def seeds() -> list[bytes]:
    """Give bytes that calls are made of."""
    served()  # started before the first input, whose time counts
    chance = random.Random(5)  # noqa: S311 - no secret
    return [chance.randbytes(2**size) for size in range(8, 13)]


TARGET = Target(run, seeds, longest=4096)
