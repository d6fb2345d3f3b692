"""Alembic's environment: one database URL, given by the caller."""

import sqlalchemy as sa
from alembic import context

from gateway.store.engine import WRITES, open_engine
from gateway.store.schema import metadata

_MIGRATION_LOCK = 7_263_104


def run() -> None:
    """Migrate online; several processes may start at once, so the first takes a lock."""
    engine = open_engine(context.config.attributes["url"])
    with engine.connect().execution_options(**{WRITES: True}) as connection:
        context.configure(connection=connection, target_metadata=metadata, compare_type=True)
        with context.begin_transaction():
            if connection.dialect.name == "postgresql":
                connection.execute(sa.text(f"select pg_advisory_xact_lock({_MIGRATION_LOCK})"))
            context.run_migrations()
        connection.commit()
    engine.dispose()


run()
