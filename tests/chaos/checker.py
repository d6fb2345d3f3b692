"""One checker for what Nadi promises: it reads what a run left behind and names every breach.

It knows nothing of Nadi's code, only what everybody can read: table and column names, FHIR, the
identifiers of results, the states of a Task. Each invariant is one function from evidence to
violations, so that a spoilt outcome shows that it finds what it is there for.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tests.chaos.evidence import Evidence, Row
from tests.chaos.expected import Expected

RESULT_SYSTEM = "https://nadi.health/fhir/sid/result"
MARKER = "withdrawn-"
FINAL = frozenset({"completed", "rejected", "cancelled", "failed"})
#: From one AuditEvent about a job to the next: what a job's trail may look like.
_NEXT: Mapping[str, frozenset[str]] = {
    "": frozenset({"ready", "rejected"}),
    "ready": frozenset({"ready", *FINAL}),
    "failed": frozenset({"ready"}),
}
_JOB_EVENTS = frozenset(
    {"admit", "refuse", "supersede", "cancel", "fail", "complete", "retry", "rescue"}
)
_FOLDERS = ("audit/", "credentials/", "keys/", "logs/", "run/")
_FILES = frozenset(
    {"nadi.db", "nadi.db-wal", "nadi.db-shm", "nadi.db.relay-lock", "sandbox-ehr.journal"}
)
_DRAFTS = (".draft", ".tmp", ".copy", "~")
_SHOWN = 20


@dataclass(frozen=True)
class Violation:
    """One breach.

    Attributes:
        invariant: Which one, as `INVARIANTS` names it.
        what: What was found; names ids, never a patient's value.
    """

    invariant: str
    what: str


class _Case:
    """The evidence with what several invariants look up in it."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence

    def rows(self, table: str) -> Sequence[Row]:
        return self.evidence.tables.get(table, ())

    @cached_property
    def jobs_of(self) -> Mapping[str, list[Row]]:
        """Jobs by event."""
        return _grouped(self.rows("jobs"), "event_id")

    @cached_property
    def event_of_result(self) -> Mapping[str, str]:
        """Event by identifier of a result."""
        events = {row["id"]: row["event_id"] for row in self.rows("jobs")}
        return {d["identifier"]: events.get(d["job_id"], "") for d in self.rows("deliveries")}

    @cached_property
    def stored(self) -> Mapping[tuple[str, str], Row]:
        """What the EHR holds: the newest version of everything that is not deleted."""
        newest = {(each["type"], each["id"]): each for each in self.evidence.ehr}
        return {place: each for place, each in newest.items() if each["resource"] is not None}

    @cached_property
    def results(self) -> list[tuple[str, Row]]:
        """Identifier and resource of every result in the EHR."""
        return [
            (name, each["resource"])
            for each in self.stored.values()
            if each["type"] == "Observation" and (name := _result_identifier(each["resource"]))
        ]

    @cached_property
    def results_of_event(self) -> Counter[str]:
        return Counter(self.event_of_result.get(name, "") for name, _ in self.results)


def _kept(case: _Case) -> Iterator[str]:
    """Every acknowledged event is there, once, however often it came."""
    there = Counter(row["id"] for row in case.rows("events"))
    for each in case.evidence.acknowledged:
        if (count := there[each.event_id]) != 1:
            yield f"event {each.event_id} was acknowledged and is there {count} times"
    for version, tasks in case.evidence.answers.items():
        if len(tasks) != 1:
            kind = version.partition("/")[0]
            yield f"one version of a {kind} was answered with {len(tasks)} Tasks: {sorted(tasks)}"


def _answered(case: _Case) -> Iterator[str]:
    """No sender gets another answer than 2xx or one that says to come again."""
    yield from case.evidence.strange


_JOBS = {
    Expected.NO_JOB: (0, 0),
    Expected.ONE: (1, 1),
    Expected.NONE: (1, 1),
    Expected.MAYBE: (1, 1),
    Expected.STALE: (0, 1),
}


def _terminal(case: _Case) -> Iterator[str]:
    """Every acknowledged event has the jobs it should have, each in exactly one final state."""
    for each in case.evidence.acknowledged:
        jobs = case.jobs_of.get(each.event_id, [])
        least, most = _JOBS[each.expected]
        if not least <= len(jobs) <= most:
            yield f"event {each.event_id} ({each.expected}) has {len(jobs)} jobs"
    for job in case.rows("jobs"):
        if job["state"] not in FINAL:
            yield f"job {job['id']} stands at {job['state']} ({job['business_status']})"


