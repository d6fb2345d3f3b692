"""The triggers that refuse to change what is on record: is each of them in force?

Whoever owns the tables, or can write SQLite's file, can drop or disable them. That changes no row,
so comparing rows does not show it; it is the first step of who means to change some.
"""

from collections.abc import Iterator

import sqlalchemy as sa

from gateway.store.privileges import APPEND_ONLY, KEPT
from gateway.store.verification_report import Verification

#: Written anew when a patient is erased again, so that replacing it is not refused.
_REPLACED = ("erasures",)
_IN_SQLITE = sa.text("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
#: Enabled ("O", or "A" on replicas too), and what it calls still refuses.
_IN_POSTGRESQL = sa.text(
    "SELECT tgname FROM pg_trigger"
    " JOIN pg_class ON pg_class.oid = tgrelid"
    " JOIN pg_namespace ON pg_namespace.oid = relnamespace AND nspname = current_schema()"
    " JOIN pg_proc ON pg_proc.oid = tgfoid"
    " WHERE tgenabled IN ('O', 'A') AND tgqual IS NULL AND prosrc LIKE '% RAISE EXCEPTION %'"
)


def not_in_force(connection: sa.Connection) -> list[str]:
    """Give the names of the triggers that are gone, disabled, or refuse nothing any more."""
    if connection.dialect.name == "sqlite":
        expected, found = _of_sqlite(), set(_refusing(connection))
    else:
        expected, found = _of_postgresql(), set(connection.execute(_IN_POSTGRESQL).scalars())
    return [name for name in expected if name not in found]


def _of_sqlite() -> list[str]:
    verbs = [(table, verb) for table in APPEND_ONLY for verb in ("update", "delete", "replacing")]
    verbs += [(table, verb) for table in KEPT for verb in ("delete", "change", "replacing")]
    return [
        f"{table}_refuses_{verb}"
        for table, verb in verbs
        if not (verb == "replacing" and table in _REPLACED)
    ]


def _of_postgresql() -> list[str]:
    return [f"{table}_append_only" for table in APPEND_ONLY] + [f"{table}_kept" for table in KEPT]


def _refusing(connection: sa.Connection) -> Iterator[str]:
    """Leave out what bears a name of ours and refuses nothing, or not always."""
    for name, statement in connection.execute(_IN_SQLITE):
        says = statement.upper()
        is_conditional = "WHEN" in says.split()
        if "RAISE(ABORT" in says and is_conditional == name.endswith("_replacing"):
            yield name


def tell_of_guards(connection: sa.Connection, report: Verification) -> None:
    """Note which are not in force: no row shows it, and none need have been changed."""
    gone = not_in_force(connection)
    if gone:
        report.notes.append(
            f"{len(gone)} of the triggers that refuse to change what is on record are not in "
            f"force: {', '.join(gone)}. Somebody dropped, disabled or changed them."
        )
