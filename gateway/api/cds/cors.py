"""Let pages of the site's CDS clients call from a browser, and no other page.

Source: CDS Hooks 2.0, "Cross-Origin Resource Sharing"; Fetch standard, CORS protocol.
"""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from adapters.site import Site
from gateway.core.errors import ConfigurationError

Serve = Callable[[Request], Awaitable[Response]]

_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, X-Request-Id",
    "Access-Control-Max-Age": "600",
}


class Cors:
    """Adds what a browser wants to see."""

    def __init__(self, site: Callable[[], Site]) -> None:
        self._site = site

    async def preflight(self, request: Request) -> Response:
        """Answer what a browser asks before it sends the call."""
        response = Response(status_code=204)
        if self._allow(request, response):
            response.headers.update(_PREFLIGHT)
        return response

    def around(self, serve: Serve) -> Serve:
        """Wrap an endpoint."""

        async def served(request: Request) -> Response:
            response = await serve(request)
            self._allow(request, response)
            return response

        return served

    def _allow(self, request: Request, response: Response) -> bool:
        response.headers["Vary"] = "Origin"
        origin = request.headers.get("origin")
        if origin is None or origin not in self._origins():
            return False
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Expose-Headers"] = "X-Request-Id"
        return True

    def _origins(self) -> frozenset[str]:
        try:
            return self._site().cds.origins
        except ConfigurationError:
            return frozenset()
