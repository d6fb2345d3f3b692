"""What witnesses have of the audit log, and what is kept of the logs of others."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "witness_states",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("size", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("confirmed_ms", sa.BigInteger),
        sa.Column("failures", sa.Integer, nullable=False, server_default="0"),
        sa.Column("next_attempt_ms", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("problem", sa.Text, nullable=False, server_default=""),
        sa.Column("disagrees", sa.Boolean, nullable=False, server_default=sa.false()),
    )
    op.create_table(
        "witnessed_logs",
        sa.Column("origin", sa.String(128), primary_key=True),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("received_ms", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("witnessed_logs")
    op.drop_table("witness_states")
