"""Proofs out of the stored log: a few hundred hashes are read, however long the log is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from gateway.core.ledger_nodes import consistency_proof_from, inclusion_proof_from, root_from
from gateway.store.packing import told
from gateway.store.tables import audit_checkpoints, audit_events, audit_leaves, audit_nodes

if TYPE_CHECKING:
    from gateway.store.unit_of_work import UnitOfWork


@dataclass(frozen=True)
class PlacedEvent:
    """One AuditEvent and its place in the log; `leaf_index` is None until it has one."""

    id: str
    patient_key: str | None
    body: bytes
    leaf_index: int | None


class AuditProofs:
    """Proves what is in the log of a site."""

    def __init__(self, uow: "UnitOfWork") -> None:
        self._connection = uow.connection
        self._known: dict[range, bytes] = {}

    def newest(self) -> tuple[int, str] | None:
        """Give size and signed note of the newest checkpoint."""
        columns = (audit_checkpoints.c.size, audit_checkpoints.c.note)
        newest = sa.select(*columns).order_by(audit_checkpoints.c.size.desc()).limit(1)
        row = self._connection.execute(newest).one_or_none()
        return (row.size, row.note) if row else None

    def events_of(self, name: str) -> list[PlacedEvent]:
        """Give the AuditEvent of this id, else those of the job of this id, oldest first."""
        columns = audit_events.c
        query = (
            sa.select(columns.seq, columns.id, columns.patient_key, columns.body)
            .add_columns(audit_leaves.c.leaf_index)
            .outerjoin(audit_leaves, audit_leaves.c.audit_seq == audit_events.c.seq)
            .order_by(audit_events.c.seq)
        )
        for criterion in (audit_events.c.id == name, audit_events.c.job_id == name):
            found = self._connection.execute(query.where(criterion)).all()
            if found:
                return [_placed(row) for row in found]
        return []

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """Prove that a leaf is in the log of this size.

        Raises:
            ProofInvalid: There is no such leaf, or a hash is lacking that should be there.
        """
        return inclusion_proof_from(self._read, index, size, known=self._known)

    def consistency(self, size1: int, size2: int) -> list[bytes]:
        """Prove that the log of the later size continues that of the earlier one.

        Raises:
            ProofInvalid: There are no such logs, or a hash is lacking that should be there.
        """
        return consistency_proof_from(self._read, size1, size2)

    def root(self, size: int) -> bytes:
        """Give the root of the first so many leaves.

        Raises:
            ProofInvalid: A hash is lacking that should be there.
        """
        return root_from(self._read, size)

    def _read(self, count: int, firsts: range) -> Sequence[bytes]:
        if count == 1:
            index, column = audit_leaves.c.leaf_index, audit_leaves.c.leaf_hash
            query = sa.select(column)
        else:
            index, column = audit_nodes.c.first_leaf, audit_nodes.c.hash
            query = sa.select(column).where(audit_nodes.c.leaf_count == count)
        query = query.where(index >= firsts.start, index < firsts.stop).order_by(index)
        return [bytes(found) for found in self._connection.execute(query).scalars()]


def _placed(row: sa.Row[*tuple[Any, ...]]) -> PlacedEvent:
    return PlacedEvent(row.id, row.patient_key, told(row.seq, row.body), row.leaf_index)
