"""An incident as it has to be told: to CERT-In, to the Board, and to each patient; pure.

* CERT-In within 6 hours of noticing it (Directions of 28 April 2022);
* each affected patient without delay (DPDP Rules 2025, Rule 7(1)): nature, extent and timing; what
  it may mean for her; what is done; what she can do; whom she can ask;
* the Board without delay, and in detail within 72 hours of becoming aware (Rule 7(2)): facts,
  circumstances and reasons; measures; findings on who caused it; remedial measures; a report on
  what patients were told.

What only people know is marked as to be stated until they state it; what the log knows is counted.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from gateway.core.audit_entry import Entry
from gateway.core.privacy import Privacy

CERT_IN_AFTER = timedelta(hours=6)
BOARD_AFTER = timedelta(hours=72)
#: What stands where the officer has said nothing yet.
TO_BE_STATED = "To be stated."
#: Steps by which somebody looks at the log, or hands on what stands in it.
LOOKING = frozenset({"query", "read", "export", "verify"})
_MOST_BARS = 96
_BAR_SIZES = tuple(
    timedelta(minutes=minutes) for minutes in (1, 5, 15, 60, 180, 360, 720, 1440, 10_080)
)


@dataclass(frozen=True, kw_only=True)
class Statements:
    """What people say of an incident; empty where they have not yet.

    Attributes:
        nature: What kind of breach it was.
        reasons: Facts, circumstances and reasons that led to it.
        impact: What it may mean for patients.
        measures: What was done, and will be, to mitigate it.
        safety: What a patient can do.
        findings: On the person who caused it.
        remedial: Against its happening again.
        intimations: How and when patients were told.
        location: Where it happened.
    """

    nature: str = ""
    reasons: str = ""
    impact: str = ""
    measures: tuple[str, ...] = ()
    safety: tuple[str, ...] = ()
    findings: str = ""
    remedial: tuple[str, ...] = ()
    intimations: str = ""
    location: str = ""


@dataclass(frozen=True, kw_only=True)
class Scope:
    """Which part of the log the incident is about.

    Attributes:
        detected_at: When somebody became aware: both clocks run from here.
        about: What it was narrowed to, in words; empty where it is everything of that time.
    """

    since: datetime
    until: datetime
    detected_at: datetime
    about: str = ""


@dataclass(frozen=True)
class Deadline:
    """A clock that runs.

    Attributes:
        law: The provision.
        at: When it has run out.
    """

    to_whom: str
    law: str
    at: datetime

    def is_over(self, now: datetime) -> bool:
        """Say whether it has run out."""
        return now >= self.at

    def left(self, now: datetime) -> str:
        """Say how much is left, or by how much it is over, in hours and minutes."""
        span = abs(self.at - now)
        hours, minutes = divmod(int(span.total_seconds()) // 60, 60)
        return f"{hours} h {minutes:02} min " + ("over" if self.is_over(now) else "left")


@dataclass(frozen=True, kw_only=True)
class Incident:
    """Everything that is told of an incident.

    Attributes:
        id: Opaque; what its papers have in common.
        entries: What is on record of it, oldest first.
        looks: What the one who draws this up looked at meanwhile: on record, and no part of it.
        is_cut: Whether more is on record than is told here.
        patients: Keyed hash of each affected patient to how many entries are about her.
    """

    id: str
    made_at: datetime
    site: str
    scope: Scope
    statements: Statements
    privacy: Privacy | None
    entries: Sequence[Entry]
    is_cut: bool
    patients: Mapping[str, int] = field(default_factory=dict)
    looks: Sequence[Entry] = ()

    @property
    def deadlines(self) -> tuple[Deadline, Deadline]:
        """Both clocks, the shorter first."""
        noticed = self.scope.detected_at
        return (
            Deadline(
                "CERT-In", "CERT-In Directions of 28 April 2022: 6 hours", noticed + CERT_IN_AFTER
            ),
            Deadline(
                "Data Protection Board",
                "DPDP Rules 2025, Rule 7(2): 72 hours",
                noticed + BOARD_AFTER,
            ),
        )

    @property
    def first(self) -> datetime | None:
        """When the first thing on record of it happened."""
        return self.entries[0].at if self.entries else None

    @property
    def occurred(self) -> datetime:
        """When it happened: the first step on record, else from when on it was asked for."""
        return self.first or self.scope.since

    @property
    def doubt(self) -> str:
        """Say that somebody was aware before anything happened; empty where that is not so."""
        if self.first is None or self.scope.detected_at >= self.first:
            return ""
        return (
            "Somebody became aware before the first step on record: the clocks run from then. Is "
            "the time of detection right, or does the search begin too late?"
        )

    @property
    def last(self) -> datetime | None:
        """When the last thing on record of it happened."""
        return self.entries[-1].at if self.entries else None


def apart(entries: Sequence[Entry], officer: str) -> tuple[list[Entry], list[Entry]]:
    """Part what happened from what an officer looked at to find that out.

    Args:
        entries: What is on record.
        officer: Id of who draws the incident up.

    Returns:
        What happened, and the looks; each in the given order.
    """
    happened: list[Entry] = []
    looks: list[Entry] = []
    for each in entries:
        is_look = each.event in LOOKING and officer in {party.identifier for party in each.doers}
        (looks if is_look else happened).append(each)
    return happened, looks


def patients_of(entries: Sequence[Entry]) -> dict[str, int]:
    """Count the entries about each patient, most first."""
    found = Counter(each.patient_key for each in entries if each.patient_key)
    return {str(key): count for key, count in found.most_common()}


def by_kind(entries: Sequence[Entry]) -> list[tuple[str, str, int]]:
    """Count entries by step and how they ended, most first."""
    found = Counter((each.event, each.ended) for each in entries)
    return [(event, ended, count) for (event, ended), count in found.most_common()]


def by_person(entries: Sequence[Entry]) -> list[tuple[str, str, int, int]]:
    """Count entries and patients by who did it: name, id, entries, patients; most first."""
    done: Counter[tuple[str, str]] = Counter()
    whose: dict[tuple[str, str], set[str]] = {}
    for each in entries:
        for party in each.doers:
            who = (party.name, party.identifier)
            done[who] += 1
            whose.setdefault(who, set()).add(each.patient_key or "")
    return [
        (name, identifier, count, len(whose[name, identifier] - {""}))
        for (name, identifier), count in done.most_common()
    ]


def over_time(
    entries: Sequence[Entry], since: datetime, until: datetime
) -> list[tuple[datetime, int]]:
    """Count entries in equal spans of time, few enough to be drawn."""
    span = max(until - since, timedelta(minutes=1))
    size = next((each for each in _BAR_SIZES if span / each <= _MOST_BARS), span / _MOST_BARS)
    counts = [0] * max(1, -(-span // size))
    for each in entries:
        place = (each.at - since) // size
        if 0 <= place < len(counts):
            counts[place] += 1
    return [(since + size * place, count) for place, count in enumerate(counts)]
