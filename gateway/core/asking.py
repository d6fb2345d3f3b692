"""Ask the consents on record as a route wants them asked."""

from collections.abc import Sequence

from gateway.core.consent import (
    ConsentDecision,
    ConsentRecord,
    ConsentRequest,
    decide,
    decide_broken,
)
from gateway.core.routing import Route


def decide_for(
    route: Route, request: ConsentRequest, consents: Sequence[ConsentRecord]
) -> ConsentDecision:
    """Decide a request that a route makes; where the glass was broken, by the rules for that."""
    if route.breaks_glass:
        return decide_broken(request, consents)
    return decide(request, consents, default=route.consent_default)
