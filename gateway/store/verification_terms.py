"""Are the terms by which AuditEvents are found those that stand in their bodies?

While the log is walked through, what its events say is added up; the table is added up beside it.
Sums that agree mean that both hold the same, in whatever order, and cost no memory. Only when they
differ is each event looked at again, to name those that are not found by what they say.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from gateway.core.audit import AuditRecord, read_record
from gateway.core.audit_event import AuditEventMalformed
from gateway.store.packing import unpacked
from gateway.store.verification_report import Kind, Progress, Verification, rows

TABLE = "audit_terms"

_BATCH = 5000
_TERMS = "select term, recorded_ms, audit_seq from audit_terms"
_BY_EVENT = f"{_TERMS} order by audit_seq"
_EVENTS = "select seq, recorded_ms, body from audit_events order by seq"
_MASK = (1 << 64) - 1

Entry = tuple[str, int]


class TermsVerifier:
    """Adds up both sides and compares."""

    def __init__(self, connection: sa.Connection, report: Verification, progress: Progress) -> None:
        self._connection, self._report, self._progress = connection, report, progress
        self._said, self._count = 0, 0

    def add(self, seq: int, recorded_ms: int, record: AuditRecord) -> None:
        """Take what one event says."""
        for term in record.terms:
            # Python seeds the hash of texts anew in every process: nobody can aim at a sum.
            self._said = (self._said + hash((term, recorded_ms, seq))) & _MASK
            self._count += 1

    def finish(self) -> None:
        """Compare with the table."""
        kept = 0
        result = self._connection.execute(sa.text(_TERMS), execution_options={"yield_per": _BATCH})
        for number, (term, recorded_ms, seq) in enumerate(result):
            kept = (kept + hash((term, recorded_ms, seq))) & _MASK
            self._report.count(TABLE)
            if number % _BATCH == 0:
                self._progress(TABLE, number, self._count)
        self._progress(TABLE, self._count, self._count)
        if kept != self._said:
            self._name_what_differs()

    def _name_what_differs(self) -> None:
        kept = itertools.groupby(rows(self._connection, _BY_EVENT), key=_number)
        waiting, last = next(kept, None), 0
        for seq, expected in self._expected():
            while waiting is not None and waiting[0] < seq:
                self._invented(waiting[0])
                waiting = next(kept, None)
            found: set[Entry] = set()
            if waiting is not None and waiting[0] == seq:
                found = {(row["term"], row["recorded_ms"]) for row in waiting[1]}
                waiting = next(kept, None)
            self._compare(seq, expected, found)
            last = seq
        beyond = []
        while waiting is not None:
            beyond.append(waiting[0])
            self._invented(waiting[0])
            waiting = next(kept, None)
        self._tell_cut(last, beyond)

    def _tell_cut(self, last: int, beyond: Sequence[float]) -> None:
        """What is spoken of right after the last AuditEvent was there, and was cut off."""
        if beyond and beyond[0] == last + 1:
            what = f"AuditEvents up to {max(beyond)} are spoken of, and not there"
            size = self._report.size
            self._report.found("audit_events", last, what, kind=Kind.TRUNCATED, leaf=size)

    def _expected(self) -> Iterator[tuple[int, set[Entry] | None]]:
        """Give each event's number and terms; None where its body can't be read."""
        for row in rows(self._connection, _EVENTS):
            yield row["seq"], _entries(row["recorded_ms"], unpacked(row["body"]))

    def _compare(self, seq: int, expected: set[Entry] | None, found: set[Entry]) -> None:
        if expected is None:
            return
        if expected - found:
            what = "it is not found by all that its AuditEvent says"
            self._report.found(TABLE, seq, what, seq, kind=Kind.MISSING)
        if found - expected:
            what = "it is found by what its AuditEvent does not say"
            self._report.found(TABLE, seq, what, seq, kind=Kind.INVENTED)

    def _invented(self, seq: float) -> None:
        what = "there is no such AuditEvent"
        self._report.found(TABLE, seq, what, kind=Kind.INVENTED)


def _number(row: Mapping[str, Any]) -> float:
    """Give the number of an entry's event; what is none comes last, as the database sorts it."""
    number = row["audit_seq"]
    return number if isinstance(number, int) else math.inf


def _entries(recorded_ms: Any, body: bytes) -> set[Entry] | None:  # noqa: ANN401 - as it is stored
    try:
        return {(term, recorded_ms) for term in read_record(body).terms}
    except AuditEventMalformed:
        return None
