"""Results in an EHR that are to be marked as entered in error, since consent was withdrawn."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_table(
        "retractions",
        sa.Column("delivery_id", sa.String(36), primary_key=True),
        sa.Column("patient_key", sa.String(64), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False, server_default="0"),
        sa.Column("next_attempt_ms", sa.BigInteger, nullable=False),
        sa.Column("last_answer", sa.String(128), nullable=False, server_default=""),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("settled_ms", sa.BigInteger),
    )
    op.create_index("ix_retractions_state", "retractions", ["state", "next_attempt_ms"])


def downgrade() -> None:
    op.drop_table("retractions")
