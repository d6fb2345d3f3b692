"""Record, import and take back consents: the signed act, and what is on record about it.

* Each is one act with its AuditEvent in the same transaction.
* Who a patient is was settled before: an import names the patient key it is for.
* What was imported is kept exactly as received, with who signed it. The same document comes once.
* Taking back is final, and works for what was recorded or imported here. A Consent that a system
  pushed is that system's: it is changed there.
"""

import re
from calendar import monthrange
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from hashlib import sha256
from typing import Any

import orjson

from gateway.core.audit import Step
from gateway.core.audit_consent import ConsentAct, consent_changed
from gateway.core.clock import new_id
from gateway.core.consent.acts import patient_of
from gateway.core.consent.importing import Document
from gateway.core.consent.local import LocalConsent
from gateway.core.consent.statement import StatementForged
from gateway.core.errors import ContentError, NotFound, ProcessingError, Unsealable
from gateway.store.consent_acts import NewAct, StoredConsent
from gateway.store.identity import named_key
from gateway.store.registering import Actor
from gateway.store.unit_of_work import UnitOfWork

_DATE = re.compile(r"\d{4}(-\d{2}(-\d{2})?)?", re.ASCII)
_MONTHS = 12
_TELL_EHR = (
    "This Consent came from a system, and is that system's: have it changed there "
    "(status inactive, or a newer version). Nadi follows as soon as the system sends it."
)


class TakenBackBefore(ProcessingError):
    """This consent was taken back before."""

    issue_type = "conflict"


class PatientMismatch(ContentError):
    """The document is about another patient than the one it was to be imported for."""


@dataclass(frozen=True, kw_only=True)
class Owner:
    """The patient a document is imported for.

    Attributes:
        reference: `Patient/<id>` as the system names the patient.
        key: Keyed hash of both.
        identified: How it is known that the document is about this patient.
    """

    system: str
    reference: str
    key: str
    identified: str


@dataclass(frozen=True, kw_only=True)
class Signed:
    """Who vouches for a file.

    Attributes:
        signer: Name of the signer in the site file.
        key: The signer's public key, as the site file writes it.
        signature: Detached JWS over the file.
        sha256: Of the file, hexadecimal.
    """

    signer: str
    key: str
    signature: str
    sha256: str


@dataclass(frozen=True)
class Taken:
    """What became of a document: its consent, and whether it was new."""

    consent_id: str
    is_new: bool


def record(uow: UnitOfWork, consent: LocalConsent, patient_key: str, actor: Actor) -> str:
    """Record a consent that was found recordable; give its id."""
    told = {**_by(uow, actor), "patient": consent.patient, "local": consent.as_json()}
    new = NewAct(form="local", kind="record", patient_key=patient_key, told=told)
    notice = consent.notice
    details = {
        "form": "local",
        "decision": consent.decision,
        "means": consent.means,
        "notice": f"{notice.version} ({notice.language})" if notice else "",
    }
    return _add(uow, new, actor, details)


def take(
    uow: UnitOfWork, document: Document, owner: Owner | None, signed: Signed, actor: Actor
) -> Taken:
    """Import a document; one that is on record already changes nothing.

    Args:
        uow: Writes.
        document: What was in the file.
        owner: Whom it is for; None only for the end of an artefact that names nobody.
        signed: Who vouches for it.
        actor: Who imports it.

    Raises:
        PatientMismatch: The consent is on record for another patient.
    """
    acts = uow.consent_acts
    foreign_key = _foreign_key(uow, document, owner)
    known = acts.find(foreign_key)
    patient_key = owner.key if owner else (known.patient_key if known else None)
    if known and known.patient_key and known.patient_key != patient_key:
        raise PatientMismatch
    if known and any(act.document == document.content for act in acts.open(known)):
        return Taken(known.id, is_new=False)
    told: dict[str, Any] = {**_by(uow, actor), **vars(signed)}
    if owner:
        told |= {"patient": owner.reference, "identified": owner.identified}
    if document.form == "local":
        told["local"] = orjson.loads(document.content)["local"]
    new = NewAct(
        form=document.form,
        kind="import",
        patient_key=patient_key,
        consent_id=known.id if known else None,
        foreign_key=foreign_key,
        told=told,
        document=document.content,
    )
    details = {"form": document.form, "signer": signed.signer, "file": signed.sha256}
    return Taken(_add(uow, new, actor, details), is_new=True)


