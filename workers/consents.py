"""(4.2) and (6.2): the patient's consent is asked again, with what is on record now.

Admission asked first; a consent may have been withdrawn or have expired since. In doubt the
answer is no: a consent on record that can't be opened or read denies.
"""

from collections.abc import Mapping

from gateway.core.asking import decide_for
from gateway.core.consent import ConsentDecision, ConsentRecord, ConsentRequest
from gateway.core.routing import Route
from gateway.store.events import Event
from gateway.store.unit_of_work import UnitOfWork


def ask_again(
    uow: UnitOfWork, event: Event, route: Route, consents: Mapping[str, list[ConsentRecord]]
) -> ConsentDecision:
    """Decide whether an event may still be used as its route wants.

    Raises:
        Unsealable: The patient's reference can't be opened.
    """
    patient = uow.events.patient(event)
    if patient is None or event.patient_key is None:
        reasons = ("No patient is known.",)
        return ConsentDecision(is_permitted=False, purpose=route.purpose, reasons=reasons)
    request = ConsentRequest(patient, route.purpose, uow.now, use=event.id)
    return decide_for(route, request, consents[event.patient_key])
