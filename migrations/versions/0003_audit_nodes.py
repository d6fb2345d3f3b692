"""Inner nodes of the audit log, so that a proof need not read every leaf."""

import sqlalchemy as sa
from alembic import op

from gateway.core.ledger import Frontier
from gateway.core.ledger_nodes import grow

revision = "0003"
down_revision = "0002"

_BATCH = 10_000


def upgrade() -> None:
    nodes = op.create_table(
        "audit_nodes",
        sa.Column("first_leaf", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("leaf_count", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("first_leaf", "leaf_count", name="pk_audit_nodes"),
    )
    _fill(op.get_bind(), nodes)
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER audit_nodes_refuses_{verb.lower()} BEFORE {verb} ON audit_nodes "
                "BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"
            )
    else:
        op.execute(
            "CREATE TRIGGER audit_nodes_append_only BEFORE UPDATE OR DELETE OR TRUNCATE "
            "ON audit_nodes FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )


def _fill(bind: sa.Connection, nodes: sa.Table) -> None:
    """Compute the nodes of a log that was begun before they were kept."""
    leaves = sa.text("select leaf_hash from audit_leaves order by leaf_index")
    frontier = Frontier()
    for batch in bind.execute(leaves).scalars().partitions(_BATCH):
        frontier, built = grow(frontier, (bytes(leaf) for leaf in batch))
        if built:
            bind.execute(sa.insert(nodes), [vars(node) for node in built])


def downgrade() -> None:
    op.drop_table("audit_nodes")
