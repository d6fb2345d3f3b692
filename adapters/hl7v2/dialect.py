"""How one feed writes, and what was odd about a message."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

from adapters.hl7v2.problems import Code, Place

LocalCodes = Mapping[tuple[str, str], tuple[str, str]]

_MOST_NOTES = 20


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How a feed writes.

    Attributes:
        zone: Of times that name none.
        charset: Of messages that name none, in the words of table 0211.
        authorities: Assigning authorities and their URIs.
        code_systems: Names of coding systems and their URIs.
        local_codes: (system, code) of the hospital to (system, code) in LOINC.
    """

    zone: ZoneInfo
    charset: str = "UNICODE UTF-8"
    authorities: Mapping[str, str] = field(default_factory=dict)
    code_systems: Mapping[str, str] = field(default_factory=dict)
    local_codes: LocalCodes = field(default_factory=dict)


@dataclass(frozen=True)
class Note:
    """What was left out of a message that was taken.

    Attributes:
        says: In words; never a value of the message.
    """

    code: Code
    place: Place
    says: str


@dataclass
class Notes:
    """What was left out of one message, the first few of it."""

    found: list[Note] = field(default_factory=list)

    def add(self, code: Code, place: Place, says: str) -> None:
        """Note something, once."""
        note = Note(code, place, says)
        if note not in self.found and len(self.found) < _MOST_NOTES:
            self.found.append(note)
