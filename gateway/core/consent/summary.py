"""One consent in a line, and what all consents of a patient come to for a purpose.

For people and for counting; what may be done with data is never decided by these.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from gateway.core.consent.judging import judge
from gateway.core.consent.matching import OF_RESOURCE, Condition, ForPurpose, HoldsDuring
from gateway.core.consent.periods import Period
from gateway.core.consent.record import ConsentRecord, Rule
from gateway.core.consent.request import ConsentRequest


class Says(StrEnum):
    """What a consent is, by its base rule."""

    PERMITS = "permits"
    DENIES = "denies"
    REFUSES_AI = "refuses AI"
    UNREADABLE = "can't be read"
    UNRELIABLE = "denies all, since it can't be relied on"


class Covered(StrEnum):
    """What all consents of a patient come to for one purpose."""

    REFUSES_AI = "refuses AI"
    DENIED = "denied"
    PERMITTED = "permitted"
    LIMITED = "some data"
    ENDED = "ended"
    NOT_IN_FORCE = "not in force"
    NOTHING = "nothing said"


@dataclass(frozen=True)
class Summary:
    """A consent in a line.

    Attributes:
        purposes: What for; empty means any.
        is_limited: Whether it speaks of some data only.
        starts: When it begins to hold; None where it has no beginning.
        ends: When it no longer holds; None while it has no end.
        state: Whether it is in force, in words.
    """

    ref: str
    says: Says
    purposes: tuple[str, ...]
    is_limited: bool
    starts: datetime | None
    ends: datetime | None
    state: str

    @property
    def is_in_force(self) -> bool:
        """Whether it counts now."""
        return self.state == _IN_FORCE


_IN_FORCE = "in force"


def summary(record: ConsentRecord, now: datetime) -> Summary:
    """Put a consent into a line."""
    # What can't be relied on, or states no rule, denies whatever it may have been meant for.
    is_whole = not (record.doubts or record.silence)
    conditions = record.rule.conditions if is_whole else ()
    purposes = (each.codes for each in conditions if isinstance(each, ForPurpose))
    return Summary(
        ref=record.ref,
        says=_says(record),
        purposes=tuple(sorted(frozenset().union(*purposes))),
        is_limited=is_whole and _is_limited(record),
        starts=max((each.starts for each in _periods(record) if each.starts), default=None),
        ends=_ends(record),
        state=_state(record, now),
    )


def _is_limited(record: ConsentRecord) -> bool:
    stated = (each for rule in record.limiting for each in rule.stated)
    return any(each.element in OF_RESOURCE for each in stated)


def _says(record: ConsentRecord) -> Says:
    if not record.is_readable:
        return Says.UNREADABLE
    if record.refuses_ai:
        return Says.REFUSES_AI
    if record.doubts:
        return Says.UNRELIABLE
    return Says.PERMITS if record.rule.is_permit else Says.DENIES


def _ends(record: ConsentRecord) -> datetime | None:
    ends = [period.ends for period in _periods(record) if period.ends]
    if record.terms.until is not None:
        ends.append(record.terms.until)
    return min(ends, default=None)


def _periods(record: ConsentRecord) -> list[Period]:
    held = (each.period for each in record.rule.conditions if isinstance(each, HoldsDuring))
    return [period for period in held if period is not None]


def _state(record: ConsentRecord, now: datetime) -> str:
    if not record.is_readable:
        return "denies all, since it can't be read"
    if record.status != "active":
        return f"not in force (status {record.status})"
    if record.terms.stopped:
        return record.terms.stopped.rstrip(".")
    ends = _ends(record)
    if ends is not None and now >= ends:
        return "ended"
    is_early = any(period.starts and now < period.starts for period in _periods(record))
    return "not yet in force" if is_early else _IN_FORCE


def coverage(records: Sequence[ConsentRecord], purpose: str, now: datetime) -> Covered:
    """Say what all consents of one patient come to for a purpose, whatever the data."""
    patient = next((each.patient for each in records if each.patient), "")
    request = ConsentRequest(patient, purpose, now)
    found = [judge(record, request) for record in records]
    denying = [each for each in found if each.verdict == "deny"]
    if denying:
        refuses = any(each.record.refuses_ai for each in denying)
        return Covered.REFUSES_AI if refuses else Covered.DENIED
    verdicts = {each.verdict for each in found}
    if "permit" in verdicts:
        return Covered.PERMITTED
    held = [each.record for each in found if each.verdict == "withhold"]
    if held:
        return _of_held(held, request)
    is_elsewhen = any(_would_speak(record, request) for record in records)
    return Covered.NOT_IN_FORCE if is_elsewhen else Covered.NOTHING


def _of_held(records: Iterable[ConsentRecord], request: ConsentRequest) -> Covered:
    is_ended = all(record.terms.why_not(request) for record in records)
    return Covered.ENDED if is_ended else Covered.LIMITED


def _would_speak(record: ConsentRecord, request: ConsentRequest) -> bool:
    """Say whether a consent that says nothing now would, were it in force.

    A draft and one that was entered in error never said anything.
    """
    if record.status not in _SAID:
        return False
    always = replace(record, status="active", rule=_timeless(record.rule))
    return judge(always, request).verdict != "silent"


_SAID = frozenset({"active", "inactive", "rejected"})


def _timeless(rule: Rule) -> Rule:
    return replace(
        rule,
        stated=_without_periods(rule.stated),
        conditions=_without_periods(rule.conditions),
        rules=tuple(map(_timeless, rule.rules)),
    )


def _without_periods(conditions: Sequence[Condition]) -> tuple[Condition, ...]:
    return tuple(each for each in conditions if not isinstance(each, HoldsDuring))
