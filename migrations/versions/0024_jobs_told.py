"""When the EHR last said all that it has of what a job's model reads: it is not asked again."""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    # The first migration makes the table as it is described today, with all its columns.
    there = {each["name"] for each in sa.inspect(op.get_bind()).get_columns("jobs")}
    if "told_ms" not in there:
        op.add_column("jobs", sa.Column("told_ms", sa.BigInteger))


def downgrade() -> None:
    op.drop_column("jobs", "told_ms")
