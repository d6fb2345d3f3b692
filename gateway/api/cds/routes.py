"""The addresses of CDS Hooks."""

import time
from collections.abc import Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as Path

from gateway.api.cds.calls import CdsCalls
from gateway.api.cds.cors import Cors, Serve
from gateway.api.cds.feedback import FeedbackCalls
from gateway.api.cds.shown import ModelsShown
from gateway.api.cds.tokens import CdsTokens
from gateway.api.edge import Edge, Endpoint
from gateway.api.outcome import refuse
from gateway.api.receive import Receiver
from gateway.core.errors import GatewayError
from gateway.core.principal import Permission
from gateway.settings import Settings

BASE = "/cds-services"


class CdsHooksApi:
    """CDS Hooks of an API process."""

    def __init__(
        self,
        settings: Settings,
        edge: Edge,
        receiver: Receiver,
        in_service: Callable[[], Mapping[str, str]],
    ) -> None:
        """Take what answers need.

        Args:
            settings: Of the process.
            edge: What all calls have in common.
            receiver: The receiving step.
            in_service: Gives the models in service: name as routes name it to digest.
        """
        models = ModelsShown(settings, edge.store, in_service)
        self._edge = edge
        self._calls = CdsCalls(settings, edge, receiver, models)
        self._feedback = FeedbackCalls(edge)
        self._tokens = CdsTokens(edge.store, edge.site)
        self._identify = self._tokens.identified_by(edge.principal)
        self._cors = Cors(edge.site)
        #: Answers a hook.
        self.cards = self._served(self._calls.invoke)

    def close(self) -> None:
        """Write what waits, and close the connections to EHRs."""
        self._tokens.close()
        self._calls.close()

    def routes(self) -> list[Path]:
        """Give the addresses."""
        called = (
            ("GET", BASE, self._served(self._calls.discover)),
            ("POST", f"{BASE}/{{id}}", self.cards),
            ("POST", f"{BASE}/{{id}}/feedback", self._served(self._feedback.give)),
        )
        return [
            *(Path(path, serve, methods=[method]) for method, path, serve in called),
            *(Path(path, self._cors.preflight, methods=["OPTIONS"]) for _, path, _ in called),
            Path(f"{BASE}/{{id}}/about", self._about, methods=["GET"]),
        ]

    def _served(self, handler: Endpoint) -> Serve:
        """Make an endpoint of a handler; the time of a call counts from its very beginning."""
        endpoint = self._edge.endpoint(Permission.PUSH, handler, identify=self._identify)
        served = self._cors.around(endpoint)

        async def timed(request: Request) -> Response:
            request.state.began_s = time.monotonic()
            return await served(request)

        return timed

    async def _about(self, request: Request) -> Response:
        try:
            return await self._calls.about(request)
        except GatewayError as error:
            return refuse(error)
