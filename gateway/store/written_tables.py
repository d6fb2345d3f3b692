"""Which resources of an EHR are results that Nadi wrote there."""

from sqlalchemy import BigInteger, Column, String, Table

from gateway.store.tables import metadata

written_results = Table(
    "written_results",
    metadata,
    # keyed hash of system, type and id, as events have it
    Column("resource_key", String(64), primary_key=True),
    Column("written_ms", BigInteger, nullable=False),
)