def _foreign_key(uow: UnitOfWork, document: Document, owner: Owner | None) -> str:
    """Give the key by which a document is known again; without an id of its own, by its bytes."""
    foreign_id = document.foreign_id or f"sha256:{sha256(document.content).hexdigest()}"
    named = (owner.system if owner else "", foreign_id)
    own = (foreign_id,) if document.form == "abdm" else named
    return uow.consent_acts.foreign_key(document.form, *own)


def revoke(uow: UnitOfWork, consent_id: str, reason: str, actor: Actor) -> StoredConsent:
    """Take a consent back; it never holds again.

    Args:
        uow: Writes.
        consent_id: Of the consent; of her erasure for the refusal that it left over.
        reason: For the record, sealed.
        actor: Who takes it back.

    Raises:
        Erased: She was erased, and has not begun anew.
        NotFound: There is no such consent.
        ContentError: It is a system's own.
        TakenBackBefore: It was.
    """
    consent_id = consent_id.removeprefix("Consent/")
    found = uow.consent_acts.get(consent_id) or _kept(uow, consent_id)
    if any(row.act == "revoke" for row in found.rows):
        raise TakenBackBefore
    new = NewAct(
        form=found.form,
        kind="revoke",
        patient_key=found.patient_key,
        consent_id=found.id,
        told={**_by(uow, actor), "reason": reason},
    )
    _add(uow, new, actor, {"form": found.form})
    return found


def _kept(uow: UnitOfWork, consent_id: str) -> StoredConsent:
    """Give the refusal of all AI that a patient's erasure left over.

    Raises:
        NotFound: There is no such consent.
        ContentError: It is a system's own.
    """
    tombstone = uow.erasures.get(consent_id)
    if tombstone is None or not tombstone.refused_ai:
        raise _unknown(uow, consent_id)
    return StoredConsent(tombstone.id, tombstone.patient_key, seal="", rows=())


def whose(uow: UnitOfWork, consent: StoredConsent) -> dict[str, str]:
    """Give reference by key of the patient that a consent is about; empty if it can't be read."""
    try:
        reference = patient_of(uow.consent_acts.open(consent))
    except (Unsealable, StatementForged):
        return {}
    key = consent.patient_key
    return {key: reference} if key and reference else {}


def birth_date_of(uow: UnitOfWork, system: str, reference: str) -> date | None:
    """Give the latest day on which a patient can have been born; None when nothing tells it.

    Raises:
        Unsealable: The Patient can't be opened.
    """
    written = (patient_resource(uow, system, reference) or {}).get("birthDate")
    return latest_day(written) if isinstance(written, str) else None


def latest_day(written: str) -> date | None:
    """Give the last day of a FHIR date, which may be a month or a year; None when it is none."""
    if not _DATE.fullmatch(written):
        return None
    year, month, day = ([int(part) for part in written.split("-")] + [0, 0])[:3]
    month = month or _MONTHS
    try:
        return date(year, month, day or monthrange(year, month)[1])
    except ValueError:
        return None


def patient_resource(uow: UnitOfWork, system: str, reference: str) -> Mapping[str, Any] | None:
    """Give the Patient as it was last received; None when it never was.

    Raises:
        Unsealable: It can't be opened.
    """
    key = named_key(uow.sealer, system, "Patient", reference.removeprefix("Patient/"))
    event = uow.events.current([key]).get(key)
    if event is None:
        return None
    found: Mapping[str, Any] = orjson.loads(uow.events.content(event))
    return found


def _unknown(uow: UnitOfWork, consent_id: str) -> ContentError | NotFound:
    event = uow.events.get(consent_id)
    if event is not None and event.resource_type == "Consent":
        return ContentError(_TELL_EHR)
    return NotFound("There is no such consent; `nadi consent list --patient` shows what there is.")


def _by(uow: UnitOfWork, actor: Actor) -> dict[str, str]:
    return {"at": uow.now.isoformat(timespec="milliseconds"), "by": actor.by.identifier}


def _add(uow: UnitOfWork, new: NewAct, actor: Actor, details: Mapping[str, str]) -> str:
    act: ConsentAct = uow.consent_acts.add(new)
    # Why it was taken back is in the statement: what staff write may name the patient.
    step = Step(id=new_id(), recorded=uow.now, source=actor.source, patient_key=new.patient_key)
    uow.audit(consent_changed(step, act, by=actor.by, details=details))
    return act.consent_id
