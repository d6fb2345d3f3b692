"""The register of models."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "models",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("version", sa.String(32), nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("intended_use", sa.Text, nullable=False),
        sa.Column("not_for", sa.Text, nullable=False),
        sa.Column("contraindications", sa.Text, nullable=False),
        sa.Column("demonstration_only", sa.Boolean, nullable=False),
        sa.Column("manufacturer", sa.Text, nullable=False),
        sa.Column("jurisdiction", sa.String(2)),
        sa.Column("device_class", sa.String(8)),
        sa.Column("licence_number", sa.Text),
        sa.Column("change_protocol", sa.Text),
        sa.Column("not_before", sa.String(10)),
        sa.Column("not_after", sa.String(10)),
        sa.Column("signer", sa.String(64), nullable=False),
        sa.Column("signer_key", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("registered_ms", sa.BigInteger, nullable=False),
        sa.Column("registered_by", sa.String(64), nullable=False),
        sa.Column("retired_ms", sa.BigInteger),
        sa.Column("retired_by", sa.String(64)),
        sa.Column("reason", sa.Text, nullable=False, server_default=""),
    )
    op.create_index(
        "uq_models_active",
        "models",
        ["name", "version"],
        unique=True,
        sqlite_where=sa.text("state = 'active'"),
        postgresql_where=sa.text("state = 'active'"),
    )


def downgrade() -> None:
    op.drop_table("models")
