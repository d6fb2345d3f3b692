"""Consents that staff record and import, and how often a consent was used."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_APPEND_ONLY = ("consent_acts", "consent_uses")
_SAYS = "what was recorded of consents is append-only"


def upgrade() -> None:
    op.create_table(
        "consent_acts",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("consent_id", sa.String(36), nullable=False, index=True),
        sa.Column("form", sa.String(8), nullable=False),
        sa.Column("act", sa.String(8), nullable=False),
        sa.Column("foreign_key", sa.String(64), index=True),
        sa.Column("patient_key", sa.String(64), index=True),
        sa.Column("statement", sa.LargeBinary, nullable=False),
        sa.Column("signature", sa.Text, nullable=False),
        sa.Column("document", sa.LargeBinary),
        sa.Column("recorded_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "consent_uses",
        sa.Column("consent_id", sa.String(36), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("event_id", sa.String(36), nullable=False),
        sa.Column("used_ms", sa.BigInteger, nullable=False),
    )
    if op.get_bind().dialect.name == "sqlite":
        _forbid_sqlite()
    else:
        _forbid_postgresql()


def _forbid_sqlite() -> None:
    for table in _APPEND_ONLY:
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_refuses_{verb.lower()} BEFORE {verb} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{_SAYS}'); END"
            )


def _forbid_postgresql() -> None:
    op.execute(
        "CREATE FUNCTION refuse_consent_change() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{_SAYS}'; END $$"
    )
    for table in _APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_consent_change()"
        )


def downgrade() -> None:
    op.drop_table("consent_uses")
    op.drop_table("consent_acts")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION refuse_consent_change()")
