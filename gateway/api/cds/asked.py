"""One call of a CDS service, as far as it is known to be one: whose it is, and until when."""

from dataclasses import dataclass

from adapters.site import Site
from adapters.site_cds_hooks import CdsService
from gateway.api.edge import Call
from gateway.core.cds.request import CdsRequest
from gateway.core.errors import Forbidden
from gateway.core.model_register import RegisteredModel
from gateway.core.routing import Route


@dataclass(frozen=True)
class Asked:
    """One call of a service.

    Attributes:
        line: Of the register, the model that answers.
        patient_key: Keyed hash of the patient of its context.
        until_s: When it has to be answered, by `time.monotonic`.
    """

    call: Call
    site: Site
    service: CdsService
    route: Route
    line: RegisteredModel
    request: CdsRequest
    patient_key: str
    until_s: float

    @property
    def patient(self) -> str:
        """The patient as the EHR names her."""
        return self.request.subject


def route_of(site: Site, service: CdsService, call: Call) -> Route | None:
    """Give the route of a service; None where it is not the caller's.

    Raises:
        Forbidden: The caller speaks for no system.
    """
    if call.principal.system is None:
        raise Forbidden(
            "This credential speaks for no system: "
            "make one with `nadi access add NAME --role ehr --system SYSTEM`."
        )
    route = site.route(service.route)
    return route if route and route.source == call.principal.system else None
