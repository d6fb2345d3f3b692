"""FHIR dates as half-open ranges of microseconds, as search compares them.

A date without time stands for the whole day (month, year) in UTC; a time stands for its last
given digit, so `10:00:00` is a second long and `10:00:00.5` a tenth of one.

Source: FHIR R4 search, section 3.1.1.4.7 (http://hl7.org/fhir/R4/search.html#date).
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

Range = tuple[int, int]

_FORM = re.compile(
    r"(?P<year>\d{4})(-(?P<month>\d\d)(-(?P<day>\d\d)"
    r"(?P<time>T\d\d:\d\d(?P<second>:\d\d(\.(?P<fraction>\d+))?)?(?P<zone>Z|[+-]\d\d:\d\d)?)?)?)?"
)
_SECOND_US = 1_000_000
_DAY_US = 86_400 * _SECOND_US
_LAST_MONTH = 12
_FRACTION_DIGITS = 6
#: Ends of the range of a period that is open on one side.
BEGINNING = -(1 << 62)
END = 1 << 62

#: Search prefix -> does a resource's range match the value's range?
PREFIXES: Mapping[str, Callable[[Range, Range], bool]] = {
    "eq": lambda it, value: value[0] <= it[0] and it[1] <= value[1],
    "ne": lambda it, value: not (value[0] <= it[0] and it[1] <= value[1]),
    "gt": lambda it, value: it[1] > value[1],
    "ge": lambda it, value: it[1] > value[0],
    "lt": lambda it, value: it[0] < value[0],
    "le": lambda it, value: it[0] < value[1],
    "sa": lambda it, value: it[0] >= value[1],
    "eb": lambda it, value: it[1] <= value[0],
}


def parse_range(text: str) -> Range | None:
    """Turn a FHIR date, dateTime or instant into its range; None when it is none of them."""
    form = _FORM.fullmatch(text)
    if form is None:
        return None
    try:
        return _timed(text, form) if form["time"] else _whole_days(form)
    except ValueError:
        return None


def _timed(text: str, form: re.Match[str]) -> Range:
    moment = datetime.fromisoformat(text)
    start = _microseconds(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    if not form["second"]:
        return start, start + 60 * _SECOND_US
    digits = min(len(form["fraction"] or ""), _FRACTION_DIGITS)
    return start, start + 10 ** (_FRACTION_DIGITS - digits)


def _whole_days(form: re.Match[str]) -> Range:
    year, month, day = (int(form[part] or 1) for part in ("year", "month", "day"))
    start = datetime(year, month, day, tzinfo=UTC)
    if form["day"]:
        return _microseconds(start), _microseconds(start) + _DAY_US
    is_year_end = not form["month"] or month == _LAST_MONTH
    end = datetime(year + is_year_end, 1 if is_year_end else month + 1, 1, tzinfo=UTC)
    return _microseconds(start), _microseconds(end)


def _microseconds(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
