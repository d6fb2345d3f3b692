"""A result on its way to an EHR, as AuditEvents name it."""

from dataclasses import dataclass

from gateway.core.audit_event import RESULT_SYSTEM, entity_details, identified
from gateway.core.result_terms import Json


@dataclass(frozen=True)
class DeliveredResult:
    """A result on its way to an EHR, as its event names it.

    Attributes:
        identifier: Its own identifier value.
        resource_type: As what it is written.
        changed: In what it had to be changed for the EHR; empty when in nothing.
        rung: In which form of the write-back ladder it went.
        lost: What of it the EHR did not keep.
        left: The better forms, each with why it was not used.
    """

    identifier: str
    resource_type: str
    changed: str = ""
    rung: str = ""
    lost: str = ""
    left: str = ""

    def entity(self, attempt: int, http_status: int | None) -> Json:
        """Give what an event says of the result: which, what was answered, on which way it went.

        Args:
            attempt: How many times it has been tried.
            http_status: What the EHR answered; None when it did not.
        """
        told = {
            "http-status": str(http_status or ""),
            "attempt": str(attempt),
            "changed": self.changed,
            "rung": self.rung,
            "lost": self.lost,
            "left": self.left,
        }
        return {
            "what": identified(RESULT_SYSTEM, self.identifier, self.resource_type),
            "detail": entity_details(told),
        }
