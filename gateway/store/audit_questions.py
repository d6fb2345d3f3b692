"""The questions of a compliance officer, asked of the audit log.

Each goes by one index (see `audit_search`) to what it is about, and gives an `Answer`: nothing is
asked of the tables beside the log, but how an EHR names a patient and which versions a resource
had. Whoever asks puts it on record, for each patient in the answer.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from gateway.core.audit_answers import (
    ACCESSES,
    BREAKING_GLASS,
    CONFIGURING,
    DISCLOSING,
    ENDING,
    REVIEWING_GLASS,
    Answer,
    Json,
    counted,
    disclosure,
    lifted,
    review_of,
    row_of,
    told_of_consent,
    who_saw,
)
from gateway.core.audit_entry import Entry, read_entry
from gateway.core.audit_event import CREDENTIAL_SYSTEM, RESOURCE_SYSTEM
from gateway.core.audit_terms import refusal_of
from gateway.core.canary import CANARY_PATIENT, CANARY_SYSTEM
from gateway.core.clock import from_ms, to_ms
from gateway.core.errors import NotFound
from gateway.core.working_hours import WorkingHours
from gateway.store.audit_search import AuditFilter, AuditRow, search, within
from gateway.store.identity import named_key
from gateway.store.packing import told
from gateway.store.patient_names import patients_named
from gateway.store.tables import audit_events, audit_terms, events, models

if TYPE_CHECKING:
    from gateway.store.unit_of_work import UnitOfWork

#: Most events of one patient that are read for an answer that needs all of them.
MOST_OF_A_PATIENT = 100_000
#: Most events that are taken to be of one millisecond.
MOST_AT_ONCE = 1000
#: By what a consent came to be that may be taken back.
_SAYING = ("consent-record", "consent-import", "erase")
_REFUSALS = ("refused:", "refused;")


@dataclass(frozen=True)
class Named:
    """A resource as its system names it."""

    system: str
    resource_type: str
    resource_id: str


@dataclass(frozen=True)
class Asked:
    """What a question is about; which of it is needed depends on the question."""

    patient_key: str | None = None
    resource: Named | None = None
    model: str | None = None
    hours: WorkingHours | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    before_seq: int | None = None
    limit: int = 50
    with_canary: bool = False

    def filter(self, **more: Any) -> AuditFilter:  # noqa: ANN401 - fields of AuditFilter
        """Give the search that this asks for."""
        given = {"before_seq": self.before_seq, "limit": self.limit, **more}
        return AuditFilter(since_ms=self.since_ms, until_ms=self.until_ms, **given)


class AuditQuestions:
    """Answers within one unit of work."""

    def __init__(self, uow: "UnitOfWork") -> None:
        self._uow = uow

    def patient(self, asked: Asked) -> Answer:
        """Tell everything about one patient, oldest first."""
        rows = self._search(asked.filter(patient_key=asked.patient_key, is_ascending=True))
        of_consents = AuditFilter(patient_key=asked.patient_key, events=_SAYING, is_ascending=True)
        what = lifted(_entries(self._search(replace(of_consents, limit=MOST_AT_ONCE))))
        told = [{**row_of(each), **told_of_consent(each, what)} for each in _entries(rows)]
        return self._answer(asked, rows, told)

    def who(self, asked: Asked) -> Answer:
        """Tell who or what had to do with a patient's data, or with one resource."""
        if asked.resource is None:
            key, versions = asked.patient_key, None
        else:
            key, versions = self.versions(asked.resource)
        wanted = asked.filter(patient_key=key, limit=MOST_OF_A_PATIENT, before_seq=None)
        entries = _entries(self._search(wanted))
        if versions is not None:
            entries = (each for each in entries if versions & _touched(each))
        return Answer(groups=who_saw(entries), patients=frozenset({key}))

    def refusals(self, asked: Asked) -> Answer:
        """Tell what was refused or failed, by reason, and the newest one by one.

        A denial and the job that ended by it are one refusal, told where the job ended. The canary
        is refused all day: hers are counted, and told one by one only where that is asked.
        """
        hers = self._uow.sealer.patient_key(CANARY_SYSTEM, CANARY_PATIENT)
        without = None if asked.with_canary else hers
        # Enough for a page even where each of them left two events.
        most = 2 * asked.limit
        rows = self._search(asked.filter(is_refused=True, not_patient=without, limit=most))
        ended = {each.job_id for each in self._of_jobs(rows, ENDING)}
        emergencies = self._emergencies(asked)
        shown = [
            row
            for row in rows
            if row.event != "consent"
            or (row.job_id not in ended and (row.recorded_ms, row.patient_key) not in emergencies)
        ]
        page, last_seq = shown[: asked.limit], None
        if len(shown) > asked.limit:
            last_seq = page[-1].seq
        elif len(rows) == most:
            last_seq = rows[-1].seq
        told = self._told(page, decision=self._denials(page))
        groups = counted(self._refusals_by_reason(asked)) if asked.before_seq is None else ()
        return replace(self._answer(asked, page, told), groups=groups, last_seq=last_seq)

    def _emergencies(self, asked: Asked) -> set[tuple[int, str | None]]:
        """Say when break-glass was refused to whom: its denial of consent is the same refusal."""
        wanted = asked.filter(events=(BREAKING_GLASS,), is_refused=True, limit=MOST_AT_ONCE)
        return {(row.recorded_ms, row.patient_key) for row in self._search(wanted)}

    def _denials(self, rows: Sequence[AuditRow]) -> dict[str | None, str]:
        """Give the ids of the events by which jobs that ended were denied."""
        ending = [row for row in rows if row.event in ENDING]
        found = self._of_jobs(ending, ("consent",))
        return {each.job_id: each.id for each in found if each.outcome != "0"}

    def results(self, asked: Asked) -> Answer:
        """Tell every run of one version of a model, newest first, and what became of it."""
        rows = self._of_model(asked)
        written = self._of_jobs(rows, ("deliver",))
        where = {each.job_id: each.doers[0].name for each in written if each.outcome == "0"}
        return self._answer(asked, rows, self._told(rows, written_to=where))

    def break_glass(self, asked: Asked) -> Answer:
        """Tell every use of break-glass with its review, newest first."""
        rows = self._search(asked.filter(events=(BREAKING_GLASS,)))
        reviews = {each.job_id: each for each in self._of_jobs(rows, (REVIEWING_GLASS,))}
        told = []
        for entry, row in zip(_entries(rows), self._told(rows, with_facts=True), strict=True):
            found = reviews.get(entry.job_id) if entry.job_id else None
            told.append({**row, "review": review_of(entry, found)})
        return self._answer(asked, rows, told)

    def out_of_hours(self, asked: Asked) -> Answer:
        """Tell the accesses outside working hours, newest first."""
        rows = self._outside(asked)
        return self._answer(asked, rows, self._told(rows))

    def configuration(self, asked: Asked) -> Answer:
        """Tell what was changed in the configuration and by whom, newest first."""
        rows = self._search(asked.filter(events=CONFIGURING))
        told = [
            row_of(
                each,
                version=each.facts.get("version"),
                credential=each.names.get(CREDENTIAL_SYSTEM),
            )
            for each in _entries(rows)
        ]
        return self._answer(asked, rows, told)

    def disclosures(self, asked: Asked) -> Answer:
        """Account for every time a patient's data went to somebody else, newest first."""
        wanted = asked.filter(patient_key=asked.patient_key, events=DISCLOSING, outcome="0")
        rows = self._search(wanted)
        permitted = self._of_jobs(rows, ("consent",))
        purposes = {
            each.job_id: each.purpose
            for each in permitted
            if each.facts.get("stage") == "deliver" and each.job_id and each.purpose
        }
        return self._answer(
            asked, rows, [disclosure(each, purposes=purposes) for each in _entries(rows)]
        )

    # -- the ways to the events ----------------------------------------------------------------

    def _search(self, wanted: AuditFilter) -> list[AuditRow]:
        return search(self._uow.connection, wanted)

    def _of_model(self, asked: Asked) -> list[AuditRow]:
        """Give the runs of a model: by its digest where the register knows that version."""
        name, _, version = str(asked.model).partition("@")
        columns = models.c
        registered = sa.select(columns.digest).where(
            columns.name == name, columns.version == version
        )
        digests = self._uow.connection.scalars(registered).all()
        terms = [f"digest:{digest}" for digest in digests] or [f"model:{asked.model}"]
        found = [
            row
            for term in terms
            for row in self._search(asked.filter(terms=(term,), events=("infer",)))
        ]
        # A version that was registered again has two digests.
        found.sort(key=lambda row: (row.recorded_ms, row.seq), reverse=True)
        return found[: asked.limit]

    def _of_jobs(self, rows: Sequence[AuditRow], kinds: tuple[str, ...]) -> list[Entry]:
        """Give the events of some kinds of the jobs that rows belong to."""
        ids = sorted({row.job_id for row in rows if row.job_id})
        columns = audit_events.c
        query = sa.select(columns.seq, columns.event, columns.body).where(
            columns.job_id.in_(ids), columns.event.in_(kinds)
        )
        found = self._uow.connection.execute(query.order_by("seq"))
        return [read_entry(seq, event, told(seq, body)) for seq, event, body in found]

    def _refusals_by_reason(self, asked: Asked) -> Iterator[tuple[str, str, int, str]]:
        columns, (first, end) = audit_terms.c, _REFUSALS
        query = sa.select(columns.term, sa.func.count(), sa.func.max(columns.recorded_ms)).where(
            columns.term >= first, columns.term < end
        )
        if asked.since_ms is not None:
            query = query.where(columns.recorded_ms >= asked.since_ms)
        if asked.until_ms is not None:
            query = query.where(columns.recorded_ms < asked.until_ms)
        for term, times, last_ms in self._uow.connection.execute(query.group_by(columns.term)):
            last = from_ms(last_ms).isoformat(timespec="milliseconds")
            yield *refusal_of(term), times, last.replace("+00:00", "Z")

    def _outside(self, asked: Asked) -> list[AuditRow]:
        """Give a page of the accesses in the spans outside working hours."""
        assert asked.hours is not None  # noqa: S101 - the caller has seen to it
        connection, columns = self._uow.connection, audit_events.c
        first = connection.scalar(sa.select(sa.func.min(columns.recorded_ms))) or 0
        newest = connection.scalar(sa.select(sa.func.max(columns.recorded_ms))) or 0
        until = min(asked.until_ms or newest + 1, newest + 1)
        limit, last = asked.limit, asked.before_seq
        if last is not None:
            known = connection.scalar(sa.select(columns.recorded_ms).where(columns.seq == last))
            until = min(until, (known or 0) + 1)
            # Those of the same millisecond that the page before had are left out below.
            limit += MOST_AT_ONCE
        since = max(asked.since_ms or 0, first)
        closed = asked.hours.closed(from_ms(since), from_ms(max(since, until)))
        spans = ((to_ms(begin), to_ms(end)) for begin, end in closed)
        rows = within(connection, ACCESSES, spans, limit=limit)
        if last is not None:
            rows = [row for row in rows if (row.recorded_ms, row.seq) < (until - 1, last)]
        return rows[: asked.limit]

    def versions(self, resource: Named) -> tuple[str | None, frozenset[str]]:
        """Give whose a resource is, and everything by which the log names its versions.

        Raises:
            NotFound: It was never received.
        """
        sealer, columns = self._uow.sealer, events.c
        name = named_key(sealer, resource.system, resource.resource_type, resource.resource_id)
        plain = f"{resource.resource_type}/{resource.resource_id}"
        current = sa.select(columns.patient_key).where(
            columns.resource_key == name, columns.is_current
        )
        found = self._uow.connection.execute(current).first()
        if found is None:
            raise NotFound(f"{resource.resource_type} of this id was never received.")
        versions = sa.select(columns.id, columns.version_id).where(
            columns.patient_key == found.patient_key,
            columns.resource_type == resource.resource_type,
            columns.resource_key == name,
        )
        known = list(self._uow.connection.execute(versions))
        references = [plain, *(f"{plain}/_history/{row.version_id}" for row in known)]
        hashed = {
            sealer.keyed_hash("resource-version", resource.system, each) for each in references
        }
        return found.patient_key, frozenset(hashed | {row.id for row in known})

    # -- the answer ----------------------------------------------------------------------------

    def _told(
        self,
        rows: Sequence[AuditRow],
        *,
        with_facts: bool = False,
        **of_jobs: Mapping[str | None, str],
    ) -> list[Json]:
        """Give rows for people; `of_jobs` says by name what else is known of each one's job."""
        names = patients_named(self._uow, {row.patient_key for row in rows})
        told = []
        for entry in _entries(rows):
            more: Json = {name: known.get(entry.job_id) for name, known in of_jobs.items()}
            if with_facts:
                more["facts"] = dict(entry.facts)
            told.append(row_of(entry, patient=names.get(entry.patient_key or ""), **more))
        return told

    def _answer(self, asked: Asked, rows: Sequence[AuditRow], told: Sequence[Json]) -> Answer:
        return Answer(
            rows=told,
            patients=frozenset(row.patient_key for row in rows) or frozenset({asked.patient_key}),
            last_seq=rows[-1].seq if len(rows) == asked.limit else None,
        )


def _entries(rows: Iterable[AuditRow]) -> Iterator[Entry]:
    for row in rows:
        yield read_entry(row.seq, row.event, row.body)


def _touched(entry: Entry) -> frozenset[str]:
    """Give everything by which an event names resource versions."""
    names = {entry.event_id, entry.names.get(RESOURCE_SYSTEM)}
    return entry.inputs | {name for name in names if name}
