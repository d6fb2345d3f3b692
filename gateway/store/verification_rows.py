"""The rows beside the audit log, compared with what the log says of them.

* An event's payload opens, has the SHA-256 that was recorded when it was received, and says of
  itself what the columns say; a Bundle can be put together again with its SHA-256.
* A job is in the state that was last recorded, for the event, patient, route and model recorded.
* A result's body and location open; what was recorded as delivered is delivered.
* Nothing recorded is missing, and nothing is there that was never recorded.

A value that opens was sealed by the master key for exactly this table, column, row and patient.
"""

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import orjson
import sqlalchemy as sa

from gateway.core.audit_event import RESULT_SYSTEM
from gateway.core.clock import to_ms
from gateway.core.delivery import DeliveryState
from gateway.core.errors import Erased, Unsealable
from gateway.core.event import VersionMark, facts, is_older
from gateway.core.jobs import JobState
from gateway.core.model_register import ModelState
from gateway.store.deliveries import MOST_LOST
from gateway.store.evidence import Claim, Evidence, JobEvidence
from gateway.store.evidence_streams import job_evidence, ordered, paired, receptions
from gateway.store.identity import code_keys, dedupe_key, resource_key
from gateway.store.key_check import ROW_ID
from gateway.store.models import read_line
from gateway.store.sealing import Place
from gateway.store.verification_acts import REQUESTS, USES, ActVerifier
from gateway.store.verification_consents import check_consent_act
from gateway.store.verification_removals import RemovalVerifier
from gateway.store.verification_report import Kind, Progress, Verification, as_bytes, rows
from gateway.store.verification_site import SiteVerifier

if TYPE_CHECKING:
    from gateway.store.unit_of_work import UnitOfWork

Row = Mapping[str, Any]

_EVERY = 200
_NOT_THERE = "it is on record but not there"
_VERSIONS = (
    "select resource_key, version_id, last_updated_ms, is_current, id from events "
    "where resource_key is not null order by resource_key, id"
)
_KEY_CHECKS = "select id, value from key_check"
_WRONG_KEY = (
    "the master key in use is not the one of this database (put the right keys/master.key back), "
    "or this value was changed"
)


