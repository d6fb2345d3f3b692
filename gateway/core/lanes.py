"""How urgent something is: the four lanes of what waits, and which one a resource asks for.

Rules:

1. The lanes are the codes of FHIR R4 request-priority: stat before asap, urgent and routine.
2. A job is in the most urgent lane of three: what its resource says (`priority`), what the order
   says that it was made for (`basedOn`), and what its route says. Who says nothing is routine.

Source: FHIR R4 value set request-priority (http://hl7.org/fhir/R4/valueset-request-priority.html).
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import Any


class Lane(IntEnum):
    """One lane; the lower the number, the more urgent."""

    STAT = 0
    ASAP = 1
    URGENT = 2
    ROUTINE = 3

    @property
    def code(self) -> str:
        """The code of FHIR's request-priority."""
        return self.name.lower()


#: Lane by code of FHIR's request-priority.
LANES: Mapping[str, Lane] = {lane.code: lane for lane in Lane}


def stated_lane(content: Mapping[str, Any]) -> Lane | None:
    """Read the lane that a resource asks for; None when it does not say.

    Of a ServiceRequest, Task, Communication and others it is `priority`; what has another type
    there, such as an Encounter's, is no request's priority.
    """
    code = content.get("priority")
    return LANES.get(code) if isinstance(code, str) else None


def most_urgent(*lanes: Lane | None) -> Lane:
    """Give the most urgent of these lanes; routine where none is given."""
    return min((lane for lane in lanes if lane is not None), default=Lane.ROUTINE)
