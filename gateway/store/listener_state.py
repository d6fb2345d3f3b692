"""What each listener has to remember over a restart: small JSON values by name.

A cursor of a poll, the marker of a feed, the last event number of a Subscription, the control ids
of messages that were answered, how a listener is. A value never holds anything of a patient:
whatever could, an id for example, is hashed with `Sealer.keyed_hash` before it comes here.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from gateway.store.listener_tables import listener_state

if TYPE_CHECKING:
    from gateway.store.unit_of_work import UnitOfWork

_COLUMNS = listener_state.c


@dataclass(frozen=True)
class Kept:
    """One value, where it belongs and when it was kept."""

    listener: str
    key: str
    value: Any
    updated_ms: int


class ListenerState:
    """The values of all listeners, within one unit of work."""

    def __init__(self, uow: "UnitOfWork") -> None:
        self._uow = uow

    def get(self, listener: str, key: str) -> Any:  # noqa: ANN401 (any JSON)
        """Give a value; None when there is none."""
        return self.get_many(listener, [key]).get(key)

    def get_many(self, listener: str, keys: Collection[str]) -> dict[str, Any]:
        """Give the values of these keys, as far as there are any."""
        return self._found(_COLUMNS.listener == listener, _COLUMNS.key.in_(keys))

    def with_prefix(self, listener: str, prefix: str) -> dict[str, Any]:
        """Give the values of the keys that begin so."""
        begins = _COLUMNS.key.startswith(prefix, autoescape=True)
        return self._found(_COLUMNS.listener == listener, begins)

    def everywhere(self, prefix: str) -> list[Kept]:
        """Give what all listeners have under the keys that begin so."""
        query = sa.select(listener_state).where(_COLUMNS.key.startswith(prefix, autoescape=True))
        rows = self._uow.connection.execute(query.order_by(_COLUMNS.listener, _COLUMNS.key))
        return [Kept(r.listener, r.key, orjson.loads(r.value), r.updated_ms) for r in rows]

    def kept_ms(self, listeners: Collection[str], key: str) -> dict[str, int]:
        """Give when those of these listeners that have something under a key kept it.

        It costs the same however much all listeners remember.
        """
        query = sa.select(_COLUMNS.listener, _COLUMNS.updated_ms).where(
            _COLUMNS.listener.in_(listeners), _COLUMNS.key == key
        )
        return {row.listener: row.updated_ms for row in self._uow.connection.execute(query)}

    def put(self, listener: str, values: Mapping[str, Any]) -> None:
        """Keep values, in place of what there is under their keys.

        Args:
            listener: Which one, as the audit log names it.
            values: JSON by key; a key has at most 128 characters.
        """
        if not values:
            return
        insert = sqlite.insert if self._is_sqlite else postgresql.insert
        statement = insert(listener_state)
        changed = {
            "value": statement.excluded.value,
            "updated_ms": statement.excluded.updated_ms,
        }
        self._uow.connection.execute(
            statement.on_conflict_do_update(index_elements=["listener", "key"], set_=changed),
            [
                {
                    "listener": listener,
                    "key": key,
                    "value": orjson.dumps(value).decode(),
                    "updated_ms": self._uow.now_ms,
                }
                # In one order: two that write the same keys must not wait for each other.
                for key, value in sorted(values.items())
            ],
        )

    def remove(self, listener: str, key: str) -> None:
        """Forget one value."""
        same = (_COLUMNS.listener == listener, _COLUMNS.key == key)
        self._uow.connection.execute(sa.delete(listener_state).where(*same))

    def remove_older(self, listener: str, prefix: str, before_ms: int) -> int:
        """Forget what was kept before a moment under keys that begin so; give how many."""
        gone = self._uow.connection.execute(
            sa.delete(listener_state).where(
                _COLUMNS.listener == listener,
                _COLUMNS.updated_ms < before_ms,
                _COLUMNS.key.startswith(prefix, autoescape=True),
            )
        )
        return gone.rowcount

    def _found(self, *conditions: sa.ColumnElement[bool]) -> dict[str, Any]:
        query = sa.select(_COLUMNS.key, _COLUMNS.value).where(*conditions)
        rows = self._uow.connection.execute(query.order_by(_COLUMNS.key))
        return {row.key: orjson.loads(row.value) for row in rows}

    @property
    def _is_sqlite(self) -> bool:
        return self._uow.connection.dialect.name == "sqlite"
