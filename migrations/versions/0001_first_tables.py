"""The first tables, and triggers that keep the audit log append-only."""

from alembic import op

from gateway.store.tables import metadata

revision = "0001"
down_revision = None

_FIRST = (
    "submissions",
    "events",
    "jobs",
    "deliveries",
    "patient_keys",
    "key_check",
    "credentials",
    "sites",
    "audit_events",
    "audit_leaves",
    "audit_checkpoints",
    "circuit_breakers",
)
_APPEND_ONLY = ("audit_events", "audit_leaves", "audit_checkpoints")


def upgrade() -> None:
    bind = op.get_bind()
    metadata.create_all(bind, tables=[metadata.tables[name] for name in _FIRST])
    forbid = _forbid_sqlite if bind.dialect.name == "sqlite" else _forbid_postgresql
    forbid()


def _forbid_sqlite() -> None:
    for table in _APPEND_ONLY:
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_refuses_{verb.lower()} BEFORE {verb} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"
            )


def _forbid_postgresql() -> None:
    op.execute(
        "CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$"
    )
    for table in _APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )


def downgrade() -> None:
    metadata.drop_all(op.get_bind(), tables=[metadata.tables[name] for name in _FIRST])
