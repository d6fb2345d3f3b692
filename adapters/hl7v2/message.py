"""A message as its segments, fields, repetitions and components; texts are unescaped.

`hl7` divides it; what is not there is an empty text, so a mapping may ask for anything. A field
that says `""` says that there is no value (any more): it is empty too.

Source: HL7 v2.9 chapter 2.5, 2.6; batches 2.10.3.
"""

import re
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import hl7

from adapters.hl7v2.charsets import decoded
from adapters.hl7v2.escapes import Separators
from adapters.hl7v2.problems import Code, Hl7Problem, Place

_LINE_END = re.compile(r"\r\n|\r|\n")
_NAME = re.compile(r"[A-Z][A-Z0-9]{2}$")
_MARKS = frozenset(string.punctuation)
# An answer that repeats them could end too early.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
#: What says that there is no value (any more).
NULL = '""'
#: Digits of a number of messages, and more than any batch has.
_LONGEST_COUNT = 10
_ENVELOPE = ("FHS", "BHS", "BTS", "FTS")
#: Field separator and at least the three first characters of MSH-2.
_SHORTEST_HEADER = 7


@dataclass(frozen=True)
class Value:
    """One repetition of a field.

    Attributes:
        components: Its components, each with its subcomponents.
    """

    components: tuple[tuple[str, ...], ...] = ()

    def text(self, component: int = 1, subcomponent: int = 1) -> str:
        """Give a component or subcomponent, by their numbers from 1."""
        if component > len(self.components):
            return ""
        found = self.components[component - 1]
        return found[subcomponent - 1] if subcomponent <= len(found) else ""

    def component(self, number: int) -> "Value":
        """Give a component as a value of its own, its subcomponents as components."""
        found = self.components[number - 1] if number <= len(self.components) else ()
        return Value(tuple((each,) for each in found))

    def __bool__(self) -> bool:
        return any(text for parts in self.components for text in parts)


_NOTHING = Value()


@dataclass(frozen=True)
class Segment:
    """One segment.

    Attributes:
        name: `PID` and so on.
        place: Which one of its name it is.
        fields: For each field its repetitions; the first is field 1.
    """

    name: str
    place: Place
    fields: tuple[tuple[Value, ...], ...]

    def values(self, field: int) -> tuple[Value, ...]:
        """Give the repetitions of a field that say something."""
        found = self.fields[field - 1] if 0 < field <= len(self.fields) else ()
        return tuple(each for each in found if each)

    def value(self, field: int) -> Value:
        """Give the first repetition of a field that says something."""
        return next(iter(self.values(field)), _NOTHING)

    def text(self, field: int, component: int = 1, subcomponent: int = 1) -> str:
        """Give a component of the first repetition of a field."""
        return self.value(field).text(component, subcomponent)

    def at(self, field: int) -> Place:
        """Say where a field is."""
        return Place(self.place.segment, self.place.sequence, field)


@dataclass(frozen=True)
class Message:
    """One message.

    Attributes:
        segments: In order; the first is MSH.
        separators: What divides it.
        head: Its MSH as it was sent, decoded.
    """

    segments: tuple[Segment, ...]
    separators: Separators
    head: str

    @cached_property
    def header(self) -> Segment:
        """MSH."""
        return self.segments[0]

    @property
    def kind(self) -> str:
        """Message code, `ORU`."""
        return self.header.text(9)

    @property
    def event(self) -> str:
        """Trigger event, `R01`."""
        return self.header.text(9, 2)

    @property
    def control_id(self) -> str:
        """MSH-10, the whole of it, as it was sent: the sender compares it with what it wrote."""
        return self.as_sent(10)

    def as_sent(self, field: int) -> str:
        """Give a field of MSH (2 or higher) as it was sent, escapes and all.

        Only control characters are left out.
        """
        fields = self.head.split(self.separators.field)
        return _CONTROL.sub("", fields[field - 1]) if field <= len(fields) else ""

    def of(self, name: str) -> Iterator[Segment]:
        """Give the segments of a name."""
        return (each for each in self.segments if each.name == name)

    def first(self, name: str) -> Segment | None:
        """Give the first segment of a name."""
        return next(self.of(name), None)


def split_batch(content: bytes) -> list[bytes]:
    """Divide a batch or a file of batches into its messages; a message alone stays as it is."""
    lines = [line for line in re.split(rb"\r\n|\r|\n", content) if line.strip()]
    if not lines or lines[0][:3].decode("latin-1") not in _ENVELOPE:
        return [content]
    messages: list[list[bytes]] = []
    for line in lines:
        name = line[:3].decode("latin-1")
        if name == "MSH":
            messages.append([line])
        elif messages and name not in _ENVELOPE:
            messages[-1].append(line)
    return [b"\r".join(each) + b"\r" for each in messages]


