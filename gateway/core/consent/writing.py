"""Write what was recorded or imported here as a FHIR R4 Consent, for whoever reads consents.

* Where it comes from stands in `meta.source` and as a tag; its own identifier, those of the signed
  statements about it, and the one it has elsewhere, in `identifier`.
* It says what decisions are made from: read back, its provision gives the same rules. What FHIR has
  no element for (the notice, who recorded it and how) stands in the extension `consent-recording`.
* A permit that was taken back is `inactive` here. To a decision it withholds besides (see `terms`).
* A refusal of all AI denies to software alone; a reader that does not know that sees a denial.
* What can't be opened or verified is an active denial of everything, as decisions take it.

Source: FHIR R4 Consent (http://hl7.org/fhir/R4/consent.html); ABDM artefacts by `abdm_artefact`.
"""

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.core.audit_consent import CONSENT_ACT_SYSTEM
from gateway.core.audit_event import PATIENT_KEY_SYSTEM, SID
from gateway.core.balp import NADI
from gateway.core.consent.abdm import GRANTED, artefact_scope, settled_status
from gateway.core.consent.abdm_artefact import Notification, Scope, ScopeUnclear
from gateway.core.consent.acts import Act, is_taken_back, notifications_of, patient_of
from gateway.core.consent.local import LocalConsent, as_fhir, read_local
from gateway.core.consent.vocabulary import (
    ACT_CODE,
    ACT_REASON,
    CONSENT_SCOPE,
    PARTICIPATION,
    PURPOSES,
)
from gateway.core.errors import GatewayError

Json = Mapping[str, Any]

#: What a consent is found under: the id that decisions name it by.
CONSENT_SYSTEM = f"{SID}/consent"
SOURCE_SYSTEM = f"{SID}/consent-source"
RECORDING = f"{NADI}/StructureDefinition/consent-recording"

