"""Was an AuditEvent written by somebody who has the master key? Each carries a tag that says so.

What an earlier Nadi wrote has none. From the first that has one, all have to.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from gateway.store.key_check import ROW_ID
from gateway.store.verification_report import Kind, Verification, as_bytes

if TYPE_CHECKING:
    from gateway.store.unit_of_work import UnitOfWork

_FIRST = sa.text("select seq from audit_events where tag is not null order by seq limit 1")
_KEPT = sa.text("select value from key_check where id = :id")


class TagVerifier:
    """Compares one AuditEvent after the other."""

    def __init__(self, uow: "UnitOfWork", report: Verification) -> None:
        self._uow = uow
        self._report = report

    def check(self, row: Mapping[str, Any]) -> None:
        """Compare the tag of an AuditEvent whose bytes are those of its leaf, or that has none."""
        if not self._is_right_key:
            # With another master key each would be false: that is a finding of its own.
            return
        seq, tag, body = row["seq"], row["tag"], row["body"]
        if tag is None and (self._first is None or seq < self._first):
            return
        if tag is None or as_bytes(tag) != self._uow.sealer.audit_tag(row["id"], as_bytes(body)):
            self._tell(seq, row.get("leaf_index"))

    def _tell(self, seq: int, leaf: int | None) -> None:
        """Without a leaf it is one that got none; what has one had its tag when it got it."""
        kind = Kind.INVENTED if leaf is None else Kind.CHANGED
        what = "its tag is not that of the master key: it was not written by Nadi"
        if leaf is not None:
            what += ", or its tag or id was changed"
        self._report.found("audit_events", seq, what, seq, kind=kind, leaf=leaf)

    @cached_property
    def _first(self) -> int | None:
        return self._uow.connection.execute(_FIRST).scalar()

    @cached_property
    def _is_right_key(self) -> bool:
        kept = self._uow.connection.execute(_KEPT, {"id": ROW_ID}).scalar()
        return bool(kept == self._uow.key_check.expected)
