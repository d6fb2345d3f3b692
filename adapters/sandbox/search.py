"""Search: from a query string to the records that match it, in order.

Values of one parameter separated by commas are alternatives; parameters are all required. What
this EHR does not know it refuses (400), as FHIR asks of a careful server, unless the caller says
that unknown parameters are to be ignored, as many EHRs do.

Source: FHIR R4 search (http://hl7.org/fhir/R4/search.html).
"""

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl

from adapters.sandbox.dates import PREFIXES, Range, parse_range
from adapters.sandbox.keys import Token, normal_reference
from adapters.sandbox.parameters import Parameter, parameters_of
from adapters.sandbox.refusal import Refusal
from adapters.sandbox.store import Record, Store

Pairs = Sequence[tuple[str, str]]
Matches = Callable[[Record], bool]

DEFAULT_COUNT = 50
MAX_COUNT = 1000
_COMMA = re.compile(r"(?<!\\),")
_PREFIX_LENGTH = 2
_DATE_RANGE_MS = 1000
#: Parameters of the answer's form, accepted and without effect on what matches.
_SILENT = frozenset({"_format", "_pretty", "_total", "_elements"})


@dataclass(frozen=True)
class Query:
    """A parsed query on one type.

    Attributes:
        matches: All have to hold.
        indexed: Alternatives that the index can look up; None when there are none.
        since_us: Records last changed before this can't match.
        sort: Names, the leading `-` kept.
        includes: Names of the references whose targets come along.
    """

    resource_type: str
    matches: tuple[Matches, ...]
    indexed: tuple[Token, ...] | None
    ids: tuple[str, ...] | None
    since_us: int | None
    sort: tuple[str, ...]
    count: int
    is_summary: bool
    includes: tuple[str, ...] = ()


def parse_pairs(query: str) -> Pairs:
    """Split a query string or form body into decoded pairs; empty values are dropped."""
    return parse_qsl(query)


def parse_query(
    resource_type: str,
    pairs: Pairs,
    *,
    ignore_unknown: bool = False,
    ignored: Collection[str] = (),
    count: int = DEFAULT_COUNT,
    max_count: int = MAX_COUNT,
) -> Query:
    """Parse the parameters of a search.

    Args:
        resource_type: Type searched.
        pairs: Decoded names and values.
        ignore_unknown: Let pass what this EHR does not know, which then matches everything.
        ignored: Known parameters to pass over all the same.
        count: Matches on a page where the search does not say.
        max_count: Matches on a page, whatever the search says.

    Raises:
        Refusal: A parameter is unknown or its value can't be read (400).
    """
    counts = (min(count, max_count), max_count)
    builder = _Builder(resource_type, ignore_unknown=ignore_unknown, counts=counts)
    for name, value in pairs:
        if name not in ignored:
            builder.add(name, value)
    return builder.build()


def run(store: Store, query: Query) -> list[Record]:
    """Give the matching records, newest change first unless the query sorts otherwise."""
    found = [
        record
        for record in _candidates(store, query)
        if all(matches(record) for matches in query.matches)
    ]
    for name in reversed(query.sort):
        _sort(found, name)
    return found


class _Builder:
    """Collects a query while its parameters are read one by one."""

    def __init__(
        self, resource_type: str, *, ignore_unknown: bool, counts: tuple[int, int]
    ) -> None:
        """Begin a query; `counts` are the matches on a page, and the most that may be asked for."""
        self._type = resource_type
        self._table = parameters_of(resource_type)
        self._ignore_unknown = ignore_unknown
        self._matches: list[Matches] = []
        self._indexed: tuple[Token, ...] | None = None
        self._ids: tuple[str, ...] | None = None
        self._since_us: int | None = None
        self._sort: tuple[str, ...] = ()
        self._count, self._max_count = counts
        self._is_summary = False
        self._includes: list[str] = []

    def add(self, name: str, value: str) -> None:
        """Take in one parameter."""
        special = {
            "_id": self._add_id,
            "_count": self._add_count,
            "_sort": self._add_sort,
            "_summary": self._add_summary,
            "_lastUpdated": self._add_last_updated,
            "_include": self._add_include,
        }.get(name)
        if special:
            special(value)
        elif name in self._table:
            self._add_value(self._table[name], value)
        elif name not in _SILENT and not self._ignore_unknown:
            raise Refusal(400, "not-supported", "This EHR does not know that search parameter.")

    def build(self) -> Query:
        """Give what was collected."""
        return Query(
            self._type,
            tuple(self._matches),
            self._indexed,
            self._ids,
            self._since_us,
            self._sort,
            self._count,
            self._is_summary,
            tuple(self._includes),
        )

    def _add_include(self, value: str) -> None:
        of_type, _, name = value.partition(":")
        parameter = self._table.get(name)
        if of_type != self._type or parameter is None or parameter.kind != "reference":
            raise Refusal(400, "not-supported", "This EHR can't include that.")
        self._includes.append(name)

    def _add_id(self, value: str) -> None:
        self._ids = tuple(_alternatives(value))

    def _add_count(self, value: str) -> None:
        if not value.isdecimal():
            raise Refusal(400, "value", "_count is not a number.")
        self._count = min(int(value), self._max_count)
        self._is_summary = self._is_summary or self._count == 0

    def _add_sort(self, value: str) -> None:
        self._sort = tuple(value.split(","))
        known = {"_lastUpdated", "_id"} | {
            each.name for each in self._table.values() if each.kind == "date"
        }
        if any(name.removeprefix("-") not in known for name in self._sort):
            raise Refusal(400, "not-supported", "This EHR can't sort by that parameter.")

    def _add_summary(self, value: str) -> None:
        if value not in {"count", "false"}:
            raise Refusal(400, "not-supported", "This EHR knows _summary=count and =false only.")
        self._is_summary = value == "count"

    def _add_last_updated(self, value: str) -> None:
        prefix, wanted = _split_date(value)
        compare = PREFIXES[prefix]
        self._matches.append(lambda record: compare(_updated(record), wanted))
        if prefix in {"gt", "ge", "eq", "sa"}:
            self._since_us = max(wanted[0], self._since_us or 0)

    def _add_value(self, parameter: Parameter, value: str) -> None:
        if parameter.kind == "date":
            self._matches.append(_date_match(parameter.name, value))
        elif parameter.kind == "string":
            self._matches.append(_string_match(parameter.name, value))
        else:
            wanted = tuple(_wanted_token(parameter, each) for each in _alternatives(value))
            self._matches.append(_token_match(wanted))
            if parameter.is_indexed and all(None not in each for each in wanted):
                self._indexed = tuple((name, str(sys), str(code)) for name, sys, code in wanted)


