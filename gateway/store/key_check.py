"""Whether the master key in use is the one that this database was begun with.

Every keyed hash depends on the master key: under another one each patient would be a stranger, with
no consent on record. So the database keeps a hash that only the right key can give.
"""

from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from gateway.core.errors import ConfigurationError
from gateway.store.tables import key_check

if TYPE_CHECKING:
    from gateway.store.unit_of_work import UnitOfWork

#: The one row.
ROW_ID = 1
_WRONG_KEY = (
    "This is not the master key of this data folder: what is in the database was sealed under "
    "another one. Put the right keys/master.key (or the file that NADI_MASTER_KEY_FILE names) back "
    "from the backup."
)


class KeyCheck:
    """Keeps and compares the check value."""

    def __init__(self, uow: "UnitOfWork") -> None:
        self._uow = uow

    @property
    def expected(self) -> str:
        """The value that belongs to the master key in use."""
        return self._uow.sealer.keyed_hash("key-check")

    def is_kept(self) -> bool:
        """Compare the value that is kept; say whether there is one.

        Raises:
            ConfigurationError: It belongs to another master key.
        """
        query = sa.select(key_check.c.value).where(key_check.c.id == ROW_ID)
        kept = self._uow.connection.execute(query).scalar_one_or_none()
        if kept is not None and kept != self.expected:
            raise ConfigurationError(_WRONG_KEY)
        return kept is not None

    def keep(self) -> None:
        """Put the value down unless another process was first; then that one has to fit.

        Raises:
            ConfigurationError: Another process began this database with another master key.
        """
        is_sqlite = self._uow.connection.dialect.name == "sqlite"
        insert = sqlite.insert(key_check) if is_sqlite else postgresql.insert(key_check)
        row = {"id": ROW_ID, "value": self.expected}
        self._uow.connection.execute(insert.on_conflict_do_nothing(), row)
        self.is_kept()
