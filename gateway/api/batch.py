"""One transaction's worth of arrivals: stored, admitted, audited; the steps are in `intake`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from adapters.site import Site
from gateway.api.arrivals import Posting
from gateway.api.erased import without_erased
from gateway.api.orders import lanes_of_orders
from gateway.api.owners import with_owners
from gateway.api.tally import Tally
from gateway.api.witness import Witness
from gateway.core.admission import Admission, Arrival, admit
from gateway.core.clock import to_ms
from gateway.core.deletion import is_deleted
from gateway.core.errors import Issue
from gateway.core.event import VersionMark, is_older
from gateway.core.jobs import JobState
from gateway.core.lanes import Lane
from gateway.core.task import JobLine, ReceivedEvent
from gateway.store.events import KnownEvent, Submission, cut_bundle
from gateway.store.unit_of_work import UnitOfWork
from gateway.telemetry import step
from gateway.withdrawal import withdraw

#: A request with its arrivals: None where an entry of a Bundle gave none.
Gathered = tuple[Posting, Sequence[Arrival | None]]

_UNVERSIONED = VersionMark(None, None)


@dataclass(frozen=True)
class Receipt:
    """What became of one resource: the event that holds it, or why there is none.

    Attributes:
        consents_of: Reference by patient key of the patient, where it is a Consent of one.
    """

    event: ReceivedEvent | None
    jobs: tuple[JobLine, ...] = ()
    issues: tuple[Issue, ...] = ()
    consents_of: Mapping[str, str] = field(default_factory=dict)


class Batch:
    """What is received within one unit of work."""

    def __init__(
        self, uow: UnitOfWork, site: Site, models: Mapping[str, str], witness: Witness
    ) -> None:
        self._uow = uow
        self._site = site
        self._models = models
        self._witness = witness
        self._known: Mapping[str, KnownEvent] = {}
        self._fresh: dict[str, Arrival] = {}
        # Resource key, or id of what has none, to the id of the event that is now current.
        self._winners: dict[str, str] = {}
        self._jobs: dict[str, list[JobLine]] = {}
        self.tally = Tally()
        self.has_ready = False

    def take(self, gathered: Sequence[Gathered]) -> list[tuple[Receipt, ...]]:
        """Store and admit what is new, and give each posting its receipts."""
        gathered = self._without_repeated_bundles(gathered)
        gathered = [
            (posting, with_owners(self._uow, posting, found, self._site))
            for posting, found in gathered
        ]
        rule = self._site.retention.after_erasure
        gathered = without_erased(self._uow, gathered, rule, self._witness.source)
        arrivals = [a for _, found in gathered for a in found if a is not None]
        # (1.2) repeats
        self._recall(arrivals)
        # (1.3, 2.1) versions
        self._settle_versions(arrivals)
        returned = self._store(arrivals)
        for posting, found in gathered:
            self._keep_bundle(posting, found)
            self._refuse(posting, found)
        # (2) the newest versions are admitted
        fresh = list(self._fresh.values())
        with step("admit", len(fresh)):
            self._admit([a for a in fresh if self._is_current(a)])
            # (2.7) consents that arrived may stop what is open
            self._withdraw(_consents_of([*fresh, *returned]))
        return [tuple(self._receipts(posting, found)) for posting, found in gathered]

    # -- (1) receive -------------------------------------------------------------------------

    def _without_repeated_bundles(self, gathered: Sequence[Gathered]) -> list[Gathered]:
        """Let the arrivals of a Bundle that is here already stand for themselves.

        Its skeleton is not kept again, so nothing may refer to it.
        """
        keys = {p.submission_id: self._bundle_key(p) for p, _ in gathered if p.bundle}
        seen = self._uow.events.known_submissions(list(keys.values())) if keys else set()
        kept: list[Gathered] = []
        for posting, arrivals in gathered:
            key = keys.get(posting.submission_id)
            if key in seen:
                kept.append((replace(posting, is_known_bundle=True), _alone(arrivals)))
                continue
            if key is not None:
                seen.add(key)
            kept.append((posting, arrivals))
        return kept

    def _bundle_key(self, posting: Posting) -> str:
        return self._uow.sealer.keyed_hash("submission", posting.system, posting.sha256)

    def _recall(self, arrivals: Sequence[Arrival]) -> None:
        """Find what was here before, with its jobs for the answer to its repeat."""
        if arrivals:
            self._known = self._uow.events.known([a.dedupe_key for a in arrivals])
        for arrival in arrivals:
            is_repeat = arrival.dedupe_key in self._known or arrival.dedupe_key in self._fresh
            self.tally.received(arrival.system, "repeat" if is_repeat else "accepted")
            if not is_repeat:
                self._fresh[arrival.dedupe_key] = arrival

    def _settle_versions(self, arrivals: Sequence[Arrival]) -> None:
        """Find which event is the newest version of each resource that something arrived for.

        A repeat of a version changes nothing. Bytes without a version that come again after
        others were in force are in force again: a consent may be switched to and fro.
        """
        keys = {a.resource_key for a in arrivals if a.resource_key}
        newest: dict[str, VersionMark] = self._uow.events.newest(keys) if keys else {}
        for arrival in arrivals:
            mark, key = version_mark(arrival), _resource(arrival)
            is_new = self._fresh.get(arrival.dedupe_key) is arrival
            if not is_new and mark != _UNVERSIONED:
                continue
            if key in newest and is_older(mark, newest[key]):
                continue
            newest[key] = mark
            self._winners[key] = self._event_id(arrival)

    def _store(self, arrivals: Sequence[Arrival]) -> list[Arrival]:
        """Store what is new; give what was here before and is in force again."""
        fresh = list(self._fresh.values())
        self._uow.events.add([(a, self._is_current(a)) for a in fresh])
        self._witness.received(fresh)
        returned = {
            _resource(a): a
            for a in arrivals
            if a.dedupe_key in self._known
            and not self._known[a.dedupe_key].is_current
            and self._is_current(a)
        }
        self._uow.events.reinstate({key: self._event_id(a) for key, a in returned.items()})
        self._witness.returned(
            [(arrival, self._event_id(arrival)) for arrival in returned.values()]
        )
        return list(returned.values())

    def _event_id(self, arrival: Arrival) -> str:
        kept = self._fresh.get(arrival.dedupe_key)
        return kept.id if kept else self._known[arrival.dedupe_key].id

    def _is_current(self, arrival: Arrival) -> bool:
        winner = self._winners.get(_resource(arrival))
        known = self._known.get(arrival.dedupe_key)
        if winner is None and known is not None:
            return known.is_current
        return winner == self._event_id(arrival)

    def _keep_bundle(self, posting: Posting, arrivals: Sequence[Arrival | None]) -> None:
        """Keep what surrounds the resources of a Bundle, unless the same Bundle is here."""
        if posting.bundle is None or posting.is_known_bundle:
            return
        held = [a for a in arrivals if a is not None and self._holds(a)]
        self._uow.events.add_submission(
            Submission(
                id=posting.submission_id,
                dedupe_key=self._bundle_key(posting),
                system=posting.system,
                bundle_type=posting.bundle.type,
                sha256=posting.sha256,
                skeleton=cut_bundle(posting.bundle.raw, [(a.raw, self._event_id(a)) for a in held]),
            )
        )

    def _holds(self, arrival: Arrival) -> bool:
        """Say whether an event holds exactly these bytes: a version may come in other bytes.

        What says that something was deleted is of our making, and stands in no Bundle.
        """
        if is_deleted(arrival.content):
            return False
        kept = self._fresh.get(arrival.dedupe_key) or self._known[arrival.dedupe_key]
        return kept.sha256 == arrival.sha256

    def _refuse(self, posting: Posting, arrivals: Sequence[Arrival | None]) -> None:
        """Put the entries that were refused on record; the edge does where all was refused."""
        if posting.bundle is None:
            return
        for index, arrival in enumerate(arrivals):
            if arrival is None:
                issues = posting.issues_of(index)
                self.tally.received(posting.system, issues[0].code)
                if not posting.is_known_bundle:
                    self._witness.refused(posting, index, issues)

    # -- (2) admit ---------------------------------------------------------------------------

    def _admit(self, current: Sequence[Arrival]) -> None:
        candidates = self._marked([a for a in current if self._may_trigger(a)])
        keys = {a.patient_key for a in candidates if a.patient_key}
        consents = self._uow.consents.of(keys, self._site.abdm_policy) if keys else {}
        ordered = lanes_of_orders(self._uow, candidates)
        admitted: list[tuple[Arrival, Admission]] = []
        for arrival in candidates:
            key = arrival.patient_key or ""
            admissions = admit(
                arrival,
                routes=self._site.routes_for(arrival.system),
                models=self._models,
                consents=consents.get(key, ()),
                now=self._uow.now,
                ordered=ordered.get(arrival.id),
            )
            for admission in admissions:
                admitted.append((arrival, admission))
                decision = admission.decision
                if decision and decision.is_permitted and key in consents:
                    used = self._uow.consents.use(consents[key], decision.consents, arrival.id)
                    consents[key] = used
        self._uow.jobs.add([admission.job for _, admission in admitted])
        for arrival, admission in admitted:
            self._witness.admitted(arrival, admission)
            job = admission.job
            self.tally.admitted(job.route, job.state, job.business_status)
            line = JobLine(job.id, job.route, job.state, job.business_status)
            self._jobs.setdefault(arrival.id, []).append(line)
            self.has_ready |= job.state is JobState.READY

    def _marked(self, candidates: Sequence[Arrival]) -> list[Arrival]:
        """Mark what is a result of ours that came back."""
        ours = self._uow.written.among([a.resource_key for a in candidates if a.resource_key])
        return [replace(a, is_ours=a.resource_key in ours) if ours else a for a in candidates]

    def _may_trigger(self, arrival: Arrival) -> bool:
        if arrival.is_record:
            return False
        kind = arrival.facts.resource_type
        routes = self._site.routes_for(arrival.system)
        return any(route.resource_type in (None, kind) for route in routes)

    def _withdraw(self, patients: Mapping[str, str]) -> None:
        """Stop what the consents that arrived no longer permit."""
        for change in withdraw(self._uow, self._site, self._witness.source, patients):
            job = change.job
            self.tally.changed(job.route, change.state, change.business_status)
            self._jobs[job.event_id] = [
                replace(line, state=change.state, business_status=change.business_status)
                if line.id == job.id
                else line
                for line in self._jobs.get(job.event_id, ())
            ]

    # -- the answer --------------------------------------------------------------------------

    def _receipts(self, posting: Posting, arrivals: Sequence[Arrival | None]) -> Iterator[Receipt]:
        """Give the receipts of one posting."""
        self._recall_jobs(arrivals)
        self._hasten(posting, arrivals)
        for index, arrival in enumerate(arrivals):
            if arrival is None:
                yield Receipt(None, issues=posting.issues_of(index))
                continue
            event_id = self._event_id(arrival)
            known = self._known.get(arrival.dedupe_key)
            event = ReceivedEvent(
                event_id,
                arrival.facts.resource_type,
                self._is_current(arrival),
                known.received_ms if known else self._uow.now_ms,
            )
            jobs = tuple(self._jobs.get(event_id, ()))
            yield Receipt(event, jobs, consents_of=_consents_of([arrival]))

    def _hasten(self, posting: Posting, arrivals: Sequence[Arrival | None]) -> None:
        """Move up what waited already when somebody came to wait for it."""
        waiting = [
            line.id
            for arrival in arrivals
            if arrival is not None and posting.awaited_by and arrival.dedupe_key in self._known
            for line in self._jobs.get(self._event_id(arrival), ())
            if line.route == posting.awaited_by and line.state is JobState.READY
        ]
        if waiting:
            self._uow.jobs.hasten(waiting, Lane.STAT, is_told=posting.is_told)
            self.has_ready = True

    def _recall_jobs(self, arrivals: Sequence[Arrival | None]) -> None:
        """Fetch the jobs of events that were here before, for the answer to their repeat."""
        repeated = [a.dedupe_key for a in arrivals if a and a.dedupe_key in self._known]
        if not repeated:
            return
        found = self._uow.jobs.of_events([self._known[key].id for key in repeated])
        for event_id, jobs in found.items():
            self._jobs[event_id] = [
                JobLine(j.id, j.route, j.state, j.business_status) for j in jobs
            ]


def version_mark(arrival: Arrival) -> VersionMark:
    """Give the version of an arrival in the form versions are compared in."""
    updated = arrival.facts.last_updated
    return VersionMark(arrival.facts.version_id, to_ms(updated) if updated else None)


def _consents_of(arrivals: Sequence[Arrival]) -> Mapping[str, str]:
    """Give the patients whose Consents are among these: references by patient key."""
    return {
        each.patient_key: each.facts.patient
        for each in arrivals
        if each.facts.resource_type == "Consent" and each.patient_key and each.facts.patient
    }


def _resource(arrival: Arrival) -> str:
    return arrival.resource_key or arrival.id


def _alone(arrivals: Sequence[Arrival | None]) -> list[Arrival | None]:
    return [a and replace(a, submission_id=None, entry_index=None) for a in arrivals]
