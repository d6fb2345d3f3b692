"""On PostgreSQL: the processes' role may read and add to the audit log, and nothing else.

The triggers that keep the log append-only belong to the tables' owner, who can drop them. So the
owner brings the schema up to date (`nadi prepare`), and the processes come as another role that
owns nothing. SQLite has no roles: there the triggers and the witnesses have to do.
"""

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from gateway.core.errors import ConfigurationError, StoreUnavailable
from gateway.store.engine import open_engine
from gateway.store.schema import metadata

#: Where rows are added and never changed.
APPEND_ONLY = (
    "audit_events",
    "audit_terms",
    "audit_leaves",
    "audit_checkpoints",
    "audit_nodes",
    "consent_acts",
    "consent_uses",
)
#: Where rows are added and completed, and none is ever removed.
KEPT = ("sites", "credentials", "break_glass_uses", "rights_requests", "erasures")
_ALWAYS_TAKEN = ("alembic_version",)


def grant_service_role(owner_url: str, service_url: str) -> str:
    """Let the role of the processes do its work, and no more; it is made if there is none.

    Args:
        owner_url: URL of the tables' owner, the schema being current.
        service_url: URL as which the processes come; a new role gets the password in it.

    Returns:
        Name of the role.

    Raises:
        ConfigurationError: Both are the same role, or these are no PostgreSQL URLs with a role.
        StoreUnavailable: The database is away, or the owner may not do this.
    """
    owner, service = sa.make_url(owner_url), sa.make_url(service_url)
    role = service.username
    if owner.get_backend_name() != "postgresql" or not role or role == owner.username:
        message = (
            "NADI_DATABASE_OWNER_URL and NADI_DATABASE_URL have to name the same PostgreSQL "
            "database and two roles."
        )
        raise ConfigurationError(message)
    engine = open_engine(owner_url)
    try:
        with engine.begin() as connection:
            _make_role(connection, role, service.password)
            for statement in _grants(connection, role):
                connection.exec_driver_sql(statement)
    except DBAPIError as error:
        message = f"The role '{role}' can't be given its rights ({type(error).__name__})."
        raise StoreUnavailable(message) from error
    finally:
        engine.dispose()
    return role


def rewritable(connection: sa.Connection) -> tuple[str, ...]:
    """Give the tables of the audit log that this role could rewrite; on SQLite, none is told of.

    A role that owns a table, or is a superuser, may do everything, whatever was granted.
    """
    if connection.dialect.name != "postgresql":
        return ()
    asked = sa.text(
        "SELECT bool_or(has_table_privilege(name, verb)) OR "
        "(SELECT pg_has_role(tableowner, 'MEMBER') FROM pg_tables "
        " WHERE schemaname = current_schema() AND tablename = name) "
        "FROM unnest(ARRAY['UPDATE', 'DELETE', 'TRUNCATE']) AS verb, (SELECT :name AS name) AS t "
        "GROUP BY name"
    )
    return tuple(
        name for name in APPEND_ONLY if connection.execute(asked, {"name": name}).scalar_one()
    )


def _make_role(connection: sa.Connection, role: str, password: str | None) -> None:
    known = sa.text("SELECT 1 FROM pg_roles WHERE rolname = :role")
    if connection.execute(known, {"role": role}).first():
        return
    # Neither a name nor a password can be a parameter here: the server quotes them itself.
    template = "CREATE ROLE %I LOGIN PASSWORD %L" if password else "CREATE ROLE %I LOGIN"
    arguments = {"template": template, "role": role, "password": password or ""}
    quoted = sa.text("SELECT format(:template, CAST(:role AS text), CAST(:password AS text))")
    connection.exec_driver_sql(str(connection.execute(quoted, arguments).scalar_one()))


def _grants(connection: sa.Connection, role: str) -> list[str]:
    quote = connection.dialect.identifier_preparer.quote
    name, schema = quote(role), quote(connection.dialect.default_schema_name or "public")
    kept = (*APPEND_ONLY, *KEPT)
    changing = [quote(table) for table in metadata.tables if table not in kept]
    reading = [quote(table) for table in (*APPEND_ONLY, *_ALWAYS_TAKEN)]
    return [
        f"REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM {name}",
        f"GRANT USAGE ON SCHEMA {schema} TO {name}",
        # `pg_dump` reads where a sequence stands.
        f"GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA {schema} TO {name}",
        f"GRANT SELECT ON {', '.join(reading)} TO {name}",
        f"GRANT INSERT ON {', '.join(quote(table) for table in APPEND_ONLY)} TO {name}",
        f"GRANT SELECT, INSERT, UPDATE ON {', '.join(quote(table) for table in KEPT)} TO {name}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON {', '.join(changing)} TO {name}",
    ]
