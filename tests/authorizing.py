"""An authorization server on a real socket, as strict as SMART App Launch 2.2 wants it.

Source: SMART App Launch 2.2, Backend Services; RFC 6749 sections 2.3.1 and 5; RFC 7523 section 3.
"""

import json
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote_plus
from uuid import uuid4

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.answering import serving

_MOST_AHEAD_S = 300


@dataclass
class Authorizing:
    """What the server knows of its one client, gives out and was asked.

    Attributes:
        key: Its public key, where it signs.
        secret: Its secret, where it has one.
        answers: Overrides what a good request gets: status and body.
    """

    client_id: str = "nadi"
    key: ECKey | RSAKey | None = None
    secret: str | None = None
    token: str = "given-out"  # noqa: S105 - made up
    expires_in: int | None = 300
    granted: frozenset[str] = frozenset({"system/*.rs", "system/*.cu"})
    answers: tuple[int, bytes] | None = None
    base: str = ""
    configuration: dict[str, Any] | None = None
    asked: list[dict[str, str]] = field(default_factory=list)
    _used: set[str] = field(default_factory=set)

    @property
    def token_url(self) -> str:
        """Where tokens are given out."""
        return f"{self.base}/token"

    def answer(self, form: dict[str, str], login: str | None) -> tuple[int, Any]:
        """Answer a request for a token."""
        self.asked.append(form)
        if self.answers is not None:
            return self.answers
        if form.get("grant_type") != "client_credentials":
            return 400, {"error": "unsupported_grant_type"}
        if not (self._has_signed(form) if self.key else self._has_logged_in(login)):
            return 401, {"error": "invalid_client"}
        if not set(form.get("scope", "").split()) <= self.granted:
            return 400, {"error": "invalid_scope"}
        lasts = {} if self.expires_in is None else {"expires_in": self.expires_in}
        return 200, {"access_token": self.token, "token_type": "bearer", **lasts}

    def _has_logged_in(self, login: str | None) -> bool:
        kind, _, pair = (login or "").partition(" ")
        named, _, secret = b64decode(pair).decode().partition(":")
        said = (unquote_plus(named), unquote_plus(secret))
        return kind == "Basic" and said == (self.client_id, self.secret)

    def _has_signed(self, form: dict[str, str]) -> bool:
        assert self.key is not None
        if form.get("client_assertion_type") != (
            "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        ):
            return False
        algorithm = "ES384" if isinstance(self.key, ECKey) else "RS384"
        try:
            token = jwt.decode(form["client_assertion"], self.key, algorithms=[algorithm])
        except JoseError:
            return False
        claims, now = token.claims, time.time()
        is_ours = claims["iss"] == claims["sub"] == self.client_id
        is_new = claims["jti"] not in self._used
        self._used.add(claims["jti"])
        is_named = token.header.get("kid") == (self.key.kid or self.key.thumbprint())
        is_timely = now < claims["exp"] <= now + _MOST_AHEAD_S
        is_here = claims["aud"] == self.token_url and token.header.get("typ") == "JWT"
        return is_ours and is_new and is_named and is_timely and is_here


class Gated:
    """An EHR that is open only to whom the authorization server gave a token that still holds.

    Attributes:
        server: Gives the tokens out.
        accepted: Those that hold; None: what the server gives out now.
        refused: How many requests were refused.
    """

    def __init__(self, ehr: ASGIApp, server: Authorizing) -> None:
        self._ehr = ehr
        self.server = server
        self.accepted: frozenset[str] | None = None
        self.refused = 0

    def withdraw(self) -> None:
        """Let the tokens that were given out end at once; others are given out from now on."""
        self.server.token = f"given-out-{uuid4().hex}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401 to whoever shows another token."""
        if scope["type"] != "http" or self._is_accepted(Headers(scope=scope)):
            await self._ehr(scope, receive, send)
            return
        self.refused += 1
        await Response(status_code=401)(scope, receive, send)

    def _is_accepted(self, headers: Headers) -> bool:
        kind, _, token = headers.get("authorization", "").partition(" ")
        holds = self.accepted if self.accepted is not None else {self.server.token}
        return kind == "Bearer" and token in holds


@contextmanager
def authorizing(**known: Any) -> Iterator[Authorizing]:
    """Run such a server for a while."""
    told = Authorizing(**known)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_there = self.path == "/fhir/.well-known/smart-configuration"
            found = told.configuration if told.configuration is not None else {}
            self._send(200 if is_there and told.configuration is not None else 404, found)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            form = {name: values[0] for name, values in parse_qs(body).items()}
            self._send(*told.answer(form, self.headers.get("Authorization")))

        def _send(self, status: int, said: Any) -> None:
            body = said if isinstance(said, bytes) else json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with serving(Handler) as told.base:
        told.configuration = {"token_endpoint": told.token_url}
        yield told
