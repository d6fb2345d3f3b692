"""What is asked of the database for the site in force."""

from contextlib import AbstractContextManager
from typing import Protocol


class SiteRow(Protocol):
    """One version of the site file."""

    @property
    def version(self) -> int:
        """Its number, from 1."""

    @property
    def yaml(self) -> str:
        """The file."""


class SiteRows(Protocol):
    """All versions."""

    def version(self) -> int:
        """Give the number of the newest; 0 when there is none."""

    def current(self) -> SiteRow | None:
        """Give the newest."""


class SiteUnit(Protocol):
    """One unit of work."""

    @property
    def sites(self) -> SiteRows:
        """All versions."""


class SiteStore(Protocol):
    """The database."""

    def read(self) -> AbstractContextManager[SiteUnit]:
        """Begin a unit of work that only reads."""
