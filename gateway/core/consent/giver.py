"""Who gave a consent in the patient's place: her guardian, or whom a Consent names as performer.

* What staff recorded names a guardian with what the consent can be verified by (DPDP Act s.9), or
  the exemption under which a minor needs none.
* A FHIR Consent names who agreed as `performer`; the patient herself is nobody in her place.

Source: FHIR R4 Consent.performer.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from gateway.core.consent.acts import Act
from gateway.core.consent.local import read_local
from gateway.core.errors import GatewayError


def giver_of_acts(acts: Sequence[Act]) -> str:
    """Say, to the patient, who gave what was recorded or imported; empty where she did.

    Args:
        acts: All that was done about one consent, oldest first; at least one.
    """
    told = [act.statement["local"] for act in acts if "local" in act.statement]
    if told:
        return _guardian(told[-1])
    imported = [act.document for act in acts if act.document is not None]
    return giver_of_resource(imported[-1]) if imported and acts[0].form == "fhir" else ""


def giver_of_resource(content: bytes) -> str:
    """Say, to the patient, who gave a FHIR Consent; empty where she did, or nobody is named.

    Args:
        content: The Consent as it was received.
    """
    try:
        performers = orjson.loads(content).get("performer") or ()
        names = [str(each["display"]) for each in performers if _is_another(each)]
    except (ValueError, TypeError, AttributeError):
        return ""
    return f"Said for you by {', '.join(names)}." if names else ""


def _is_another(performer: Mapping[str, Any]) -> bool:
    kind = performer.get("type") or str(performer.get("reference", "")).rpartition("/")[0]
    return bool(performer.get("display")) and str(kind).rpartition("/")[2] != "Patient"


def _guardian(written: Mapping[str, Any]) -> str:
    try:
        guardian = read_local(written).guardian
    except GatewayError:
        return ""
    if guardian is None:
        return ""
    if not guardian.name:
        return f"Said without a guardian: {guardian.verified_by}."
    return f"Said for you by your guardian {guardian.name} (verified by: {guardian.verified_by})."
