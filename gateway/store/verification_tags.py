"""Compare the tag of each AuditEvent, and tell of those that nobody with the master key wrote."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gateway.store.audit_tags import AuditTags
from gateway.store.verification_report import Kind, Verification, as_bytes

if TYPE_CHECKING:
    from gateway.store.unit_of_work import UnitOfWork


class TagVerifier:
    """Compares one AuditEvent after the other."""

    def __init__(self, uow: "UnitOfWork", report: Verification) -> None:
        self._tags = AuditTags(uow)
        self._report = report

    def check(self, row: Mapping[str, Any]) -> None:
        """Compare the tag of an AuditEvent whose bytes are those of its leaf, or that has none."""
        if not self._tags.is_right_key:
            # With another master key each would be false: that is a finding of its own.
            return
        leaf, tag = row.get("leaf_index"), row["tag"]
        is_well = self._tags.may_be_placed if leaf is None else self._tags.is_true
        tag = None if tag is None else as_bytes(tag)
        if not is_well(row["seq"], row["id"], as_bytes(row["body"]), tag):
            self._tell(row["seq"], leaf)

    def _tell(self, seq: int, leaf: int | None) -> None:
        """Without a leaf it is one that got none; what has one had its tag when it got it."""
        kind = Kind.INVENTED if leaf is None else Kind.CHANGED
        what = "its tag is not that of the master key: it was not written by Nadi"
        if leaf is not None:
            what += ", or its tag or id was changed"
        self._report.found("audit_events", seq, what, seq, kind=kind, leaf=leaf)
