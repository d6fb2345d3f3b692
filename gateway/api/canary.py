"""Runs the canary in the process of the API, through the API: she passes all that a push does.

Her calls carry a credential that is made at start and known to this process alone.
"""

import asyncio
import threading
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import orjson
from starlette.types import ASGIApp

from adapters.site import Site
from gateway import telemetry
from gateway.api.arrivals import Posting
from gateway.api.intake import Intake
from gateway.canary import Canary, CanaryReport
from gateway.core.canary import CANARY_SYSTEM
from gateway.core.clock import new_id
from gateway.core.errors import StoreUnavailable
from gateway.core.fhir import parse_resource
from gateway.core.principal import Principal, Role
from gateway.store.unit_of_work import Store

_ACCEPTED = 202
#: How long a run waits for the workers' refusals.
_WAIT_S = 10.0
#: Until this process serves and its database is there.
_FIRST_AFTER_S = 0.5
_RETRY_S = 5.0

log = telemetry.get_logger()


class CanaryRunner:
    """Runs her at start and at an interval, in a thread of its own."""

    def __init__(
        self, app: ASGIApp, store: Store, site: Callable[[], Site], *, token: str, every_s: float
    ) -> None:
        self._app = app
        self._token = token
        self._every_s = every_s
        self._canary = Canary(store, site, self._post, "api")
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="canary", daemon=True)

    def start(self) -> None:
        """Begin; with an interval of nought nothing is run."""
        if self._every_s:
            self._thread.start()

    def run_once(self, *, wait_s: float) -> CanaryReport:
        """Run her now.

        Raises:
            GatewayError: The database is away, or her event was not accepted.
        """
        return self._canary.run(wait_s=wait_s)

    def _run(self) -> None:
        pause_s = _FIRST_AFTER_S
        while not self._stopped.wait(pause_s):
            try:
                report = self.run_once(wait_s=_WAIT_S)
                log.debug("canary-run", outcome="permitted" if report.is_permitted else "refused")
                pause_s = self._every_s
            except Exception as error:  # noqa: BLE001 - whatever it is, she is run again
                log.warning("canary-waits", error=type(error).__name__)
                pause_s = min(_RETRY_S, self._every_s)

    def _post(self, resource: Mapping[str, Any]) -> str:
        return asyncio.run(self._send(resource))

    async def _send(self, resource: Mapping[str, Any]) -> str:
        transport = httpx.ASGITransport(app=self._app)
        async with httpx.AsyncClient(transport=transport, base_url="http://canary") as client:
            answer = await client.put(
                f"/fhir/{resource['resourceType']}/{resource['id']}",
                content=orjson.dumps(resource),
                headers={
                    "Authorization": f"Bearer {self._token}",
                    "Content-Type": "application/fhir+json",
                },
            )
        if answer.status_code != _ACCEPTED:
            raise StoreUnavailable(f"The canary was answered {answer.status_code}.")
        return str(answer.json()["id"])


def post_through(intake: Intake) -> Callable[[Mapping[str, Any]], str]:
    """Give a way to receive her resources where no API runs: what follows the network is the same.

    Args:
        intake: Of the installation.
    """
    principal = Principal(CANARY_SYSTEM, CANARY_SYSTEM, Role.EHR, CANARY_SYSTEM)

    def post(resource: Mapping[str, Any]) -> str:
        posting = Posting(
            principal=principal,
            system=CANARY_SYSTEM,
            request_id=new_id(),
            address=None,
            is_update=True,
            resource=parse_resource(orjson.dumps(resource)),
        )
        ((receipt,),) = intake([posting])
        if receipt.event is None:
            raise StoreUnavailable("The canary was not accepted.")
        return receipt.event.id

    return post
