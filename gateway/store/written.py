"""The results that Nadi wrote, by where an EHR keeps them.

Some EHRs drop the label that says so, and the identifier too. What comes back from them (by a poll,
a feed, a search of the chart) is known by its place alone: an answer must not feed itself.
"""

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from gateway.core.event import relative_reference
from gateway.store.identity import named_key
from gateway.store.written_tables import written_results

if TYPE_CHECKING:
    from gateway.store.unit_of_work import UnitOfWork

_AMONG = sa.select(written_results.c.resource_key).where(
    written_results.c.resource_key.in_(sa.bindparam("keys", expanding=True))
)


class WrittenResults:
    """Where our results are, within one unit of work."""

    def __init__(self, uow: "UnitOfWork") -> None:
        self._uow = uow

    def add(self, places: Iterable[tuple[str, str]]) -> None:
        """Keep where results are.

        Args:
            places: System, and `Type/id` in it.
        """
        keys = {key for each in places if (key := self.key(*each))}
        if not keys:
            return
        dialect = self._uow.connection.dialect.name
        insert = sqlite.insert if dialect == "sqlite" else postgresql.insert
        rows = [{"resource_key": key, "written_ms": self._uow.now_ms} for key in sorted(keys)]
        self._uow.connection.execute(insert(written_results).on_conflict_do_nothing(), rows)

    def key(self, system: str, reference: str) -> str | None:
        """Name a resource of a system; None for what is no `Type/id`."""
        found = relative_reference(reference)
        if found is None:
            return None
        kind, _, name = found.partition("/")
        return named_key(self._uow.sealer, system, kind, name)

    def among(self, keys: Collection[str]) -> set[str]:
        """Say which of these resources are results of ours."""
        if not keys:
            return set()
        return set(self._uow.connection.scalars(_AMONG, {"keys": list(keys)}))
