"""Does the patient permit this use? A pure decision with its reasons.

Rules of this first cut (the full engine widens `decide`, not its callers):

1. Only consents whose `status` is active and which are about this patient are in force. The scope
   only weakens permits: one of another scope than patient-privacy, or of none that is known,
   permits nothing. A denial of such a scope denies all the same, unless it is plainly about
   something else: advance directives (adr) or research, where the purpose is not research.
2. `provision.period` has to hold the present time; absent means always.
3. The base rule is `provision.type`, else `policyRule` (OPTIN of v3-ActCode permits, OPTOUT
   denies); anything else denies, and so does a consent that states no rule at all.
4. `provision.purpose` has to cover the purpose asked; absent means any. A purpose covers its
   descendants in v3-ActReason, but break-glass (BTG) is covered by BTG alone. A purpose in a
   vocabulary that is not known here permits nothing and denies everything.
5. A permit that carries a limit this engine can't evaluate does not permit; a deny that carries
   one denies. In doubt the answer is no.
6. Any applicable deny overrides every permit. When nothing applies, the default of the route
   holds, and that is deny unless the site says otherwise.
7. A consent that can't be opened or read denies everything.

Source: FHIR R4 Consent (http://hl7.org/fhir/R4/consent.html); HL7 v3-ActReason.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import MAXYEAR, UTC, datetime, timedelta
from typing import Any, Literal

ACT_REASON = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
CONSENT_SCOPE = "http://terminology.hl7.org/CodeSystem/consentscope"

# child -> parent, for the purposes a gateway is asked about. BTG has no parent here on purpose.
_PARENTS = {
    "ETREAT": "TREAT",
    "COC": "TREAT",
    "CAREMGT": "TREAT",
    "CLINTRCH": "HRESCH",
    "BIORCH": "HRESCH",
    "DSRCH": "HRESCH",
    "HQUALIMP": "HOPERAT",
    "PATSFTY": "HOPERAT",
}
# Every other policy rule denies. OPTINR and OPTOUTE carry limits that only their text tells.
_PERMITTING_RULE = "OPTIN"
_DENYING_RULES = frozenset({"OPTOUT", "OPTOUTE"})
_OTHER_SCOPES = frozenset({(CONSENT_SCOPE, "adr"), (CONSENT_SCOPE, "research")})
_RESEARCH = "HRESCH"
_LIMITS = (
    "actor",
    "action",
    "class",
    "code",
    "securityLabel",
    "dataPeriod",
    "data",
    "provision",
    "modifierExtension",
)
# The same of the Consent itself: they change what all of it means.
_LIMITS_OF_ALL = ("modifierExtension", "implicitRules")

Scope = Literal["privacy", "other", "unclear"]
Rule = Literal["permit", "deny", "nothing"]


@dataclass(frozen=True)
class ConsentRequest:
    """What is asked: may data of this patient be used for this purpose now?"""

    patient: str
    purpose: str
    now: datetime


@dataclass(frozen=True)
class ConsentRecord:
    """A Consent resource, read once into what a decision needs.

    Attributes:
        ref: How the decision names it, for example `Consent/<id of the received event>`.
        scope: Whether it is about the use of data, plainly about something else, or unclear.
        rule: Its base rule; "nothing" when it states none, which denies too.
        patient: Reference of the patient it is about, as a relative `Patient/<id>`.
        ends: The first moment that is no longer held; None while it is open.
        purposes: Codes of v3-ActReason; None when it names no purpose at all.
        has_unknown_purpose: It names a purpose in another vocabulary.
        limits: The elements that narrow it in ways this engine can't evaluate.
    """

    ref: str
    status: str
    scope: Scope
    patient: str | None
    rule: Rule
    starts: datetime | None
    ends: datetime | None
    is_period_readable: bool
    purposes: tuple[str, ...] | None
    has_unknown_purpose: bool
    limits: tuple[str, ...]
    is_readable: bool = True


@dataclass(frozen=True)
class ConsentDecision:
    """Permit or deny, with the reasons in words and the consents that decided it."""

    is_permitted: bool
    purpose: str
    reasons: tuple[str, ...]
    consents: tuple[str, ...] = ()

    def as_json(self, stage: str, at: datetime) -> dict[str, object]:
        """Give the decision as it is kept with the job; `stage` is the verb that asked."""
        return {
            "stage": stage,
            "at": at.isoformat(timespec="milliseconds"),
            "decision": "permit" if self.is_permitted else "deny",
            "purpose": self.purpose,
            "reasons": list(self.reasons),
            "consents": list(self.consents),
        }


def decide(
    request: ConsentRequest,
    consents: Sequence[ConsentRecord],
    *,
    default: Literal["deny", "permit"] = "deny",
) -> ConsentDecision:
    """Decide one request against everything on record for the patient."""
    verdicts = [(record, *_judge(record, request)) for record in consents]
    for wanted in ("deny", "permit"):
        deciding = [record.ref for record, verdict, _ in verdicts if verdict == wanted]
        if deciding:
            reasons = tuple(f"{record.ref}: {why}" for record, _, why in verdicts)
            return ConsentDecision(wanted == "permit", request.purpose, reasons, tuple(deciding))
    reasons = tuple(f"{record.ref}: {why}" for record, _, why in verdicts)
    nothing = f"No consent on record applies; the route's default is to {default}."
    return ConsentDecision(default == "permit", request.purpose, (*reasons, nothing))


def _judge(
    record: ConsentRecord, request: ConsentRequest
) -> tuple[Literal["permit", "deny", "silent"], str]:
    """Say what one consent says to a request, and why."""
    if not record.is_readable:
        return "deny", "can't be read, and in doubt the answer is no."
    silence = _why_silent(record, request)
    if silence:
        return "silent", silence
    if record.rule == "nothing":
        return "deny", "permits nothing (no provision)."
    if record.limits:
        named = ", ".join(record.limits)
        if record.rule == "permit":
            return "deny", f"permits only within limits that can't be evaluated here ({named})."
        return "deny", f"denies, with limits that can't be evaluated here ({named})."
    return record.rule, f"{'permits' if record.rule == 'permit' else 'denies'} {request.purpose}."


def _why_silent(record: ConsentRecord, request: ConsentRequest) -> str | None:
    """Say why a consent does not apply, None when it does."""
    is_other_purpose = record.purposes is not None and not _covers(record.purposes, request.purpose)
    if record.has_unknown_purpose and record.rule != "permit":
        is_other_purpose = False
    # An unreadable period can't prove that a permit still holds; a deny goes on denying.
    is_doubtful = not record.is_period_readable and record.rule == "permit"
    silences = (
        (record.status != "active", "is not in force (status {status})."),
        (
            _is_out_of_scope(record, request.purpose),
            "is not about this use of data (scope is not patient-privacy).",
        ),
        (request.patient != record.patient, "is about another patient."),
        (is_doubtful, "has a period that can't be read."),
        (bool(record.starts and request.now < record.starts), "is not yet in force."),
        (bool(record.ends and request.now >= record.ends), "has expired."),
        (is_other_purpose, "does not speak of purpose {purpose}."),
    )
    for is_silent, why in silences:
        if is_silent:
            return why.format(status=record.status, purpose=request.purpose)
    return None


def _is_out_of_scope(record: ConsentRecord, purpose: str) -> bool:
    if record.rule == "permit":
        return record.scope != "privacy"
    return record.scope == "other" and not _covers((_RESEARCH,), purpose)


def _covers(purposes: Sequence[str], asked: str) -> bool:
    """Say whether a purpose or one of its ancestors is listed."""
    code: str | None = asked
    while code is not None:
        if code in purposes:
            return True
        code = _PARENTS.get(code)
    return False


def read_consent(content: Mapping[str, Any], ref: str, *, patient: str | None) -> ConsentRecord:
    """Read a valid R4 Consent resource into a record.

    Args:
        content: The resource as decoded JSON, already validated.
        ref: How decisions shall name it.
        patient: Whom it is about, as the receiving step resolved the reference.
    """
    provision = content.get("provision") or {}
    starts, ends, is_readable = _read_period(provision.get("period"))
    return ConsentRecord(
        ref=ref,
        status=content.get("status", "unknown"),
        scope=_scope(content.get("scope")),
        patient=patient,
        rule=_base_rule(content, provision),
        starts=starts,
        ends=ends,
        is_period_readable=is_readable,
        purposes=_purposes(provision.get("purpose")),
        has_unknown_purpose=any(map(_is_unknown, provision.get("purpose", ()))),
        limits=(
            *(name for name in _LIMITS if provision.get(name)),
            *(f"Consent.{name}" for name in _LIMITS_OF_ALL if content.get(name)),
        ),
    )


def unreadable_consent(ref: str) -> ConsentRecord:
    """Give the record of a consent that can't be opened or read: it denies everything."""
    return ConsentRecord(
        ref=ref,
        status="unknown",
        scope="unclear",
        patient=None,
        rule="deny",
        starts=None,
        ends=None,
        is_period_readable=False,
        purposes=None,
        has_unknown_purpose=True,
        limits=(),
        is_readable=False,
    )


