"""A consent that staff record: on paper, said aloud, or given at a screen.

* It permits, denies, or refuses all AI. A refusal of AI has no purpose and no limits: it is above
  every other consent, newer ones and break-glass too, until it is taken back.
* A permit names its purposes, and the notice that the patient was given: a version and language
  that the site has in force. A denial needs neither: to say no is never harder than to say yes.
* Permits of a minor come from a guardian, verifiably (DPDP Act s.9), or under an exemption that is
  written down (Fourth Schedule). Who is a minor is told by the date of birth.
* Limits beyond purposes and dates are stated as a FHIR Consent (`content`), which then says it all.

It is kept as a signed statement (`statement`); what can't be read back exactly denies everything.

Source: DPDP Act 2023 sections 5, 6 and 9, DPDP Rules 2025 rules 3 and 10 to 12.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime
from typing import Any, Literal

from gateway.core.consent.matching import HoldsDuring
from gateway.core.consent.reading import read_consent
from gateway.core.consent.record import ConsentRecord, Rule, unreadable_consent
from gateway.core.consent.terms import Terms
from gateway.core.consent.vocabulary import ACT_REASON, CONSENT_SCOPE, PERMITTED_BY
from gateway.core.errors import ContentError

Decision = Literal["permit", "deny", "ai-opt-out"]
Means = Literal["paper", "verbal", "digital"]
DECISIONS = ("permit", "deny", "ai-opt-out")
MEANS = ("paper", "verbal", "digital")

AGE_OF_CONSENT = 18
WITHDRAWN = "was withdrawn."


class ConsentNotRecordable(ContentError):
    """The consent can't be recorded as it is."""


@dataclass(frozen=True, kw_only=True)
class Notice:
    """The notice that the patient was given."""

    version: str
    language: str


@dataclass(frozen=True, kw_only=True)
class Guardian:
    """Who consents for a minor.

    Attributes:
        name: Of the parent or guardian; empty where an exemption stands in.
        verified_by: What it can be verified by: a document, a token; or the exemption.
    """

    name: str
    verified_by: str


