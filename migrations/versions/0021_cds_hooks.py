"""What became of cards, and which tokens were used."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    op.create_table(
        "cds_feedback",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("job_id", sa.String(36), nullable=False),
        sa.Column("route", sa.String(64), nullable=False),
        sa.Column("client", sa.String(129), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(32), nullable=False),
        sa.Column("patient_key", sa.String(64)),
        sa.Column("said", sa.LargeBinary, nullable=False),
        sa.Column("outcome_ms", sa.BigInteger, nullable=False),
        sa.Column("received_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_cds_feedback_received_ms", "cds_feedback", ["received_ms"])
    op.create_index("ix_cds_feedback_patient_key", "cds_feedback", ["patient_key"])
    op.create_table(
        "token_uses",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("until_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_token_uses_until_ms", "token_uses", ["until_ms"])


def downgrade() -> None:
    op.drop_table("token_uses")
    op.drop_table("cds_feedback")
