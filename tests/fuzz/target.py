"""What is fuzzed: one parser, the inputs that it starts from, and how it may refuse.

A target is one small file in `tests/fuzz/targets`. Everything else that a parser raises than its
refusals, and everything that its promise (an `assert` in `run`) does not hold for, is a finding;
so is an input that takes more than `SLOW_S` seconds of CPU.
"""

import importlib
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SLOW_S = 2.0
SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
_TARGETS = Path(__file__).parent / "targets"


@dataclass(frozen=True)
class Target:
    """One parser to be fuzzed.

    Attributes:
        run: Gives bytes to the parser and checks what it promises.
        seeds: Gives inputs that it takes, to start from.
        refusals: How it may refuse.
        longest: Bytes of the longest input worth trying.
    """

    run: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    refusals: tuple[type[BaseException], ...] = ()
    longest: int = 16_384


def names() -> list[str]:
    """Every target, by the name of its file."""
    return sorted(path.stem for path in _TARGETS.glob("*.py"))


def load(name: str) -> Target:
    """Import a target."""
    found: Target = importlib.import_module(f"tests.fuzz.targets.{name}").TARGET
    return found


def shared(pattern: str, *, most: int = 40, largest: int = 16_384) -> list[bytes]:
    """Small files of the shared data, spread over all that there are; none where there is none."""
    found = [path for path in sorted(SHARED.glob(pattern)) if 0 < path.stat().st_size <= largest]
    return [path.read_bytes() for path in found[:: max(1, len(found) // most)]]


@cache
def scratch() -> Path:
    """A file for parsers that read files, gone when the process ends."""
    folder = tempfile.TemporaryDirectory(prefix="nadi-fuzz-")
    _kept.append(folder)
    return Path(folder.name) / "input"


def as_file(content: bytes) -> Path:
    """Write bytes into a file that the next call overwrites."""
    path = scratch()
    path.write_bytes(content)
    return path


_kept: list[tempfile.TemporaryDirectory[str]] = []