@dataclass(frozen=True, kw_only=True)
class LocalConsent:
    """What staff record.

    Attributes:
        patient: `Patient/<id>` as the system names the patient.
        system: Of the site file.
        purposes: Codes of v3-ActReason; empty means any, which only a denial may say.
        starts: FHIR dateTime from which it holds; None for from now on.
        ends: The last FHIR dateTime at which it holds; None for without end.
        recorded_at: FHIR instant.
        recorded_by: The person.
        content: A FHIR Consent whose provision says what is permitted or denied.
    """

    patient: str
    system: str
    decision: Decision
    purposes: tuple[str, ...] = ()
    starts: str | None = None
    ends: str | None = None
    notice: Notice | None = None
    guardian: Guardian | None = None
    means: Means
    recorded_at: str
    recorded_by: str
    content: Mapping[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """Give it as its statement holds it; what is absent is left out."""
        whole = {**asdict(self), "purposes": list(self.purposes)}
        return {name: value for name, value in whole.items() if value not in (None, [])}


def read_local(written: Mapping[str, Any]) -> LocalConsent:
    """Read what `LocalConsent.as_json` wrote.

    Raises:
        ConsentNotRecordable: It is not exactly that.
    """
    try:
        parts = dict(written)
        notice, guardian = parts.pop("notice", None), parts.pop("guardian", None)
        found = LocalConsent(
            **{**parts, "purposes": tuple(parts.get("purposes", ()))},
            notice=Notice(**notice) if notice is not None else None,
            guardian=Guardian(**guardian) if guardian is not None else None,
        )
        is_same = found.as_json() == dict(written)
    except TypeError as error:
        raise ConsentNotRecordable from error
    if not is_same or found.decision not in DECISIONS or found.means not in MEANS:
        raise ConsentNotRecordable
    return found


def insist_on_recordable(
    consent: LocalConsent,
    *,
    notices: Mapping[str, frozenset[str]],
    birth_date: date | None,
    now: datetime,
) -> None:
    """Insist that a consent may be recorded.

    Args:
        consent: As it shall be recorded.
        notices: Version of each notice in force to its languages.
        birth_date: The patient's; None when it is not known.
        now: When it is recorded.

    Raises:
        ConsentNotRecordable: It may not; the message says why and how to mend it.
    """
    _insist_on_purposes(consent)
    if consent.decision == "permit":
        _insist_on_notice(consent.notice, notices)
        _insist_on_guardian(consent, birth_date, now.date())
    record = _insist_on_content(consent)
    if _is_over(record, now):
        raise ConsentNotRecordable(
            "It would be over already: its last day (--until, or the period of the FHIR Consent) "
            "is past. It would say nothing."
        )


def _insist_on_content(consent: LocalConsent) -> ConsentRecord:
    content = consent.content or {}
    named = (content.get("patient") or {}).get("reference", consent.patient)
    if content and (content.get("status") != "active" or named != consent.patient):
        raise ConsentNotRecordable(
            "The FHIR Consent is about another patient, or its status is not active."
        )
    record = local_record(consent, "Consent/new")
    periods = [each for each in record.rule.conditions if isinstance(each, HoldsDuring)]
    if any(each.period is None for each in periods):
        raise ConsentNotRecordable("Its period can't be read: give dates as YYYY-MM-DD.")
    if any(each.period and each.period.is_empty for each in periods):
        raise ConsentNotRecordable("It would end before it begins: look at --from and --until.")
    if not record.is_readable or record.doubts or record.silence:
        why = "; ".join(record.doubts) or record.silence or "it can't be read"
        raise ConsentNotRecordable(f"The FHIR Consent can't be relied on: {why}.")
    if record.rule.is_permit != (consent.decision == "permit"):
        raise ConsentNotRecordable(
            "The FHIR Consent says otherwise than what is to be recorded: see its provision.type."
        )
    return record


def _insist_on_purposes(consent: LocalConsent) -> None:
    if consent.decision == "ai-opt-out" and (consent.purposes or consent.content is not None):
        raise ConsentNotRecordable(
            "A refusal of all AI has neither purposes nor limits. Record a denial to refuse some."
        )
    if consent.content is not None and (consent.purposes or consent.starts or consent.ends):
        raise ConsentNotRecordable(
            "Purposes and dates belong into the FHIR Consent when one is given."
        )
    if consent.decision == "permit" and not consent.purposes and consent.content is None:
        raise ConsentNotRecordable("A permit names what for: give --purpose at least once.")
    if not PERMITTED_BY.keys() >= set(consent.purposes):
        raise ConsentNotRecordable("A purpose is not a code of v3-ActReason.")


def _insist_on_notice(notice: Notice | None, notices: Mapping[str, frozenset[str]]) -> None:
    if notice is None:
        raise ConsentNotRecordable(
            "A permit needs the notice that was given: --notice VERSION and --language CODE."
        )
    if notice.language not in notices.get(notice.version, frozenset()):
        known = ", ".join(f"{each} ({', '.join(sorted(notices[each]))})" for each in notices)
        raise ConsentNotRecordable(
            "The site has no such notice in force. In force are: "
            f"{known or 'none'} (site file, key notices)."
        )


def _insist_on_guardian(consent: LocalConsent, birth_date: date | None, today: date) -> None:
    guardian = consent.guardian
    if guardian is not None and not guardian.verified_by.strip():
        raise ConsentNotRecordable("Say what the guardian's consent can be verified by.")
    if guardian is not None:
        return
    if birth_date is None:
        raise ConsentNotRecordable(
            "Whether the patient is a minor is not known here: no Patient with a date of birth was "
            "received. Give --birth-date, or the guardian."
        )
    if age_on(today, birth_date) < AGE_OF_CONSENT:
        raise ConsentNotRecordable(
            "The patient is a minor: give --guardian and --verified-by, or --exemption."
        )


def age_on(today: date, birth_date: date) -> int:
    """Give the age in whole years."""
    had_birthday = (today.month, today.day) >= (birth_date.month, birth_date.day)
    return today.year - birth_date.year - (not had_birthday)


def local_record(consent: LocalConsent, ref: str, *, is_withdrawn: bool = False) -> ConsentRecord:
    """Turn it into what decisions are made from.

    A permit that was withdrawn withholds: the default of a route does not hold in its place. A
    denial or refusal that was taken back says nothing any more.
    """
    refuses_ai = consent.decision == "ai-opt-out"
    is_permit = consent.decision == "permit"
    is_silent = is_withdrawn and not is_permit
    try:
        content = as_fhir(consent, "inactive" if is_silent else "active")
    except (TypeError, ValueError):
        return unreadable_consent(ref, may_refuse_ai=refuses_ai)
    # What staff recorded says itself whether it permits: no policy may make a permit of it.
    record = replace(read_consent(content, ref, patient=consent.patient), under_policy=None)
    return with_terms(record, refuses_ai=refuses_ai, is_withdrawn=is_withdrawn and is_permit)


def kept_refusal(ref: str, *, is_taken_back: bool) -> ConsentRecord:
    """Give what is left of a refusal of all AI after the patient was erased: that she refused.

    When it was recorded, by whom, and for how long went with her key. Nothing names her in it: it
    was found by the keyed hash of her name.
    """
    return ConsentRecord(
        ref=ref,
        status="inactive" if is_taken_back else "active",
        patient=None,
        is_of_key=True,
        scope="privacy",
        rule=Rule("provision", is_permit=False),
        refuses_ai=True,
    )


def refuses_ai_still(consents: Iterable[ConsentRecord], now: datetime) -> bool:
    """Say whether a patient refuses all AI, now or from a later day on.

    What can't be read counts as a refusal where it may be one.
    """
    return any(each.refuses_ai and not _is_over(each, now) for each in consents)


def _is_over(record: ConsentRecord, now: datetime) -> bool:
    periods = [each.period for each in record.rule.conditions if isinstance(each, HoldsDuring)]
    ends = [period.ends for period in periods if period and period.ends]
    return record.status == "inactive" or any(now >= each for each in ends)


def with_terms(record: ConsentRecord, *, refuses_ai: bool, is_withdrawn: bool) -> ConsentRecord:
    """Add to a record what a Consent resource can't say of itself."""
    terms = Terms(stopped=WITHDRAWN) if is_withdrawn else record.terms
    return replace(record, refuses_ai=refuses_ai, terms=terms)


def as_fhir(consent: LocalConsent, status: str) -> dict[str, Any]:
    """Write what it says as a FHIR Consent, as far as decisions need one."""
    if consent.content is not None:
        return {**consent.content, "status": status}
    provision: dict[str, Any] = {"type": "permit" if consent.decision == "permit" else "deny"}
    if consent.purposes:
        provision["purpose"] = [{"system": ACT_REASON, "code": each} for each in consent.purposes]
    period = {"start": consent.starts, "end": consent.ends}
    if consent.starts or consent.ends:
        provision["period"] = {name: value for name, value in period.items() if value}
    return {
        "resourceType": "Consent",
        "status": status,
        "scope": {"coding": [{"system": CONSENT_SCOPE, "code": "patient-privacy"}]},
        "dateTime": consent.recorded_at,
        "provision": provision,
    }
