r"""Escape sequences of text: `\F\ \S\ \T\ \R\ \E\ \P\`, `\Xhh…\`, `\.br\` and its like.

What says how text looks and not what it says (highlighting, indentation) is left out; a sequence
that is not known stays as it is written, so nothing is lost. Switches of the character set are
`adapters.hl7v2.switching`.

Source: HL7 v2.9 2.7 "Use of escape sequences in text fields".
"""

import re
from dataclasses import dataclass
from functools import cached_property

from adapters.hl7v2 import switching

_LINES = re.compile(r"\.(br|sp|ce|fi|nf|in|ti|sk)([+-]?\d{1,3})?$")
_HEX = re.compile(r"X((?:[0-9A-Fa-f]{2})+)$")
_MOST_LINES = 100


@dataclass(frozen=True)
class Separators:
    """The characters that divide a message, from its MSH-1 and MSH-2.

    Attributes:
        codec: Codec of the character set that the message is in.
    """

    field: str = "|"
    component: str = "^"
    repetition: str = "~"
    escape: str = "\\"
    subcomponent: str = "&"
    truncation: str = ""
    codec: str = "utf-8"

    @property
    def encoding(self) -> str:
        """MSH-2."""
        parts = (self.component, self.repetition, self.escape, self.subcomponent, self.truncation)
        return "".join(parts)

    @cached_property
    def _sequences(self) -> dict[str, str]:
        return {
            "F": self.field,
            "S": self.component,
            "R": self.repetition,
            "E": self.escape,
            "T": self.subcomponent,
            "P": self.truncation or "#",
            "H": "",
            "N": "",
        }

    @cached_property
    def _pattern(self) -> "re.Pattern[str]":
        mark = re.escape(self.escape)
        return re.compile(f"{mark}([^{mark}]{{1,200}}){mark}")

    @cached_property
    def _switches(self) -> "re.Pattern[str]":
        mark = re.escape(self.escape)
        return re.compile(f"{mark}([CM](?:[0-9A-Fa-f]{{2}}){{2,3}}){mark}")

    def unescape(self, text: str) -> str:
        """Give what a text says."""
        if not self.escape or self.escape not in text:
            return text
        first, *switched = self._switches.split(text)
        parts = [self._plain(first)]
        for name, rest in zip(switched[::2], switched[1::2], strict=True):
            known = switching.switched(name, rest, self.codec)
            mark = f"{self.escape}{name}{self.escape}" if known is None else ""
            parts.append(mark + self._plain(rest if known is None else known))
        return "".join(parts)

    def still_switches(self, text: str) -> bool:
        """Say whether a text that was read holds a switch that could not be followed."""
        return bool(self.escape and self.escape in text and self._switches.search(text))

    def _plain(self, text: str) -> str:
        return self._pattern.sub(self._replaced, text)

    def escaped(self, text: str) -> str:
        """Write a text so that it divides nothing."""
        mark = self.escape
        marks = {value: f"{mark}{key}{mark}" for key, value in self._sequences.items() if value}
        marks |= dict.fromkeys("\r\n", f"{mark}.br{mark}")
        if not self.truncation:
            marks.pop("#", None)
        return "".join(marks.get(each, each) for each in text)

    def _replaced(self, found: "re.Match[str]") -> str:
        name = found[1]
        if name in self._sequences:
            return self._sequences[name]
        lines = _LINES.match(name)
        if lines:
            return _layout(lines[1], lines[2])
        written = _HEX.match(name)
        return _of_bytes(bytes.fromhex(written[1])) if written else found[0]


def _layout(command: str, count: str | None) -> str:
    """Give the line breaks and blanks of a formatting command."""
    number = min(abs(int(count)) if count else 1, _MOST_LINES)
    if command in {"br", "ce"}:
        return "\n"
    if command == "sp":
        return "\n" * number
    return " " * number if command == "sk" else ""


def _of_bytes(content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")
