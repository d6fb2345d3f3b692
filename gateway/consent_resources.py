"""The consents of a patient as FHIR Consents, from every source, for whoever reads them.

What a system pushed is given as it was received; what staff recorded or imported is written from
its signed statements, which are opened and verified each time.
"""

from typing import Any

import orjson

from gateway.core.consent.statement import StatementForged
from gateway.core.consent.writing import CONSENT_SYSTEM, Named, kept, unreadable, written
from gateway.core.errors import Erased, NotFound, Unsealable
from gateway.store.consent_acts import StoredConsent
from gateway.store.unit_of_work import UnitOfWork

Json = dict[str, Any]


def of_patient(uow: UnitOfWork, patient_key: str) -> list[tuple[str, Json]]:
    """Give the consents of a patient that are on record, each with the id that decisions name.

    That id is an identifier of each; to what a system pushed nothing else is added.

    Raises:
        Erased: She was erased, and has not begun anew.
        Unsealable: One that a system pushed can't be opened.
    """
    if uow.erasures.closed([patient_key]):
        raise Erased
    received = [
        (each.id, _identified(orjson.loads(uow.events.content(each)), each.id))
        for each in uow.consents.received(patient_key)
    ]
    return [*received, *((str(each["id"]), each) for each in _recorded(uow, patient_key))]


def _identified(content: Json, consent_id: str) -> Json:
    ours = {"system": CONSENT_SYSTEM, "value": consent_id}
    return {**content, "identifier": [*content.get("identifier", ()), ours]}


def one(uow: UnitOfWork, consent_id: str) -> tuple[bytes, str | None]:
    """Give a consent by the id that decisions name, and whose it is, as a patient key.

    Raises:
        NotFound: There is no such consent.
        Erased: It went with its patient.
        Unsealable: One that a system pushed can't be opened.
    """
    event = uow.events.get(consent_id)
    if event is not None and event.resource_type == "Consent":
        return uow.events.content(event), event.patient_key
    stored, tombstone = uow.consent_acts.get(consent_id), uow.erasures.get(consent_id)
    if tombstone is not None and tombstone.refused_ai:
        return _of_hers(uow, tombstone.patient_key, consent_id)
    if stored is None:
        raise NotFound("No such Consent was received, recorded or imported.")
    if stored.patient_key is None:
        return orjson.dumps(_written(uow, stored)), None
    return _of_hers(uow, stored.patient_key, consent_id)


def _of_hers(uow: UnitOfWork, patient_key: str, consent_id: str) -> tuple[bytes, str]:
    if uow.erasures.closed([patient_key]):
        raise Erased
    found = [each for each in _recorded(uow, patient_key) if each["id"] == consent_id]
    if not found:
        raise Erased
    return orjson.dumps(found[0]), patient_key


def _recorded(uow: UnitOfWork, patient_key: str) -> list[Json]:
    """Give what was recorded or imported of a patient, and what an erasure left over."""
    recorded, left = uow.consents.recorded(patient_key)
    of_erasure = [
        kept(
            Named(each.ref.removeprefix("Consent/"), patient_key),
            is_taken_back=each.status != "active",
        )
        for each in left
    ]
    return [*(_written(uow, each) for each in recorded), *of_erasure]


def _written(uow: UnitOfWork, consent: StoredConsent) -> Json:
    named = Named(consent.id, consent.patient_key)
    try:
        return written(named, uow.consent_acts.open(consent))
    except (Unsealable, StatementForged):
        return unreadable(named)
