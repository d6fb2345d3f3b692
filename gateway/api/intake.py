"""(1, 2) Receive and admit: what waits together is stored, decided and audited in one transaction.

(1.1) each resource is given its identity: dedupe key, patient key, version;
(1.2) repeats are recognised, among themselves and against what is stored;
(1.3) new resources are stored as received, sealed; an older version changes nothing (2.1);
(2)   the current ones are admitted: routes, consent, jobs;
(2.6) a consent that arrived stops the open jobs it no longer permits.

The answer to a request is given after the commit that holds all of this.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from adapters.site import Site
from gateway.api.arrivals import Posting, arrivals_of
from gateway.api.witness import Witness
from gateway.core.admission import Admission, Arrival, admit
from gateway.core.clock import to_ms
from gateway.core.consent import ConsentDecision, ConsentRequest, decide
from gateway.core.errors import Issue
from gateway.core.event import VersionMark, is_older
from gateway.core.jobs import Advance, BusinessStatus, EventId, Job, JobState
from gateway.core.task import JobLine, ReceivedEvent
from gateway.store.events import Submission, split_bundle
from gateway.store.unit_of_work import Store, UnitOfWork


@dataclass(frozen=True)
class Receipt:
    """What became of one resource: the event that holds it, or why there is none."""

    event: ReceivedEvent | None
    jobs: tuple[JobLine, ...] = ()
    issues: tuple[Issue, ...] = ()


class Intake:
    """Receives batches of postings; the group commit's `process`."""

    def __init__(
        self,
        store: Store,
        site: Callable[[], Site],
        models: Callable[[], Mapping[str, str]],
        *,
        process_name: str,
        after_commit: Callable[[], None],
    ) -> None:
        """Take what a batch needs.

        Args:
            store: The database.
            site: Gives the site in force.
            models: Gives the installed models: name as routes name it to package digest.
            process_name: How audit events name this process.
            after_commit: Rings the relay.
        """
        self._store = store
        self._site = site
        self._models = models
        self._process_name = process_name
        self._after_commit = after_commit

    def __call__(self, postings: Sequence[Posting]) -> list[tuple[Receipt, ...]]:
        """Receive a batch.

        Returns:
            For each posting one receipt per resource, in order, after the commit.

        Raises:
            StoreUnavailable: Nothing was committed.
        """
        site = self._site()
        # (1.1) identity, worked out before the transaction so that it stays short
        gathered = [arrivals_of(posting, self._store.sealer, site) for posting in postings]
        with self._store.write() as uow:
            batch = _Batch(uow, site, self._models(), Witness(uow, site.name, self._process_name))
            batch.take([a for arrivals in gathered for a in arrivals if a is not None])
            for posting, arrivals in zip(postings, gathered, strict=True):
                batch.keep_bundle(posting, arrivals)
            receipts = [
                tuple(batch.receipts(posting, arrivals))
                for posting, arrivals in zip(postings, gathered, strict=True)
            ]
        if batch.has_ready:
            self._after_commit()
        return receipts


