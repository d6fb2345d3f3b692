"""An index of the consents that a newer version replaced, for their retention."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"

_WHERE = "resource_type = 'Consent' and not is_current"


def upgrade() -> None:
    # The first migration makes the table as it is described today, indexes and all.
    op.create_index(
        "ix_events_replaced_consents",
        "events",
        ["id"],
        if_not_exists=True,
        sqlite_where=sa.text(_WHERE),
        postgresql_where=sa.text(_WHERE),
    )


def downgrade() -> None:
    op.drop_index("ix_events_replaced_consents")
