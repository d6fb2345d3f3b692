"""An index of the consents in force: whether their EHR still has them is asked again and again."""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"

_WHERE = "resource_type = 'Consent' and is_current"


def upgrade() -> None:
    # The first migration makes the table as it is described today, indexes and all.
    op.create_index(
        "ix_events_current_consents",
        "events",
        ["system", "id"],
        if_not_exists=True,
        sqlite_where=sa.text(_WHERE),
        postgresql_where=sa.text(_WHERE),
    )


def downgrade() -> None:
    op.drop_index("ix_events_current_consents")