class RowVerifier:
    """Goes through the tables that the audit log speaks of."""

    def __init__(
        self, uow: "UnitOfWork", evidence: Evidence, report: Verification, progress: Progress
    ) -> None:
        self._uow = uow
        self._evidence = evidence
        self._report = report
        self._progress = progress
        self._removals = RemovalVerifier(uow, evidence.removals, report)

    def run(self) -> None:
        """Go through everything; what is wrong goes into the report."""
        self._check_master_key()
        self._each("patient_keys", self._check_key, key="patient_key")
        self._check_events()
        self._check_versions()
        self._each("submissions", self._check_submission)
        self._check_submission_ids()
        self._check_jobs()
        of_site = SiteVerifier(self._evidence, self._report)
        self._each("sites", of_site.check_site, key="version")
        self._each("credentials", of_site.check_credential)
        self._each("models", self._check_model, key="digest")
        self._each("witnessed_logs", self._check_witnessed, key="origin")
        self._check_missing("witnessed_logs", set(self._evidence.witnessed), key="origin")
        self._removals.finish()
        self._check_missing("models", set(self._evidence.models), key="digest")
        self._check_missing("sites", set(self._evidence.sites), key="version")
        self._check_missing("credentials", set(self._evidence.credentials))
        self._check_acts()
        self._each("consent_acts", self._check_consent_act)
        self._check_missing("consent_acts", set(self._evidence.consent_acts))

    def _each(self, table: str, check: Callable[[Row], None], *, key: str = "id") -> None:
        total = self._count(table)
        query = f"select * from {table} order by {key}"  # noqa: S608 - our own names
        for index, row in enumerate(rows(self._uow.connection, query)):
            self._tell(table, index, total)
            self._guarded(table, row[key], functools.partial(check, row))
        self._progress(table, total, total)

    def _count(self, table: str) -> int:
        count = sa.text(f"select count(*) from {table}")  # noqa: S608 - our own names
        return int(self._uow.connection.execute(count).scalar_one())

    def _tell(self, table: str, index: int, total: int) -> None:
        if index % _EVERY == 0:
            self._progress(table, index, total)

    def _guarded(self, table: str, name: object, check: Callable[[], None]) -> None:
        """Check one row; what can't be checked is named."""
        try:
            check()
        except Erased:
            # By right: the tombstone and the log are compared by `verification_removals`.
            pass
        except Unsealable as error:
            self._report.found(table, name, error.message)
        except (ValueError, TypeError, KeyError, AttributeError):
            self._report.found(table, name, "it can't be read as what it was")
        self._report.count(table)

    def _check_master_key(self) -> None:
        """The rest is compared all the same: where it opens, it was this value that changed."""
        kept = {row["id"]: row["value"] for row in rows(self._uow.connection, _KEY_CHECKS)}
        for name in kept.keys() - {ROW_ID}:
            self._report.found("key_check", name, "there has to be one row only")
        if ROW_ID not in kept:
            self._report.found("key_check", ROW_ID, "it is not there")
        elif kept[ROW_ID] != self._uow.key_check.expected:
            self._report.found("key_check", ROW_ID, _WRONG_KEY)

    # -- what was received -------------------------------------------------------------------

    def _check_key(self, row: Row) -> None:
        name = str(row["patient_key"])
        # Sealing nothing unwraps the key, which opens for this patient alone.
        self._uow.sealer.seal(as_bytes(row["wrapped_key"]), name, Place("", "", ""), b"")

    def _check_events(self) -> None:
        connection, total = self._uow.connection, self._count("events")
        told = receptions(connection, self._report)
        found = enumerate(paired(ordered(connection, "events", "id"), told))
        for index, (name, row, claim) in found:
            self._tell("events", index, total)
            if row is None:
                self._report.found("events", name, _NOT_THERE, kind=Kind.MISSING)
            else:
                check = functools.partial(self._check_event, row, claim)
                self._guarded("events", name, check)
        self._progress("events", total, total)

    def _check_event(self, row: Row, claim: Claim | None) -> None:
        if claim is None:
            what = "its reception is not on record"
            self._report.found("events", row["id"], what, kind=Kind.INVENTED)
            return
        if self._removals.is_emptied("events", row, row["payload"], row["received_ms"]):
            erased = self._removals.expected_of_event(row)
            self._compare("events", row, {**self._recorded_of_event(claim), **erased}, claim)
            self._same_moment("events", row, "received_ms", claim)
            return
        payload = self._open("events", "payload", row)
        content = orjson.loads(payload)
        read, sealer = facts(content), self._uow.sealer
        updated_ms = to_ms(read.last_updated) if read.last_updated else None
        expected = {
            **self._recorded_of_event(claim),
            "version_id": read.version_id,
            "last_updated_ms": updated_ms,
            "codes": "\n".join(code_keys(sealer, read.codes)),
            "effective_ms": to_ms(read.effective) if read.effective else None,
            "resource_type": read.resource_type,
            "resource_key": resource_key(sealer, row["system"], read),
            "dedupe_key": dedupe_key(sealer, row["system"], read, row["sha256"]),
        }
        self._compare("events", row, expected, claim)
        self._same_moment("events", row, "received_ms", claim)
        if sha256(payload).hexdigest() != claim.facts.get("sha256"):
            self._report.found(
                "events", row["id"], "its payload is not what was received", claim.seq
            )
        self._check_patient(row)
        if not row["resource_key"] and not row["is_current"]:
            self._report.found("events", row["id"], "column is_current is not what it was")

    def _recorded_of_event(self, claim: Claim) -> dict[str, object]:
        return {
            "sha256": claim.facts.get("sha256"),
            "patient_key": claim.record.patient_key,
            "request_id": claim.request_id,
            "principal_id": claim.agents[0],
        }

    def _check_patient(self, row: Row) -> None:
        if row["patient_ref"] is None:
            return
        reference = self._open("events", "patient_ref", row).decode()
        if self._uow.sealer.patient_key(row["system"], reference) != row["patient_key"]:
            self._report.found("events", row["id"], "column patient_key is another patient's")

    def _check_versions(self) -> None:
        """Insist that of each resource the newest version, and no other, is the current one.

        What says nothing by which it is ordered is the newest when it comes; so is then what
        comes after it, whatever moment that names.
        """
        found = rows(self._uow.connection, _VERSIONS)
        for _, versions in itertools.groupby(found, key=lambda row: row["resource_key"]):
            marked = [
                (VersionMark(row["version_id"], row["last_updated_ms"]), row["is_current"], row)
                for row in versions
            ]
            current = [(mark, row["id"]) for mark, is_current, row in marked if is_current]
            if len(current) != 1:
                what = f"{len(current)} versions of its resource are current instead of one"
                self._report.found("events", marked[-1][2]["id"], what)
            elif any(is_older(current[0][0], mark) for mark in _comparable(marked)):
                self._report.found("events", current[0][1], "it is current but not the newest")

    def _check_submission(self, row: Row) -> None:
        if self._removals.is_emptied("submissions", row, row["skeleton"], row["received_ms"]):
            return
        try:
            whole = self._uow.events.submission_bytes(row["id"])
        except Erased:  # one of its resources: what is around it opened, and is no patient's
            return
        digest = sha256(whole).hexdigest()
        expected = {
            "sha256": digest,
            "dedupe_key": self._uow.sealer.keyed_hash("submission", row["system"], digest),
            "bundle_type": orjson.loads(whole).get("type", ""),
        }
        self._compare("submissions", row, expected)

    def _check_submission_ids(self) -> None:
        # `not in` of an empty list holds even of a submission_id that is NULL.
        lost = (
            "select id from events where submission_id is not null "
            "and submission_id not in (select id from submissions)"
        )
        for row in rows(self._uow.connection, lost):
            self._report.found("events", row["id"], "the Bundle it came in is not there")

    # -- what came of it ---------------------------------------------------------------------

    def _check_jobs(self) -> None:
        """Compare jobs and their deliveries with the record, one job after the other."""
        connection, total = self._uow.connection, self._count("jobs")
        jobs = paired(ordered(connection, "jobs", "id"), job_evidence(connection, self._report))
        whole = ((name, (row, evidence)) for name, row, evidence in jobs)
        deliveries = ordered(connection, "deliveries", "job_id")
        for index, (name, known, delivery) in enumerate(paired(whole, deliveries)):
            self._tell("jobs", index, total)
            job, evidence = known or (None, None)
            if job is not None:
                self._guarded("jobs", name, functools.partial(self._check_job, job, evidence))
            elif evidence is not None:
                self._report.found("jobs", name, _NOT_THERE, kind=Kind.MISSING)
            if delivery is not None:
                check = functools.partial(self._check_delivery, delivery, job, evidence)
                self._guarded("deliveries", delivery["id"], check)
            elif evidence is not None and evidence.delivered:
                gone = f"job_id {name}"
                self._report.found("deliveries", gone, _NOT_THERE, kind=Kind.MISSING)
        self._progress("jobs", total, total)

    def _check_job(self, row: Row, evidence: JobEvidence | None) -> None:
        if evidence is None:
            what = "that it came into being is not on record"
            self._report.found("jobs", row["id"], what, kind=Kind.INVENTED)
            return
        first, last = evidence.first, evidence.last
        expected: dict[str, object] = {
            "patient_key": first.record.patient_key,
            "event_id": first.record.event_id,
        }
        expected |= {n: evidence.facts[n] for n in ("route", "model") if n in evidence.facts}
        self._compare("jobs", row, expected, last)
        self._check_state(row, last)
        self._same_moment("jobs", row, "created_ms", first)
        if evidence.digests and row["model_digest"] not in evidence.digests:
            self._report.found("jobs", row["id"], "another model computed it than the row says")
        self._check_decisions(row, evidence)

    def _check_state(self, row: Row, last: Claim) -> None:
        """Compare with what was last recorded; only a job that is open moves on unrecorded."""
        recorded, actual = last.facts.get("state"), row["state"]
        if recorded in (JobState.READY, JobState.IN_PROGRESS):
            is_so = actual in (JobState.READY, JobState.IN_PROGRESS)
            is_so = is_so and row["business_status"] in _OPEN
        else:
            explained = last.facts.get("business-status")
            is_so = actual == recorded and row["business_status"] == explained
            is_so = is_so and row["reason"] == last.reason
        if not is_so:
            what = f"its state is not the one last recorded ({recorded})"
            self._report.found("jobs", row["id"], what, last.seq)

    def _check_decisions(self, row: Row, evidence: JobEvidence) -> None:
        for decision in orjson.loads(row["decisions"]):
            if not evidence.knows(decision):
                what = "column decisions holds a consent decision that is not on record"
                self._report.found("jobs", row["id"], what, evidence.last.seq)

    def _check_delivery(self, row: Row, job: Row | None, evidence: JobEvidence | None) -> None:
        if self._removals.is_emptied("deliveries", row, row["body"], row["created_ms"]):
            claim = evidence.delivered if evidence else None
            expected = self._removals.expected_of_delivery(row, claim)
            self._compare("deliveries", row, expected, claim)
            return
        body = self._open("deliveries", "body", row)
        if row["location"] is not None:
            self._open("deliveries", "location", row)
        found, name = self._report.found, row["id"]
        if job is None:
            found("deliveries", name, "its job is not there")
            return
        if job["patient_key"] != row["patient_key"]:
            found("deliveries", name, "its job is about another patient")
        if str(row["identifier"]).encode() not in body:
            found("deliveries", name, "column identifier is not that of its body")
        if row["state"] not in _DELIVERY_STATES:
            found("deliveries", name, "its state is none that exists")
        self._check_delivered(row, evidence.delivered if evidence else None)

    def _check_delivered(self, row: Row, claim: Claim | None) -> None:
        is_delivered = row["state"] == DeliveryState.DELIVERED
        if (claim is not None) != is_delivered:
            what = "its state is not the one that was recorded"
            self._report.found("deliveries", row["id"], what, claim.seq if claim else None)
        told = claim.facts if claim is not None else {}
        expected = {"rung": told.get("rung", ""), "lost": told.get("lost", "")[:MOST_LOST]}
        if claim is None:
            self._compare("deliveries", row, expected, None)
            return
        expected["identifier"] = claim.names.get(RESULT_SYSTEM, "")
        self._compare("deliveries", row, expected, claim)
        if is_delivered and str(row["attempt"]) != claim.facts.get("attempt"):
            what = "column attempt is not what was recorded"
            self._report.found("deliveries", row["id"], what, claim.seq)
        if is_delivered:
            self._same_moment("deliveries", row, "delivered_ms", claim)
        if row["system"] not in claim.agents:
            what = "column system is not where it was delivered"
            self._report.found("deliveries", row["id"], what, claim.seq)

    # -- what is configured ------------------------------------------------------------------

    def _check_model(self, row: Row) -> None:
        digest = row["digest"]
        claim, retired = self._evidence.models.get(digest), self._evidence.retired.get(digest)
        if claim is None:
            self._report.found("models", digest, "that it was registered is not on record")
            return
        line = read_line({**row})
        if line.card.fingerprint != claim.facts.get("fingerprint"):
            self._report.found(
                "models", digest, "it is not the model that was registered", claim.seq
            )
        self._same_moment("models", row, "registered_ms", claim, key="digest")
        self._same_person("models", row, "registered_by", claim, key="digest")
        if (line.state is ModelState.RETIRED) != (retired is not None):
            what = "whether it is retired is not what was recorded"
            self._report.found("models", digest, what, (retired or claim).seq)
        self._check_retired(row, claim, retired)

    def _check_retired(self, row: Row, claim: Claim, retired: Claim | None) -> None:
        reason = retired.reason if retired else ""
        is_said = row["retired_ms"] is not None or row["retired_by"] is not None
        if row["reason"] != reason or (retired is None and is_said):
            what = "when and why it was retired is not what was recorded"
            self._report.found("models", row["digest"], what, (retired or claim).seq)
        if retired is not None:
            self._same_moment("models", row, "retired_ms", retired, key="digest")
            self._same_person("models", row, "retired_by", retired, key="digest")

    def _check_acts(self) -> None:
        acts = self._evidence.acts
        is_erased = self._removals.is_erased
        verifier = ActVerifier(self._uow, acts, self._report, is_erased)
        self._each(USES, verifier.check_use)
        self._check_missing(USES, set(acts.uses.made))
        self._each(REQUESTS, verifier.check_request)
        self._check_missing(REQUESTS, set(acts.requests.made))

    def _check_consent_act(self, row: Row) -> None:
        if not self._removals.is_erased(row, row["recorded_ms"]):
            check_consent_act(self._uow, self._evidence.consent_acts, self._report, row)

    def _check_witnessed(self, row: Row) -> None:
        origin, claim = row["origin"], self._evidence.witnessed.get(row["origin"])
        if claim is None:
            what = "that its checkpoint was taken is not on record"
            self._report.found("witnessed_logs", origin, what, kind=Kind.INVENTED)
            return
        digest = sha256(str(row["note"]).encode()).hexdigest()
        if digest != claim.facts.get("sha256") or str(row["size"]) != claim.facts.get("size"):
            what = "it is not the newest checkpoint that was taken"
            self._report.found("witnessed_logs", origin, what, claim.seq)
        self._same_moment("witnessed_logs", row, "received_ms", claim, key="origin")

    # -- the comparisons ---------------------------------------------------------------------

    def _open(self, table: str, column: str, row: Row) -> bytes:
        place = Place(table, column, row["id"])
        return self._uow.patient_keys.unseal(row["patient_key"], place, as_bytes(row[column]))

    def _compare(
        self, table: str, row: Row, expected: Mapping[str, object], claim: Claim | None = None
    ) -> None:
        for column, value in expected.items():
            if row[column] != value:
                what = f"column {column} is not what was recorded"
                self._report.found(table, str(row["id"]), what, claim.seq if claim else None)

    def _same_moment(
        self, table: str, row: Row, column: str, claim: Claim, *, key: str = "id"
    ) -> None:
        if row[column] != claim.recorded_ms:
            what = f"column {column} is not the time that was recorded"
            self._report.found(table, str(row[key]), what, claim.seq)

    def _same_person(self, table: str, row: Row, column: str, claim: Claim, *, key: str) -> None:
        if not any(agent.endswith(row[column]) for agent in claim.agents):
            what = f"column {column} is not who did it"
            self._report.found(table, str(row[key]), what, claim.seq)

    def _check_missing(self, table: str, recorded: set[str], *, key: str = "id") -> None:
        query = f"select {key} from {table}"  # noqa: S608 - our own names
        present = {str(row[key]) for row in rows(self._uow.connection, query)}
        for gone in sorted(recorded - present):
            name = gone if key == "id" else f"{key} {gone}"
            self._report.found(table, name, _NOT_THERE, kind=Kind.MISSING)


_OPEN = ("queued", "running", "delivery-pending")
_DELIVERY_STATES = frozenset(DeliveryState)


def _comparable(marked: Sequence[tuple[VersionMark, object, object]]) -> list[VersionMark]:
    """Give the versions of a resource by which the current one is judged.

    Args:
        marked: All of them, in the order they came.
    """
    marks = [mark for mark, _, _ in marked]
    unordered = [at for at, mark in enumerate(marks) if not mark.is_ordered]
    return marks[unordered[-1] :] if unordered else marks
