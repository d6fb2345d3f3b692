"""What AuditEvents say, for any test that looks into a database: SQLite keeps them packed."""

import sqlalchemy as sa

from gateway.store.packing import unpacked


def bodies(connection: sa.Connection, where: str = "true") -> list[bytes]:
    """Give the JSON of AuditEvents, oldest first.

    Args:
        connection: To a database of Nadi.
        where: Which of them, in SQL.
    """
    query = f"select body from audit_events where {where} order by seq"  # noqa: S608 - of a test
    return [unpacked(each) for each in connection.execute(sa.text(query)).scalars()]
