"""How the canary stands: a built-in patient who refuses everything."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.create_table(
        "canary_state",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("enrolled_ms", sa.BigInteger),
        sa.Column("last_run_ms", sa.BigInteger),
        sa.Column("is_proven", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("checked_seq", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("tripped_ms", sa.BigInteger),
        sa.Column("why", sa.Text, nullable=False, server_default=""),
    )


def downgrade() -> None:
    op.drop_table("canary_state")
