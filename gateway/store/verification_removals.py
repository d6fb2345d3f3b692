"""Was what is missing removed by right: a patient's erasure, or the end of its retention?

* A row may be empty only where the log has an erasure of its patient after it came, or a run of
  retention that reached its time.
* As many rows of a table are empty as the log says were emptied, in all.
* A patient on record as erased has a tombstone that says the same, and no key unless she began
  anew; a tombstone or a hold that no record speaks of was invented.
"""

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gateway.core.audit_event import RESULT_SYSTEM
from gateway.core.audit_rights import ERASURE_SYSTEM, REFUSED_AI, REMOVED
from gateway.core.delivery import DeliveryState
from gateway.store.evidence import Claim, RemovalEvidence
from gateway.store.verification_report import Kind, Verification, as_bytes, rows

if TYPE_CHECKING:
    from gateway.store.unit_of_work import UnitOfWork

Row = Mapping[str, Any]

_NOT_THERE = "it is on record but not there"
_KEYS = (
    "select e.patient_key from erasures e join patient_keys k on k.patient_key = e.patient_key "
    "where e.reopened_ms is null"
)


class RemovalVerifier:
    """Judges empty rows while the tables are gone through, and the tombstones at the end."""

    def __init__(self, uow: "UnitOfWork", evidence: RemovalEvidence, report: Verification) -> None:
        self._uow = uow
        self._evidence = evidence
        self._report = report
        self._empty: Counter[str] = Counter()

    def is_emptied(self, table: str, row: Row, sealed: object, at_ms: object) -> bool:
        """Say whether a row is empty, and find fault where nothing on record emptied it."""
        if as_bytes(sealed):
            return False
        self._empty[table] += 1
        if not self._is_due(table, row, at_ms):
            what = "its content is gone, and no erasure or end of retention is on record for it"
            self._report.found(table, row["id"], what, kind=Kind.MISSING)
        return True

    def _is_due(self, table: str, row: Row, at_ms: object) -> bool:
        if not isinstance(at_ms, int):
            return False
        if table == "submissions":
            # It went with a resource in it; which of several patients' is not told apart here.
            return bool(self._evidence.removed[table])
        return self.is_erased(row, at_ms) or at_ms < self._evidence.before_ms.get(table, 0)

    def is_erased(self, row: Row, at_ms: int) -> bool:
        """Say whether the patient of a row was erased after it came."""
        claim = self._evidence.erased.get(str(row["patient_key"]))
        return claim is not None and at_ms <= claim.recorded_ms

    def expected_of_event(self, row: Row) -> dict[str, object]:
        """Give what an erased event's row has to hold; of an expired one nothing more is known."""
        if not self.is_erased(row, row["received_ms"]):
            return {}
        return {
            "patient_ref": None,
            "codes": "",
            "effective_ms": None,
            "resource_key": None,
            "dedupe_key": self._uow.erasures.unnamed("events", str(row["id"])),
        }

    def expected_of_delivery(self, row: Row, delivered: Claim | None) -> dict[str, object]:
        """Give what an emptied delivery's row has to hold.

        Args:
            row: Of the table.
            delivered: What is on record of its delivery, if it was delivered.
        """
        identifier = delivered.names.get(RESULT_SYSTEM) if delivered else row["identifier"]
        if self.is_erased(row, row["created_ms"]):
            identifier = self._uow.erasures.unnamed("deliveries", str(row["id"]))
        is_so = (row["state"] == DeliveryState.DELIVERED) == (delivered is not None)
        state = row["state"] if is_so else "another"
        return {"identifier": identifier, "location": None, "state": state}

    def finish(self) -> None:
        """Compare the counts, the tombstones and the holds."""
        for table in REMOVED:
            recorded, found = self._evidence.removed[table], self._empty[table]
            if recorded != found:
                what = f"{found} rows are empty, and {recorded} were emptied on record"
                self._report.found(table, "all", what, kind=Kind.MISSING)
        self._check_tombstones()
        self._check_holds()
        for row in rows(self._uow.connection, _KEYS):
            what = "a patient who was erased has a key"
            self._report.found("patient_keys", row["patient_key"], what, kind=Kind.INVENTED)

    def _check_tombstones(self) -> None:
        known = self._evidence.erased
        found = {row["patient_key"]: row for row in rows(self._uow.connection, _TOMBSTONES)}
        for key, row in found.items():
            claim = known.get(key)
            if claim is None:
                what = "that this patient was erased is not on record"
                self._report.found("erasures", row["id"], what, kind=Kind.INVENTED)
            elif not self._says_the_same(row, claim):
                self._report.found("erasures", row["id"], "it is not what was recorded", claim.seq)
        for key in sorted(known.keys() - found.keys()):
            self._report.found("erasures", key, _NOT_THERE, known[key].seq, kind=Kind.MISSING)

    def _says_the_same(self, row: Row, claim: Claim) -> bool:
        again = self._evidence.reopened.get(str(row["patient_key"]))
        recorded = {
            "id": claim.names.get(ERASURE_SYSTEM),
            "erased_ms": claim.recorded_ms,
            "reason": claim.facts.get("why", ""),
            "law": claim.facts.get("law", ""),
            "reopened_ms": again.recorded_ms if again else None,
        }
        is_same = all(row[name] == value for name, value in recorded.items())
        refused = claim.facts.get(REFUSED_AI) == "yes"
        is_same = is_same and bool(row["refused_ai"]) == refused
        return is_same and any(agent.endswith(row["erased_by"]) for agent in claim.agents)

    def _check_holds(self) -> None:
        placed, lifted = self._evidence.holds, self._evidence.lifted
        found = {row["id"]: row for row in rows(self._uow.connection, _HOLDS)}
        for name, row in found.items():
            claim, end = placed.get(name), lifted.get(name)
            if claim is None:
                what = "that it was placed is not on record"
                self._report.found("legal_holds", name, what, kind=Kind.INVENTED)
            elif not _is_hold(row, claim, end):
                self._report.found("legal_holds", name, "it is not what was recorded", claim.seq)
        for name in sorted(placed.keys() - found.keys()):
            self._report.found("legal_holds", name, _NOT_THERE, kind=Kind.MISSING)


def _is_hold(row: Row, placed: Claim, lifted: Claim | None) -> bool:
    """Say whether a hold is the one that was placed, and lifted or not."""
    recorded = {
        "placed_ms": placed.recorded_ms,
        "patient_key": placed.record.patient_key,
        "reason": placed.facts.get("why", row["reason"]),
        "law": placed.facts.get("law", row["law"]),
        "lifted_ms": lifted.recorded_ms if lifted else None,
    }
    by = {"placed_by": placed, **({"lifted_by": lifted} if lifted else {})}
    return all(row[name] == value for name, value in recorded.items()) and all(
        any(agent.endswith(row[name]) for agent in claim.agents) for name, claim in by.items()
    )


_TOMBSTONES = "select * from erasures order by patient_key"
_HOLDS = "select * from legal_holds order by id"
