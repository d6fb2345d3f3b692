"""The credentials of listeners: derived from the master key, kept nowhere, valid for hours.

Whoever has the master key of an installation, as its processes have, can make the token of a
listener that its site wants, and the API can tell that it is right. So no token lies on a disk or
stands in an environment, none has to be handed over at a start, and one ends with the feed: a
credential of a listener that no site in force wants is none.
"""

import base64
import hmac
import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta

from gateway.core.principal import Principal, Role
from gateway.store.sealing import Sealer

#: A token is taken in the period in which it was made, and in those beside it: clocks differ.
_PERIOD = timedelta(hours=1)


class ListenerCredentials:
    """Makes and recognises them with the keys of one installation."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def token(self, listener: str, now: datetime) -> str:
        """Make the token of a listener.

        Args:
            listener: Its name, `system/kind`.
            now: The present.
        """
        return f"nadi_{self.credential_id(listener)}_{self._secret(listener, _period(now))}"

    def principal(
        self, credential_id: str, secret: str, systems: Mapping[str, str], now: datetime
    ) -> Principal | None:
        """Give the listener that a token is of; None when it is of none, or not valid now.

        Args:
            credential_id: First part of the token.
            secret: Its second part.
            systems: The listeners of the site in force, and the system each speaks for.
            now: The present.
        """
        for name, system in systems.items():
            if self.credential_id(name) == credential_id and self._is_right(name, secret, now):
                return Principal(credential_id, name, Role.EHR, system, brings=True)
        return None

    def _is_right(self, listener: str, secret: str, now: datetime) -> bool:
        periods = (_period(now + _PERIOD * each) for each in (-1, 0, 1))
        return any(hmac.compare_digest(secret, self._secret(listener, each)) for each in periods)

    def credential_id(self, listener: str) -> str:
        """Give the id under which a listener is known."""
        hashed = self._sealer.keyed_hash("listener-id", listener)
        return str(uuid.UUID(bytes=bytes.fromhex(hashed)[:16], version=5))

    def _secret(self, listener: str, period: str) -> str:
        hashed = self._sealer.keyed_hash("listener-secret", listener, period)
        return base64.urlsafe_b64encode(bytes.fromhex(hashed)).rstrip(b"=").decode()


def _period(moment: datetime) -> str:
    return str(int(moment.timestamp()) // int(_PERIOD.total_seconds()))
