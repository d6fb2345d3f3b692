"""Checkpoints compared with the log, each at the moment when the log has its size.

* A checkpoint of the database that does not fit shows leaves that were changed, not signed anew.
* One from outside that does not fit, where all inside fits, shows a log that was written anew and
  signed with the stolen key: it forked from what was witnessed.
* One from outside that is larger than the log shows that the log was cut, or that the whole
  database is an earlier one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from gateway.core.ledger import (
    Checkpoint,
    CheckpointInvalid,
    Frontier,
    read_verifier_key,
    root,
    verify_checkpoint,
)
from gateway.store.verification_report import FirstBad, Kind, Verification

STORED = "audit_checkpoints"
_LOG_TABLES = frozenset({"audit_events", "audit_leaves", "audit_nodes", STORED})
_NOT_SIGNED = "it is not signed by the key of this log"


@dataclass(frozen=True)
class OutsideNote:
    """A signed note that is kept outside the database.

    Attributes:
        place: `checkpoint file`, or who keeps it.
        row: Which one of several.
    """

    place: str
    row: str
    note: str


@dataclass
class _Span:
    """The sizes between which the log stopped to fit."""

    last_good: int = 0
    first_bad: int | None = None

    def add(self, size: int, *, fits: bool) -> None:
        if fits and self.first_bad is None:
            self.last_good = max(self.last_good, size)
        elif not fits and (self.first_bad is None or size < self.first_bad):
            self.first_bad = size


class CheckpointVerifier:
    """Follows a walk through the leaves and compares every checkpoint on the way.

    Args:
        verifier: The line of `audit.pub`.
        stored: Rows of `audit_checkpoints` by size.
        outside: Notes from outside the database.
        report: Takes the findings.
    """

    def __init__(
        self,
        verifier: str,
        stored: Iterator[Mapping[str, Any]],
        outside: list[OutsideNote],
        report: Verification,
    ) -> None:
        self._name, self._key = read_verifier_key(verifier)
        self._stored = stored
        self._next: Mapping[str, Any] | None = None
        self._report = report
        self._inside, self._beyond = _Span(), _Span()
        self._outside = self._opened_outside(outside)
        self.newest_size = 0

    def begin(self) -> None:
        """Read the first row; not before, since the snapshot has to come before any reading."""
        self._next = next(self._stored, None)

    def reached(self, frontier: Frontier) -> None:
        """Compare the checkpoints that commit to exactly the leaves walked so far."""
        while self._next is not None and self._next["size"] <= frontier.size:
            self._check_stored(self._next, frontier)
            self._next = next(self._stored, None)
        for note, opened in self._outside.pop(frontier.size, ()):
            fits = opened.root == root(frontier)
            self._beyond.add(frontier.size, fits=fits)
            if not fits:
                self._misfit(note.place, note.row, frontier.size, kind=self._kind_of_misfit())

    def next_after(self, size: int) -> int | None:
        """Give the size of the next checkpoint to be compared; None when there is no more."""
        sizes = [other for other in self._outside if other > size]
        if self._next is not None:
            sizes.append(max(self._next["size"], size + 1))
        return min(sizes, default=None)

    def finish(self, frontier: Frontier) -> None:
        """Take what commits to more leaves than there are, and say where it went wrong first."""
        while self._next is not None:
            if self._open_stored(self._next) is not None:
                self._too_few(STORED, str(self._next["size"]), self._next["size"], frontier.size)
            self._next = next(self._stored, None)
        for size, notes in sorted(self._outside.items()):
            for note, _ in notes:
                self._too_few(note.place, note.row, size, frontier.size)
                self._beyond.add(size, fits=False)
        self._report.first_bad = self._first_bad(frontier.size)

    # -- the database's own ------------------------------------------------------------------

    def _check_stored(self, row: Mapping[str, Any], frontier: Frontier) -> None:
        opened, size = self._open_stored(row), row["size"]
        if size != frontier.size:
            self._report.found(STORED, size, "the log has no such size")
            return
        self.newest_size = size
        fits = opened is not None and opened.root == root(frontier)
        if opened is not None and opened.size == size:
            self._inside.add(size, fits=fits)
            if not fits:
                self._misfit(STORED, str(size), size, kind=Kind.CHANGED)
        if _frontier_of(row) != frontier.to_hex():
            what = "its frontier is not that of the log"
            self._report.found(STORED, size, what, leaves=None if fits or not opened else size)

    def _open_stored(self, row: Mapping[str, Any]) -> Checkpoint | None:
        self._report.count("checkpoints")
        opened = self._open(str(row["note"]))
        if opened is None:
            self._report.found(STORED, row["size"], _NOT_SIGNED, kind=Kind.OTHER_KEY)
        elif opened.size != row["size"]:
            what = f"its note is about {opened.size} leaves"
            self._report.found(STORED, row["size"], what)
        return opened

    # -- those outside -----------------------------------------------------------------------

    def _opened_outside(
        self, outside: list[OutsideNote]
    ) -> dict[int, list[tuple[OutsideNote, Checkpoint]]]:
        by_size: dict[int, list[tuple[OutsideNote, Checkpoint]]] = {}
        for note in outside:
            self._report.count("checkpoints")
            opened = self._open(note.note)
            if opened is None:
                self._report.found(note.place, note.row, _NOT_SIGNED, kind=Kind.OTHER_KEY)
            else:
                by_size.setdefault(opened.size, []).append((note, opened))
        return by_size

    def _kind_of_misfit(self) -> Kind:
        is_whole = not any(each.table in _LOG_TABLES for each in self._report.findings)
        return Kind.FORKED if is_whole else Kind.CHANGED

    def _misfit(self, place: str, row: str, size: int, *, kind: Kind) -> None:
        what = f"its first {size} leaves are not those it commits to"
        self._report.found(place, row, what, leaves=size, kind=kind)

    def _too_few(self, place: str, row: str, size: int, there: int) -> None:
        what = f"it commits to {size} leaves; the log has {there}"
        self._report.found(place, row, what, leaves=size, kind=Kind.TRUNCATED)

    def _open(self, note: str) -> Checkpoint | None:
        try:
            return verify_checkpoint(note, self._key, origin=self._name)
        except CheckpointInvalid:
            return None

    # -- where it began ----------------------------------------------------------------------

    def _first_bad(self, size: int) -> FirstBad | None:
        """Name the first bad entry: exactly where a leaf shows it, else between checkpoints."""
        places = [
            FirstBad(each.kind, each.leaf, each.leaf)
            for each in self._report.findings
            if each.leaf is not None
        ]
        for span, places_of in ((self._inside, {STORED}), (self._beyond, None)):
            kind = self._kind_at(span.first_bad, places_of)
            if span.first_bad is None or kind is None:
                continue
            if kind is Kind.TRUNCATED:
                places.append(FirstBad(kind, size, size))
            else:
                places.append(FirstBad(kind, span.last_good, span.first_bad - 1))
        return min(places, key=lambda place: place.last_leaf, default=None)

    def _kind_at(self, size: int | None, places: set[str] | None) -> Kind | None:
        for each in self._report.findings:
            is_meant = each.table in places if places else each.table not in _LOG_TABLES
            if is_meant and each.leaves is not None and each.leaves == size:
                return each.kind
        return None


def tell_cut_from_rolled_back(report: Verification) -> None:
    """Call it rolled back where all that is wrong is that a checkpoint outside has more leaves.

    Somebody who only cuts the log leaves rows behind that are no longer on record.
    """
    cut = [each for each in report.findings if each.kind is Kind.TRUNCATED]
    if not cut or len(cut) < len(report.findings):
        return
    report.findings = [replace(each, kind=Kind.ROLLED_BACK) for each in cut]
    if report.first_bad is not None:
        report.first_bad = replace(report.first_bad, kind=Kind.ROLLED_BACK)


def _frontier_of(row: Mapping[str, Any]) -> object:
    try:
        return orjson.loads(str(row["frontier"]))
    except orjson.JSONDecodeError:
        return None
