"""AuditEvents are written packed on SQLite from here on: an earlier Nadi could not read them.

No table changes, and what was written before stays as it is: both are read. The revision is what
keeps an earlier Nadi from starting on a log that it would find damaged.
"""

revision = "0027"
down_revision = "0026"


def upgrade() -> None:
    """Change nothing."""


def downgrade() -> None:
    """Change nothing: what is packed can't be written anew, the log only grows."""
