"""Which resources of an EHR are results that Nadi wrote there."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    op.create_table(
        "written_results",
        sa.Column("resource_key", sa.String(64), primary_key=True),
        sa.Column("written_ms", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("written_results")
