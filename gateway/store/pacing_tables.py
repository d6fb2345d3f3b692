"""The lines of requests before systems whose site caps their rate."""

from sqlalchemy import BigInteger, Column, String, Table

from gateway.store.tables import metadata

paced_lines = Table(
    "paced_lines",
    metadata,
    Column("system", String(64), primary_key=True),
    # microseconds of a clock that all processes of this database share, see gateway.store.pacing
    Column("next_us", BigInteger, nullable=False),
    Column("seen_us", BigInteger, nullable=False),
)
