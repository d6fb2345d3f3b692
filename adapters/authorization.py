"""How Nadi identifies itself to a system of the site."""

from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path

from adapters.site_codes import read_text_file
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
            raise ConfigurationError(f"The secret {self.reference} is not there or empty.")
        return found.strip()


def authorization(token: Secret | None, user: str = "") -> str | None:
    """Give the Authorization header of the moment; the token is read each time, so it can change.

    Args:
        token: The bearer token, or the user's password.
        user: Who logs in with a password; empty for a token.

    Raises:
        ConfigurationError: The token is not where the site says.
    """
    if token is None:
        return None
    if not user:
        return f"Bearer {token.resolve()}"
    return f"Basic {b64encode(f'{user}:{token.resolve()}'.encode()).decode()}"
