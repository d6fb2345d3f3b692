"""How a consent stands after all that was done about it here: recorded, imported, taken back.

* Taking back is final: whatever is imported of the same consent afterwards, it stays taken back.
* A permit that was taken back withholds (see `terms`); a denial or a refusal of all AI that was
  taken back says nothing any more.
* Of a FHIR Consent that was imported again the last one counts; what was said of an ABDM artefact
  adds up (see `abdm`).
* What can't be read denies everything; of a consent that staff recorded, which may have refused all
  AI, it does that.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from gateway.core.consent.abdm import AbdmPolicy, read_artefact
from gateway.core.consent.abdm_artefact import Notification, read_notification
from gateway.core.consent.local import local_record, read_local, with_terms
from gateway.core.consent.reading import read_consent
from gateway.core.consent.record import ConsentRecord, as_policies_permit, unreadable_consent
from gateway.core.errors import GatewayError

Form = Literal["local", "fhir", "abdm"]
Kind = Literal["record", "import", "revoke"]


@dataclass(frozen=True, kw_only=True)
class Act:
    """One thing that was done about a consent, its signature verified.

    Attributes:
        statement: What was signed, see `gateway.store.consent_acts`.
        document: What was imported, exactly as it was received; None where nothing was.
    """

    kind: Kind
    form: Form
    statement: Mapping[str, Any]
    document: bytes | None = None


def consent_of(acts: Sequence[Act], ref: str, policy: AbdmPolicy | None) -> ConsentRecord:
    """Read a consent into a record.

    Args:
        acts: All that was done about it, oldest first; at least one.
        ref: How decisions shall name it.
        policy: How the site takes ABDM artefacts; None where it takes none.
    """
    form = acts[0].form
    try:
        if form == "abdm":
            return _of_artefact(acts, ref, policy)
        record = _of_local(acts, ref) if form == "local" else _of_fhir(acts, ref)
    except (GatewayError, AttributeError, ValueError, KeyError, TypeError, IndexError):
        return unreadable_consent(ref, may_refuse_ai=form == "local")
    return record


def patient_of(acts: Sequence[Act]) -> str | None:
    """Give the patient that a consent is about; None while nobody has said."""
    named = (act.statement.get("patient") for act in acts)
    return next((each for each in named if each), None)


def is_taken_back(acts: Sequence[Act]) -> bool:
    """Say whether a consent was taken back here."""
    return any(act.kind == "revoke" for act in acts)


def _of_local(acts: Sequence[Act], ref: str) -> ConsentRecord:
    (recorded,) = (act for act in acts if act.kind != "revoke")
    consent = read_local(recorded.statement["local"])
    return local_record(consent, ref, is_withdrawn=is_taken_back(acts))


def _of_fhir(acts: Sequence[Act], ref: str) -> ConsentRecord:
    imported = [act.document for act in acts if act.document is not None]
    content = orjson.loads(imported[-1])
    record = read_consent(content, ref, patient=patient_of(acts))
    if is_taken_back(acts):
        # Whatever the site states of its policies: a permit that was taken back permits nothing.
        record = as_policies_permit(record)
    if is_taken_back(acts) and not record.rule.is_permit:
        return read_consent({**content, "status": "inactive"}, ref, patient=record.patient)
    return with_terms(record, refuses_ai=False, is_withdrawn=is_taken_back(acts))


def _of_artefact(acts: Sequence[Act], ref: str, policy: AbdmPolicy | None) -> ConsentRecord:
    said = notifications_of(acts)
    return read_artefact(said, ref, patient=patient_of(acts), policy=policy)


def notifications_of(acts: Sequence[Act]) -> list[Notification]:
    """Give all that was said of an ABDM artefact, and what staff did about it here.

    Raises:
        ArtefactUnreadable: A notification can't be read, which it could when it was imported.
    """
    said = [read_notification(act.document) for act in acts if act.document is not None]
    taken_back = [Notification(consent_id="", status="REVOKED") for _ in range(is_taken_back(acts))]
    return [*said, *taken_back]
