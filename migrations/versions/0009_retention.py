"""How far retention has come."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_table(
        "retention_marks",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("after_id", sa.String(36), nullable=False),
        sa.Column("ran_ms", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("retention_marks")