_RESULTS = {
    Expected.NO_JOB: (0, 0),
    Expected.ONE: (1, 1),
    Expected.NONE: (0, 0),
    Expected.MAYBE: (0, 1),
    Expected.STALE: (0, 0),
}


def _one_result(case: _Case) -> Iterator[str]:
    """Every consenting eligible event has exactly one Observation in the EHR, no other has any."""
    due: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for each in case.evidence.acknowledged:
        least, most = _RESULTS[each.expected]
        due[each.patient_id][0] += least
        due[each.patient_id][1] += most
        found = case.results_of_event[each.event_id]
        if not least <= found <= most:
            stand = [f"{j['state']} ({j['business_status']})" for j in case.jobs_of.get(
                each.event_id, [])]  # fmt: skip
            yield f"event {each.event_id} ({each.expected}) has {found} results; its job: {stand}"
    # Once more from the EHR alone, in case the database tells of it wrongly.
    subjects = Counter(result["subject"]["reference"] for _, result in case.results)
    for patient_id, (least, most) in due.items():
        found = subjects[f"Patient/{patient_id}"]
        if not least <= found <= most:
            yield f"a patient has {found} results in the EHR, and should have {least} to {most}"


def _nothing_else(case: _Case) -> Iterator[str]:
    """What is in the EHR was computed for an event, is there once, and its job says so."""
    for name, count in Counter(name for name, _ in case.results).items():
        if count > 1:
            yield f"result {name} is {count} times in the EHR"
        if not case.event_of_result.get(name):
            yield f"result {name} is in the EHR and no job tells of it"
    here = {name for name, _ in case.results}
    states = {row["id"]: row["state"] for row in case.rows("jobs")}
    for row in case.rows("deliveries"):
        is_told = states.get(row["job_id"]) == "completed"
        if is_told and row["identifier"] not in here:
            yield f"job {row['job_id']} is completed and its result is not in the EHR"
    yield from _provenances(case, states)


def _provenances(case: _Case, states: Mapping[str, object]) -> Iterator[str]:
    """Each result has one. Only where a withdrawal came between both may it be missing.

    An EHR that takes no transaction takes them one after the other.
    """
    cut_off = {
        row["identifier"]
        for row in case.rows("deliveries")
        if states.get(row["job_id"]) == "cancelled"
    }
    targets = Counter(
        target["reference"].partition("/_history")[0]
        for (kind, _), each in case.stored.items()
        if kind == "Provenance"
        for target in each["resource"].get("target", ())
    )
    for name, result in case.results:
        count = targets[f"Observation/{result['id']}"]
        if count != 1 and not (count == 0 and name in cut_off):
            yield f"result {result['id']} has {count} Provenances"


def _withdrawn(case: _Case) -> Iterator[str]:
    """Once a withdrawal was acknowledged, nothing is written about that patient."""
    withdrawn: set[str] = set()
    for each in case.evidence.ehr:
        if each["type"] == "Basic" and each["id"].startswith(MARKER):
            withdrawn.add(f"Patient/{each['id'].removeprefix(MARKER)}")
        resource = each["resource"] or {}
        is_result = each["type"] == "Observation" and _result_identifier(resource)
        if is_result and resource["subject"]["reference"] in withdrawn:
            yield f"Observation/{each['id']} was written after the withdrawal was acknowledged"


def _audited(case: _Case) -> Iterator[str]:
    """Every change of state has its AuditEvent, and they tell one lawful story of each job."""
    received = Counter(
        row["event_id"] for row in case.rows("audit_events") if row["event"] == "receive"
    )
    for row in case.rows("events"):
        if received[row["id"]] != 1:
            yield f"event {row['id']} has {received[row['id']]} AuditEvents of its receipt"
    told = _grouped(case.rows("audit_events"), "job_id")
    for job in case.rows("jobs"):
        trail = [row for row in told.get(job["id"], []) if row["event"] in _JOB_EVENTS]
        yield from _story_of(job, [_state_of(row) for row in trail])
    written = Counter(
        row["job_id"]
        for row in case.rows("audit_events")
        if row["event"] == "deliver" and row["outcome"] == "0"
    )
    for row in case.rows("deliveries"):
        count = written[row["job_id"]]
        if count != (row["state"] == "delivered"):
            yield f"delivery {row['id']} is {row['state']}, and {count} AuditEvents say delivered"


