"""The addresses of CDS Hooks."""

from collections.abc import Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as Path

from gateway.api.cds.calls import CdsCalls
from gateway.api.cds.cors import Cors
from gateway.api.cds.feedback import FeedbackCalls
from gateway.api.cds.shown import ModelsShown
from gateway.api.cds.tokens import CdsTokens
from gateway.api.edge import Edge
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
        self._cors = Cors(edge.site)

    def close(self) -> None:
        """Write what waits, and close the connections to EHRs."""
        self._tokens.close()
        self._calls.close()

    def routes(self) -> list[Path]:
        """Give the addresses."""
        guarded = (
            ("GET", BASE, self._calls.discover),
            ("POST", f"{BASE}/{{id}}", self._calls.invoke),
            ("POST", f"{BASE}/{{id}}/feedback", self._feedback.give),
        )
        identify = self._tokens.identified_by(self._edge.principal)
        called = [
            Path(path, self._cors.around(endpoint), methods=[method])
            for method, path, handler in guarded
            for endpoint in [self._edge.endpoint(Permission.PUSH, handler, identify=identify)]
        ]
        asked = [Path(path, self._cors.preflight, methods=["OPTIONS"]) for _, path, _ in guarded]
        return [*called, *asked, Path(f"{BASE}/{{id}}/about", self._about, methods=["GET"])]

    async def _about(self, request: Request) -> Response:
        try:
            return await self._calls.about(request)
        except GatewayError as error:
            return refuse(error)
