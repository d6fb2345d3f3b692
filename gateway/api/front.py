"""The short way in: pushes and hooks go straight to their endpoint, others through the framework.

Routing and the framework's layers of middleware cost a push about as much as reading it, and do
nothing for it: an endpoint lets no exception out and checks the size of a body itself. The same
endpoints stand behind the framework too, for whatever is not recognised here at a glance.
"""

import re
from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

Serve = Callable[[Request], Awaitable[Response]]

_ONE_TYPE = re.compile(r"/fhir/(?P<type>[A-Za-z]+)")
_ONE_RESOURCE = re.compile(r"/fhir/(?P<type>[A-Za-z]+)/(?P<id>[A-Za-z0-9.-]+)")
_BASE = re.compile(r"/fhir/?")
_HOOK = re.compile(r"/cds-services/(?P<id>[^/]+)")


class Front:
    """Serves pushes and hooks itself and hands on everything else."""

    def __init__(
        self,
        behind: ASGIApp,
        *,
        base: Serve,
        create: Serve,
        update: Serve,
        delete: Serve,
        cards: Serve,
    ) -> None:
        """Take the endpoints.

        Args:
            behind: Serves everything else.
            base: `POST /fhir`.
            create: `POST /fhir/{type}`.
            update: `PUT /fhir/{type}/{id}`.
            delete: `DELETE /fhir/{type}/{id}`.
            cards: `POST /cds-services/{id}`.
        """
        self._behind = behind
        self._by_method: Mapping[str, tuple[tuple[re.Pattern[str], Serve], ...]] = {
            "POST": ((_ONE_TYPE, create), (_BASE, base), (_HOOK, cards)),
            "PUT": ((_ONE_RESOURCE, update),),
            "DELETE": ((_ONE_RESOURCE, delete),),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        serve = self._endpoint(scope)
        if serve is None:
            await self._behind(scope, receive, send)
            return
        response = await serve(Request(scope, receive, send))
        await response(scope, receive, send)

    def _endpoint(self, scope: Scope) -> Serve | None:
        """Find the endpoint and give the scope its path parameters."""
        if scope["type"] != "http" or scope.get("root_path"):
            return None
        for pattern, serve in self._by_method.get(scope["method"], ()):
            found = pattern.fullmatch(scope["path"])
            if found:
                scope["path_params"] = found.groupdict()
                return serve
        return None