def _base_rule(content: Mapping[str, Any], provision: Mapping[str, Any]) -> Rule:
    if "type" in provision:
        return "permit" if provision["type"] == "permit" else "deny"
    codings = (content.get("policyRule") or {}).get("coding", ())
    rules = {(coding.get("system"), coding.get("code")) for coding in codings}
    if rules == {(ACT_CODE, _PERMITTING_RULE)}:
        return "permit"
    is_denied = any((ACT_CODE, code) in rules for code in _DENYING_RULES)
    return "deny" if provision or is_denied else "nothing"


def _purposes(codings: Sequence[Mapping[str, Any]] | None) -> tuple[str, ...] | None:
    if not codings:
        return None
    return tuple(coding["code"] for coding in codings if not _is_unknown(coding))


def _is_unknown(purpose: Mapping[str, Any]) -> bool:
    return purpose.get("system") != ACT_REASON or "code" not in purpose


def _scope(concept: Mapping[str, Any] | None) -> Scope:
    codings = (concept or {}).get("coding", ())
    named = {(coding.get("system"), coding.get("code")) for coding in codings}
    if (CONSENT_SCOPE, "patient-privacy") in named:
        return "privacy"
    return "other" if named and named <= _OTHER_SCOPES else "unclear"


def _read_period(
    period: Mapping[str, Any] | None,
) -> tuple[datetime | None, datetime | None, bool]:
    """Read a FHIR Period; a partial date means its whole span, so the end is exclusive."""
    if not period:
        return None, None, True
    try:
        starts = _first_moment(period["start"]) if "start" in period else None
        ends = _moment_after(period["end"]) if "end" in period else None
    except ValueError:
        return None, None, False
    return starts, ends, "start" in period or "end" in period


