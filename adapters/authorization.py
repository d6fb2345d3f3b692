"""How Nadi identifies itself to a system of the site."""

from base64 import b64encode
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from adapters.text_file import read_text_file
from gateway.core.errors import ConfigurationError
from gateway.settings import environment


@dataclass(frozen=True)
class Secret:
    """Where a secret is, `env:NAME` or `file:PATH`; never the secret itself."""

    reference: str

    def resolve(self) -> str:
        """Read the secret at the moment it is needed, so that it can be rotated.

        Raises:
            ConfigurationError: The variable or file is not there or empty.
        """
        kind, _, place = self.reference.partition(":")
        found = environment(place) if kind == "env" else read_text_file(Path(place))
        if not found or not found.strip():
            raise ConfigurationError(
                f"The secret {self.reference} is not there for Nadi's processes, or empty."
            )
        return found.strip()


class Login(Protocol):
    """How Nadi identifies itself; equal where everything that is said about it is."""

    @property
    def secret(self) -> Secret | None:
        """Where its secret is; None where there is none."""

    def header(self) -> str | None:
        """Give the Authorization header of the moment; None for none.

        Raises:
            ConfigurationError: The secret is not where the site says, or can't be used.
            TransientError: Who gives tokens out is away, or refuses.
        """

    def renewed(self, refused: str) -> str | None:
        """Give another header in the place of one that was not accepted; None: there is no other.

        Raises:
            ConfigurationError: As for `header`.
            TransientError: As for `header`.
        """


class _Lasting:
    """A login that keeps nothing for a while, so that asking again would give the same."""

    def renewed(self, refused: str) -> None:
        """Give no other header."""


@dataclass(frozen=True)
class NoLogin(_Lasting):
    """The system asks for none."""

    secret: None = None

    def header(self) -> None:
        """Give no header."""


NO_LOGIN = NoLogin()


@dataclass(frozen=True)
class GivenLogin(_Lasting):
    """A header that is at hand, such as that of a caller's token."""

    given: str = field(repr=False)
    secret: None = None

    def header(self) -> str:
        """Give it."""
        return self.given


@dataclass(frozen=True)
class BearerLogin(_Lasting):
    """A token that somebody made and that does not change by itself."""

    secret: Secret

    def header(self) -> str:
        """Give the token as it is now: a file may have been replaced."""
        return f"Bearer {self.secret.resolve()}"


@dataclass(frozen=True)
class BasicLogin(_Lasting):
    """A user and a password (RFC 7617)."""

    user: str
    secret: Secret

    def header(self) -> str:
        """Give both as they are now."""
        return f"Basic {b64encode(f'{self.user}:{self.secret.resolve()}'.encode()).decode()}"
