"""Consents of the synthetic ward: in all the ways in which patients say yes, no or nothing.

Source: FHIR R4 Consent (http://hl7.org/fhir/R4/consent.html); IHE Privacy Consent on FHIR, whose
Consents carry `provision.type` in the root; HL7 v3-ActReason for purposes.
"""

from datetime import date, timedelta
from random import Random
from typing import Any, Literal

Wish = Literal["permit", "deny", "expired", "entered-in-error"]

_TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"
_LONG_AGO = timedelta(days=800)
_LATELY = timedelta(days=30)
_SOON = timedelta(days=365)


def consent(
    dice: Random, wish: Wish, *, patient_id: str, consent_id: str, today: date
) -> dict[str, Any]:
    """Write down what a patient wishes, in one of the forms in which EHRs do.

    Returns:
        An R4 Consent without `meta`.
    """
    given = today - (_LONG_AGO if wish == "expired" else _LATELY)
    ends = today - _LATELY if wish == "expired" else today + _SOON
    rule, provision = _said_no(dice) if wish == "deny" else _said_yes(dice)
    return {
        "resourceType": "Consent",
        "id": consent_id,
        "status": "entered-in-error" if wish == "entered-in-error" else "active",
        "scope": {"coding": [_coding("consentscope", "patient-privacy")]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": {"reference": f"Patient/{patient_id}"},
        "dateTime": given.isoformat(),
        "performer": [{"reference": f"Patient/{patient_id}"}],
        "policyRule": {"coding": [_coding("v3-ActCode", rule)]},
        "provision": {
            **provision,
            "period": {"start": given.isoformat(), "end": ends.isoformat()},
        },
    }


def _said_yes(dice: Random) -> tuple[str, dict[str, Any]]:
    forms = (
        {"type": "permit", "purpose": _purposes("TREAT")},
        {"type": "permit", "purpose": _purposes("TREAT", "HPAYMT", "HOPERAT")},
        {"purpose": _purposes("TREAT")},
    )
    return "OPTIN", dice.choice(forms)


def _said_no(dice: Random) -> tuple[str, dict[str, Any]]:
    forms: tuple[tuple[str, dict[str, Any]], ...] = (
        ("OPTOUT", {"type": "deny", "purpose": _purposes("TREAT")}),
        ("OPTOUT", {"purpose": _purposes("TREAT", "HOPERAT")}),
        # A yes to something else is no yes to treatment.
        ("OPTIN", {"type": "permit", "purpose": _purposes("HPAYMT")}),
    )
    return dice.choice(forms)


def _purposes(*codes: str) -> list[dict[str, str]]:
    return [_coding("v3-ActReason", code) for code in codes]


def _coding(system: str, code: str) -> dict[str, str]:
    return {"system": f"{_TERMINOLOGY}/{system}", "code": code}