def _first_moment(text: str) -> datetime:
    """Give the first moment of a FHIR dateTime.

    Raises:
        ValueError: It is not a dateTime.
    """
    if "T" not in text:
        year, month, day = _parts(text)
        return datetime(year, month or 1, day or 1, tzinfo=UTC)
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("no time zone")
    return moment


def _moment_after(text: str) -> datetime | None:
    """Give the first moment after a FHIR dateTime; None when the calendar ends before it.

    Raises:
        ValueError: It is not a dateTime.

    Source: FHIR R4 Period: "If the end of the period is 2012-02-03, the period includes that day".
    """
    first = _first_moment(text)
    if first.year == MAXYEAR:
        # 9999-12-31 is how many systems write "no end".
        return None
    if "T" in text:
        return first + timedelta(seconds=1)
    year, month, day = _parts(text)
    if day:
        return first + timedelta(days=1)
    after = (year, month + 1) if month and month < 12 else (year + 1, 1)  # noqa: PLR2004 - months
    return datetime(*after, 1, tzinfo=UTC)


def _parts(text: str) -> tuple[int, int, int]:
    """Give year, month and day of a date; 0 for what a partial date leaves out."""
    year, month, day = ([int(part) for part in text.split("-")] + [0, 0])[:3]
    return year, month, day
