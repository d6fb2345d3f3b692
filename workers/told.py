"""(6.4) What is told of a result that was written, or that no EHR takes.

The delivery keeps the form that the result has and what the EHR did not keep; its AuditEvent tells,
besides, why no better form was used.
"""

from dataclasses import dataclass, field

from gateway.core.audit import DeliveredResult
from gateway.core.ladder import TYPES, Left, Rung, said
from gateway.core.write_back import AS_OBSERVATION, StoredReport
from workers.fates import OnCard, OnWorklist, Written

_LONGEST_REASON = 900


@dataclass(frozen=True)
class Way:
    """On which way a result went.

    Attributes:
        rung: The form that it has; None where none was reached.
        changed: In what it had to be changed for the EHR.
        lost: What of it the EHR did not keep.
        left: The better forms, and why none of them was used.
    """

    rung: Rung | None = None
    changed: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    left: tuple[Left, ...] = field(default=())

    def result(self, report: StoredReport) -> DeliveredResult:
        """Name the result in an AuditEvent, under the type that it has there."""
        is_changed = AS_OBSERVATION in self.changed
        written = report.as_observation() if is_changed else report
        return DeliveredResult(
            report.identifier,
            TYPES.get(self.rung, written.resource_type) if self.rung else written.resource_type,
            ", ".join(self.changed),
            rung=self.rung or "",
            lost=", ".join(self.lost),
            left=said(self.left),
        )


def way_of(fate: Written | OnWorklist | OnCard) -> Way:
    """Give the way of a result that found its place."""
    if isinstance(fate, OnCard):
        return Way(Rung.CDS_CARD, left=fate.left)
    if isinstance(fate, OnWorklist):
        return Way(Rung.WORKLIST, left=fate.left)
    return Way(fate.rung, fate.changed, fate.lost, fate.left)


def reason_of(fate: OnWorklist | OnCard) -> str:
    """Say why a result stays with Nadi."""
    told = said(fate.left)
    where = (
        "It stays on the worklist"
        if isinstance(fate, OnWorklist)
        else "It is shown as a card, and waits until somebody opens the chart"
    )
    return f"{where}: the EHR takes no form of it. {told}"[:_LONGEST_REASON]
