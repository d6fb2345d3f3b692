"""Match a received resource against the triggers of a site's routes.

A trigger is a FHIRPath expression, compiled once when the site file is read. It is written by the
integration engineer, never by a caller: `matches()` can be made to run for hours.

Source: FHIRPath N1 (http://hl7.org/fhirpath/N1/).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from gateway.core.consent import PLAIN, Asks, ConsentTerms
from gateway.core.ladder import Terms
from gateway.core.lanes import Lane
from gateway.core.run_window import RunWindow

#: Ends the name of a route where the glass was broken; no route of a site can be named so.
BROKEN = "+btg"

Trigger = Callable[[Mapping[str, Any]], bool]

_LEADING_TYPE = re.compile(r"^\s*([A-Z][A-Za-z]+)\b")


@dataclass(frozen=True, kw_only=True)
class Route:
    """One line of a site: what triggers which model, under which consent, into which system."""

    name: str
    source: str
    match: str
    #: FHIR resource type that the trigger starts with; lets other types pass unevaluated.
    resource_type: str | None
    model: str
    #: v3-ActReason code asked of the patient's consent.
    purpose: str
    #: What holds when no consent applies.
    consent_default: Literal["deny", "permit"]
    sink: str
    with_provenance: bool
    #: Whether a refusal is also written as an Observation with dataAbsentReason.
    report_refusals: bool
    #: Whether each result says what moved it; costs many runs of the model instead of one.
    explain: bool = False
    #: Whether a clinician broke the glass for it, see `gateway.core.consent.breaking`.
    breaks_glass: bool = False
    #: The lane of what says nothing of its own priority.
    lane: Lane = Lane.ROUTINE
    #: When its jobs may start; None: at any time.
    window: RunWindow | None = None
    #: In which forms its results may go; what it leaves open, its system says.
    terms: Terms = field(default_factory=Terms)
    #: How the site wants consents to be asked.
    consent_terms: ConsentTerms = PLAIN
    trigger: Trigger = field(compare=False)

    @property
    def asks(self) -> Asks:
        """What it asks of a patient's consents."""
        return Asks(
            self.purpose,
            self.consent_default,
            self.consent_terms,
            breaks_glass=self.breaks_glass,
        )


def broken(route: Route) -> Route:
    """Give a route as it is run when the glass is broken: for purpose BTG, under its own name."""
    return replace(
        route,
        name=f"{route.name}{BROKEN}",
        purpose="BTG",
        consent_default="permit",
        breaks_glass=True,
    )


def leading_type(match: str) -> str | None:
    """Read the resource type a trigger starts with, None when it starts with something else."""
    found = _LEADING_TYPE.match(match)
    return found.group(1) if found else None


def matching_routes(
    routes: Sequence[Route], system: str, resource_type: str, content: Mapping[str, Any]
) -> tuple[Route, ...]:
    """Give the routes that a resource from a system triggers, in the order of the site file."""
    return tuple(
        route
        for route in routes
        if route.source == system
        and route.resource_type in (None, resource_type)
        and route.trigger(content)
    )
