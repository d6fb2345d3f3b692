"""From a request to a `Principal`: bearer credentials, deny by default.

* The credential of a person or an EHR is in the database. It is looked up once and remembered for
  two seconds, so that a revocation takes hold within that time and a busy EHR costs no query per
  event.
* That of a listener of the site in force is kept nowhere, see
  `gateway.store.listener_credentials`.
"""

import time
from collections.abc import Callable, Mapping
from threading import Lock

from gateway.core.clock import Clock, utc_now
from gateway.core.errors import LoginRequired
from gateway.core.principal import Principal
from gateway.store.credentials import REMEMBERED_S, Credential, own_credential, split_token
from gateway.store.listener_credentials import ListenerCredentials
from gateway.store.unit_of_work import Store

_MOST_REMEMBERED = 1000


class Authenticator:
    """Knows which token speaks for whom."""

    def __init__(
        self,
        store: Store,
        listeners: Callable[[], Mapping[str, str]] = dict,
        *,
        clock: Clock = utc_now,
    ) -> None:
        """Take where credentials are.

        Args:
            store: The database.
            listeners: Gives the listeners of the site in force and the system each speaks for.
            clock: Gives the present.
        """
        self._store = store
        self._listeners = listeners
        self._clock = clock
        self._derived = ListenerCredentials(store.sealer)
        self._lock = Lock()
        self._remembered: dict[str, tuple[float, Credential]] = {}
        self._own: dict[str, Credential] = {}

    def own_token(self, name: str, system: str) -> str:
        """Make a token for what this process itself pushes; it ends with the process.

        Args:
            name: A name for people.
            system: The system that it speaks for.
        """
        made, token = own_credential(name, system)
        self._own[made.id] = made
        return token

    def remembered(self, authorization: str | None) -> Principal | None:
        """Authenticate without the database, where a moment ago it said who this is.

        Raises:
            LoginRequired: The header is missing or malformed, or the secret is wrong.
        """
        credential_id, secret = _presented(authorization)
        own = self._own.get(credential_id)
        if own is not None:
            return _insist(own, secret)
        known = self._remembered.get(credential_id)
        if known is None:
            return self._derived.principal(credential_id, secret, self._listeners(), self._clock())
        if time.monotonic() - known[0] > REMEMBERED_S:
            return None
        return _insist(known[1], secret)

    def authenticate(self, authorization: str | None) -> Principal:
        """Authenticate against the database.

        Raises:
            LoginRequired: No header, or no credential in force that it fits.
            StoreUnavailable: The database can't say.
        """
        credential_id, secret = _presented(authorization)
        # Taken before the look: a revocation during it is not overlooked for longer.
        looked = time.monotonic()
        with self._store.read() as uow:
            credential = uow.credentials.find(credential_id)
        principal = _insist(credential, secret)
        if credential is not None:
            self._remember(credential, looked)
        return principal

    def _remember(self, credential: Credential, looked: float) -> None:
        with self._lock:
            if len(self._remembered) >= _MOST_REMEMBERED:
                self._remembered.clear()
            self._remembered[credential.id] = (looked, credential)


def _presented(authorization: str | None) -> tuple[str, str]:
    scheme, _, token = (authorization or "").partition(" ")
    parts = split_token(token.strip()) if scheme.lower() == "bearer" else None
    if parts is None:
        raise LoginRequired("Send 'Authorization: Bearer <token>' with a token of this gateway.")
    return parts


def _insist(credential: Credential | None, secret: str) -> Principal:
    if credential is None or not credential.accepts(secret):
        raise LoginRequired("This token is not, or no longer, valid here.")
    return credential.principal()
