"""What is on record is not replaced behind its triggers, and what is never removed can't be.

SQLite fires no DELETE trigger for the row that `insert or replace` throws out, so an INSERT that
would meet a row is refused as well. PostgreSQL has no such statement: `on conflict do update` is an
UPDATE to it.
"""

from alembic import op

revision = "0016"
down_revision = "0015"

_LOG = "the audit log is append-only"
_CONSENTS = "what was recorded of consents is append-only"
_KEPT = "what is on record is never removed, and what it says is never changed"

#: The keys by which a row of each table can be met, and what the refusal says.
_MET_BY = {
    "audit_events": (("seq",), ("id",), _LOG),
    "audit_terms": (("term", "recorded_ms", "audit_seq"), _LOG),
    "audit_leaves": (("rowid",), ("leaf_index",), ("audit_seq",), _LOG),
    "audit_checkpoints": (("rowid",), ("size",), _LOG),
    "audit_nodes": (("rowid",), ("first_leaf", "leaf_count"), _LOG),
    "consent_acts": (("rowid",), ("id",), _CONSENTS),
    "consent_uses": (("rowid",), ("consent_id", "number"), _CONSENTS),
    "sites": (("version",), _KEPT),
    "credentials": (("rowid",), ("id",), _KEPT),
    "break_glass_uses": (("rowid",), ("id",), ("job_id",), _KEPT),
    "rights_requests": (("rowid",), ("id",), _KEPT),
}
#: What is fixed of each table that loses no row. A tombstone is written anew when a patient is
#: erased again.
_FIXED = {
    "sites": "version, yaml, sha256, applied_ms, applied_by",
    "credentials": "id, name, role, system, secret_sha256, created_ms",
    "break_glass_uses": (
        "id, job_id, patient_key, route, clinician_id, clinician, used_ms, due_ms"
    ),
    "rights_requests": "id, kind, patient_key, received_ms, due_ms, added_by",
    "erasures": "patient_key",
}


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        _forbid_sqlite()
    else:
        _forbid_postgresql()


def _forbid_sqlite() -> None:
    for table, (*keys, says) in _MET_BY.items():
        met = " or ".join(f"({_is_met(table, key)})" for key in keys)
        op.execute(
            f"CREATE TRIGGER {table}_refuses_replacing BEFORE INSERT ON {table} WHEN {met} "
            f"BEGIN SELECT RAISE(ABORT, '{says}'); END"
        )
    for table, columns in _FIXED.items():
        for name, verb in (("delete", "DELETE"), ("change", f"UPDATE OF {columns}")):
            op.execute(
                f"CREATE TRIGGER {table}_refuses_{name} BEFORE {verb} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{_KEPT}'); END"
            )


def _is_met(table: str, key: tuple[str, ...]) -> str:
    same = " and ".join(f"{column} = NEW.{column}" for column in key)
    return f"EXISTS (SELECT 1 FROM {table} WHERE {same})"  # noqa: S608 - our own names


def _forbid_postgresql() -> None:
    op.execute(
        "CREATE FUNCTION refuse_removal() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{_KEPT}'; END $$"
    )
    for table, columns in _FIXED.items():
        op.execute(
            f"CREATE TRIGGER {table}_kept BEFORE DELETE OR TRUNCATE OR UPDATE OF {columns} "
            f"ON {table} FOR EACH STATEMENT EXECUTE FUNCTION refuse_removal()"
        )


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        names = [f"{table}_refuses_replacing" for table in _MET_BY]
        names += [f"{table}_refuses_{name}" for table in _FIXED for name in ("delete", "change")]
        for name in names:
            op.execute(f"DROP TRIGGER {name}")
        return
    for table in _FIXED:
        op.execute(f"DROP TRIGGER {table}_kept ON {table}")
    op.execute("DROP FUNCTION refuse_removal()")
