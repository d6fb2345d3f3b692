"""Who was erased, and whose data a legal hold keeps."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "erasures",
        sa.Column("patient_key", sa.String(64), primary_key=True),
        sa.Column("id", sa.String(36), nullable=False, unique=True),
        sa.Column("erased_ms", sa.BigInteger, nullable=False),
        sa.Column("erased_by", sa.String(64), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("law", sa.Text, nullable=False),
        sa.Column("reopened_ms", sa.BigInteger),
    )
    op.create_table(
        "legal_holds",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("patient_key", sa.String(64), nullable=False),
        sa.Column("placed_ms", sa.BigInteger, nullable=False),
        sa.Column("placed_by", sa.String(64), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("law", sa.Text, nullable=False),
        sa.Column("lifted_ms", sa.BigInteger),
        sa.Column("lifted_by", sa.String(64)),
    )
    op.create_index(
        "uq_legal_holds_in_force",
        "legal_holds",
        ["patient_key"],
        unique=True,
        sqlite_where=sa.text("lifted_ms is null"),
        postgresql_where=sa.text("lifted_ms is null"),
    )


def downgrade() -> None:
    op.drop_table("legal_holds")
    op.drop_table("erasures")
