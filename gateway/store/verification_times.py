"""Do the times of the log's entries follow each other as those of one clock do?

An entry that says it was recorded long before those on both sides of it was put there later. A
clock that was set back shows as many such entries in a row: that is told, and is no finding. With
PostgreSQL entries come from several machines, whose clocks may differ: then it is only told.
"""

from gateway.store.verification_report import Kind, Verification

#: Entries of slow transactions come late by less than this.
TOLERANCE_MS = 15 * 60 * 1000
#: More entries in a row than this are those of a clock that was set back.
_MOST_INSERTED = 16


class TimesVerifier:
    """Follows a walk through the leaves."""

    def __init__(self, report: Verification, *, is_one_clock: bool) -> None:
        self._report = report
        self._is_one_clock = is_one_clock
        self._latest_ms = 0
        self._early: list[tuple[int, int]] = []
        self._early_count = 0

    def add(self, leaf: int, seq: int, recorded_ms: object) -> None:
        """Take the time of the next entry."""
        if not isinstance(recorded_ms, int):
            return
        if recorded_ms < self._latest_ms - TOLERANCE_MS:
            self._early_count += 1
            if len(self._early) < _MOST_INSERTED:
                self._early.append((leaf, seq))
            return
        if self._early:
            self._returned()
        self._latest_ms = max(self._latest_ms, recorded_ms)

    def finish(self) -> None:
        """Tell of entries at the end that are early; nobody can say why."""
        if self._early:
            self._note()

    def _returned(self) -> None:
        if self._is_one_clock and self._early_count <= _MOST_INSERTED:
            for leaf, seq in self._early:
                what = "it says it was recorded long before the entries around it"
                self._report.found("audit_events", seq, what, seq, kind=Kind.BACK_DATED, leaf=leaf)
        else:
            self._note()
        self._early, self._early_count = [], 0

    def _note(self) -> None:
        self._report.notes.append(
            f"{self._early_count} entries from leaf {self._early[0][0]} on carry times long before "
            "the one that precedes them: the clock was set back, or differs between machines."
        )
