"""In which form a result is in its EHR, and what of it the EHR did not keep."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    # The first migration makes the table as it is described today, with all its columns.
    there = {each["name"] for each in sa.inspect(op.get_bind()).get_columns("deliveries")}
    for name, length in (("rung", 24), ("lost", 255)):
        if name not in there:
            column = sa.Column(name, sa.String(length), nullable=False, server_default="")
            op.add_column("deliveries", column)


def downgrade() -> None:
    op.drop_column("deliveries", "lost")
    op.drop_column("deliveries", "rung")
