"""A keyed hash beside every AuditEvent, so that one written without the key gets no leaf."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    # The first migration makes the table as it is described today, with all its columns.
    there = {each["name"] for each in sa.inspect(op.get_bind()).get_columns("audit_events")}
    if "tag" not in there:
        op.add_column("audit_events", sa.Column("tag", sa.LargeBinary))


def downgrade() -> None:
    op.drop_column("audit_events", "tag")
