"""What a verification found, and in which words."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypedDict, Unpack

import sqlalchemy as sa

#: Called with the name of the phase, and how many of how many rows are done.
Progress = Callable[[str, int, int], None]

_BATCH = 2000


class Kind(StrEnum):
    """In which way something is not as it was recorded."""

    CHANGED = "changed"
    MISSING = "missing"
    INVENTED = "invented"
    REORDERED = "reordered"
    BACK_DATED = "back-dated"
    TRUNCATED = "truncated"
    ROLLED_BACK = "rolled back"
    FORKED = "forked"
    OTHER_KEY = "signed with another key"


@dataclass(frozen=True, order=True)
class Finding:
    """One thing that is not as it was recorded.

    Attributes:
        table: Table, or `checkpoint file`.
        row: Its key.
        what: What is wrong with it; never a patient value.
        audit_event: Number of the AuditEvent that shows it, if one does.
        leaves: Of a checkpoint that is sound but no longer fits the log: how many it commits to.
        kind: In which way it is not.
        leaf: Its place in the log, of an entry of it.
    """

    table: str
    row: str
    what: str
    audit_event: int | None = None
    leaves: int | None = None
    kind: Kind = Kind.CHANGED
    leaf: int | None = None


@dataclass(frozen=True)
class FirstBad:
    """Where the log first differs from what was signed.

    Attributes:
        first_leaf: The first bad entry, or the first that may be it.
        last_leaf: The last that may be it; the same where it is known exactly.
    """

    kind: Kind
    first_leaf: int
    last_leaf: int


class _More(TypedDict, total=False):
    leaves: int | None
    kind: Kind
    leaf: int | None


@dataclass
class Verification:
    """What was looked at and what was found."""

    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    counted: dict[str, int] = field(default_factory=dict)
    size: int = 0
    root: bytes = b""
    first_bad: FirstBad | None = None

    @property
    def holds(self) -> bool:
        """Whether everything is as it was recorded."""
        return not self.findings

    def found(
        self,
        table: str,
        row: object,
        what: str,
        audit_event: int | None = None,
        **more: Unpack[_More],
    ) -> None:
        """Put a finding on the list."""
        self.findings.append(Finding(table, str(row), what, audit_event, **more))

    def count(self, what: str, number: int = 1) -> None:
        """Count what was looked at."""
        self.counted[what] = self.counted.get(what, 0) + number


def rows(connection: sa.Connection, query: str) -> Iterator[Mapping[str, Any]]:
    """Stream rows as the database holds them: no type of ours may hide a changed value."""
    result = connection.execute(sa.text(query), execution_options={"yield_per": _BATCH})
    for row in result.mappings():
        yield dict(row)


def as_bytes(value: object) -> bytes:
    """Give a value as bytes, whatever type it was turned into."""
    return bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode()
