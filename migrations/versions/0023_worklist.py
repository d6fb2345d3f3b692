"""What no EHR takes is found at once, among many results that went there."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    # The first migration makes the table as it is described today, with all its indexes.
    there = {each["name"] for each in sa.inspect(op.get_bind()).get_indexes("deliveries")}
    if "ix_deliveries_worklist" not in there:
        op.create_index(
            "ix_deliveries_worklist",
            "deliveries",
            ["id"],
            sqlite_where=sa.text("rung = 'worklist'"),
            postgresql_where=sa.text("rung = 'worklist'"),
        )


def downgrade() -> None:
    op.drop_index("ix_deliveries_worklist", "deliveries")
