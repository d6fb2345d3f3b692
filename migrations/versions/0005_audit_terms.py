"""What AuditEvents are found by besides patient, job and time: terms, rare kinds, refusals."""

import sqlalchemy as sa
from alembic import op

from gateway.core.audit import read_record

revision = "0005"
down_revision = "0004"

_BATCH = 2000
_RARE = "event not in ('receive', 'consent', 'admit', 'fetch', 'infer', 'deliver', 'complete')"
_REFUSED = "outcome <> '0'"


def upgrade() -> None:
    text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
    terms = op.create_table(
        "audit_terms",
        sa.Column("term", text, nullable=False),
        sa.Column("recorded_ms", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("audit_seq", sa.BigInteger, nullable=False, autoincrement=False),
        sa.PrimaryKeyConstraint("term", "recorded_ms", "audit_seq", name="pk_audit_terms"),
        sqlite_with_rowid=False,
    )
    _fill(op.get_bind(), terms)
    _index("ix_audit_events_rare", ["event", "recorded_ms"], _RARE)
    _index("ix_audit_events_refused", ["recorded_ms"], _REFUSED)
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER audit_terms_refuses_{verb.lower()} BEFORE {verb} ON audit_terms "
                "BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"
            )
    else:
        op.execute(
            "CREATE TRIGGER audit_terms_append_only BEFORE UPDATE OR DELETE OR TRUNCATE "
            "ON audit_terms FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )


def _index(name: str, columns: list[str], where: str) -> None:
    # The first migration makes the table as it is described today, indexes and all.
    condition = sa.text(where)
    op.create_index(
        name,
        "audit_events",
        columns,
        if_not_exists=True,
        sqlite_where=condition,
        postgresql_where=condition,
    )


def _fill(bind: sa.Connection, terms: sa.Table) -> None:
    """Read the terms out of the events of a log that was begun before they were kept."""
    newest = bind.execute(sa.text("select coalesce(max(seq), 0) from audit_events")).scalar_one()
    query = sa.text(
        "select seq, recorded_ms, body from audit_events where seq > :first and seq <= :last"
    )
    for first in range(0, newest, _BATCH):
        rows = [
            {"term": term, "recorded_ms": row.recorded_ms, "audit_seq": row.seq}
            for row in bind.execute(query, {"first": first, "last": first + _BATCH})
            for term in read_record(bytes(row.body)).terms
        ]
        if rows:
            bind.execute(sa.insert(terms), rows)


def downgrade() -> None:
    op.drop_index("ix_audit_events_refused")
    op.drop_index("ix_audit_events_rare")
    op.drop_table("audit_terms")