def batch_complaint(content: bytes, found: int) -> str:
    """Say that a batch is not whole, by its trailers; empty where nothing speaks against it.

    Args:
        content: A batch, or a file of batches.
        found: How many messages are in it.
    """
    lines = [line for line in re.split(rb"\r\n|\r|\n", content) if line.strip()]
    counts = [_batch_count(line) for line in lines if line.startswith(b"BTS")]
    begun = sum(line.startswith(b"BHS") for line in lines)
    if len(counts) < begun:
        return f"The batch has no end (BTS); {found} were found: was it cut short?"
    told = sum(count for count in counts if count is not None)
    if None not in counts and counts and told != found:
        return f"BTS says {told} messages; {found} were found: was it cut short?"
    return ""


def _batch_count(trailer: bytes) -> int | None:
    """Give what BTS-1 counts; None where it says nothing that is a number."""
    written = trailer[4:].split(trailer[3:4] or b"|")[0].strip()
    return int(written) if written.isdigit() and len(written) < _LONGEST_COUNT else None


def parsed(content: bytes, *, charset: str = "UNICODE UTF-8") -> Message:
    """Read a message.

    Args:
        content: Its bytes; segments may end with CR, LF or both.
        charset: Its character set, in the words of table 0211, where MSH-18 is empty.

    Raises:
        Hl7Problem: It is no HL7 v2 message.
    """
    text, codec = decoded(content, charset)
    lines = [line for line in _LINE_END.split(text) if line.strip()]
    if not lines or not lines[0].startswith("MSH") or len(lines[0]) < _SHORTEST_HEADER:
        says = "The message does not begin with an MSH segment."
        raise Hl7Problem(Code.SEGMENT_SEQUENCE, Place(), says)
    separators = _separators(lines[0], codec)
    try:
        divided = hl7.parse("\r".join(lines))
    except (hl7.HL7Exception, AssertionError, IndexError, ValueError) as error:
        says = "MSH-1 and MSH-2 do not say how the message is divided."
        raise Hl7Problem(Code.DATA_TYPE, Place("MSH", 1, 2), says) from error
    return Message(tuple(_segments(divided, separators)), separators, lines[0])


def _separators(header: str, codec: str) -> Separators:
    encoding = header[4:].split(header[3], maxsplit=1)[0]
    characters = header[3] + encoding
    is_clear = len(set(characters)) == len(characters) and set(characters) <= _MARKS
    if not is_clear or not 3 <= len(encoding) <= 5:  # noqa: PLR2004
        says = "MSH-1 and MSH-2 have to name four to six different marks of ASCII."
        raise Hl7Problem(Code.DATA_TYPE, Place("MSH", 1, 2), says)
    marks = Separators(*characters, *([""] * (5 - len(encoding))))
    return replace(marks, codec=codec)


def _segments(divided: Sequence[Sequence[object]], separators: Separators) -> Iterator[Segment]:
    seen: dict[str, int] = {}
    for fields in divided:
        name = str(fields[0])
        if not _NAME.match(name):
            says = "A segment does not begin with a name of three capital letters or digits."
            raise Hl7Problem(Code.SEGMENT_SEQUENCE, Place(_last(seen), 1), says)
        seen[name] = seen.get(name, 0) + 1
        if name == "MSH" and seen[name] > 1:
            says = "A second MSH stands in the message; several go as a batch (BHS)."
            raise Hl7Problem(Code.SEGMENT_SEQUENCE, Place("MSH", 2), says)
        read = tuple(_repetitions(field, separators) for field in fields[1:])
        yield Segment(name, Place(name, seen[name]), read)


def _last(seen: dict[str, int]) -> str:
    return next(reversed(seen), "MSH")


def _repetitions(field: object, separators: Separators) -> tuple[Value, ...]:
    if isinstance(field, str):
        return (_value([field], separators),)
    listed = field if isinstance(field, Sequence) else ()
    return tuple(_value([each] if isinstance(each, str) else each, separators) for each in listed)


def _value(components: Sequence[object], separators: Separators) -> Value:
    return Value(tuple(_subcomponents(each, separators) for each in components))


def _subcomponents(component: object, separators: Separators) -> tuple[str, ...]:
    listed = [component] if isinstance(component, str) else component
    texts = (str(each).strip() for each in (listed if isinstance(listed, Sequence) else ()))
    return tuple("" if text == NULL else readable(separators.unescape(text)) for text in texts)


def readable(text: str) -> str:
    """Leave out control characters, which FHIR does not take; any other blank is a space."""
    if text.isprintable():
        return text.strip()
    kept = (
        " " if each.isspace() and each not in "\t\n" else each
        for each in text.replace("\r", "\n")
        if each.isprintable() or each.isspace()
    )
    return "".join(kept).strip()


def header_alone(content: bytes) -> Message | None:
    """Read the MSH of a message that can't be read as a whole; None where it has none.

    It says who is to be answered and how.
    """
    first = _LINE_END.split(content.decode("latin-1").lstrip("\xef\xbb\xbf \r\n"))[0]
    try:
        return parsed(first.encode("ascii", "replace"), charset="ASCII")
    except Hl7Problem:
        return None
