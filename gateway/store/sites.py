"""The site configuration: every version that was applied, the newest is in force."""

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

import sqlalchemy as sa

from gateway.core.errors import NotFound
from gateway.store.tables import sites

if TYPE_CHECKING:
    from gateway.store.unit_of_work import UnitOfWork


@dataclass(frozen=True)
class SiteRow:
    """One applied version of the site file."""

    version: int
    yaml: str
    sha256: str
    applied_ms: int
    applied_by: str


_VERSION = sa.select(sa.func.max(sites.c.version))


class Sites:
    """The versions of the site file."""

    def __init__(self, uow: "UnitOfWork") -> None:
        self._uow = uow

    def version(self) -> int:
        """Give the number of the version in force, 0 when none was applied yet."""
        return int(self._uow.connection.execute(_VERSION).scalar() or 0)

    def current(self) -> SiteRow | None:
        """Give the version in force."""
        newest = sa.select(sites).order_by(sites.c.version.desc()).limit(1)
        row = self._uow.connection.execute(newest).one_or_none()
        return SiteRow(*row) if row else None

    def get(self, version: int) -> SiteRow:
        """Give one version.

        Raises:
            NotFound: It was never applied.
        """
        query = sa.select(sites).where(sites.c.version == version)
        row = self._uow.connection.execute(query).one_or_none()
        if row is None:
            raise NotFound(f"Site version {version} was never applied.")
        return SiteRow(*row)

    def history(self) -> list[SiteRow]:
        """Give every version, newest first."""
        rows = self._uow.connection.execute(sa.select(sites).order_by(sites.c.version.desc()))
        return [SiteRow(*row) for row in rows]

    def apply(self, yaml: str, by: str) -> SiteRow:
        """Put a site file in force; the caller has validated it and audits the change."""
        digest = sha256(yaml.encode()).hexdigest()
        row = SiteRow(self.version() + 1, yaml, digest, self._uow.now_ms, by)
        self._uow.connection.execute(sa.insert(sites), vars(row))
        return row
