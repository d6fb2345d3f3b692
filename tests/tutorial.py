"""A tutorial's page as a new user follows it: its files are written, its commands typed, in order.

* A block of `sh` is typed into one shell, as it stands. `make install` is not: what it would
  install is what runs the test.
* A block of `text` after it is what the page promises to be shown: each line is on as many lines
  of the output as it is promised, `…` for anything. A line `…` alone says that there may be more of
  them. What comes a little later is looked for again, by the block's last command.
* Any other block is a file, by the last name with an ending in the paragraph before it.
"""

import re
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"`([\w.-]+\.\w+)`")
_INSTALLS = "make install\n"
_END = "this-was-the-end-of-a-block"
_ANYTHING = "…"
_GAP = re.compile(rf"\s*{_ANYTHING}\s*")
_WITHIN_S = 120.0


@dataclass(frozen=True)
class Step:
    """One block.

    Attributes:
        kind: `sh`, `text`, or that of a file.
        file: Name of the file; empty for the others.
    """

    kind: str
    text: str
    file: str = ""


def steps(page: str) -> Iterator[Step]:
    """Give the blocks of a page."""
    end = 0
    for found in _BLOCK.finditer(page):
        kind, text = found[1], found[2]
        named = _FILE.findall(page[end : found.start()])
        end = found.end()
        is_file = kind not in {"sh", "text"}
        yield Step(kind, text, named[-1] if is_file else "")


class Shell:
    """The terminal of whoever follows."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._bash = subprocess.Popen(
            ["bash", "--norc"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def type(self, commands: str) -> list[str]:
        """Type commands; give the lines that were shown."""
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        self._bash.stdin.write(f"{{\n{commands}\n}} < /dev/null\necho; echo {_END}\n")
        self._bash.stdin.flush()
        shown = []
        while (line := self._bash.stdout.readline().rstrip("\n")) != _END:
            assert self._bash.poll() is None, "\n".join(shown)
            shown.append(" ".join(line.split()))
        return shown

    def close(self) -> None:
        """Leave it."""
        self._bash.communicate("exit\n")


def follow(page: Sequence[Step], shell: Shell, folder: Path) -> None:
    """Follow a page from its second block on, with Nadi started by the one before.

    Raises:
        AssertionError: Something is not shown as the page promises.
    """
    for step, after in zip(page, [*page[1:], Step("", "")], strict=True):
        if step.file:
            (folder / step.file).write_text(step.text)
        elif step.kind == "sh":
            _follow(step.text, after.text if after.kind == "text" else "", shell)


def _follow(commands: str, promise: str, shell: Shell) -> None:
    before, last = _parted(commands.replace(_INSTALLS, ""))
    shown = shell.type(before) if before else []
    until = time.monotonic() + _WITHIN_S
    while missing := _missing(promise, found := shown + (shell.type(last) if last else [])):
        assert last, missing
        assert time.monotonic() < until, f"{missing} is not shown by:\n{commands}\n{found}"
        time.sleep(1)


def _parted(commands: str) -> tuple[str, str]:
    """Part the last command from those before it, where its last line is one."""
    before, _, last = commands.rstrip("\n").rpartition("\n")
    for text in (before, last):
        if subprocess.run(["bash", "-n", "-c", text], capture_output=True, check=False).returncode:
            return commands, ""
    return before, last


def _missing(promise: str, shown: Sequence[str]) -> str:
    """Give the first line of a promise that is not kept; empty where all are."""
    lines = [" ".join(line.split()) for line in promise.splitlines() if line.strip()]
    there_is_more = _ANYTHING in lines
    for line, count in Counter(line for line in lines if line != _ANYTHING).items():
        wanted = re.compile(".*".join(map(re.escape, _GAP.split(line))))
        found = sum(wanted.search(each) is not None for each in shown)
        if found < count or (found > count and not there_is_more):
            return f"{line!r}, {count} times (but {found} times)"
    return ""
