"""What listeners remember: cursors, numbers of events, ids of messages that were answered."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    op.create_table(
        "listener_state",
        sa.Column("listener", sa.String(129), primary_key=True),
        sa.Column("key", sa.String(128), primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("updated_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_listener_state_updated_ms", "listener_state", ["listener", "updated_ms"])


def downgrade() -> None:
    op.drop_table("listener_state")
