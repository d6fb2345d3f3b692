"""What EHRs said about changes, until a listener has done what it asks for."""

from sqlalchemy import BigInteger, Column, Index, LargeBinary, String, Table

from gateway.store.tables import metadata

notices = Table(
    "notices",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("system", String(64), nullable=False),
    # sealed JSON, see gateway.core.notice: a reference may name a patient
    Column("body", LargeBinary, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    Index("ix_notices_system", "system", "id"),
)
