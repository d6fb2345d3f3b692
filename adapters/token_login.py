"""Access tokens that a server gives out for a while: SMART Backend Services, client credentials.

A token is asked for at the first request that needs one and kept in the process, at most for
`KEPT_AT_MOST_S`. One that the EHR no longer accepts is replaced at once, but not more often than
every `REPLACED_EVERY_S`: where the EHR accepts none, the server is not asked with every request.

Source: SMART App Launch 2.2, Backend Services
(http://hl7.org/fhir/smart-app-launch/backend-services.html); RFC 6749 sections 2.3.1, 4.4 and 5;
RFC 7521, RFC 7523.
"""

import threading
import time
from base64 import b64encode
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from re import compile as pattern
from typing import Any
from urllib.parse import quote_plus, urlencode
from uuid import uuid4

import orjson
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey, import_key

from adapters.authorization import NO_LOGIN, GivenLogin, Secret
from adapters.fhir_rest.errors import (
    EhrAnswerTooLarge,
    EhrAnswerUnreadable,
    EhrFailed,
    EhrLoginFailed,
    EhrNotTrusted,
    EhrTimeout,
    EhrUnreachable,
)
from adapters.fhir_rest.transport import Answer, Transport
from adapters.site_address import completed
from adapters.tls import peer_verify
from gateway.core.errors import ConfigurationError, TransientError

#: A token is asked for anew so long before it ends: a request takes a while to arrive.
_BEFORE_ITS_END_S = 20.0
KEPT_AT_MOST_S = 300.0
REPLACED_EVERY_S = 60.0
#: How long an assertion may be used; five minutes are the most that is allowed.
_ASSERTED_S = 240
_WITHIN_S = 10.0
_MOST_BYTES = 2**16
_JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_FORM = "application/x-www-form-urlencoded"
_JSON = "application/json"
#: RFC 6750 section 2.1: what may stand in a header.
_TOKEN = pattern(r"[A-Za-z0-9\-._~+/]+=*")
#: RFC 6749 section 5.2; another word of the server's is not repeated.
_REASONS = (
    "invalid_client",
    "invalid_grant",
    "invalid_request",
    "invalid_scope",
    "unauthorized_client",
    "unsupported_grant_type",
)
_LEAST_RSA_BITS = 2048


class TokenServerAway(TransientError):
    """Where access tokens are given out (`token_url`) nothing usable answers."""


