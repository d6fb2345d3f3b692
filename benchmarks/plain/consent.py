"""The consent rule of the plain build: some active Consent permits treatment, none denies it."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

PURPOSE = "TREAT"
OPT_IN = "OPTIN"


def is_permitted(consents: Sequence[Mapping[str, Any]]) -> bool:
    """Decide on the newest version of each Consent of one patient, given oldest first."""
    newest = {consent["id"]: consent for consent in consents}
    rules = [_rule(consent) for consent in newest.values() if _applies(consent)]
    return "permit" in rules and "deny" not in rules


def _applies(consent: Mapping[str, Any]) -> bool:
    provision = consent.get("provision", {})
    period = provision.get("period", {})
    today = datetime.now(UTC).date().isoformat()
    purposes = [coding["code"] for coding in provision.get("purpose", ())]
    return (
        consent["status"] == "active"
        and period.get("start", today)[:10] <= today <= period.get("end", today)[:10]
        and (not purposes or PURPOSE in purposes)
    )


def _rule(consent: Mapping[str, Any]) -> str:
    if rule := consent.get("provision", {}).get("type"):
        return str(rule)
    codings = consent.get("policyRule", {}).get("coding", ())
    return "permit" if any(coding["code"] == OPT_IN for coding in codings) else "deny"
