"""(4.2) and (6.2): the patient's consent is asked again, with what is on record now.

Admission asked first; a consent may have been withdrawn or have expired since. In doubt the
answer is no: a consent on record that can't be opened or read denies.
"""

from collections.abc import Collection, Mapping

from gateway.core.consent import ConsentDecision, ConsentRecord, ConsentRequest, decide
from gateway.core.errors import GatewayError
from gateway.core.routing import Route
from gateway.store.events import Event
from gateway.store.unit_of_work import UnitOfWork

#: None stands for a record that can't be read.
ConsentsByPatient = Mapping[str, list[ConsentRecord] | None]


def on_record(uow: UnitOfWork, patient_keys: Collection[str]) -> ConsentsByPatient:
    """Give the consents of these patients; one unreadable record spoils one patient only."""
    try:
        return uow.events.consents(patient_keys)
    except GatewayError:
        return {key: _alone(uow, key) for key in patient_keys}


def ask_again(
    uow: UnitOfWork, event: Event, route: Route, consents: ConsentsByPatient
) -> ConsentDecision:
    """Decide whether an event may still be used as its route wants.

    Raises:
        Unsealable: The patient's reference can't be opened.
    """
    records = consents.get(event.patient_key or "")
    patient = uow.events.patient(event)
    if records is None or patient is None:
        reason = "A consent on record can't be read." if patient else "No patient is known."
        return ConsentDecision(is_permitted=False, purpose=route.purpose, reasons=(reason,))
    request = ConsentRequest(patient, route.purpose, uow.now)
    return decide(request, records, default=route.consent_default)


def _alone(uow: UnitOfWork, patient_key: str) -> list[ConsentRecord] | None:
    try:
        return uow.events.consents([patient_key])[patient_key]
    except GatewayError:
        return None