def _candidates(store: Store, query: Query) -> Iterable[Record]:
    """Narrow down by the cheapest way that the query allows."""
    if query.ids is not None:
        named = (store.current(query.resource_type, each) for each in dict.fromkeys(query.ids))
        return [record for record in named if record and not record.is_deleted]
    if query.indexed is not None:
        found = {
            record.id: record
            for token in query.indexed
            for record in store.having(query.resource_type, token)
        }
        return sorted(found.values(), key=lambda record: record.sequence, reverse=True)
    return _since(store.newest_first(query.resource_type), query.since_us)


def _since(newest_first: Iterable[Record], since_us: int | None) -> Iterable[Record]:
    """Stop where everything that follows is too old."""
    for record in newest_first:
        if since_us is not None and _updated(record)[1] <= since_us:
            return
        yield record


def _sort(found: list[Record], name: str) -> None:
    bare = name.removeprefix("-")
    is_descending = name.startswith("-")
    if bare == "_lastUpdated":
        found.sort(key=lambda record: record.sequence, reverse=is_descending)
    elif bare == "_id":
        found.sort(key=lambda record: record.id, reverse=is_descending)
    else:
        # Undated records go last whichever way the dated ones are sorted.
        dated = [(starts, each) for each in found if (starts := _starts(each, bare)) is not None]
        undated = [each for each in found if _starts(each, bare) is None]
        dated.sort(key=lambda pair: pair[0], reverse=is_descending)
        found[:] = [record for _, record in dated] + undated


def _starts(record: Record, name: str) -> int | None:
    return next((each[0] for key, each in record.keys.dates if key == name), None)


def _updated(record: Record) -> Range:
    start = record.updated_ms * 1000
    return start, start + _DATE_RANGE_MS


def _alternatives(value: str) -> Iterable[str]:
    return (each.replace("\\,", ",") for each in _COMMA.split(value))


def _wanted_token(parameter: Parameter, value: str) -> tuple[str, str | None, str | None]:
    """Read a token or reference value; None stands for "any"."""
    if parameter.kind == "reference":
        is_bare = "/" not in value and bool(parameter.default_type)
        full = f"{parameter.default_type}/{value}" if is_bare else normal_reference(value)
        return parameter.name, "", full
    if "|" not in value:
        return parameter.name, None, value
    system, _, code = value.partition("|")
    return parameter.name, system, code or None


def _token_match(wanted: Sequence[tuple[str, str | None, str | None]]) -> Matches:
    exact = frozenset(each for each in wanted if None not in each)
    loose = [each for each in wanted if None in each]

    def matches(record: Record) -> bool:
        tokens = record.keys.tokens
        if any(token in exact for token in tokens):
            return True
        return any(_fits(token, each) for each in loose for token in tokens)

    return matches


def _fits(token: Token, wanted: tuple[str, str | None, str | None]) -> bool:
    return all(want is None or have == want for have, want in zip(token, wanted, strict=True))


def _date_match(name: str, value: str) -> Matches:
    alternatives = [_split_date(each) for each in _alternatives(value)]

    def matches(record: Record) -> bool:
        ranges = [each for key, each in record.keys.dates if key == name]
        return any(
            PREFIXES[prefix](each, wanted) for prefix, wanted in alternatives for each in ranges
        )

    return matches


def _split_date(value: str) -> tuple[str, Range]:
    prefix = value[:_PREFIX_LENGTH] if value[:_PREFIX_LENGTH] in PREFIXES else ""
    wanted = parse_range(value.removeprefix(prefix))
    if wanted is None:
        raise Refusal(400, "value", "A date of the search can't be read.")
    return prefix or "eq", wanted


def _string_match(name: str, value: str) -> Matches:
    wanted = tuple(each.casefold() for each in _alternatives(value))
    return lambda record: any(
        key == name and text.startswith(wanted) for key, text in record.keys.strings
    )
