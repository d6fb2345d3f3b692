"""The evidence of a run with what several invariants look up in it.

A result is known by its identifier. Where the EHR keeps none, it is known by whom it is about and
its clinical time, which are those of the event that caused it.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property

from tests.chaos.evidence import Evidence, Row
from tests.chaos.expected import Acknowledged

RESULT_SYSTEM = "https://nadi.health/fhir/sid/result"
#: Reference of a patient, and a clinical time.
Moment = tuple[str, str]


class Case:
    """The evidence, looked at."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence

    def rows(self, table: str) -> Sequence[Row]:
        """Give the rows of a table."""
        return self.evidence.tables.get(table, ())

    @cached_property
    def jobs_of(self) -> Mapping[str, list[Row]]:
        """Jobs by event."""
        return grouped(self.rows("jobs"), "event_id")

    @cached_property
    def state_of_job(self) -> Mapping[str, str]:
        """State by job."""
        return {row["id"]: row["state"] for row in self.rows("jobs")}

    @cached_property
    def event_of_result(self) -> Mapping[str, str]:
        """Event by identifier of a result."""
        events = {row["id"]: row["event_id"] for row in self.rows("jobs")}
        return {d["identifier"]: events.get(d["job_id"], "") for d in self.rows("deliveries")}

    @cached_property
    def acknowledged(self) -> Mapping[str, Acknowledged]:
        """What was acknowledged, by event."""
        return {each.event_id: each for each in self.evidence.acknowledged}

    @cached_property
    def stored(self) -> Mapping[tuple[str, str], Row]:
        """What the EHR holds: the newest version of everything that is not deleted."""
        newest = {(each["type"], each["id"]): each for each in self.evidence.ehr}
        return {place: each for place, each in newest.items() if each["resource"] is not None}

    @property
    def has_identifiers(self) -> bool:
        """Say whether the EHR keeps the identifiers of results."""
        simulator = self.evidence.simulator
        return not simulator.drops(simulator.kept_as, "identifier")

    @cached_property
    def results(self) -> Sequence[Row]:
        """Every result in the EHR; where it takes none, those on Nadi's worklist.

        Nobody but Nadi writes this type into the EHR of a run.
        """
        kind = self.evidence.simulator.kept_as
        return [r["resource"] for r in self.stored.values() if r["type"] == kind] if kind else (
            self.evidence.worklist)  # fmt: skip

    @cached_property
    def results_of_event(self) -> Counter[str]:
        """Results by event, as their identifiers tell."""
        return Counter(self.event_of_result.get(identifier(each), "") for each in self.results)

    @cached_property
    def results_at(self) -> Mapping[Moment, list[Row]]:
        """Results by whom they are about and when."""
        found: dict[Moment, list[Row]] = defaultdict(list)
        for each in self.results:
            found[moment_of(each)].append(each)
        return found

    @cached_property
    def deliveries_at(self) -> Mapping[Moment, list[Row]]:
        """Deliveries by whom they are about and when, of acknowledged events."""
        found: dict[Moment, list[Row]] = defaultdict(list)
        for row in self.rows("deliveries"):
            cause = self.acknowledged.get(self.event_of_result[row["identifier"]])
            if cause is not None:
                found[due_at(cause)].append(row)
        return found

    def deliveries_of(self, result: Row) -> Iterator[Row]:
        """Give the deliveries that may have written a result."""
        for row in self.deliveries_at.get(moment_of(result), ()):
            if identifier(result) in {"", row["identifier"]}:
                yield row


def due_at(cause: Acknowledged) -> Moment:
    """Say whom the result of an event is about, and its clinical time."""
    return f"Patient/{cause.patient_id}", _instant(cause.at)


def moment_of(result: Row) -> Moment:
    """Say whom a result is about, and its clinical time."""
    period = result.get("context", {}).get("period", {})
    at = result.get("effectiveDateTime") or period.get("start", "")
    return str(result["subject"]["reference"]), _instant(at)


def _instant(text: str) -> str:
    """Write a time so that two spellings of one instant are one."""
    return str(datetime.fromisoformat(text).timestamp()) if text else ""


def identifier(resource: Row) -> str:
    """Give the identifier of a result; empty where there is none."""
    for each in resource.get("identifier", ()):
        if each.get("system") == RESULT_SYSTEM:
            return str(each["value"])
    return ""


def grouped(rows: Sequence[Row], column: str) -> Mapping[str, list[Row]]:
    """Sort rows by what stands in a column."""
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row[column]].append(row)
    return found
