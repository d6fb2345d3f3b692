"""Searching the AuditEvents: which way leads to them is chosen here, not left to the database.

Every search gives its events in the order of (recorded, number), newest first or oldest first, and
goes there by exactly one index: that of the patient, of the job, of a term (agent, model, purpose
…, see `gateway.core.audit_terms`), of refusals, of rare kinds, or of the time. The first of these
that is asked for leads; the others are compared with each event found. So no search
sorts more than the events of one job, and none reads more than what the leading one holds.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles

from gateway.core.audit_event import AGENT_SYSTEM
from gateway.core.audit_terms import agent_term
from gateway.store.packing import UNPACKED, told
from gateway.store.tables import (
    IS_RARE,
    IS_REFUSED,
    USUAL_EVENTS,
    audit_events,
    audit_leaves,
    audit_terms,
    credentials,
)

_STREAMED = 1000
_WELL = "0"
_ON_SQLITE = "sqlite"


@dataclass(frozen=True)
class AuditFilter:
    """Which AuditEvents a search wants; None, or nothing, means any.

    Attributes:
        not_patient: Anybody but this patient, and what is about nobody.
        outcome: Exactly this outcome.
        is_refused: Any outcome but success.
        event: Our own name of the event.
        events: One of these names.
        agent: Id or name of somebody who took part, to the letter.
        terms: Terms of `gateway.core.audit_terms`, all of which it has.
        written: Bytes that stand in the event, all of them; there is no index on them.
        written_any: Bytes of which one at least stands in the event.
        before_seq: The event that the page before ended with.
        is_ascending: Oldest first.
    """

    patient_key: str | None = None
    not_patient: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    outcome: str | None = None
    is_refused: bool = False
    event: str | None = None
    events: tuple[str, ...] = ()
    job_id: str | None = None
    agent: str | None = None
    terms: tuple[str, ...] = ()
    written: tuple[bytes, ...] = ()
    written_any: tuple[bytes, ...] = ()
    id: str | None = None
    action: str | None = None
    before_seq: int | None = None
    is_ascending: bool = False
    limit: int = 50


@dataclass(frozen=True)
class AuditRow:
    """One AuditEvent as stored; `leaf_index` is None until it is integrated."""

    seq: int
    recorded_ms: int
    event: str
    outcome: str
    patient_key: str | None
    job_id: str | None
    body: bytes
    leaf_index: int | None


_ROW = (
    audit_events.c.seq,
    audit_events.c.recorded_ms,
    audit_events.c.event,
    audit_events.c.outcome,
    audit_events.c.patient_key,
    audit_events.c.job_id,
    audit_events.c.body,
    audit_leaves.c.leaf_index,
)


def search(connection: sa.Connection, wanted: AuditFilter) -> list[AuditRow]:
    """Give a page of matching AuditEvents."""
    return [_row(each) for each in connection.execute(query_of(connection, wanted))]


def within(
    connection: sa.Connection,
    kinds: Collection[str],
    spans: Iterable[tuple[int, int]],
    *,
    limit: int,
) -> list[AuditRow]:
    """Give AuditEvents of rare kinds that were recorded within spans of time.

    Args:
        connection: In a transaction.
        kinds: Their names; none is one of `USUAL_EVENTS`.
        spans: First and last millisecond of each, the last left out; the latest span first.
        limit: Most events.
    """
    found: list[AuditRow] = []
    for since_ms, until_ms in spans:
        values = {"kinds": list(kinds), "since": since_ms, "until": until_ms}
        rows = connection.execute(_WITHIN, {**values, "most": limit - len(found)})
        found += [_row(row) for row in rows]
        if len(found) == limit:
            break
    return found


def query_of(connection: sa.Connection, wanted: AuditFilter) -> sa.Select[Any]:
    """Give the statement of a search, for `search` and for whoever wants to see its plan."""
    way = _Way(connection, wanted)
    query = sa.select(*_ROW).select_from(
        way.source.outerjoin(audit_leaves, audit_leaves.c.audit_seq == audit_events.c.seq)
    )
    return way.through(query).where(*way.after()).order_by(*way.order).limit(wanted.limit)


def count(connection: sa.Connection, wanted: AuditFilter, *, most: int | None = None) -> int:
    """Count matching AuditEvents, `most` at most."""
    way = _Way(connection, wanted)
    found = way.through(sa.select(sa.literal(1)).select_from(way.source))
    if most is not None:
        found = found.limit(most)
    query = sa.select(sa.func.count()).select_from(found.subquery())
    return connection.execute(query).scalar_one()


def placed(connection: sa.Connection, wanted: AuditFilter, *, size: int) -> Iterator[AuditRow]:
    """Stream the matching AuditEvents among the first `size` leaves, in their order."""
    query = (
        sa.select(*_ROW)
        .join(audit_leaves, audit_leaves.c.audit_seq == audit_events.c.seq)
        .where(audit_leaves.c.leaf_index < size, *_criteria(connection, wanted))
        .order_by(audit_leaves.c.leaf_index)
    )
    found = connection.execute(query, execution_options={"yield_per": _STREAMED})
    for row in found:
        yield _row(row)


def _row(row: sa.Row[*tuple[Any, ...]]) -> AuditRow:
    return AuditRow(**{**row._mapping, "body": told(row.seq, row.body)})  # noqa: SLF001 - its documented name


# Built once: a year has hundreds of spans.
_WITHIN = (
    sa.select(*_ROW)
    .outerjoin(audit_leaves, audit_leaves.c.audit_seq == audit_events.c.seq)
    .where(
        audit_events.c.event.in_(sa.bindparam("kinds", expanding=True)),
        sa.text(IS_RARE),
        audit_events.c.recorded_ms >= sa.bindparam("since"),
        audit_events.c.recorded_ms < sa.bindparam("until"),
    )
    .order_by(audit_events.c.recorded_ms.desc(), audit_events.c.seq.desc())
    .limit(sa.bindparam("most"))
    .with_hint(audit_events, "INDEXED BY ix_audit_events_rare", _ON_SQLITE)
)


class _Way:
    """How one search goes to its events."""

    def __init__(self, connection: sa.Connection, wanted: AuditFilter) -> None:
        self._connection, self._wanted = connection, wanted
        self._term = self._leading_term()
        columns = audit_events.c if self._term is None else audit_terms.c
        self._times = (columns.recorded_ms, columns["seq" if self._term is None else "audit_seq"])
        self.order: Sequence[sa.ColumnElement[Any]] = [
            each.asc() if wanted.is_ascending else each.desc() for each in self._times
        ]

    def _leading_term(self) -> str | None:
        wanted = self._wanted
        if wanted.patient_key is not None or wanted.job_id is not None or wanted.id is not None:
            return None
        if wanted.terms:
            return wanted.terms[0]
        found = _agent_terms(self._connection, wanted.agent)
        return found[0] if len(found) == 1 else None

    @property
    def source(self) -> sa.FromClause:
        """Where from: the events alone, or the terms and then the event of each."""
        if self._term is None:
            return audit_events
        return audit_terms.join(audit_events, audit_events.c.seq == audit_terms.c.audit_seq)

    def through(self, query: sa.Select[Any]) -> sa.Select[Any]:
        """Add what is compared, and on SQLite by name the index that leads."""
        query = query.where(*_criteria(self._connection, self._wanted))
        if self._term is not None:
            # The join's own condition says so of the event; the index has to hear it of the term.
            spans = _span(self._wanted, audit_terms.c.recorded_ms)
            return query.where(audit_terms.c.term == self._term, *spans)
        name, condition = self._index()
        if not name:
            return query
        if condition:
            query = query.where(sa.text(condition))
        return query.with_hint(audit_events, f"INDEXED BY {name}", _ON_SQLITE)

    def _index(self) -> tuple[str, str]:
        """Give the leading index, and its condition, which has to stand in the query."""
        wanted = self._wanted
        if wanted.id is not None:
            # There is one way only: it is unique.
            return "", ""
        if wanted.patient_key is not None:
            return "ix_audit_events_patient", ""
        if wanted.job_id is not None:
            return "ix_audit_events_job_id", ""
        kinds = _kinds(wanted)
        if kinds and kinds.isdisjoint(USUAL_EVENTS):
            return "ix_audit_events_rare", IS_RARE
        if wanted.is_refused or wanted.outcome not in (None, _WELL):
            return "ix_audit_events_refused", IS_REFUSED
        return "ix_audit_events_recorded_ms", ""

    def after(self) -> list[sa.ColumnElement[bool]]:
        """Say what comes after the event that the page before ended with."""
        last = self._wanted.before_seq
        if last is None:
            return []
        known = sa.select(audit_events.c.recorded_ms).where(audit_events.c.seq == last)
        recorded_ms = self._connection.scalar(known)
        if recorded_ms is None:
            return [sa.false()]
        here = sa.tuple_(*self._times)
        there = sa.tuple_(sa.literal(recorded_ms), sa.literal(last))
        return [here > there if self._wanted.is_ascending else here < there]


def _kinds(wanted: AuditFilter) -> frozenset[str]:
    return frozenset(wanted.events if wanted.event is None else (wanted.event, *wanted.events))


def _criteria(connection: sa.Connection, wanted: AuditFilter) -> list[sa.ColumnElement[bool]]:
    columns = audit_events.c
    kinds = wanted.events
    pairs = (
        (wanted.patient_key, columns.patient_key == wanted.patient_key),
        (wanted.not_patient, columns.patient_key.is_distinct_from(wanted.not_patient)),
        (wanted.outcome, columns.outcome == wanted.outcome),
        (wanted.is_refused or None, columns.outcome != _WELL),
        (wanted.event, columns.event == wanted.event),
        (kinds or None, columns.event.in_(kinds)),
        (wanted.job_id, columns.job_id == wanted.job_id),
        (wanted.id, columns.id == wanted.id),
        (wanted.action, columns.action == wanted.action),
    )
    told = [criterion for value, criterion in pairs if value is not None]
    told += [_has_term(term) for term in wanted.terms]
    told += _span(wanted, columns.recorded_ms)
    told += [_holds(needle) for needle in wanted.written]
    if wanted.written_any:
        told.append(sa.or_(*(_holds(needle) for needle in wanted.written_any)))
    return told if wanted.agent is None else [*told, _has_agent(connection, wanted.agent)]


def _span(wanted: AuditFilter, recorded_ms: sa.ColumnElement[int]) -> list[sa.ColumnElement[bool]]:
    bounds = (
        (wanted.since_ms, recorded_ms >= (wanted.since_ms or 0)),
        (wanted.until_ms, recorded_ms < (wanted.until_ms or 0)),
    )
    return [bound for given, bound in bounds if given is not None]


def _has_term(*terms: str) -> sa.ColumnElement[bool]:
    same = (
        audit_terms.c.term.in_(terms),
        audit_terms.c.recorded_ms == audit_events.c.recorded_ms,
        audit_terms.c.audit_seq == audit_events.c.seq,
    )
    return sa.exists().where(*same).correlate(audit_events)


def _has_agent(connection: sa.Connection, agent: str) -> sa.ColumnElement[bool]:
    """Match the events in which somebody took part, by id or by name.

    Whoever has no term, such as a process of our own, stands in very many events: there the bodies
    are compared.
    """
    terms = _agent_terms(connection, agent)
    return _has_term(*terms) if terms else _names(agent)


def _agent_terms(connection: sa.Connection, agent: str | None) -> list[str]:
    """Give the terms on record of an agent of this id, or of credentials and users so named."""
    if agent is None:
        return []
    named = sa.select(credentials.c.id).where(credentials.c.name == agent)
    ids = [agent, f"os-user:{agent}", *connection.scalars(named)]
    terms = {agent_term(each) for each in ids}
    # One look for each: a list of all would read every entry of each.
    known = sa.select(sa.literal(1)).where(audit_terms.c.term == sa.bindparam("term")).limit(1)
    return sorted(term for term in terms if connection.scalar(known, {"term": term}))


def _names(agent: str) -> sa.ColumnElement[bool]:
    """Match bodies in which an agent stands as an identifier or a name, to the letter."""
    system, written = orjson.dumps(AGENT_SYSTEM), orjson.dumps(agent)
    needles = (
        b'"system":' + system + b',"value":' + written + b"}",
        b'"who":{"display":' + written + b",",
    )
    return sa.or_(*(_holds(needle) for needle in needles))


def _holds(needle: bytes) -> sa.ColumnElement[bool]:
    return _Contains(audit_events.c.body, sa.literal(needle))


class _Contains(sa.sql.functions.GenericFunction[bool]):
    """Say whether bytes contain other bytes."""

    type = sa.Boolean()
    inherit_cache = True


@compiles(_Contains, "sqlite")
def _contains_sqlite(element: _Contains, compiler: Any, **more: Any) -> str:  # noqa: ANN401
    body, needle = element.clauses
    kept, sought = compiler.process(body, **more), compiler.process(needle, **more)
    return f"instr({UNPACKED}({kept}), {sought}) > 0"


@compiles(_Contains, "postgresql")
def _contains_postgresql(element: _Contains, compiler: Any, **more: Any) -> str:  # noqa: ANN401
    body, needle = element.clauses
    return f"position({compiler.process(needle, **more)} in {compiler.process(body, **more)}) > 0"
