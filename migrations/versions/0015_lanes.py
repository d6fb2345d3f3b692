"""What waits lies in lanes; what a worker holds is found without reading what waits."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"

_OPEN_JOBS = sa.text("state in ('ready', 'in-progress')")
_OPEN_DELIVERIES = sa.text("state in ('pending', 'in-flight')")
_HELD = sa.text("lease_until_ms is not null")
_ROUTINE = "3"


def upgrade() -> None:
    _add("events", sa.Column("lane", sa.SmallInteger))
    for table in ("jobs", "deliveries"):
        _add(table, sa.Column("lane", sa.SmallInteger, nullable=False, server_default=_ROUTINE))
    _add("deliveries", sa.Column("line", sa.String(129), nullable=False, server_default=""))
    op.execute("update deliveries set line = system || '/' where state in ('pending', 'in-flight')")
    _index_open("jobs", ["state", "lane", "route", "available_ms"], _OPEN_JOBS)
    _index_open("deliveries", ["state", "lane", "line", "next_attempt_ms"], _OPEN_DELIVERIES)
    op.create_index(
        "ix_jobs_leased",
        "jobs",
        ["lease_until_ms"],
        if_not_exists=True,
        sqlite_where=_HELD,
        postgresql_where=_HELD,
    )


def downgrade() -> None:
    op.drop_index("ix_jobs_leased", "jobs")
    _index_open("jobs", ["state", "id"], _OPEN_JOBS)
    _index_open("deliveries", ["state", "next_attempt_ms"], _OPEN_DELIVERIES)
    for column in ("line", "lane"):
        op.drop_column("deliveries", column)
    op.drop_column("jobs", "lane")
    op.drop_column("events", "lane")


def _add(table: str, column: sa.Column[int] | sa.Column[str]) -> None:
    """Add a column, unless the tables were made as they are now (0001 makes the newest ones)."""
    there = {each["name"] for each in sa.inspect(op.get_bind()).get_columns(table)}
    if column.name not in there:
        op.add_column(table, column)


def _index_open(table: str, columns: list[str], condition: sa.TextClause) -> None:
    name = f"ix_{table}_open"
    op.drop_index(name, table)
    op.create_index(name, table, columns, sqlite_where=condition, postgresql_where=condition)
