"""Who calls a CDS service: a signed token of a client that the site file names.

A token is taken when

* it is signed with ES384 or RS384 by one of the keys that stand in the site file for its issuer;
* it is for exactly the address that is called (`aud`), and not expired;
* it lives for an hour at most, so that what has to be remembered of it is little;
* it was not used before (`jti`), at whatever process.

A token that is none of this kind is one of Nadi's own (`nadi access add`), for trying things out.

Source: CDS Hooks 2.0, "Trusting CDS Clients"; RFC 7519.
"""

import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jws import CompactSignature
from starlette.requests import Request

from adapters.site import Site
from adapters.site_cds_hooks import CdsClient, Key
from gateway.api.wake import Wake
from gateway.core.clock import Clock, utc_now
from gateway.core.errors import LoginRequired
from gateway.core.principal import Principal, Role
from gateway.store.cds import TokenUse
from gateway.store.group_commit import GroupCommit
from gateway.store.unit_of_work import Store

_REGISTRY = jws.JWSRegistry(algorithms=["ES384", "RS384"])
_PARTS = 3
_LONGEST_TOKEN = 8192
_LONGEST_LIFE_S = 3600
_CLOCKS_DIFFER_S = 30
_LONGEST_JTI = 255
_YEAR_5138 = 1e11


class CdsTokens:
    """Knows the clients of the site in force by their tokens."""

    def __init__(
        self, store: Store, site: Callable[[], Site], *, clock: Callable[[], datetime] = utc_now
    ) -> None:
        """Take where it is kept which tokens were used.

        Args:
            store: The database.
            site: Gives the site in force.
            clock: Gives the present.
        """
        self._store = store
        self._site = site
        self._clock: Clock = clock
        self._wake = Wake()
        # A token that is lost with the machine's power can be used again until it expires.
        self._uses = GroupCommit(self._write, limit=256, max_waiting=10_000)

    def identified_by(
        self, otherwise: Callable[[Request], Awaitable[Principal]]
    ) -> Callable[[Request], Awaitable[Principal]]:
        """Give who calls: a client by its token, anybody else as `otherwise` does."""

        async def identify(request: Request) -> Principal:
            token = _signed_token(request.headers.get("authorization"))
            if token is None:
                return await otherwise(request)
            return await self.principal(token, request.url.path)

        return identify

    async def principal(self, token: str, path: str) -> Principal:
        """Give the client that a token is of; it is used up by this.

        Args:
            token: As it was sent.
            path: Of the address that was called.

        Raises:
            LoginRequired: It is not valid here, or was used before.
            StoreUnavailable: It can't be kept that it was used.
        """
        site = self._site()
        # Here and not in a thread: to go there and back takes about as long as to verify.
        client, claims = self._verified(token, site)
        self._insist_on_claims(claims, f"{site.cds.base_url}{path}")
        hashed = self._store.sealer.keyed_hash
        use = TokenUse(
            hashed("cds-token", client.issuer, claims["jti"]),
            int(1000 * (claims["exp"] + _CLOCKS_DIFFER_S)),
        )
        if not await self._wake.answer(self._uses.submit(use)):
            raise LoginRequired("This token was used before: each call needs one of its own.")
        known_as = uuid.UUID(bytes=bytes.fromhex(hashed("cds-client", client.name))[:16], version=5)
        return Principal(str(known_as), f"{client.name}/cds-hooks", Role.EHR, client.system)

    def close(self) -> None:
        """Write what waits."""
        self._uses.close()

    def _verified(self, token: str, site: Site) -> tuple[CdsClient, dict[str, Any]]:
        read, claims = _unverified(token)
        client = site.cds.clients.get(str(claims.get("iss")))
        if client is None:
            raise LoginRequired("This token's issuer (iss) is no CDS client in the site file.")
        for key in _candidates(read, client):
            try:
                is_genuine = jws.validate_compact(read, key, registry=_REGISTRY)
            except (JoseError, ValueError, TypeError):
                continue
            if is_genuine:
                return client, claims
        raise LoginRequired(
            "This token is signed by none of its issuer's keys in the site file, or not with ES384 "
            "or RS384."
        )

    def _insist_on_claims(self, claims: Mapping[str, Any], address: str) -> None:
        now_s = self._clock().timestamp()
        audiences = claims.get("aud")
        if address not in (audiences if isinstance(audiences, list) else [audiences]):
            raise LoginRequired("This token is for another address: aud has to be the one called.")
        expires, issued = _moment(claims, "exp"), _moment(claims, "iat")
        if expires + _CLOCKS_DIFFER_S < now_s or issued - _CLOCKS_DIFFER_S > now_s:
            raise LoginRequired("This token is expired, or issued in the future: see the clocks.")
        if expires - issued > _LONGEST_LIFE_S:
            raise LoginRequired(f"A token may live for {_LONGEST_LIFE_S} s at most (exp - iat).")
        jti = claims.get("jti")
        if not isinstance(jti, str) or not 0 < len(jti) <= _LONGEST_JTI:
            raise LoginRequired("This token needs a jti of its own.")

    def _write(self, uses: Sequence[TokenUse]) -> list[bool]:
        with self._store.write(is_durable=False) as uow:
            return uow.cds.use(uses)


def _signed_token(authorization: str | None) -> str | None:
    scheme, _, token = (authorization or "").partition(" ")
    token = token.strip()
    is_signed = scheme.lower() == "bearer" and token.count(".") == _PARTS - 1
    return token if is_signed and len(token) <= _LONGEST_TOKEN else None


def _candidates(read: CompactSignature, client: CdsClient) -> Sequence[Key]:
    """Give the keys that a token may be signed by: the one that it names, or else all."""
    name = read.headers().get("kid")
    named = [key for key in client.keys if name is not None and key.kid == name]
    return named or client.keys


def _unverified(token: str) -> tuple[CompactSignature, dict[str, Any]]:
    """Read what a token says; nothing of it is believed yet."""
    try:
        read = jws.extract_compact(token.encode())
        claims = orjson.loads(read.payload)
    except (JoseError, ValueError, TypeError, KeyError) as error:
        raise LoginRequired("This token can't be read.") from error
    if not isinstance(claims, dict):
        raise LoginRequired("This token can't be read.")
    return read, claims


def _moment(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < _YEAR_5138:
        raise LoginRequired("This token needs exp and iat, in seconds since 1970.")
    return value
