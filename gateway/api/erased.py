"""(1.1) Erased patients of whom something arrives: refused, or begun anew, as the site says.

No key is made for an erased patient without one of the two: an old EHR that resends its day does
not bring back what a patient had erased.
"""

from collections.abc import Mapping, Sequence

from gateway.api.arrivals import Posting, refused
from gateway.core.admission import Arrival
from gateway.core.audit import Source, Step
from gateway.core.audit_rights import reopened
from gateway.core.clock import new_id
from gateway.core.errors import Issue
from gateway.core.retention import AfterErasure
from gateway.store.unit_of_work import UnitOfWork

Gathered = tuple[Posting, Sequence[Arrival | None]]

_WORDS = (
    "What this gateway held of this patient was erased, so nothing of hers is taken. The site file "
    "says so (retention.after_erasure)."
)


def without_erased(
    uow: UnitOfWork, gathered: Sequence[Gathered], rule: AfterErasure, source: Source
) -> list[Gathered]:
    """Give the postings without what is of erased patients, unless these may begin anew.

    Args:
        uow: Write transaction.
        gathered: Each request with its arrivals.
        rule: What the site says.
        source: Who writes the audit events.
    """
    keys = {a.patient_key for _, found in gathered for a in found if a and a.patient_key}
    closed = set(uow.erasures.closed(keys)) if keys else set()
    if not closed:
        return list(gathered)
    if rule is AfterErasure.AFRESH:
        for each in uow.erasures.reopen(closed):
            step = Step(id=new_id(), recorded=uow.now, source=source, patient_key=each.patient_key)
            uow.audit(reopened(step, erasure_id=each.id))
        return list(gathered)
    return [refused(posting, found, _issues(posting, found, closed)) for posting, found in gathered]


def _issues(
    posting: Posting, arrivals: Sequence[Arrival | None], closed: set[str]
) -> Mapping[int, Issue]:
    return {
        index: Issue(
            "business-rule", _WORDS, f"Bundle.entry[{index}].resource" if posting.bundle else None
        )
        for index, arrival in enumerate(arrivals)
        if arrival is not None and arrival.patient_key in closed
    }
