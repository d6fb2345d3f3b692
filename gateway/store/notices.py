"""The notices that wait for a listener, in the order in which they came."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson
import sqlalchemy as sa

from gateway.core.clock import new_id
from gateway.core.notice import Notice
from gateway.store.notice_tables import notices
from gateway.store.sealing import Place

if TYPE_CHECKING:
    from gateway.store.unit_of_work import UnitOfWork


@dataclass(frozen=True)
class KeptNotice:
    """A notice with its place in the line."""

    id: str
    notice: Notice
    received_ms: int


class Notices:
    """The notices, within one unit of work."""

    def __init__(self, uow: "UnitOfWork") -> None:
        self._uow = uow

    def add(self, said: Sequence[tuple[str, Notice]]) -> None:
        """Keep what systems said."""
        self._uow.patient_keys.load([None], create=True)
        rows = [self._row(system, notice) for system, notice in said]
        self._uow.connection.execute(sa.insert(notices), rows)

    def waiting(self, system: str, *, limit: int) -> list[KeptNotice]:
        """Give the oldest notices of a system.

        Raises:
            Unsealable: One was changed, or the key is gone.
        """
        query = sa.select(notices).where(notices.c.system == system)
        rows = self._uow.connection.execute(query.order_by(notices.c.id).limit(limit)).all()
        return [KeptNotice(row.id, self._opened(row.id, row.body), row.received_ms) for row in rows]

    def depths(self) -> dict[str, int]:
        """Count what waits, by system."""
        query = sa.select(notices.c.system, sa.func.count()).group_by(notices.c.system)
        return {row[0]: row[1] for row in self._uow.connection.execute(query)}

    def remove(self, ids: Collection[str]) -> None:
        """Forget notices of which everything was done."""
        self._uow.connection.execute(sa.delete(notices).where(notices.c.id.in_(ids)))

    def _row(self, system: str, notice: Notice) -> dict[str, object]:
        notice_id = new_id()
        place = Place("notices", "body", notice_id)
        body = self._uow.patient_keys.seal(None, place, orjson.dumps(notice.as_json()))
        return {
            "id": notice_id,
            "system": system,
            "body": body,
            "received_ms": self._uow.now_ms,
        }

    def _opened(self, notice_id: str, sealed: bytes) -> Notice:
        place = Place("notices", "body", notice_id)
        opened = self._uow.patient_keys.unseal(None, place, sealed)
        return Notice.from_json(orjson.loads(opened))
