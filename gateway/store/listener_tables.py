"""What listeners remember: cursors, numbers of events, ids of messages that were answered."""

from sqlalchemy import BigInteger, Column, Index, String, Table, Text

from gateway.store.tables import metadata

listener_state = Table(
    "listener_state",
    metadata,
    # which listener, as the audit log names it: `lab/mllp`
    Column("listener", String(129), primary_key=True),
    Column("key", String(128), primary_key=True),
    # JSON; nothing of a patient
    Column("value", Text, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Index("ix_listener_state_updated_ms", "listener", "updated_ms"),
)
