"""Uses of break-glass, each to be reviewed by a second person."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.create_table(
        "break_glass_uses",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("job_id", sa.String(36), nullable=False, unique=True),
        sa.Column("patient_key", sa.String(64), nullable=False),
        sa.Column("route", sa.String(64), nullable=False),
        sa.Column("clinician_id", sa.String(36), nullable=False),
        sa.Column("clinician", sa.String(64), nullable=False),
        sa.Column("reason", sa.LargeBinary, nullable=False),
        sa.Column("used_ms", sa.BigInteger, nullable=False),
        sa.Column("due_ms", sa.BigInteger, nullable=False),
        sa.Column("reviewed_ms", sa.BigInteger),
        sa.Column("reviewer_id", sa.String(36)),
        sa.Column("reviewer", sa.String(64)),
        sa.Column("verdict", sa.String(16)),
        sa.Column("comment", sa.LargeBinary),
    )
    op.create_index("ix_break_glass_uses_reviewed_ms", "break_glass_uses", ["reviewed_ms"])


def downgrade() -> None:
    op.drop_table("break_glass_uses")