def _story_of(job: Row, states: Sequence[str]) -> Iterator[str]:
    for before, after in zip(["", *states], states, strict=False):
        if after not in _NEXT.get(before, ()):
            yield f"job {job['id']} went from '{before}' to '{after}'"
    if not states or states[-1] != job["state"]:
        yield f"job {job['id']} is {job['state']}, and its AuditEvents say {states[-1:]}"


#: Characters of what the verification says that are told.
_MOST_TOLD = 4000


def _ledger(case: _Case) -> Iterator[str]:
    """The audit log verifies, and every AuditEvent has its place in it."""
    code, said = case.evidence.verified
    if code != 0:
        # Lines that begin with "!" warn only, and there is one for each time the clock was set.
        wrong = "\n".join(line for line in said.splitlines() if line[:1] not in {"!", "✓"})
        yield f"nadi audit verify ended with {code}: {wrong[:_MOST_TOLD]}"
    leaves = case.rows("audit_leaves")
    if sorted(row["leaf_index"] for row in leaves) != list(range(len(leaves))):
        yield "the places in the log have gaps"
    placed = {row["audit_seq"] for row in leaves}
    for row in case.rows("audit_events"):
        if row["seq"] not in placed:
            yield f"AuditEvent {row['seq']} has no place in the log"


def _no_orphans(case: _Case) -> Iterator[str]:
    """Nothing is left over: no row without what it belongs to, no process, no file."""
    for table, column, owners in (
        ("jobs", "event_id", "events"),
        ("deliveries", "job_id", "jobs"),
        ("events", "patient_key", "patient_keys"),
    ):
        # The first column of every table is its key.
        there = {next(iter(row.values())) for row in case.rows(owners)}
        for row in case.rows(table):
            if row[column] is not None and row[column] not in there:
                yield f"{table} {row['id']} belongs to none of {owners}"
    yield from (f"still runs: {each}" for each in case.evidence.processes)
    for path in case.evidence.files:
        is_known = path in _FILES or path.startswith(_FOLDERS)
        if not is_known or path.endswith(_DRAFTS):
            yield f"a file was left: {path}"


def _let_go(case: _Case) -> Iterator[str]:
    """Nothing is held by anybody, and nothing waits for the EHR any more."""
    for table in ("jobs", "deliveries"):
        for row in case.rows(table):
            if row["lease_owner"] is not None:
                yield f"{table} {row['id']} is still held by {row['lease_owner']}"
    for row in case.rows("deliveries"):
        if row["state"] in {"pending", "in-flight"}:
            yield f"delivery {row['id']} is still {row['state']}"


def _private(case: _Case) -> Iterator[str]:
    """No patient's value stands in a log, a metric or the broker."""
    for name, text in case.evidence.texts.items():
        found = sum(mark in text for mark in case.evidence.marks)
        if found:
            yield f"{name} holds {found} of a patient's values"


INVARIANTS: Mapping[str, Callable[[_Case], Iterator[str]]] = {
    "acknowledged events are kept once": _kept,
    "answers are 2xx or come again": _answered,
    "one final state": _terminal,
    "one result where permitted, none elsewhere": _one_result,
    "nothing else in the EHR": _nothing_else,
    "nothing after a withdrawal": _withdrawn,
    "every change is audited": _audited,
    "the ledger verifies": _ledger,
    "no orphans": _no_orphans,
    "nothing held or waiting": _let_go,
    "no patient value outside": _private,
}


def check(evidence: Evidence) -> list[Violation]:
    """Name every breach; of one invariant only the first twenty."""
    case = _Case(evidence)
    found = []
    for invariant, look in INVARIANTS.items():
        breaches = [Violation(invariant, what) for what in look(case)]
        found += breaches[:_SHOWN]
        if len(breaches) > _SHOWN:
            found.append(Violation(invariant, f"and {len(breaches) - _SHOWN} more"))
    return found


def _result_identifier(resource: Row) -> str:
    for each in resource.get("identifier", ()):
        if each.get("system") == RESULT_SYSTEM:
            return str(each["value"])
    return ""


def _state_of(row: Row) -> str:
    """Read from an AuditEvent in which state it says that its job is."""
    details: list[Mapping[str, Any]] = [
        detail
        for entity in json.loads(row["body"]).get("entity", ())
        for detail in entity.get("detail", ())
    ]
    return next((d["valueString"] for d in details if d["type"] == "state"), "")


def _grouped(rows: Sequence[Row], column: str) -> Mapping[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row[column]].append(row)
    return found
