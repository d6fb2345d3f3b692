"""A patient's request is answered: closed with its outcome, on record in the same transaction."""

from gateway.core.audit import Step
from gateway.core.audit_rights import changed
from gateway.core.clock import new_id
from gateway.core.rights import RightsRequest
from gateway.store.registering import Actor
from gateway.store.unit_of_work import UnitOfWork


def answer(uow: UnitOfWork, request_id: str, outcome: str, actor: Actor) -> RightsRequest:
    """Close a request with its outcome, on record; give it as it was.

    Raises:
        NotFound: There is no such request.
        InvalidTransition: It is closed.
    """
    request = uow.rights_requests.close(request_id, actor.name, outcome)
    step = Step(id=new_id(), recorded=uow.now, source=actor.source, patient_key=request.patient_key)
    details = {"what": "closed", "kind": request.kind.value, "outcome": outcome}
    uow.audit(changed(step, "request", by=actor.by, about=request.id, details=details))
    return request