_SOURCES = {"local": "staff", "fhir": "imported", "abdm": "abdm"}
_KEPT, _UNREADABLE = "kept-at-erasure", "unreadable"
_CATEGORY = {"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}
_PRIVACY = {"coding": [{"system": CONSENT_SCOPE, "code": "patient-privacy"}]}
_RECIPIENT = {"coding": [{"system": PARTICIPATION, "code": "IRCP"}]}
_ID = re.compile(r"[A-Za-z0-9.-]{1,64}", re.ASCII)
#: Who is meant where all AI is refused: software, whatever its name.
_ANY_AI = {"role": _RECIPIENT, "reference": {"type": "Device", "display": "any AI model"}}
#: Any other status of an artefact, an unknown one too, is of one that no longer grants anything.
_STATUS = {"DENIED": "rejected", "REQUESTED": "proposed", GRANTED: "active"}


@dataclass(frozen=True)
class Named:
    """How a consent is named here: by an opaque id, its patient by a keyed hash."""

    id: str
    patient_key: str | None


def written(named: Named, acts: Sequence[Act]) -> dict[str, Any]:
    """Write a consent with all that was done about it.

    Args:
        named: How it is named.
        acts: What was done about it, oldest first; at least one.
    """
    try:
        content = _WRITERS[acts[0].form](acts)
    except (GatewayError, AttributeError, IndexError, KeyError, TypeError, ValueError):
        return unreadable(named)
    patient = patient_of(acts)
    identifiers = [*_listed(content, "identifier"), *_identifiers(named, acts)]
    return {
        **content,
        "id": named.id,
        "meta": _meta(content, _SOURCES[acts[0].form], acts),
        "extension": [*_listed(content, "extension"), _recording(acts)],
        "identifier": identifiers,
        **({"patient": {"reference": patient}} if patient else _by_key(named)),
    }


def kept(named: Named, *, is_taken_back: bool) -> dict[str, Any]:
    """Write a refusal of all AI of which her erasure left over that it was."""
    status = "inactive" if is_taken_back else "active"
    rule = "The patient refused all AI before her data was erased; nothing else is known of it."
    provision = {"type": "deny", "actor": [_ANY_AI]}
    return {**_bare(named, status, rule, provision), "meta": _meta({}, _KEPT, ())}


def unreadable(named: Named) -> dict[str, Any]:
    """Write what stands in for a consent that can't be opened, verified or read."""
    rule = "It can't be opened, verified or read; as long as that is so it denies everything."
    return {**_bare(named, "active", rule, {"type": "deny"}), "meta": _meta({}, _UNREADABLE, ())}


def _bare(named: Named, status: str, rule: str, provision: Json) -> dict[str, Any]:
    return {
        "resourceType": "Consent",
        "id": named.id,
        "identifier": [{"system": CONSENT_SYSTEM, "value": named.id}],
        "status": status,
        "scope": _PRIVACY,
        "category": [_CATEGORY],
        **_by_key(named),
        "policyRule": {"text": rule},
        "provision": provision,
    }


# -- what every consent has ------------------------------------------------------------------


def _by_key(named: Named) -> Json:
    """Name the patient by the keyed hash; leave her out where nobody has said who she is."""
    if named.patient_key is None:
        return {}
    hers = {"system": PATIENT_KEY_SYSTEM, "value": named.patient_key}
    return {"patient": {"identifier": hers}}


def _meta(content: Json, source: str, acts: Sequence[Act]) -> Json:
    known = content.get("meta")
    meta = dict(known) if isinstance(known, Mapping) else {}
    tags = [*_listed(meta, "tag"), {"system": SOURCE_SYSTEM, "code": source}]
    meta |= {"source": f"{SOURCE_SYSTEM}#{source}", "tag": tags}
    if acts:
        meta |= {"versionId": str(len(acts)), "lastUpdated": acts[-1].statement["at"]}
    return meta


def _listed(content: Json, name: str) -> list[Any]:
    found = content.get(name)
    return found if isinstance(found, list) else []


def _identifiers(named: Named, acts: Sequence[Act]) -> Iterator[Json]:
    yield {"system": CONSENT_SYSTEM, "value": named.id}
    for act in acts:
        yield {"system": CONSENT_ACT_SYSTEM, "value": act.statement["id"]}


def _recording(acts: Sequence[Act]) -> Json:
    """Tell what FHIR has no element for: how it was recorded, and who vouches for it."""
    first = acts[0].statement
    told: list[tuple[str, str]] = [
        (act.kind, f"{act.statement['at']} {act.statement['by']}") for act in acts
    ]
    told += [(name, first[name]) for name in ("signer", "identified") if first.get(name)]
    if "local" in first:
        local = read_local(first["local"])
        told.append(("means", local.means))
        if local.notice:
            told.append(("notice", f"{local.notice.version} ({local.notice.language})"))
        if local.guardian:
            told.append(("verified-by", local.guardian.verified_by))
    return {
        "url": RECORDING,
        "extension": [{"url": name, "valueString": value} for name, value in told],
    }


# -- what staff recorded ---------------------------------------------------------------------


def _of_local(acts: Sequence[Act]) -> Json:
    (recorded,) = (act for act in acts if act.kind != "revoke")
    consent = read_local(recorded.statement["local"])
    status = "inactive" if is_taken_back(acts) else "active"
    content = {"category": [_CATEGORY], **as_fhir(consent, status)}
    if not {"policy", "policyRule"} & content.keys():
        content["policyRule"] = _rule("OPTIN" if consent.decision == "permit" else "OPTOUT")
    if consent.decision == "ai-opt-out":
        content["provision"] = {**content["provision"], "actor": [_ANY_AI]}
    return {**content, **_guardian(consent)}


def _rule(code: str) -> Json:
    return {"coding": [{"system": ACT_CODE, "code": code}]}


def _guardian(consent: LocalConsent) -> Json:
    guardian = consent.guardian
    if guardian is None or not guardian.name:
        return {}
    verification = {
        "verified": True,
        "verifiedWith": {"display": guardian.name},
        "verificationDate": consent.recorded_at,
    }
    return {"performer": [{"display": guardian.name}], "verification": [verification]}


# -- what was imported -----------------------------------------------------------------------


def _of_fhir(acts: Sequence[Act]) -> Json:
    imported = [act.document for act in acts if act.document is not None]
    content: dict[str, Any] = orjson.loads(imported[-1])
    if is_taken_back(acts):
        content["status"] = "inactive"
    elsewhere = content.get("id")
    if isinstance(elsewhere, str):
        own = {"system": f"{SID}/imported-consent", "value": elsewhere}
        content["identifier"] = [*_listed(content, "identifier"), own]
    return content


def _of_artefact(acts: Sequence[Act]) -> Json:
    said = notifications_of(acts)
    names = [each.consent_id for each in said if each.consent_id]
    documents = [act.document for act in acts if act.document is not None]
    content = {
        "resourceType": "Consent",
        "identifier": [{"system": f"{SID}/abdm-consent", "value": names[0]}],
        "status": _STATUS.get(settled_status(said), "inactive"),
        "scope": _PRIVACY,
        "category": [_CATEGORY],
        "policyRule": _rule("OPTIN"),
        "sourceAttachment": {
            "contentType": "application/json",
            "data": base64.b64encode(documents[0]).decode(),
            "title": "The notification as it was received",
        },
    }
    return {**content, **_granted(said)}


def _granted(said: Sequence[Notification]) -> Json:
    """Give what an artefact grants; why it grants nothing where its scope is not clear."""
    try:
        scope = artefact_scope(said)
    except ScopeUnclear as error:
        return {"policyRule": {"text": f"Grants nothing: {error.message}."}}
    found: dict[str, Any] = {"provision": _provision(scope)}
    if scope.hip:
        found["organization"] = [_facility(scope.hip)]
    return found


def _provision(scope: Scope) -> Json:
    system = ACT_REASON if scope.purpose in PURPOSES else f"{SID}/abdm-purpose"
    who = scope.hiu or scope.hip
    actors = [{"role": _RECIPIENT, "reference": _facility(who)}] if who else []
    mode = {"system": f"{SID}/abdm-access-mode", "code": scope.access_mode}
    kinds = [{"system": f"{SID}/abdm-hi-type", "code": each} for each in sorted(scope.hi_types)]
    provision = {
        "type": "permit",
        "period": {"end": scope.erase_at.isoformat()},
        "actor": actors,
        "action": [{"coding": [mode]}],
        "purpose": [{"system": system, "code": scope.purpose}],
        "class": kinds,
        "dataPeriod": {
            "start": scope.first.date().isoformat(),
            "end": scope.last.date().isoformat(),
        },
        "data": [
            {"meaning": "related", "reference": _encounter(each)}
            for each in sorted(scope.care_contexts)
        ],
    }
    return {name: value for name, value in provision.items() if value}


def _facility(name: str) -> Json:
    return {
        "type": "Organization",
        "identifier": {"system": f"{SID}/abdm-facility", "value": name},
    }


def _encounter(context: str) -> Json:
    if _ID.fullmatch(context):
        return {"reference": f"Encounter/{context}"}
    named = {"system": f"{SID}/abdm-care-context", "value": context}
    return {"type": "Encounter", "identifier": named}


_WRITERS = {"local": _of_local, "fhir": _of_fhir, "abdm": _of_artefact}