@dataclass(frozen=True, kw_only=True)
class TokenLogin:
    """A client that is registered with the EHR's authorization server.

    Attributes:
        whose: What needs it, for messages.
        address: FHIR base as written in the site file: says where tokens are, where nothing else
            does.
        client_id: As it was registered.
        secret: The private key (PEM or JWK) of an `is_asymmetric` one, else the client's secret.
        token_url: Where tokens are given out, as written; None: what the FHIR base says.
        scopes: What is asked for.
        key_id: Name of the key, as registered; None: as the key itself says, or its thumbprint.
        tls: Files of authorities and of our own certificate, as for the EHR.
    """

    whose: str
    address: str
    client_id: str
    secret: Secret
    is_asymmetric: bool
    token_url: str | None = None
    scopes: tuple[str, ...] = ()
    key_id: str | None = None
    tls: tuple[str, str | None] | None = None

    def header(self) -> str:
        """Give the token of the moment; a new one is asked for where there is none.

        Raises:
            ConfigurationError: The key or secret is not where the site says, or can't be used.
            EhrLoginFailed: The server refuses, or it is not known where it is.
            TokenServerAway: It gives no answer, or none that is a token.
        """
        kept = _kept(self)
        with kept.lock:
            if time.monotonic() >= kept.until:
                self._ask_anew(kept)
            return kept.header

    def renewed(self, refused: str) -> str | None:
        """Give another token in the place of one that is not accepted; None: there is no other.

        However many requests find a token refused, it is replaced once.

        Raises:
            ConfigurationError: As for `header`.
            EhrLoginFailed: As for `header`.
            TokenServerAway: As for `header`.
        """
        kept = _kept(self)
        with kept.lock:
            if kept.header == refused:
                now = time.monotonic()
                if now < kept.replaceable:
                    return None
                # Whatever comes of it, the refused one is not used again.
                kept.until, kept.replaceable = float("-inf"), now + REPLACED_EVERY_S
                self._ask_anew(kept)
            return kept.header if kept.header != refused else None

    def _ask_anew(self, kept: "_Kept") -> None:
        kept.header, lasts_s = self._answered()
        kept.until = time.monotonic() + lasts_s

    def _answered(self) -> tuple[str, float]:
        try:
            return self._asked()
        except EhrLoginFailed:
            raise
        except (TransientError, EhrAnswerTooLarge) as error:
            # In words of its own: it is not the EHR that is away.
            kind = next((told for each, told in _AWAY.items() if isinstance(error, each)), "")
            raise TokenServerAway(f"{_GIVEN_OUT} {kind or 'fails in itself'}.") from None

    def _asked(self) -> tuple[str, float]:
        secret = self.secret.resolve()
        url = self._where()
        asserted = self._assertion(secret, url) if self.is_asymmetric else {}
        scope = {"scope": " ".join(self.scopes)} if self.scopes else {}
        form = urlencode({"grant_type": "client_credentials", **scope, **asserted})
        with self._transport(None if self.is_asymmetric else self._basic(secret)) as transport:
            return _read(transport.send("POST", url, body=form.encode(), headers=_ASKING))

    def _transport(self, header: str | None = None) -> AbstractContextManager[Transport]:
        made = Transport(
            login=GivenLogin(header) if header else NO_LOGIN,
            timeout_s=_WITHIN_S,
            max_response_bytes=_MOST_BYTES,
            verify=peer_verify(self.tls),
        )
        return closing(made)

    def _basic(self, secret: str) -> str:
        """Write id and secret as RFC 6749 section 2.3.1 has it."""
        pair = f"{quote_plus(self.client_id)}:{quote_plus(secret)}"
        return f"Basic {b64encode(pair.encode()).decode()}"

    def _where(self) -> str:
        if self.token_url is not None:
            return completed(self.token_url, self.whose)
        base = completed(self.address, self.whose)
        found = _document(self._discovered(base)).get("token_endpoint")
        # What is found over a plain connection may be plain as well: a test on one machine.
        safe = ("http://", "https://") if base.startswith("http://") else ("https://",)
        if isinstance(found, str) and found.startswith(safe):
            return found
        raise EhrLoginFailed(
            "The EHR's .well-known/smart-configuration names no token_endpoint with https; write "
            "`token_url` into the site file."
        )

    def _discovered(self, base: str) -> Answer:
        with self._transport() as transport:
            url = f"{base}/.well-known/smart-configuration"
            answer = transport.send("GET", url, headers={"Accept": _JSON})
        if answer.is_success:
            return answer
        raise EhrLoginFailed(
            "The EHR does not say where its tokens are given out (.well-known/smart-configuration: "
            f"HTTP {answer.status}); write `token_url` into the site file."
        )

    def _assertion(self, secret: str, url: str) -> dict[str, str]:
        key, algorithm = private_key(secret, self.secret.reference)
        header = {"alg": algorithm, "typ": "JWT", "kid": self.key_id or key.kid or key.thumbprint()}
        now = int(time.time())
        claims = {
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": url,
            "jti": str(uuid4()),
            "iat": now,
            "exp": now + _ASSERTED_S,
        }
        token = jwt.encode(header, claims, key, algorithms=[algorithm])
        return {"client_assertion_type": _JWT_BEARER, "client_assertion": token}


