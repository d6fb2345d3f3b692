"""One checker for what Nadi promises: it reads what a run left behind and names every breach.

It knows nothing of Nadi's code, only what everybody can read: table and column names, FHIR, the
identifiers of results, the states of a Task. Each invariant is one function from evidence to
violations, so that a spoilt outcome shows that it finds what it is there for.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.chaos.case import Case, Moment, due_at, grouped, identifier
from tests.chaos.evidence import Evidence, Row
from tests.chaos.expected import MARK, Expected
from tests.chaos.labels import legible, reported

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


def _kept(case: Case) -> Iterator[str]:
    """Every acknowledged event is there, once, however often it came."""
    there = Counter(row["id"] for row in case.rows("events"))
    for each in case.evidence.acknowledged:
        if (count := there[each.event_id]) != 1:
            yield f"event {each.event_id} was acknowledged and is there {count} times"
    for version, tasks in case.evidence.answers.items():
        if len(tasks) != 1:
            kind = version.partition("/")[0]
            yield f"one version of a {kind} was answered with {len(tasks)} Tasks: {sorted(tasks)}"


def _answered(case: Case) -> Iterator[str]:
    """No sender gets another answer than 2xx or one that says to come again."""
    yield from case.evidence.strange


_JOBS = {
    Expected.NO_JOB: (0, 0),
    Expected.ONE: (1, 1),
    Expected.NONE: (1, 1),
    Expected.MAYBE: (1, 1),
    Expected.STALE: (0, 1),
}


def _terminal(case: Case) -> Iterator[str]:
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


def _one_result(case: Case) -> Iterator[str]:
    """Every consenting eligible event has exactly one result in the EHR, no other has any."""
    due: dict[Moment, list[int]] = defaultdict(lambda: [0, 0])
    for each in case.evidence.acknowledged:
        least, most = _RESULTS[each.expected]
        due[due_at(each)][0] += least
        due[due_at(each)][1] += most
        found = case.results_of_event[each.event_id]
        if case.has_identifiers and not least <= found <= most:
            stand = [f"{j['state']} ({j['business_status']})" for j in case.jobs_of.get(
                each.event_id, [])]  # fmt: skip
            yield f"event {each.event_id} ({each.expected}) has {found} results; its job: {stand}"
    # Once more from the EHR alone, in case the database tells of it wrongly.
    for moment, (least, most) in due.items():
        found = len(case.results_at.get(moment, ()))
        if not least <= found <= most:
            jobs = [row["job_id"] for row in case.deliveries_at.get(moment, ())]
            yield f"a patient has {found} results of one time, not {least} to {most}; jobs: {jobs}"


def _accounted(case: Case) -> Iterator[str]:
    """What is in the EHR was written by a delivery, each once, and what was delivered is there.

    One that was cancelled may be there when it had been tried: its answer was lost then. Or it was
    on the worklist, and was taken off it.
    """
    for moment in {*case.deliveries_at, *case.results_at}:
        rows = case.deliveries_at.get(moment, [])
        least = sum(
            row["state"] == "delivered" and case.state_of_job.get(row["job_id"]) != "cancelled"
            for row in rows
        )
        most = sum(row["state"] == "delivered" or row["attempt"] > 0 for row in rows)
        found = len(case.results_at.get(moment, ()))
        if not least <= found <= most:
            jobs = [row["job_id"] for row in rows]
            yield f"{found} results of one time, and {least} to {most} were written; jobs: {jobs}"


def _nothing_else(case: Case) -> Iterator[str]:
    """Each identifier is in the EHR once, its job says so, and each result has its Provenance."""
    names = Counter(map(identifier, case.results)) if case.has_identifiers else Counter()
    for name, count in names.items():
        if count > 1:
            yield f"result {name} is {count} times in the EHR"
        if not case.event_of_result.get(name):
            yield f"result {name} is in the EHR and no job tells of it"
    for row in case.rows("deliveries"):
        is_told = case.state_of_job.get(row["job_id"]) == "completed"
        if case.has_identifiers and is_told and row["identifier"] not in names:
            yield f"job {row['job_id']} is completed and its result is not in the EHR"
    yield from _elsewhere(case)
    yield from _provenances(case)


def _elsewhere(case: Case) -> Iterator[str]:
    """Results are in the EHR in the one form that it takes, and nothing else is."""
    expected = {case.evidence.simulator.kept_as, MARK, "Provenance", "Device"}
    for kind, count in Counter(kind for kind, _ in case.stored).items():
        if kind not in expected:
            yield f"the EHR holds {count} of {kind}"


def _provenances(case: Case) -> Iterator[str]:
    """Each result has one. Only where a withdrawal came between both may it be missing.

    An EHR that takes no transaction takes them one after the other; one without them has none.
    """
    simulator = case.evidence.simulator
    targets = Counter(
        target["reference"].partition("/_history")[0]
        for (kind, _), each in case.stored.items()
        if kind == "Provenance"
        for target in each["resource"].get("target", ())
    )
    due = 1 if simulator.kept_as and simulator.takes("Provenance") else 0
    for result in case.results:
        count = targets[f"{result['resourceType']}/{result.get('id', '')}"]
        if count != due and not (count == 0 and _is_cut_off(case, result)):
            yield f"result {result['id']} has {count} Provenances"


def _is_cut_off(case: Case, result: Row) -> bool:
    states = (case.state_of_job.get(row["job_id"]) for row in case.deliveries_of(result))
    return "cancelled" in states


def _withdrawn(case: Case) -> Iterator[str]:
    """Once a withdrawal was acknowledged, nothing is written about that patient."""
    kind = case.evidence.simulator.kept_as
    withdrawn: set[str] = set()
    for each in case.evidence.ehr:
        subject = (each["resource"] or {}).get("subject", {}).get("reference", "")
        if each["type"] == MARK:
            withdrawn.add(subject)
        elif each["type"] == kind and subject in withdrawn:
            yield f"{kind}/{each['id']} was written after the withdrawal was acknowledged"


def _audited(case: Case) -> Iterator[str]:
    """Every change of state has its AuditEvent, and they tell one lawful story of each job."""
    received = Counter(
        row["event_id"] for row in case.rows("audit_events") if row["event"] == "receive"
    )
    for row in case.rows("events"):
        if received[row["id"]] != 1:
            yield f"event {row['id']} has {received[row['id']]} AuditEvents of its receipt"
    told = grouped(case.rows("audit_events"), "job_id")
    for job in case.rows("jobs"):
        trail = [row for row in told.get(job["id"], []) if row["event"] in _JOB_EVENTS]
        yield from _story_of(case, job, [_state_of(row) for row in trail])
    written = Counter(
        row["job_id"]
        for row in case.rows("audit_events")
        if row["event"] == "deliver" and row["outcome"] == "0"
    )
    for row in case.rows("deliveries"):
        count = written[row["job_id"]]
        is_there = row["state"] == "delivered" and row["rung"] != "worklist"
        if count != is_there:
            yield f"delivery {row['id']} is {row['state']}, and {count} AuditEvents say delivered"


def _story_of(case: Case, job: Row, states: Sequence[str]) -> Iterator[str]:
    # A withdrawal takes off the worklist what is on it, and nothing out of an EHR.
    is_kept_here = not case.evidence.simulator.kept_as
    next_of = {**_NEXT, "completed": frozenset({"cancelled"})} if is_kept_here else _NEXT
    for before, after in zip(["", *states], states, strict=False):
        if after not in next_of.get(before, ()):
            yield f"job {job['id']} went from '{before}' to '{after}'"
    if not states or states[-1] != job["state"]:
        yield f"job {job['id']} is {job['state']}, and its AuditEvents say {states[-1:]}"


#: Characters of what the verification says that are told.
_MOST_TOLD = 4000


def _ledger(case: Case) -> Iterator[str]:
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


def _no_orphans(case: Case) -> Iterator[str]:
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


def _let_go(case: Case) -> Iterator[str]:
    """Nothing is held by anybody, and nothing waits for the EHR any more."""
    for table in ("jobs", "deliveries"):
        for row in case.rows(table):
            if row["lease_owner"] is not None:
                yield f"{table} {row['id']} is still held by {row['lease_owner']}"
    for row in case.rows("deliveries"):
        if row["state"] in {"pending", "in-flight"}:
            yield f"delivery {row['id']} is still {row['state']}"


def _private(case: Case) -> Iterator[str]:
    """No patient's value stands in a log, a metric or the broker."""
    for name, text in case.evidence.texts.items():
        found = sum(mark in text for mark in case.evidence.marks)
        if found:
            yield f"{name} holds {found} of a patient's values"


