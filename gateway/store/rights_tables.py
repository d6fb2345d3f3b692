"""The tables of patients' rights: who was erased, and what must be kept for the law.

As in `tables`: no patient's value stands in the clear, and reasons name none.
"""

from sqlalchemy import BigInteger, Boolean, Column, Index, String, Table, Text, false, text

from gateway.store.tables import metadata

# A tombstone: while `reopened_ms` is empty, no key is ever made for this patient again.
erasures = Table(
    "erasures",
    metadata,
    Column("patient_key", String(64), primary_key=True),
    Column("id", String(36), nullable=False, unique=True),
    Column("erased_ms", BigInteger, nullable=False),
    Column("erased_by", String(64), nullable=False),
    Column("reason", Text, nullable=False),
    Column("law", Text, nullable=False),
    # the site lets an erased patient who comes again begin anew
    Column("reopened_ms", BigInteger),
    # whether she refused all AI: the one thing of her consent that outlives her key
    Column("refused_ai", Boolean, nullable=False, server_default=false()),
)

# What is held of a patient must not be removed while a hold is in force.
legal_holds = Table(
    "legal_holds",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("patient_key", String(64), nullable=False),
    Column("placed_ms", BigInteger, nullable=False),
    Column("placed_by", String(64), nullable=False),
    Column("reason", Text, nullable=False),
    Column("law", Text, nullable=False),
    Column("lifted_ms", BigInteger),
    Column("lifted_by", String(64)),
    Index(
        "uq_legal_holds_in_force",
        "patient_key",
        unique=True,
        sqlite_where=text("lifted_ms is null"),
        postgresql_where=text("lifted_ms is null"),
    ),
)

# How far each class of retention has been walked; looking again is harmless.
retention_marks = Table(
    "retention_marks",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("after_id", String(36), nullable=False),
    Column("ran_ms", BigInteger, nullable=False),
)

# What patients asked for, and how they were answered.
rights_requests = Table(
    "rights_requests",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("patient_key", String(64), nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    Column("due_ms", BigInteger, nullable=False),
    Column("added_by", String(64), nullable=False),
    Column("closed_ms", BigInteger),
    Column("closed_by", String(64)),
    Column("outcome", Text, nullable=False, server_default=""),
)