_ASKING = {"Content-Type": _FORM, "Accept": _JSON}
_GIVEN_OUT = "The server that gives out access tokens (`token_url`)"
_AWAY: dict[type[Exception], str] = {
    EhrTimeout: "does not answer in time",
    EhrNotTrusted: "shows a certificate that can't be relied on (`tls` of the system)",
    EhrUnreachable: "can't be reached",
    EhrAnswerUnreadable: "answers something that is no bearer token",
    EhrAnswerTooLarge: "answers something that is no bearer token",
}


@dataclass
class _Kept:
    """The token of one login in this process.

    Attributes:
        until: When it is asked for anew, by `time.monotonic`.
        replaceable: When one that is refused may be replaced (again), by the same clock.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    header: str = field(default="", repr=False)
    until: float = float("-inf")
    replaceable: float = float("-inf")


_TOKENS: dict[TokenLogin, _Kept] = {}


def _kept(login: TokenLogin) -> _Kept:
    return _TOKENS.setdefault(login, _Kept())


def private_key(text: str, where: str) -> tuple[ECKey | RSAKey, str]:
    """Read a private key and say with what it signs.

    Args:
        text: PEM, or a JWK as JSON.
        where: Where it was read from, for messages.

    Raises:
        ConfigurationError: It is no private key of P-384, or of RSA with 2,048 bits or more.
    """
    try:
        key = import_key(orjson.loads(text)) if text.startswith("{") else _of_pem(text)
    except (JoseError, ValueError, TypeError, KeyError):
        key = None
    if isinstance(key, ECKey) and key.is_private and key.curve_name == "P-384":
        return key, "ES384"
    bits = key.private_key.key_size if isinstance(key, RSAKey) and key.private_key else 0
    if isinstance(key, RSAKey) and bits >= _LEAST_RSA_BITS:
        return key, "RS384"
    raise ConfigurationError(
        f"{where} is no private key for a login: PEM or JWK, of P-384 or of RSA with 2,048 bits or "
        "more. `nadi site login-key FILE` makes one."
    )


def _of_pem(text: str) -> ECKey | RSAKey:
    try:
        return ECKey.import_key(text)
    except (JoseError, ValueError, TypeError):
        return RSAKey.import_key(text)


def _document(answer: Answer) -> dict[str, Any]:
    try:
        found = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        raise EhrAnswerUnreadable from None
    if not isinstance(found, dict):
        raise EhrAnswerUnreadable
    return found


def _read(answer: Answer) -> tuple[str, float]:
    """Give the header of a token and for how many seconds it is used."""
    if answer.status >= 500:  # noqa: PLR2004 - RFC 9110 section 15.6
        raise EhrFailed
    if not answer.is_success:
        raise EhrLoginFailed(_refusal(answer))
    told = _document(answer)
    token = told.get("access_token")
    kind = str(told.get("token_type", "bearer")).lower()
    if not isinstance(token, str) or not _TOKEN.fullmatch(token) or kind != "bearer":
        raise EhrAnswerUnreadable
    lasts = told.get("expires_in")
    lasts_s = float(lasts) if isinstance(lasts, int) and lasts > 0 else KEPT_AT_MOST_S
    return f"Bearer {token}", min(lasts_s, KEPT_AT_MOST_S) - min(_BEFORE_ITS_END_S, lasts_s / 2)


def _refusal(answer: Answer) -> str:
    try:
        reason = _document(answer).get("error")
    except EhrAnswerUnreadable:
        reason = None
    why = reason if reason in _REASONS else f"HTTP {answer.status}"
    return f"The EHR's authorization server refuses Nadi ({why}). {_MENDED.get(why, _MEND)}"


_MEND = "Compare client id, key or secret, and token_url with what was registered there."
_MENDED = {
    "invalid_scope": "Name the scopes that were granted: `scopes` in the site file.",
    "unsupported_grant_type": "Register Nadi for the grant client_credentials.",
    "unauthorized_client": "Register Nadi for the grant client_credentials.",
}