INVARIANTS: Mapping[str, Callable[[Case], Iterator[str]]] = {
    "acknowledged events are kept once": _kept,
    "answers are 2xx or come again": _answered,
    "one final state": _terminal,
    "one result where permitted, none elsewhere": _one_result,
    "written once": _accounted,
    "nothing else in the EHR": _nothing_else,
    "what was dropped is told": reported,
    "a result says that an AI made it": legible,
    "nothing after a withdrawal": _withdrawn,
    "every change is audited": _audited,
    "the ledger verifies": _ledger,
    "no orphans": _no_orphans,
    "nothing held or waiting": _let_go,
    "no patient value outside": _private,
}


def check(evidence: Evidence) -> list[Violation]:
    """Name every breach; of one invariant only the first twenty."""
    case = Case(evidence)
    found = []
    for invariant, look in INVARIANTS.items():
        breaches = [Violation(invariant, what) for what in look(case)]
        found += breaches[:_SHOWN]
        if len(breaches) > _SHOWN:
            found.append(Violation(invariant, f"and {len(breaches) - _SHOWN} more"))
    return found


def _state_of(row: Row) -> str:
    """Read from an AuditEvent in which state it says that its job is."""
    details: list[Mapping[str, Any]] = [
        detail
        for entity in json.loads(row["body"]).get("entity", ())
        for detail in entity.get("detail", ())
    ]
    return next((d["valueString"] for d in details if d["type"] == "state"), "")
