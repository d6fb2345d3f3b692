"""What is left of a run and can be looked at from outside: the input of the checker."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.expected import Acknowledged
from tests.simulators import PLAIN, Simulator

Row = Mapping[str, Any]

#: The tables that are read, and their columns.
TABLES: Mapping[str, str] = {
    "events": "id, resource_type, patient_key, effective_ms",
    "jobs": "id, event_id, state, business_status, lease_owner",
    "deliveries": "id, job_id, identifier, state, lease_owner, attempt, rung, lost",
    "patient_keys": "patient_key",
    "audit_events": "seq, event, outcome, job_id, event_id, body",
    "audit_leaves": "leaf_index, audit_seq",
}


@dataclass(frozen=True)
class Evidence:
    """Everything that a run left behind.

    Attributes:
        acknowledged: What was answered with 2xx.
        answers: For each version of a resource every Task that an answer named.
        strange: Answers that no sender should ever get.
        tables: Rows by table, see `TABLES`.
        simulator: How the EHR behaves.
        worklist: The results that stay with Nadi, as a clinician reads them.
        ehr: What was written into the EHR, in the order in which it was: one mapping a version,
            with `type`, `id`, `version` and `resource`, which is None for a deletion.
        texts: Logs, metrics and the broker's content, by a name.
        marks: What none of these texts may hold.
        verified: Exit code of `nadi audit verify`, and what it said.
        processes: What still runs after the stop.
        files: Paths in the data folder, relative to it.
    """

    acknowledged: Sequence[Acknowledged] = ()
    answers: Mapping[str, set[str]] = field(default_factory=dict)
    strange: Sequence[str] = ()
    tables: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    simulator: Simulator = PLAIN
    worklist: Sequence[Row] = ()
    ehr: Sequence[Row] = ()
    texts: Mapping[str, bytes] = field(default_factory=dict)
    marks: Sequence[bytes] = ()
    verified: tuple[int, str] = (0, "")
    processes: Sequence[str] = ()
    files: Sequence[str] = ()