class _Batch:
    """One transaction's worth of arrivals."""

    def __init__(
        self, uow: UnitOfWork, site: Site, models: Mapping[str, str], witness: Witness
    ) -> None:
        self._uow = uow
        self._site = site
        self._models = models
        self._witness = witness
        self._fresh: dict[str, Arrival] = {}
        self._known: dict[str, str] = {}
        self._current: set[str] = set()
        self._jobs: dict[str, list[JobLine]] = {}
        self.has_ready = False

    def take(self, arrivals: Sequence[Arrival]) -> None:
        """Store and admit what is new."""
        # (1.2) repeats
        self._known = self._uow.events.known([a.dedupe_key for a in arrivals])
        for arrival in arrivals:
            if arrival.dedupe_key not in self._known:
                self._fresh.setdefault(arrival.dedupe_key, arrival)
        fresh = list(self._fresh.values())
        # (1.3, 2.1) versions
        self._current = self._current_ones(fresh)
        self._uow.events.add([(a, a.id in self._current) for a in fresh])
        self._witness.received(fresh)
        # (2) the newest versions are admitted
        self._admit([a for a in fresh if a.id in self._current])
        # (2.6) consents that arrived may stop what is open
        self._withdraw([a for a in fresh if a.facts.resource_type == "Consent"])
        self._recall_jobs()

    def _current_ones(self, fresh: Sequence[Arrival]) -> set[str]:
        """Say which arrivals are the newest version of their resource."""
        keys = {a.resource_key for a in fresh if a.resource_key}
        newest: dict[str, VersionMark] = self._uow.events.newest(keys) if keys else {}
        winners: dict[str, str] = {}
        for arrival in fresh:
            key = arrival.resource_key or arrival.id
            mark = version_mark(arrival)
            if key in newest and is_older(mark, newest[key]):
                continue
            newest[key] = mark
            winners[key] = arrival.id
        return set(winners.values())

    def _admit(self, current: Sequence[Arrival]) -> None:
        triggering = {r.resource_type for r in self._site.routes}
        candidates = [
            a for a in current if None in triggering or a.facts.resource_type in triggering
        ]
        keys = {a.patient_key for a in candidates if a.patient_key}
        consents = self._uow.events.consents(keys) if keys else {}
        admitted: list[tuple[Arrival, Admission]] = []
        for arrival in candidates:
            admissions = admit(
                arrival,
                routes=self._site.routes,
                models=self._models,
                consents=consents.get(arrival.patient_key or "", ()),
                now=self._uow.now,
            )
            admitted.extend((arrival, admission) for admission in admissions)
        self._uow.jobs.add([admission.job for _, admission in admitted])
        for arrival, admission in admitted:
            self._witness.admitted(arrival, admission)
            job = admission.job
            line = JobLine(job.id, job.route, job.state, job.business_status)
            self._jobs.setdefault(arrival.id, []).append(line)
            self.has_ready |= job.state is JobState.READY

    def _withdraw(self, arrivals: Sequence[Arrival]) -> None:
        """Stop the open jobs of patients whose consent now says no."""
        patients = {a.patient_key: a.facts.patient for a in arrivals if a.patient_key}
        consents = self._uow.events.consents(list(patients)) if patients else {}
        for key, reference in patients.items():
            for job in self._uow.jobs.open_of_patient(key):
                route = self._site.route(job.route)
                if route is None or reference is None or job.state is not JobState.READY:
                    continue
                request = ConsentRequest(reference, route.purpose, self._uow.now)
                decision = decide(request, consents[key], default=route.consent_default)
                if not decision.is_permitted:
                    self._cancel(job, decision)

    def _cancel(self, job: Job, decision: ConsentDecision) -> None:
        change = Advance(
            job=job,
            state=JobState.CANCELLED,
            business_status=BusinessStatus.CONSENT_WITHDRAWN,
            reason=" ".join(decision.reasons),
            decisions=(decision.as_json("withdraw", self._uow.now),),
        )
        self._uow.jobs.advance([change])
        self._witness.withdrawn(job, decision)

    def _recall_jobs(self) -> None:
        """Fetch the jobs of events that were here before, for the answer to their repeat."""
        for event_id, jobs in self._uow.jobs.of_events(list(self._known.values())).items():
            self._jobs[event_id] = [
                JobLine(j.id, j.route, j.state, j.business_status) for j in jobs
            ]

    def keep_bundle(self, posting: Posting, arrivals: Sequence[Arrival | None]) -> None:
        """Keep what surrounds the resources of a Bundle, unless the same Bundle is here."""
        if posting.bundle is None:
            return
        submission_id = posting.submission_id
        digest = sha256(posting.bundle.raw).hexdigest()
        dedupe_key = self._uow.sealer.keyed_hash("submission", posting.system, digest)
        if self._uow.events.known_submissions([dedupe_key]):
            return
        stored = [a.raw for a in arrivals if a is not None and self._is_stored_now(a)]
        self._uow.events.add_submission(
            Submission(
                id=submission_id,
                dedupe_key=dedupe_key,
                system=posting.system,
                bundle_type=posting.bundle.type,
                sha256=digest,
                skeleton=split_bundle(posting.bundle.raw, stored),
            )
        )

    def _is_stored_now(self, arrival: Arrival) -> bool:
        return self._fresh.get(arrival.dedupe_key) is arrival

    def receipts(self, posting: Posting, arrivals: Sequence[Arrival | None]) -> Iterator[Receipt]:
        """Give the receipts of one posting."""
        for index, arrival in enumerate(arrivals):
            if arrival is None:
                yield Receipt(None, issues=posting.issues_of(index))
                continue
            kept = self._fresh.get(arrival.dedupe_key)
            event_id = kept.id if kept else EventId(self._known[arrival.dedupe_key])
            is_current = kept is None or kept.id in self._current
            event = ReceivedEvent(
                event_id, arrival.facts.resource_type, is_current, self._uow.now_ms
            )
            yield Receipt(event, tuple(self._jobs.get(event_id, ())))


def version_mark(arrival: Arrival) -> VersionMark:
    """Give the version of an arrival in the form versions are compared in."""
    updated = arrival.facts.last_updated
    return VersionMark(arrival.facts.version_id, to_ms(updated) if updated else None)
