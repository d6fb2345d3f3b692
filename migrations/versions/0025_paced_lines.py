"""Whoever sends to a system with a rate cap stands in one line, in whatever process."""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    op.create_table(
        "paced_lines",
        sa.Column("system", sa.String(64), primary_key=True),
        sa.Column("next_us", sa.BigInteger, nullable=False),
        sa.Column("seen_us", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("paced_lines")
